"""The demo's images: ten shapes in any colour, among clutter, rotated, stretched, partly hidden.

They are seeded, so that every demo has the same images, and hard on purpose: colour and position
carry no information about the class, so memorising the training set does not help much. Contrast,
rotation and clutter were tuned so that a network trained from scratch learns something within a
minute and is still far from perfect.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from podium.errors import DataError
from podium.runtime.events import Notify, Progress, silent

Point = tuple[float, float]
SCALE = 4  # drawn larger and then downsampled, for smooth edges


def _star(points: int, inner: float) -> list[Point]:
    return [
        (radius * math.sin(turn), -radius * math.cos(turn))
        for at in range(2 * points)
        for turn, radius in [(math.pi * at / points, inner if at % 2 else 1.0)]
    ]


def _heart() -> list[Point]:
    curve = [2 * math.pi * at / 60 for at in range(60)]
    return [
        (
            math.sin(t) ** 3,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16,
        )
        for t in curve
    ]


def _spiral() -> list[Point]:
    turns = [5.2 * math.pi * at / 90 for at in range(91)]
    outer = [((0.10 + 0.052 * t) * math.cos(t), (0.10 + 0.052 * t) * math.sin(t)) for t in turns]
    inner = [((0.052 * t - 0.08) * math.cos(t), (0.052 * t - 0.08) * math.sin(t)) for t in turns]
    return outer + inner[::-1]


POLYGONS: dict[str, list[Point]] = {
    "arrow": [
        *((-1, -0.22), (0.15, -0.22), (0.15, -0.7), (1, 0), (0.15, 0.7), (0.15, 0.22)),
        (-1, 0.22),
    ],
    "cross": [
        *((-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3)),
        *((0.3, 1), (-0.3, 1), (-0.3, 0.3), (-1, 0.3), (-1, -0.3), (-0.3, -0.3)),
    ],
    "heart": _heart(),
    "lightning": [(0.25, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.3, 1), (0.6, -0.25), (0.05, -0.25)],
    "spiral": _spiral(),
    "star": _star(5, 0.42),
    "triangle": [(0, -1), (0.9, 0.75), (-0.9, 0.75)],
}

CLASSES = tuple(sorted([*POLYGONS, "crescent", "disc", "ring"]))
"""The ten classes, in the order of an index."""


def make_demo(
    into: Path,
    *,
    seed: int = 0,
    size: int = 64,
    per_class: tuple[int, int, int] = (40, 20, 40),
    notify: Notify = silent,
) -> Path:
    """Generate the demo's data set in a new folder, atomically.

    Args:
        into: the folder to create; it must not exist, or be empty.
        seed: determines every image.
        size: side of the images, pixels; at least 17.
        per_class: images per class in train, valid and test.
        notify: receives the progress: number of images drawn.

    Returns:
        `into`, with train/, valid/ and test/.

    Raises:
        DataError: `into` is not empty.
    """
    if into.exists() and not (into.is_dir() and next(into.iterdir(), None) is None):
        raise DataError(f"{into} is not empty: expected a new or empty folder for the images.")
    into.parent.mkdir(parents=True, exist_ok=True)
    total, done = len(CLASSES) * sum(per_class), 0
    work = Path(tempfile.mkdtemp(dir=into.parent, prefix=".demo-"))
    try:
        for part, (split, count) in enumerate(
            zip(("train", "valid", "test"), per_class, strict=True)
        ):
            for kind, name in enumerate(CLASSES):
                folder = work / split / name
                folder.mkdir(parents=True)
                for number in range(count):
                    random = np.random.default_rng([seed, part, kind, number])
                    draw_picture(name, random, size).save(folder / f"{number:03d}.png")
                    done += 1
                    notify(Progress("draw", done, total))
        work.chmod(0o755)
        if into.is_dir():
            into.rmdir()
        work.rename(into)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return into


def draw_picture(name: str, random: np.random.Generator, size: int = 64) -> Image.Image:
    """Draw one image: a textured background, clutter, the shape, and clutter over it.

    Args:
        name: the class, one of `CLASSES`.
        random: determines everything except the class.
        size: side of the image, pixels.

    Returns:
        An image of mode RGB.
    """
    side = size * SCALE
    ground, colour = _two_colours(random)
    picture = _gradient(random, ground, side)
    for _ in range(random.integers(2, 6)):
        _clutter(picture, random, side, _near(random, ground, 40))
    reach = side * random.uniform(0.26, 0.42)
    centre = random.uniform(reach * 0.8, side - reach * 0.8, 2)
    mask = _shape(name, random, side, centre, reach)
    picture.paste(_gradient(random, colour, side), mask=mask)
    for _ in range(random.integers(1, 4)):  # hides a part of the shape
        _clutter(picture, random, side, _near(random, ground, 60))
    small = picture.resize((size, size), Image.Resampling.LANCZOS)
    if random.random() < 0.3:
        small = small.filter(ImageFilter.GaussianBlur(random.uniform(0.4, 1.0)))
    noise = random.normal(0, random.uniform(2, 9), (size, size, 3))
    return Image.fromarray(np.clip(np.asarray(small) + noise, 0, 255).astype(np.uint8))


def _two_colours(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the colours of background and shape, with enough contrast."""
    while True:
        ground, colour = random.uniform(20, 235, (2, 3))
        if np.linalg.norm(ground - colour) > 150:
            return ground, colour


def _near(random: np.random.Generator, colour: np.ndarray, spread: float) -> tuple[int, ...]:
    return tuple(int(v) for v in np.clip(colour + random.normal(0, spread, 3), 0, 255))


def _gradient(random: np.random.Generator, colour: np.ndarray, side: int) -> Image.Image:
    """Fill a square with `colour` fading in a random direction, with a coarse texture."""
    small = side // SCALE  # it has no fine detail
    y, x = np.mgrid[:small, :small] / small - 0.5
    turn = random.uniform(0, 2 * np.pi)
    fade = (x * np.cos(turn) + y * np.sin(turn))[..., None] * random.normal(0, 35, 3)
    coarse = random.normal(0, 14, (9, 9)).astype(np.float32)
    texture = Image.fromarray(coarse, "F").resize((small, small), Image.Resampling.BICUBIC)
    plane = colour + fade + np.asarray(texture)[..., None]
    picture = Image.fromarray(np.clip(plane, 0, 255).astype(np.uint8))
    return picture.resize((side, side), Image.Resampling.BILINEAR)


def _clutter(
    picture: Image.Image, random: np.random.Generator, side: int, colour: tuple[int, ...]
) -> None:
    """Draw a line, a small ellipse or a small box, anywhere."""
    draw = ImageDraw.Draw(picture)
    x, y = random.uniform(0, side, 2)
    w, h = random.uniform(side * 0.04, side * 0.17, 2)
    kind = random.integers(3)
    if kind == 0:
        ends = random.uniform(0, side, 2)
        draw.line([x, y, *ends], fill=colour, width=int(random.uniform(2, side * 0.03)))
    elif kind == 1:
        draw.ellipse([x - w, y - h, x + w, y + h], fill=colour)
    else:
        draw.rectangle([x - w, y - h, x + w, y + h], fill=colour)


def _shape(
    name: str, random: np.random.Generator, side: int, centre: np.ndarray, reach: float
) -> Image.Image:
    """Draw a mask (mode L) of the shape, rotated, stretched and moved."""
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    turn, stretch = random.uniform(-0.6, 0.6), random.uniform(0.75, 1.0)
    cos, sin = np.cos(turn), np.sin(turn)

    def place(points: list[Point]) -> list[Point]:
        moved = np.asarray(points) * [reach, reach * stretch] @ np.array([[cos, sin], [-sin, cos]])
        return [(float(x), float(y)) for x, y in moved + centre]

    circle = [(math.cos(t), math.sin(t)) for t in np.linspace(0, 2 * math.pi, 72, endpoint=False)]
    if name in POLYGONS:
        draw.polygon(place(POLYGONS[name]), fill=255)
        return mask
    draw.polygon(place(circle), fill=255)
    if name == "disc":
        return mask
    hole = Image.new("L", (side, side))
    # a ring's hole is in the middle, a crescent's at the side
    shift, width = (0.0, random.uniform(0.5, 0.7)) if name == "ring" else (0.45, 0.85)
    ImageDraw.Draw(hole).polygon(
        place([(x * width + shift, y * width) for x, y in circle]), fill=255
    )
    return ImageChops.subtract(mask, hole)

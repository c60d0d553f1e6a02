"""Galleries of test images: some at random, and the most confident mistakes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from podium.reporting.answers import Answers, answers
from podium.reporting.labels import Labels
from podium.reporting.style import RIGHT, WRONG, shorten
from podium.store import Predictions

__all__ = [
    "Picture",
    "confident_mistakes",
    "decoded",
    "fitted_words",
    "gallery_figure",
    "random_pictures",
]

COLUMNS, ROWS = 4, 3
HEAD, SIDE, WORDS = 0.62, 1.7, 0.68  # inches: the title, a picture, the words below it
GALLERY_SEED = 20231201  # fixed, so that all contenders and all reports show the same images


@dataclass(frozen=True)
class Picture:
    """A test image with what was said of it."""

    path: str
    jpeg: bytes
    true: str
    predicted: str
    probability: float  # softmax, of the predicted class

    @property
    def right(self) -> bool:
        return self.true == self.predicted


def random_pictures(
    predictions: Predictions, thumbnails: Mapping[str, bytes], said: Answers | None = None
) -> list[Picture]:
    """Twelve test images at random, or all where there are fewer; the choice depends on the
    paths alone, so it is the same for every contender. `said` spares reckoning it again."""
    stored = sorted(
        (path, number) for number, path in enumerate(predictions.paths) if path in thumbnails
    )
    order = np.random.default_rng(GALLERY_SEED).permutation(len(stored))[: COLUMNS * ROWS]
    return _pictures(predictions, thumbnails, [stored[place][1] for place in order], said)


def confident_mistakes(
    predictions: Predictions, thumbnails: Mapping[str, bytes], said: Answers | None = None
) -> list[Picture]:
    """The twelve wrong predictions with the highest probability, or fewer where there are no
    more; images without a stored picture are passed over."""
    wrong = [
        number
        for number in np.flatnonzero(predictions.predicted != predictions.labels).tolist()
        if predictions.paths[number] in thumbnails
    ]
    said = answers(predictions, 1) if said is None else said
    certainty = said.share[:, 0]
    wrong.sort(key=lambda number: (-certainty[number], predictions.paths[number]))
    return _pictures(predictions, thumbnails, wrong[: COLUMNS * ROWS], said)


def _pictures(
    predictions: Predictions,
    thumbnails: Mapping[str, bytes],
    numbers: Sequence[int],
    said: Answers | None,
) -> list[Picture]:
    names, said = predictions.class_names, answers(predictions, 1) if said is None else said
    return [
        Picture(
            path=predictions.paths[number],
            jpeg=thumbnails[predictions.paths[number]],
            true=names[predictions.labels[number]],
            predicted=names[said.top[number, 0]],
            probability=float(said.share[number, 0]),
        )
        for number in numbers
    ]


def gallery_figure(pictures: Sequence[Picture], heading: str, title: str, say: Labels) -> Figure:
    """Up to 4 x 3 pictures; a tick and a full frame for right, a cross and a dashed for wrong.

    Args:
        pictures: at least one.
        heading: what the gallery shows.
        title: of the run.
        say: the language.
    """
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // COLUMNS)
    # laid out in inches: the words below a picture are no axes' labels, so no engine knows them
    wide, high = max(4.4, 1.85 * columns), HEAD + rows * (SIDE + WORDS)
    figure = Figure(figsize=(wide, high))
    grid = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={
            "left": 0.08 / wide,
            "right": 1 - 0.08 / wide,
            "top": 1 - HEAD / high,
            "bottom": WORDS / high,
            "hspace": WORDS / SIDE,
            "wspace": 0.1,
        },
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, picture in zip(grid.flat, pictures, strict=False):
        pixels = decoded(picture.jpeg)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        if pixels is None:
            axes.text(0.5, 0.5, say("no_picture"), ha="center", va="center", fontsize=7)
        else:
            height, width = pixels.shape[:2]
            w, h = width / max(width, height), height / max(width, height)
            box = (0.5 - w / 2, 0.5 + w / 2, 0.5 - h / 2, 0.5 + h / 2)
            # "none": a PDF then holds the pixels as they are, not resampled to its dots
            axes.imshow(pixels, extent=box, interpolation="none")
            axes.set(xlim=(0, 1), ylim=(0, 1))
        colour = RIGHT if picture.right else WRONG
        axes.add_patch(
            Rectangle(
                (0, 0),
                1,
                1,
                fill=False,
                edgecolor=colour,
                linewidth=1.4 if picture.right else 2.4,
                linestyle="-" if picture.right else (0, (4, 2)),
                clip_on=False,
            )
        )
        mark = "✓" if picture.right else "✗"
        lines = (
            ("{}", "gallery_true", picture.true, "black"),
            (mark + " {}", "gallery_predicted", picture.predicted, colour),
        )
        for number, (frame, key, name, ink) in enumerate(lines):
            fitted_words(
                axes,
                -0.04 - 0.1 * number,
                partial(_worded, frame, key, say=say),
                name,
                fontsize=7.4,
                color=ink,
            )
        axes.text(
            0, -0.24, say.percent(picture.probability, 1), va="top", fontsize=7.4, color=colour
        )
    figure.suptitle(f"{heading}\n{shorten(title, 80 if columns > 2 else 40)}")
    return figure


def _worded(frame: str, key: str, name: str, say: Labels) -> str:
    return frame.format(say(key, name=name))


def fitted_words(
    axes: Axes, y: float, words: Callable[[str], str], name: str, **style: Any
) -> None:
    """A line of text below a picture, with as much of a name as fits its width.

    Args:
        axes: the picture's.
        y: top of the line, in the axes' units.
        words: gives the line for a name that is cut.
        name: the whole of it.
        style: of the text.
    """
    line = axes.text(0, y, "", va="top", **style)
    room = 1.06 * axes.get_window_extent().width
    for length in (40, 32, 26, 22, 19, 16, 13, 10):
        line.set_text(words(shorten(name, length)))
        if line.get_window_extent().width <= room:
            break


def decoded(jpeg: bytes) -> Any:
    """A JPEG as an array of shape (height, width, 3), enlarged; None where it cannot be read."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(jpeg)) as image:
            # smooth when enlarged, at a fraction of what resampling to 400 dpi takes
            double = (image.width * 2, image.height * 2)
            return np.asarray(image.convert("RGB").resize(double, Image.Resampling.BICUBIC))
    except (OSError, UnidentifiedImageError, ValueError):
        return None

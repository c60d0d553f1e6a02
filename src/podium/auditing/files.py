"""Inspects every image: a thumbnail to compare, and anything odd about the file."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from podium.auditing.record import Oddity, OddKind
from podium.auditing.similarity import THUMB, is_blank, is_grey, small_rgb
from podium.data.bands import as_rgb
from podium.data.index import DataIndex
from podium.errors import UnreadableImageError
from podium.runtime.events import AuditProgress, Notify, silent
from podium.runtime.threads import in_order

TINY = 32
"""Minimum shorter side in pixels; smaller images show little, and networks upscale them."""

EXTREME = 4.0
"""Maximum aspect ratio, longer side over shorter; beyond it a square crop loses three quarters."""


@dataclass(frozen=True, eq=False)
class PictureFacts:
    """What is known about n images, in the order of `paths` (train, valid, test; sorted in each).

    Attributes:
        paths: relative to the root.
        splits: split of each image.
        labels: class name of each image.
        sizes: int64, (n, 2): width and height in pixels.
        pixels: SHA-256 of size and pixels, as decoded to RGB; '' if the file vanished.
        thumbs: uint8, (n, THUMB, THUMB, 3).
        vanished: (path, reason) of files that were readable when the index was made.
    """

    paths: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[str, ...]
    sizes: npt.NDArray[np.int64]
    pixels: tuple[str, ...]
    thumbs: npt.NDArray[np.uint8]
    vanished: tuple[tuple[str, str], ...] = field(default=())


def inspect_all(
    index: DataIndex,
    *,
    workers: int | None = None,
    notify: Notify = silent,
) -> PictureFacts:
    """Decode every image once, in threads; keeps 3 KB per image in memory.

    Args:
        index: the images.
        workers: number of threads; None: one per core.
        notify: receives the progress: number of images done.
    """
    paths = [path for split in index.splits.values() for path in split.paths]
    thumbs = np.zeros((len(paths), THUMB, THUMB, 3), dtype=np.uint8)
    sizes = np.zeros((len(paths), 2), dtype=np.int64)
    pixels = [""] * len(paths)
    vanished: list[tuple[str, str]] = []

    def inspect(at: int) -> None:
        try:
            image = index.open_image(paths[at])
        except UnreadableImageError as error:
            vanished.append((error.path, error.reason))
            return
        sizes[at] = image.size
        pixels[at] = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
        thumbs[at] = small_rgb(as_rgb(image))

    with contextlib.closing(in_order(inspect, range(len(paths)), threads=workers)) as seen:
        for done, _ in enumerate(seen, 1):
            if done % 100 == 0 or done == len(paths):
                notify(AuditProgress("images", done, len(paths)))
    return PictureFacts(
        paths=tuple(paths),
        splits=tuple(name for name, split in index.splits.items() for _ in split.paths),
        labels=tuple(
            index.classes[label] for split in index.splits.values() for label in split.labels
        ),
        sizes=sizes,
        pixels=tuple(pixels),
        thumbs=thumbs,
        vanished=tuple(sorted(vanished)),
    )


def odd_files(index: DataIndex, looks: PictureFacts) -> tuple[tuple[Oddity, ...], int]:
    """List the files to look at, and count the images without colour.

    An image can be odd in several ways. Greyscale images are only counted: in many sets they are
    the rule, and networks cope with them.

    Args:
        index: the images.
        looks: what `inspect_all` found in them.

    Returns:
        `(oddities, greyscale)`: the files, sorted by kind and path, and the count.
    """
    found = [
        Oddity(path, *index.unreadable_in[path], "unreadable", reason)
        for path, reason in index.unreadable
    ]
    places = dict(zip(looks.paths, zip(looks.splits, looks.labels, strict=True), strict=True))
    found += [Oddity(path, *places[path], "unreadable", reason) for path, reason in looks.vanished]
    seen = looks.sizes.min(axis=1) > 0
    short, long = looks.sizes.min(axis=1), looks.sizes.max(axis=1)
    kinds: dict[OddKind, npt.NDArray[np.bool_]] = {
        "tiny": short < TINY,
        "extreme_shape": long > EXTREME * short,
        "blank": is_blank(looks.thumbs),
    }
    for kind, odd in kinds.items():
        for at in np.flatnonzero(odd & seen):
            width, height = looks.sizes[at]
            found.append(
                Oddity(
                    looks.paths[at],
                    looks.splits[at],
                    looks.labels[at],
                    kind,
                    f"{width} x {height}",
                )
            )
    order = ("unreadable", *kinds)
    found.sort(key=lambda one: (order.index(one.kind), one.path))
    return tuple(found), int((is_grey(looks.thumbs) & seen).sum())

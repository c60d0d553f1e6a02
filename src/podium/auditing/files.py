"""One more look at every picture: a thumbnail to compare, and whatever is odd about the file."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from podium.auditing.record import Oddity, OddKind
from podium.auditing.similarity import THUMB, is_blank, is_grey, small_rgb
from podium.data.index import DataIndex
from podium.errors import UnreadableImageError
from podium.runtime.events import AuditProgress, Notify, silent
from podium.runtime.threads import in_order

TINY = 32
"""A shorter side of fewer pixels shows little, and networks enlarge it to their input size."""

EXTREME = 4.0
"""The longer side over the shorter one; beyond it a square crop loses three quarters."""


@dataclass(frozen=True, eq=False)
class PictureFacts:
    """What is known of n pictures, in the order of `paths` (train, valid, test; sorted in each).

    Attributes:
        paths: relative to the root.
        splits: of each picture.
        labels: class name of each picture.
        sizes: int64, (n, 2): width and height in pixels.
        pixels: SHA-256 of size and pixels, as decoded to RGB; '' where the file vanished.
        thumbs: uint8, (n, THUMB, THUMB, 3).
        vanished: (path, reason) of files that were sound when the index was made.
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
    """Decode every picture once, in threads; holds 3 KB a picture.

    Args:
        index: the folder.
        workers: threads; empty: one a core.
        notify: told how many pictures were seen.
    """
    paths = [path for split in index.splits.values() for path in split.paths]
    thumbs = np.zeros((len(paths), THUMB, THUMB, 3), dtype=np.uint8)
    sizes = np.zeros((len(paths), 2), dtype=np.int64)
    pixels = [""] * len(paths)
    vanished: list[tuple[str, str]] = []

    def look(at: int) -> None:
        try:
            image = index.open_image(paths[at])
        except UnreadableImageError as error:
            vanished.append((error.path, error.reason))
            return
        sizes[at] = image.size
        pixels[at] = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
        thumbs[at] = small_rgb(image)

    with contextlib.closing(in_order(look, range(len(paths)), threads=workers)) as seen:
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
    """Files to look at, sorted by kind and path, and how many pictures have no colour.

    A picture can be odd in several ways. That a picture is grey is counted alone: in many sets
    it is the rule, and networks cope with it.
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

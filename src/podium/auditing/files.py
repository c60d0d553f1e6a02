"""Inspects every image: a thumbnail to compare, and anything odd about the file."""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from podium.auditing.record import Oddity, OddKind
from podium.auditing.similarity import THUMB, is_blank, is_grey, small_rgb
from podium.data.bands import as_rgb
from podium.data.grey import GreyWindows
from podium.data.images import decode_picture
from podium.data.index import DataIndex
from podium.data.source import Reader
from podium.errors import DataError, UnreadableImageError
from podium.runtime.events import AuditProgress, Notify, silent
from podium.runtime.large_array import LargeArray, Table
from podium.runtime.parts import SEEN_BY_ALL, Parts
from podium.runtime.threads import in_order

TINY = 32
"""Minimum shorter side in pixels; smaller images show little, and networks upscale them."""

EXTREME = 4.0
"""Maximum aspect ratio, longer side over shorter; beyond it a square crop loses three quarters."""

_PART = 512  # images that another machine gets at a time

_Seen = tuple[tuple[int, int], str, npt.NDArray[np.uint8] | None, str]


@dataclass(frozen=True, eq=False)
class PictureFacts:
    """What is known about n images, in the order of `paths` (train, valid, test; sorted in each).

    Attributes:
        paths: relative to the root.
        splits: split of each image.
        labels: class name of each image.
        sizes: int64, (n, 2): width and height in pixels.
        pixels: SHA-256 of size and pixels, as decoded to RGB; '' if the file vanished.
        thumbs: uint8, (n, THUMB, THUMB, 3); read in parts.
        vanished: (path, reason) of files that were readable when the index was made.
    """

    paths: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[str, ...]
    sizes: npt.NDArray[np.int64]
    pixels: tuple[str, ...]
    thumbs: Table
    vanished: tuple[tuple[str, str], ...] = field(default=())


def inspect_all(
    index: DataIndex,
    *,
    workers: int | None = None,
    notify: Notify = silent,
    parts: Parts | None = None,
) -> PictureFacts:
    """Decode every image once, in threads; keeps 3 KB per image, of many images in a file.

    Args:
        index: the images.
        workers: number of threads; None: one per core.
        notify: receives the progress: number of images done.
        parts: what decodes them on other machines; None: this one does.

    Raises:
        DataError: another machine does not see an image that this one can read.
    """
    paths = [path for split in index.splits.values() for path in split.paths]
    thumbs = LargeArray(len(paths), (THUMB, THUMB, 3), np.uint8)
    sizes = np.zeros((len(paths), 2), dtype=np.int64)
    pixels = [""] * len(paths)
    vanished: list[tuple[str, str]] = []

    look = _Look(index.reader, index.windows)
    looks = (
        in_order(look, paths, threads=workers) if parts is None else _elsewhere(look, paths, parts)
    )
    with contextlib.closing(looks) as seen:
        for at, (size, digest, thumb, reason) in enumerate(seen):
            if thumb is None:
                vanished.append((paths[at], reason))
            else:
                sizes[at], pixels[at], thumbs[at : at + 1] = size, digest, thumb
            if (at + 1) % 100 == 0 or at + 1 == len(paths):
                notify(AuditProgress("images", at + 1, len(paths)))
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


@dataclass(frozen=True)
class _Look:
    """Looks at one image, or at a part of them; sent to other machines."""

    reader: Reader
    windows: GreyWindows

    def __call__(self, path: str) -> _Seen:
        """Size, SHA-256 of the pixels, and thumbnail; None: the file vanished, with the reason."""
        try:
            image = decode_picture(self.reader.read(path), path, self.windows)
        except UnreadableImageError as error:
            return (0, 0), "", None, error.reason
        digest = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
        return image.size, digest, small_rgb(as_rgb(image)), ""

    def part(self, paths: Sequence[str]) -> tuple[str, list[_Seen]]:
        """What is seen on images, and the name of this machine."""
        return socket.gethostname(), list(in_order(self, paths))


def _elsewhere(look: _Look, paths: Sequence[str], parts: Parts) -> Generator[_Seen, None, None]:
    """Have other machines look at images."""
    shares = (paths[at : at + _PART] for at in range(0, len(paths), _PART))
    asked = iter(paths)
    with contextlib.closing(parts.map(look.part, shares)) as results:
        for host, found in results:
            for one, path in zip(found, asked, strict=False):
                if one[2] is None and look(path)[2] is not None:
                    raise DataError(f"{host} does not see {path}. {SEEN_BY_ALL}")
                yield one


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
    reasons = dict(looks.vanished)
    for path, split, label in zip(looks.paths, looks.splits, looks.labels, strict=True):
        if path in reasons:
            found.append(Oddity(path, split, label, "unreadable", reasons[path]))
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

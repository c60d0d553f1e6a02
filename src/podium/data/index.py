"""The index of a study's images: its splits and classes, and what was found in every file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from podium.data.bands import Picture
from podium.data.checking import load_checked
from podium.data.fingerprints import split_fingerprint
from podium.data.folds import Folds
from podium.data.grey import OWN_WINDOWS, GreyWindows
from podium.data.image_table import DigestsByPath, ImageTable, hex_of
from podium.data.images import decode_picture
from podium.data.source import Reader
from podium.data.splits import Split
from podium.data.words import shown


@dataclass(frozen=True, eq=False)
class PartOf:
    """Where the images of a fold lie among all images of the study.

    Attributes:
        whole: index of the study; its `test` split has all images.
        rows: split -> place of each image in that split; int64 of shape (n,).
    """

    whole: DataIndex
    rows: dict[str, npt.NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class DataIndex:
    """The images of a study: splits, classes, and what was found in checking every file.

    Attributes:
        reader: reads the files.
        classes: classes of train, in code-point order; labels are indices into it.
        images: all images, which the splits are rows of.
        splits: `train`, `valid` and `test`.
        skipped: reason -> number of files and folders that were skipped.
        unreadable: path and reason of each image that cannot be decoded and is left out.
        notices: sentences for the user.
        fingerprint: SHA-256 over the bytes and labels of all images; independent of the folder.
        statistics: spread of sizes, formats and modes.
        windows: how grey values deeper than 8 bits are mapped.
        unreadable_in: path -> split and class, of each unreadable image.
        folds: of cross-validation; the only split is then `test`, with all images.
        part_of: for a fold of a study: the study's index, and the places of its images there.

    Examples:
        >>> import pathlib, tempfile
        >>> import podium
        >>> from podium.data.synthetic import make_demo
        >>> demo = make_demo(pathlib.Path(tempfile.mkdtemp()), size=32, per_class=(3, 1, 1))
        >>> index = podium.build_index(demo)
        >>> index.classes[:3], index.class_counts("train")["arrow"]
        (('arrow', 'crescent', 'cross'), 3)
    """

    reader: Reader
    classes: tuple[str, ...]
    images: ImageTable
    splits: dict[str, Split]
    skipped: dict[str, int]
    unreadable: tuple[tuple[str, str], ...]
    notices: tuple[str, ...]
    fingerprint: str
    statistics: dict[str, Any]
    windows: GreyWindows = OWN_WINDOWS
    unreadable_in: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    folds: Folds | None = None
    part_of: PartOf | None = None

    @property
    def root(self) -> Path:
        """The folder that paths are relative to; for a source without one, its `place`."""
        return Path(self.reader.root_text)

    @property
    def digests(self) -> Mapping[str, str]:
        """Path -> SHA-256 of the bytes, of each image."""
        return DigestsByPath(self.images)

    def decoded_for(self, windows: GreyWindows) -> DataIndex:
        """The same images, decoded as a model trained on another data set expects.

        Args:
            windows: of the model.
        """
        return self if windows == self.windows else replace(self, windows=windows)

    @property
    def deep(self) -> frozenset[str]:
        """Paths of the images with grey values deeper than 8 bits."""
        return frozenset(self.images.paths.take(np.flatnonzero(self.images.deep)))

    def pixel_digest(self, path: str) -> str:
        """Cache key of the decoded pixels of one image: see `pixel_digests`.

        Args:
            path: of one of the images.
        """
        row = np.array([self.images.row(path)])
        return hex_of(self.images.pixel_digests(row, self.windows)[0])

    def pixel_digests(self, split: str) -> npt.NDArray[np.uint8]:
        """Cache keys of decoded pixels: SHA-256 of the bytes, and of how they are decoded.

        Args:
            split: `train`, `valid` or `test`.

        Returns:
            uint8 of shape (n, 32).
        """
        return self.images.pixel_digests(self.splits[split].rows, self.windows)

    @property
    def decoding(self) -> dict[str, Any]:
        """How files are decoded, as a plain `grey_windows`; empty if all are simply 8-bit RGB."""
        plain = not self.images.deep.any() and self.windows.channels is None
        return {} if plain else {"grey_windows": self.windows.to_json()}

    def class_counts(self, split: str) -> dict[str, int]:
        """Count the images of each class in a split.

        Args:
            split: `train`, `valid` or `test`.
        """
        counts = np.bincount(self.splits[split].labels, minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}

    def load(self, path: str) -> Picture:
        """Decode an image as a model sees it, and check that its file has not changed since.

        Args:
            path: of one of the images.

        Raises:
            UnreadableImageError: the file vanished, can no longer be read, or has changed.
        """
        return load_checked(self.reader, path, self.digests.get(path), self.windows)

    def read(self, path: str) -> bytes:
        """Read the current bytes of an image file.

        Args:
            path: of one of the images.

        Raises:
            UnreadableImageError: the file vanished, or can no longer be read.
        """
        return self.reader.read(path)

    def open_image(self, path: str) -> Picture:
        """Decode an image as a model sees it, even if its file has changed since it was indexed.

        Args:
            path: of one of the images.

        Raises:
            UnreadableImageError: the file vanished, or can no longer be read.
        """
        return decode_picture(self.read(path), path, self.windows)

    def split_fingerprint(self, split: str) -> str:
        """SHA-256 over the bytes and labels of a split's images; independent of the folder.

        Args:
            split: `train`, `valid` or `test`.
        """
        return split_fingerprint(self.splits[split], self.classes)

    def summary(self) -> dict[str, Any]:
        """The content of `data.json`; only plain values."""
        return {
            "root": shown(self.reader.root_text),
            "classes": list(self.classes),
            "splits": {name: self.class_counts(name) for name in self.splits},
            "totals": {name: len(split) for name, split in self.splits.items()},
            "skipped": self.skipped,
            "unreadable": [list(pair) for pair in self.unreadable],
            "notices": list(self.notices),
            "fingerprint": self.fingerprint,
            "test_fingerprint": self.split_fingerprint("test"),
            **self.decoding,
            **({} if self.folds is None else {"folds": self.folds.count}),
            **self.statistics,
        }

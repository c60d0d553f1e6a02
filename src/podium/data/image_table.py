"""All images of an index as columns, and a split's part of them that decoding processes map."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from podium.data.columns import BLOCK, Coded, Rows, Texts
from podium.data.grey import GreyWindows
from podium.data.mapped import Digests, binary_digests, digests_of, read_mapped
from podium.runtime.cache import cache_root, prune


@dataclass(frozen=True, eq=False)
class ImageTable:
    """Images in the order of their paths. Splits and folds are rows of it.

    Attributes:
        paths: relative to the root, with '/'; sorted by code points.
        digests: SHA-256 of the bytes; uint8 of shape (n, 32).
        deep: whether an image has grey values deeper than 8 bits; bool of shape (n,).
        groups: what each image belongs to, None where to nothing; None: the source has no groups.
        columns: further metadata by name.
    """

    paths: Texts
    digests: Digests
    deep: npt.NDArray[np.bool_]
    groups: Coded | None = None
    columns: Mapping[str, Coded] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.digests)

    def row(self, path: str) -> int:
        """The row of an image.

        Raises:
            KeyError: there is no such image.
        """
        row = self.paths.find(path)
        if row is None:
            raise KeyError(path)
        return row

    def hexes(self, rows: Rows) -> Iterator[str]:
        """SHA-256 of images, as text."""
        for first in range(0, len(rows), BLOCK):
            block = self.digests[rows[first : first + BLOCK]].tobytes().hex()
            yield from (block[at : at + 64] for at in range(0, len(block), 64))

    def pixel_digests(self, rows: Rows, windows: GreyWindows) -> Digests:
        """Cache keys of decoded pixels: SHA-256 of the bytes, and of how they are decoded.

        Args:
            rows: of the images; int64 of shape (m,).
            windows: of the model.

        Returns:
            uint8 of shape (m, 32).
        """
        found = self.digests[rows]
        depends = self.deep[rows] if windows.channels is None else np.ones(len(rows), np.bool_)
        for at in np.flatnonzero(depends):
            key = f"{found[at].tobytes().hex()} {windows.key}"
            found[at] = np.frombuffer(hashlib.sha256(key.encode()).digest(), np.uint8)
        return found


class DigestsByPath(Mapping[str, str]):
    """Path -> SHA-256 of the bytes.

    Args:
        images: the images.
    """

    def __init__(self, images: ImageTable) -> None:
        self._images = images

    def __getitem__(self, path: str) -> str:
        return hex_of(self._images.digests[self._images.row(path)])

    def __iter__(self) -> Iterator[str]:
        return iter(self._images.paths)

    def __len__(self) -> int:
        return len(self._images)


class Entries:
    """What reading the images of a split takes; other processes map it from a file.

    Args:
        paths: of the images.
        digests: SHA-256 of each image's bytes; uint8 of shape (m, 32).
        labels: int64 of shape (n,).
        rows: of `digests`, for each image; int64 of shape (n,). None: its own number.
    """

    def __init__(
        self,
        paths: Texts,
        digests: Digests,
        labels: npt.NDArray[np.int64],
        rows: Rows | None = None,
    ) -> None:
        self.paths, self.labels = paths, labels
        self._digests, self._rows = digests, rows
        self._file: Path | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self, number: int) -> str:
        """SHA-256 of an image's bytes."""
        return hex_of(self._digests[number if self._rows is None else self._rows[number]])

    def __reduce__(self) -> Any:
        if self._file is None:
            own = self._digests if self._rows is None else self._digests[self._rows]
            try:
                self._file = self._stored(own)
            except OSError:  # a full disk costs memory
                return Entries, (Texts(self.paths.arrow()), own, self.labels)
        return Entries.mapped, (self._file,)

    @classmethod
    def mapped(cls, file: Path) -> Entries:
        """Map what `__reduce__` has written."""
        table = read_mapped(file)
        labels = table["label"].chunk(0).to_numpy()
        found = cls(Texts(table["path"].chunk(0)), digests_of(table["sha256"]), labels)
        found._file = file
        return found

    def _stored(self, digests: Digests) -> Path:
        """Write the file; it is removed when this object or the process ends."""
        folder = cache_root() / "index"
        folder.mkdir(parents=True, exist_ok=True)
        prune(folder, limit=float("inf"))  # what killed processes have left
        columns = [self.paths.arrow(), binary_digests(digests), pa.array(self.labels)]
        batch = pa.record_batch(columns, names=["path", "sha256", "label"])
        handle, name = tempfile.mkstemp(prefix="images-", suffix=".tmp", dir=folder)
        weakref.finalize(self, _remove, name, os.getpid())
        with open(handle, "wb") as out, pa.ipc.new_file(out, batch.schema) as writer:
            writer.write_batch(batch)
        return Path(name)


def hex_of(digest: Digests) -> str:
    """One digest as text."""
    return bytes(digest).hex()


def _remove(file: str, process: int) -> None:
    if process == os.getpid():  # not in one that was forked
        with contextlib.suppress(OSError):  # Windows does not remove a file that is mapped
            Path(file).unlink()

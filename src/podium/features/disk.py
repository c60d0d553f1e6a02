"""Features on disk: parts of an array, each written atomically, keyed by what they depend on.

    features/<model>-<size>-<key>/part-00007.npz      512 images each, in the order of the split

A kill loses only the part in progress. A part that is damaged or cannot be written is computed
again. Reading or writing an entry marks it as used; when all entries together exceed a limit, the
least recently used are removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from podium.runtime.cache import cache_root, mark_used, prune
from podium.runtime.files import atomic_write

LIMIT = 8 * 2**30
"""Maximum bytes of features on disk, including the audit's."""

Floats = npt.NDArray[np.float32]


def feature_folder() -> Path:
    """Where features are kept on this machine."""
    return cache_root() / "features"


Lend = Callable[[str, Path], None]
"""Puts what another machine has of an entry, which is named, into the folder of entries."""

_lend: list[Lend] = []


@contextlib.contextmanager
def borrowing(lend: Lend) -> Iterator[None]:
    """While it lasts, parts that are missing here are asked of another machine.

    Args:
        lend: called with the name of an entry and the folder of entries.
    """
    _lend.append(lend)
    try:
        yield
    finally:
        _lend.remove(lend)


class FeatureStore:
    """The parts of one array.

    Args:
        name: prefix of the entry's folder, for people who inspect the cache.
        depends: everything that the values depend on, as plain JSON values.
        folder: where entries are kept; None: `features` in Podium's cache.
    """

    def __init__(self, name: str, depends: Mapping[str, Any], folder: Path | None = None) -> None:
        key = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
        safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)[:80]
        self.folder = folder or feature_folder()
        self.path = self.folder / f"{safe}-{key[:32]}"

    def part(self, number: int) -> Path:
        return self.path / f"part-{number:05d}.npz"

    def read(self, number: int, images: int) -> Floats | None:
        """Read a part.

        Args:
            number: of the part.
            images: number of images that it must have.

        Returns:
            The values, shape (images, ...); None if they are missing or damaged.
        """
        return read_array(self.part(number), images)

    def borrow(self) -> None:
        """Ask the machine that lends to this process, if there is one, for missing parts."""
        for lend in _lend:
            lend(self.path.name, self.folder)

    def write(self, number: int, values: Floats, *, bf16: bool = False) -> None:
        """Write a part, if the folder is writable.

        Args:
            number: of the part.
            values: shape (images, ...).
            bf16: the values are bf16 numbers, which take half the space without loss.
        """
        with contextlib.suppress(OSError):
            write_array(self.part(number), values, bf16=bf16)

    def used(self, keep: Collection[Path] = ()) -> None:
        """Mark the entry as used, and prune the others to keep the total below `LIMIT`.

        Args:
            keep: entries that are not removed either.
        """
        mark_used(self.path)
        prune(self.folder, limit=LIMIT, keep=(self.path, *keep))


def read_array(place: Path, rows: int) -> npt.NDArray[Any] | None:
    """Read what `write_array` wrote.

    Args:
        place: the file.
        rows: number of rows that it must have.

    Returns:
        The array; None if it is missing, damaged or has another shape.
    """
    try:
        # opened here, since numpy would leave a damaged file open; the archive checks its CRC
        with open(place, "rb") as file, np.load(file, allow_pickle=False) as stored:
            values = stored["features"]
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile):
        return None
    if values.dtype == np.uint16:  # the upper halves of float32 numbers
        values = (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if values.dtype not in (np.float16, np.float32) or values.ndim < 2 or len(values) != rows:
        return None
    return values if bool(np.isfinite(values).all()) else None


def write_array(place: Path, values: npt.NDArray[Any], *, bf16: bool = False) -> None:
    """Write an array atomically.

    Args:
        place: the file.
        values: shape (rows, ...).
        bf16: the values are bf16 numbers, which take half the space without loss.

    Raises:
        OSError: the file cannot be written.
    """
    if bf16:
        values = (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    atomic_write(place, lambda file: np.savez(file, features=values))

"""Arrays with a row per image, of which only a part need be in memory.

Millions of images have more features, or thumbnails, than fit into memory. What reads an array in
parts, or some rows of it, takes any `Table`: a NumPy array, a `LargeArray`, or some rows of either.
"""

from __future__ import annotations

import errno
import math
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from podium.errors import StorageError
from podium.runtime.cache import cache_root

IN_MEMORY = 2**30
"""Bytes of an array that are kept in memory; a larger one is in a file."""

PART = 2048  # rows at a time: 24 MB of the audit's features

Integers = npt.NDArray[np.int64]


class Table(Protocol):
    """Rows of numbers that are read in parts: NumPy's arrays, and those of this module."""

    def __len__(self) -> int: ...

    def __getitem__(self, those: Any, /) -> npt.NDArray[Any]: ...

    @property
    def shape(self) -> tuple[int, ...]: ...


def is_large(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> bool:
    """Whether an array of that shape is kept in a file."""
    return math.prod(shape) * np.dtype(dtype).itemsize > IN_MEMORY


class LargeArray:
    """An array that is written and read in parts.

    Above `IN_MEMORY` bytes it is a file in Podium's cache (without a cache, in the system's folder
    for temporary files), which goes with the array, or with a process that is killed.

    Args:
        rows: of the array.
        shape: of a row.
        dtype: of the values that are read.
        kept_as: their type in a file, such as float16 for features.

    Raises:
        StorageError: there is not enough space for the file.

    Examples:
        >>> from podium.runtime.large_array import LargeArray
        >>> found = LargeArray(3, (2,), np.float32)
        >>> found[1:] = np.ones((2, 2))
        >>> found[np.array([0, 2])].tolist()
        [[0.0, 0.0], [1.0, 1.0]]
    """

    def __init__(
        self,
        rows: int,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        kept_as: npt.DTypeLike | None = None,
    ) -> None:
        self.shape = (rows, *shape)
        self.dtype = np.dtype(dtype)
        self._kept_as = np.dtype(dtype if kept_as is None else kept_as)
        if is_large(self.shape, dtype):
            self._row_bytes = math.prod(shape) * self._kept_as.itemsize
            self._file = _unnamed(rows * self._row_bytes)
            weakref.finalize(self, self._file.close)
        else:
            self._values = np.zeros(self.shape, dtype=dtype)

    @property
    def in_file(self) -> bool:
        """Whether the array is in a file, where its values have the type `kept_as`."""
        return hasattr(self, "_file")

    def __len__(self) -> int:
        return self.shape[0]

    def __setitem__(self, those: slice, values: npt.NDArray[Any]) -> None:
        """Write rows that follow one another."""
        if not self.in_file:
            self._values[those] = values
            return
        first, last, _ = those.indices(len(self))
        # written, not mapped: a full disk is then an error, not a signal that ends the process
        self._file.seek(first * self._row_bytes)
        plain = np.broadcast_to(values, (last - first, *self.shape[1:]))
        self._file.write(np.ascontiguousarray(plain, self._kept_as).data)
        self._file.flush()

    def __getitem__(self, those: slice | Integers) -> npt.NDArray[Any]:
        """Read rows; of those in a file, a copy."""
        if not self.in_file:
            return self._values[those]
        # mapped only while it is read: what was read before would count as this process's memory
        mapped = np.memmap(self._file, self._kept_as, "r", shape=self.shape)
        return np.array(mapped[those], dtype=self.dtype)


def _unnamed(size: int) -> Any:
    """A file of so many zeros that is gone when it is closed."""
    folder = cache_root()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, it is open as long as the array is
    except OSError:
        folder = Path(tempfile.gettempdir())
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
    free = shutil.disk_usage(folder).free
    if free < size:
        file.close()
        reason = f"{size / 1e9:.1f} GB are needed for a while, and {free / 1e9:.1f} GB are free"
        raise StorageError(folder, OSError(errno.ENOSPC, reason))
    file.truncate(size)
    return file


@dataclass(frozen=True)
class Chosen:
    """Some rows of an array, read when they are asked for.

    Args:
        whole: the array.
        numbers: of the rows, shape (n,).
    """

    whole: Table
    numbers: Integers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, those: slice | Integers) -> npt.NDArray[Any]:
        return self.whole[self.numbers[those]]

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.numbers), *self.whole.shape[1:]


def in_parts(table: Table, rows: int | None = None) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    """Read an array from the first row to the last.

    Args:
        table: the array.
        rows: most rows that are read at a time; None: `PART`.

    Yields:
        The rows' place, and their values.
    """
    step = PART if rows is None else rows
    for first in range(0, len(table), step):
        place = slice(first, min(first + step, len(table)))
        yield place, table[place]

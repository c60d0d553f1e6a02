"""Tables in files that processes map: they share the memory, and open them at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from podium.runtime.files import atomic_write

Digests = npt.NDArray[np.uint8]
"""SHA-256 of many files, of shape (n, 32)."""


def read_mapped(path: Path) -> pa.Table:
    """Map a table from a file: processes share its memory.

    Args:
        path: of the file.

    Raises:
        OSError: it cannot be read.
        pa.ArrowException: it is not a table.
    """
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def write_mapped(table: pa.Table, path: Path) -> None:
    """Write a table for `read_mapped`; atomic.

    Args:
        table: its columns become contiguous.
        path: of the file.

    Raises:
        StorageError: it cannot be written.
    """
    table = table.combine_chunks()

    def write(file: Any) -> None:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)

    atomic_write(path, write)


def digests_of(column: pa.ChunkedArray) -> Digests:
    """SHA-256 in a column of binary values of 32 bytes, as uint8 of shape (n, 32).

    Raises:
        TypeError: the column has another type.
    """
    if column.type != pa.binary(32):
        raise TypeError(f"expected binary values of 32 bytes, got {column.type}")
    if column.num_chunks != 1:
        column = pa.chunked_array([pa.concat_arrays([pa.array([], column.type), *column.chunks])])
    whole = column.chunk(0)  # of a file that is mapped, nothing is copied
    raw = np.frombuffer(whole.buffers()[1] or b"", np.uint8)
    return raw.reshape(-1, 32)[whole.offset : whole.offset + len(whole)]


def binary_digests(digests: Digests) -> pa.Array:
    """SHA-256 as binary values of 32 bytes.

    Args:
        digests: uint8 of shape (n, 32).
    """
    content = pa.py_buffer(np.ascontiguousarray(digests))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(digests), [None, content])


def as_numbers(digests: Digests) -> npt.NDArray[np.uint64]:
    """The first 8 bytes of each digest, as a number that sorts like them."""
    return np.ascontiguousarray(digests[:, :8]).view(">u8").reshape(-1).astype(np.uint64)

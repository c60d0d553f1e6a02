"""A file of decoded images: written incrementally, valid after a kill, read by memory mapping.

It holds images of one size, independent of their names and classes. Its parts, in order:

- a header of 64 bytes: `podium-pixels`, the format, the side in pixels, the number of images, and
  the number of channels if it is not 3;
- the SHA-256 of every image's file, sorted: uint8 of shape (n, 32);
- the CRC-32 of every image's pixels: uint32 of shape (n,), 0 if they are missing;
- padding to a whole page, then the pixels: uint8 of shape (n, side, side, channels).

The pixels of an image are written before their checksum, and verified when they are read: after a
kill, a power cut or a disk error, every image is known to be either valid or missing.
"""

from __future__ import annotations

import bisect
import contextlib
import logging
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

FORMAT = 1
"""Increase it whenever the pixels change: decoding, resampling, layout."""

NOT_KEPT = -1
"""Row of an image that is in no file."""

Pixels = npt.NDArray[np.uint8]
_HEADER, _PAGE = 64, 4096
_log = logging.getLogger(__name__)


def file_bytes(count: int, size: int, channels: int = 3) -> int:
    """Size in bytes of a complete file of `count` images of `size` x `size` pixels."""
    return _pixels_at(count) + count * size * size * channels


def most_images(room: float, size: int, channels: int = 3) -> int:
    """Number of images of `size` x `size` pixels whose file takes at most `room` bytes."""
    most = range(int(room // (size * size * channels)) + 1)
    fitting = bisect.bisect_right(most, room, key=lambda count: file_bytes(count, size, channels))
    return max(0, fitting - 1)


def _pixels_at(count: int) -> int:
    return -(-(_HEADER + 36 * count) // _PAGE) * _PAGE  # rounded up


def _marks_at(count: int) -> int:
    return _HEADER + 32 * count


class PixelFile:
    """The parts of a file, memory-mapped and read-only; the module's docstring has the format.

    Attributes:
        size: side of the images, pixels.
        digests: uint8 of shape (n, 32), sorted.
        pixels: uint8 of shape (n, size, size, channels).
    """

    def __init__(self, path: Path, count: int, size: int, channels: int = 3) -> None:
        self.size = size
        self.digests: Pixels = np.memmap(path, np.uint8, "r", _HEADER, (count, 32))
        self.marks: npt.NDArray[np.uint32] = np.memmap(
            path, np.uint32, "r", _marks_at(count), (count,)
        )
        shape = (count, size, size, channels)
        pixels = np.memmap(path, np.uint8, "r", _pixels_at(count), shape)
        self.pixels: Pixels = pixels.view(np.ndarray)  # the rows of a memmap are slow to make
        # the first 8 bytes of each digest, as numbers that sort like it
        self._numbers = _as_numbers(self.digests)

    @classmethod
    def open(cls, path: Path) -> PixelFile | None:
        """Open a file; None if it does not exist, or is not a complete file of this format."""
        try:
            with open(path, "rb") as file:
                name, *numbers = file.read(_HEADER).split()[:5]
            version, size, count, channels = map(int, [*numbers, b"3"][:4])
            sound = name == b"podium-pixels" and version == FORMAT and count > 0
            if not sound or path.stat().st_size != file_bytes(count, size, channels):
                return None
            return cls(path, count, size, channels)
        except (OSError, ValueError):
            return None

    def find(self, digest: Pixels) -> Pixels | None:
        """Find an image by the SHA-256 of its file.

        Args:
            digest: uint8 of shape (32,).

        Returns:
            uint8 of shape (size, size, channels); None if it is missing or damaged.
        """
        row = int(np.searchsorted(self._numbers, _as_numbers(digest[None])[0]))
        if row == len(self._numbers) or not np.array_equal(self.digests[row], digest):
            return None
        return self.row(row)

    def row(self, row: int) -> Pixels | None:
        """Read an image, uint8 of shape (size, size, channels); None if missing or damaged."""
        pixels: Pixels = self.pixels[row]
        return pixels if _checksum(pixels) == self.marks[row] else None


class CachedPixels:
    """The images of one split, in a file; cheap to send to other processes.

    Args:
        path: the file.
        size: side of its images, pixels.
        rows: the row in the file of each image of the split, or `NOT_KEPT`; int64 of shape (n,).
    """

    def __init__(self, path: Path, size: int, rows: npt.NDArray[np.int64]) -> None:
        self.path, self.size, self.rows = path, size, rows
        self._file: PixelFile | None = None
        self._missing = False
        self._sound = np.zeros(len(rows), dtype=bool)

    def __reduce__(self) -> tuple[type[CachedPixels], tuple[Path, int, npt.NDArray[np.int64]]]:
        # a memory map would be pickled with all of its bytes
        return type(self), (self.path, self.size, self.rows)

    @property
    def complete(self) -> bool:
        """Whether every image of the split was kept."""
        return bool((self.rows != NOT_KEPT).all())

    def get(self, number: int) -> Pixels | None:
        """Read an image.

        Args:
            number: of the image in the split.

        Returns:
            uint8 of shape (size, size, channels), read-only; None if it is not in the file, or the
            file was removed to make room for others, or is damaged. A damaged file is removed, so
            that the next run rebuilds it.
        """
        row = int(self.rows[number])
        if row == NOT_KEPT:
            return None
        if self._file is None and not self._missing:
            self._file = PixelFile.open(self.path)
            self._missing = self._file is None
        if self._file is None:
            return None
        if self._sound[number]:
            pixels: Pixels = self._file.pixels[row]
            return pixels
        found = self._file.row(row)
        if found is not None:
            self._sound[number] = True
        elif self.path.exists():
            _log.warning("%s is damaged: removed it; images are decoded instead.", self.path)
            with contextlib.suppress(OSError):
                self.path.unlink()
        return found


class PixelWriter:
    """A file that is being written; opened by `writing`."""

    def __init__(self, file: BinaryIO, row_bytes: int, count: int) -> None:
        self.file, self.row_bytes, self.count = file, row_bytes, count
        file.seek(_marks_at(count))
        self._marks = np.frombuffer(file.read(4 * count), dtype=np.uint32)

    def has(self, row: int) -> bool:
        """Whether an image is already written and valid."""
        if not self._marks[row]:
            return False
        self.file.seek(_pixels_at(self.count) + row * self.row_bytes)
        return _checksum(self.file.read(self.row_bytes)) == int(self._marks[row])

    def write(self, pictures: Sequence[tuple[int, bytes]]) -> None:
        """Write images: first all pixels, then the checksums that mark them as present.

        Args:
            pictures: (row, pixels) of each image.
        """
        for row, content in pictures:
            self.file.seek(_pixels_at(self.count) + row * self.row_bytes)
            self.file.write(content)
        self.file.flush()
        for row, content in pictures:
            self.file.seek(_marks_at(self.count) + 4 * row)
            self.file.write(np.uint32(_checksum(content)).tobytes())
        self.file.flush()


@contextlib.contextmanager
def writing(path: Path, size: int, digests: Pixels, channels: int = 3) -> Iterator[PixelWriter]:
    """Open a file for writing: the partial file if it is for these images, or a new one.

    Args:
        path: the file.
        size: side of the images, pixels.
        digests: SHA-256 of their files, sorted; uint8 of shape (n, 32).
        channels: of the images.
    """
    further = "" if channels == 3 else f"{channels} "
    line = f"podium-pixels {FORMAT} {size} {len(digests)} {further}".encode()
    head = line.ljust(_HEADER - 1) + b"\n" + digests.tobytes()
    with open(path, "r+b" if path.is_file() else "w+b") as file:
        if file.read(len(head)) != head:
            file.truncate(0)
            file.seek(0)
            file.write(head)
        file.truncate(file_bytes(len(digests), size, channels))  # extended with zeros
        yield PixelWriter(file, size * size * channels, len(digests))


def _as_numbers(digests: Pixels) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(digests[:, :8]).view(">u8").reshape(-1).astype(np.uint64)


def _checksum(pixels: Pixels | bytes) -> int:
    return (
        zlib.crc32(pixels if isinstance(pixels, bytes) else pixels.data) or 1
    )  # 0 marks missing pixels

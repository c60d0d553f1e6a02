"""Images of any number of channels, such as multispectral ones: TIFF, and arrays of NumPy."""

from __future__ import annotations

import importlib.util
import io
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

SUFFIXES = frozenset({".tif", ".tiff", ".npy"})
"""File extensions, in lower case, of the images that a study with `channels` reads."""

REMEDY = "to read TIFF of several channels: pip install 'podium[multispectral]'"
"""What to do if tifffile is missing."""

_NPY = b"\x93NUMPY"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: BigTIFF


@dataclass(frozen=True, eq=False)
class Bands:
    """An 8-bit image of any number of channels, with the few methods of a Pillow image it needs.

    Attributes:
        pixels: uint8 of shape (h, w, channels).
    """

    pixels: npt.NDArray[np.uint8]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        height, width, _ = self.pixels.shape
        return width, height

    def resize(self, size: tuple[int, int], resample: Image.Resampling) -> Bands:
        """Resize every channel as Pillow resizes those of RGB: to the same bits.

        Args:
            size: width and height, pixels.
            resample: filter.
        """
        channels = np.moveaxis(self.pixels, 2, 0)
        small = [np.asarray(Image.fromarray(one).resize(size, resample)) for one in channels]
        return Bands(np.stack(small, axis=2))

    def to_rgb(self) -> Image.Image:
        """The first three channels as red, green and blue; the first as grey if there are fewer."""
        shown = self.pixels[..., :3] if self.pixels.shape[2] >= 3 else self.pixels[..., 0]
        return Image.fromarray(np.ascontiguousarray(shown)).convert("RGB")

    def tobytes(self) -> bytes:
        """The pixels, row by row."""
        return self.pixels.tobytes()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self.pixels, dtype=dtype, copy=copy)


Values = npt.NDArray[Any]

Picture = Image.Image | Bands
"""A decoded image: RGB, or of as many channels as the study says."""


def as_rgb(picture: Picture) -> Image.Image:
    """What people are shown of an image: itself, or its first channels (`Bands.to_rgb`)."""
    return picture.to_rgb() if isinstance(picture, Bands) else picture


def as_picture(pixels: npt.NDArray[np.uint8]) -> Picture:
    """View pixels as an image that can be resized.

    Args:
        pixels: uint8 of shape (h, w, channels).
    """
    return Image.fromarray(pixels) if pixels.shape[2] == 3 else Bands(pixels)


def can_read_tiff() -> bool:
    """Whether tifffile, an optional library, is installed."""
    return importlib.util.find_spec("tifffile") is not None


def is_tiff(content: bytes) -> bool:
    """Whether a file's content is TIFF or BigTIFF."""
    return content.startswith(_TIFF)


def open_bands(content: bytes, channels: int, most: int) -> tuple[int, Callable[[], Values]]:
    """Open a TIFF or `.npy` file; of a TIFF, the first series of pages. Nothing is decoded yet.

    Args:
        content: bytes of the file.
        channels: that it must have.
        most: number of values (height x width x channels) that it may have.

    Returns:
        `(count, read)`: the number of values, and a function that returns the stored ones, integers
        or floats of shape (h, w, channels). Of an array that could be read both ways, the last axis
        is taken for the channels.

    Raises:
        ValueError: it is neither, has another shape or type, is too large, or tifffile is missing.
        Exception: it is damaged; tifffile raises many types.
    """
    if content.startswith(_NPY):
        return _of_npy(content, channels, most)
    if is_tiff(content):
        return _of_tiff(content, channels, most)
    raise ValueError(f"expected a TIFF or .npy file, since the study has channels: {channels}")


def _of_npy(content: bytes, channels: int, most: int) -> tuple[int, Callable[[], Values]]:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, by_column, kind = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, by_column, kind = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version} of the .npy format; save it with numpy.save")
    axis = _channel_axis(shape, kind, channels, most)
    count, start = math.prod(shape), file.tell()

    def read() -> Values:
        # a view of the file's bytes: nothing is unpickled, and no more is allocated than was read
        flat = np.frombuffer(content, kind, count, start)
        return _channels_last(flat.reshape(shape, order="F" if by_column else "C"), axis)

    return count, read


def _of_tiff(content: bytes, channels: int, most: int) -> tuple[int, Callable[[], Values]]:
    if not can_read_tiff():
        raise ValueError(REMEDY)
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what matters is raised
    series = tifffile.TiffFile(io.BytesIO(content)).series[0]  # in memory: nothing to close
    shape = tuple(size for size in series.shape if size != 1 or len(series.shape) <= 3)
    axis = _channel_axis(shape, series.dtype, channels, most)
    ends = [
        start + count
        for page in series.pages
        if page is not None
        for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)
    ]
    if max(ends, default=0) > len(content):  # tifffile would fill what is missing with zeros
        raise ValueError("damaged (it ends before its pixels do)")
    return math.prod(shape), lambda: _channels_last(series.asarray().reshape(shape), axis)


def _channel_axis(shape: tuple[int, ...], kind: Any, channels: int, most: int) -> int | None:
    """Which axis holds the channels; None: there is none, and one channel."""
    if kind is None or np.dtype(kind).kind not in "uif":
        raise ValueError(f"values of type {kind}; expected integers or floats")
    if 0 in shape:
        raise ValueError(f"shape {shape} has no pixels")
    axis: int | None = 2
    if len(shape) == 2 and channels == 1:
        axis = None
    elif len(shape) != 3 or channels not in (shape[0], shape[2]):
        expected = f"({channels}, height, width)"
        raise ValueError(
            f"shape {shape}; expected (height, width, {channels}) or {expected}, since the study "
            f"has channels: {channels}"
        )
    elif shape[2] != channels:
        axis = 0
    if math.prod(shape) > most:
        raise ValueError(f"shape {shape} exceeds the limit of {most:,} values")
    return axis


def _channels_last(values: Values, axis: int | None) -> Values:
    return values[..., None] if axis is None else np.moveaxis(values, axis, 2)

"""Decodes an image of any supported format to RGB, or reports why it cannot."""

from __future__ import annotations

import functools
import io
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from podium.data import bands, dicom
from podium.data.bands import Bands, Picture
from podium.data.budget import Budget, affordable_pixels
from podium.data.grey import (
    OWN_WINDOWS,
    GreyValues,
    GreyWindows,
    describe_grey,
    describe_values,
    to_8_bit,
    values_to_8_bit,
)
from podium.errors import UnreadableImageError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif"}
    | (dicom.SUFFIXES if dicom.IS_INSTALLED else frozenset())
)
"""File extensions, in lower case, that are treated as images; of DICOM if pydicom is installed."""


def image_suffixes(channels: int | None) -> frozenset[str]:
    """File extensions, in lower case, of the images of a study.

    Args:
        channels: of the study's `data`; None: RGB.
    """
    return IMAGE_SUFFIXES if channels is None else bands.SUFFIXES


MAX_PIXELS = 100_000_000
"""Maximum number of pixels: 300 MB as RGB. Larger images are refused from the header."""

MAX_BYTES = 1 << 30
"""Maximum file size: it fits 100 million pixels even as 16-bit RGBA."""

GREY_MODES = frozenset({"1", "L", "LA", "La", "F"})
"""Pillow's modes for images stored without colour, besides those that start with I."""

# Only the formats of the extensions above, whatever the file's name. Pillow supports more, and
# passes some (EPS) to other programs; images from the web are often AVIF under another extension.
_FORMATS = ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "AVIF"]


@dataclass(frozen=True)
class Stored:
    """How a file stores its image.

    Attributes:
        mode: Pillow's mode, such as `RGB`, `L`, `CMYK`, `I;16`.
        values: range of grey values deeper than 8 bits; None for other images.
        deep_colour: whether colour channels have 16 bits, of which Pillow reads the upper 8.
        more_frames: whether there are more frames, pages or slices than the first, which is used.
    """

    mode: str
    values: GreyValues | None = None
    deep_colour: bool = False
    more_frames: bool = False


def load_rgb(
    path: Path,
    *,
    name: str | None = None,
    windows: GreyWindows = OWN_WINDOWS,
) -> Image.Image:
    """Read an image file as 8-bit RGB, rotated by its EXIF orientation; only its first frame.

    Args:
        path: the file.
        name: its name in errors; None: its path.
        windows: how grey values deeper than 8 bits are mapped; see `podium.data.grey`.

    Returns:
        An image of mode RGB. Transparent pixels are blended with white.

    Raises:
        UnreadableImageError: the file cannot be read, is not an image, is truncated or too large.
    """
    called = name or str(path)
    return decode_rgb(read_image_file(path, called), called, windows=windows)


def load_picture(path: Path, name: str, windows: GreyWindows) -> Picture:
    """Read an image file as a model sees it before it is resized; see `decode_picture`.

    Args:
        path: the file.
        name: its name in errors.
        windows: of the model.
    """
    return decode_picture(read_image_file(path, name), name, windows)


def read_image_file(path: Path, name: str) -> bytes:
    """Read the bytes of a file that may be an image.

    Args:
        path: the file.
        name: its name in errors.

    Raises:
        UnreadableImageError: it is missing, not permitted, too large or not a regular file.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UnreadableImageError(name, "a folder, not a file")
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would block forever
            raise UnreadableImageError(name, "not a regular file")
        if status.st_size > MAX_BYTES:
            raise UnreadableImageError(
                name, f"{status.st_size:,} bytes exceed the limit of {MAX_BYTES:,}"
            )
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(name, error.strerror or str(error)) from None


def decode_rgb(
    content: bytes,
    name: str,
    *,
    max_pixels: int = MAX_PIXELS,
    windows: GreyWindows = OWN_WINDOWS,
) -> Image.Image:
    """Decode an image as 8-bit RGB, rotated by its EXIF orientation; only its first frame.

    Args:
        content: bytes of the file.
        name: its name in errors.
        max_pixels: larger images are refused from the header; lower it for untrusted images.
        windows: how grey values deeper than 8 bits are mapped; see `podium.data.grey`.

    Returns:
        An image of mode RGB. Transparent pixels are blended with white. Of an image that the data
        set reads with other channels, what people can be shown: see `Bands.to_rgb`.

    Raises:
        UnreadableImageError: the content is empty, not an image, truncated or too large.
    """
    if windows.channels is not None:
        return decode_bands(content, name, windows).to_rgb()
    with _decoded(content, name, max_pixels) as (image, _):
        return _to_rgb(image, windows)


def decode_picture(content: bytes, name: str, windows: GreyWindows) -> Picture:
    """Decode an image as a model sees it before it is resized.

    Args:
        content: bytes of the file.
        name: its name in errors.
        windows: of the model: how values deeper than 8 bits are mapped, and the channels.

    Returns:
        An image of mode RGB, or of as many channels as `windows` says.

    Raises:
        UnreadableImageError: the content is empty, not an image, of other channels, truncated or
            too large.
    """
    if windows.channels is None:
        return decode_rgb(content, name, windows=windows)
    return decode_bands(content, name, windows)


def decode_bands(content: bytes, name: str, windows: GreyWindows) -> Bands:
    """Decode an image of as many channels as `windows` says; see `decode_picture`."""
    assert windows.channels is not None
    with _stored_bands(content, name, windows.channels) as values:
        return Bands(np.ascontiguousarray(values_to_8_bit(values, windows)))


@contextmanager
def _stored_bands(content: bytes, name: str, channels: int) -> Iterator[npt.NDArray[Any]]:
    """The stored values of an image of several channels, shape (h, w, channels)."""
    if not content:
        raise UnreadableImageError(name, "the file is empty (0 bytes)")
    try:
        count, read = bands.open_bands(content, channels, 3 * MAX_PIXELS)
        with _in_flight.of(count):  # up to 13 bytes for a value, as for a pixel of RGB
            yield read()
    except MemoryError:
        raise UnreadableImageError(name, "not enough memory to decode it") from None
    except Exception as error:  # what was expected, or any exception of a damaged file
        reason = str(error) or type(error).__name__
        if "'imagecodecs'" in reason:  # for rarer compressions; 20 MB, so not in the extra
            reason += ": pip install imagecodecs"
        raise UnreadableImageError(name, reason) from None


@overload
def decode_with_mode(
    content: bytes, name: str, channels: None = None
) -> tuple[Image.Image, Stored]: ...


@overload
def decode_with_mode(content: bytes, name: str, channels: int | None) -> tuple[Picture, Stored]: ...


def decode_with_mode(
    content: bytes, name: str, channels: int | None = None
) -> tuple[Picture, Stored]:
    """Decode an image as 8-bit RGB, or with its channels, and describe how it is stored.

    Args:
        content: bytes of the file.
        name: its name in errors.
        channels: that it must have; None: it is decoded to RGB.

    Returns:
        `(image, stored)`: the image, and how the file stores it.

    Raises:
        UnreadableImageError: the content is empty, not an image, of other channels, truncated or
            too large.
    """
    if channels is not None:
        with _stored_bands(content, name, channels) as values:
            eight = Bands(values_to_8_bit(values, OWN_WINDOWS))
            return eight, Stored(f"{channels} channels", describe_values(values))
    with _decoded(content, name, MAX_PIXELS, frames=True) as (image, stored):
        return _to_rgb(image, OWN_WINDOWS), replace(stored, values=describe_grey(image))


@contextmanager
def _decoded(
    content: bytes, name: str, max_pixels: int, *, frames: bool = False
) -> Iterator[tuple[Image.Image, Stored]]:
    """Open an image, upright and in its own mode, with how it is stored except for its values.

    Whether there are more frames is found out only if `frames` says so, since it takes time. Any
    error, including in the caller's block, is raised as `UnreadableImageError`.
    """
    max_pixels = min(max_pixels, MAX_PIXELS)
    if not content:
        raise UnreadableImageError(name, "the file is empty (0 bytes)")
    if content.startswith(b"version https://git-lfs"):
        raise UnreadableImageError(name, "a pointer of Git LFS, not the image: run git lfs pull")
    try:
        if dicom.is_dicom(content):
            with _libraries_are_quiet():
                found = dicom.read_dicom(content)
                _refuse_large(name, found.Columns, found.Rows, max_pixels)
                with _in_flight.of(found.Columns * found.Rows):
                    image = dicom.decode_dicom(found)
                    more = dicom.has_more_frames(found)
                    yield image, Stored(image.mode, None, dicom.is_deep_colour(found), more)
            return
        with header_of(content) as image:
            _refuse_large(name, image.width, image.height, max_pixels)
            # a decoder's raw mode, such as RGB;16B, is gone once the picture is loaded
            stored = Stored(image.mode, None, image.mode[0] != "I" and ";16" in str(image.tile))
            with _in_flight.of(image.width * image.height):
                image.load()
                upright = _upright(image)
                yield upright, replace(stored, more_frames=frames and _has_more_frames(image))
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:
        reason = "not an image that Pillow can identify"
        if bands.is_tiff(content):
            reason += " (a TIFF of several channels? Then set data.channels)"
        raise UnreadableImageError(name, reason) from None
    except Image.DecompressionBombError as error:  # at twice Pillow's own limit, before ours
        pixels = re.search(r"\d+", str(error))
        count = f"{int(pixels[0]):,}" if pixels else "its"  # "its pixels exceed ..."
        raise UnreadableImageError(name, _too_large(count, max_pixels)) from None
    except MemoryError:
        raise UnreadableImageError(name, "not enough memory to decode it") from None
    except Exception as error:  # decoders raise dozens of exception types on damaged files
        raise UnreadableImageError(name, f"damaged ({error or type(error).__name__})") from None


@overload
def squeeze(image: Image.Image, size: int) -> Image.Image: ...


@overload
def squeeze(image: Bands, size: int) -> Bands: ...


def squeeze(image: Picture, size: int) -> Picture:
    """Resize both sides to `size` pixels, bilinear and antialiased, unless they already are."""
    if image.size == (size, size):
        return image
    return image.resize((size, size), Image.Resampling.BILINEAR)


@functools.cache
def _know_heif() -> None:
    """Register HEIC, the format of phones, with Pillow: once, and only when it may be needed."""
    import pi_heif

    pi_heif.register_heif_opener()
    _FORMATS.append("HEIF")


TOO_MANY_PIXELS = "pixels exceed the limit of"
"""In the reason of an image that is too large to be decoded."""


def _too_large(pixels: str, limit: int) -> str:
    return f"{pixels} {TOO_MANY_PIXELS} {limit:,}"


def _refuse_large(name: str, width: int, height: int, most: int) -> None:
    if width * height > most:
        raise UnreadableImageError(name, _too_large(f"{width:,} x {height:,}", most))


def _has_more_frames(image: Image.Image) -> bool:
    """Whether there is a second frame; not for JPEG, where phones hide previews and depth."""
    if image.format not in ("GIF", "PNG", "TIFF", "WEBP"):
        return False
    try:
        image.seek(1)
    except Exception:  # there is none, or it is damaged: the first is not
        return False
    return True


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # only the metadata is damaged, the pixels are fine
        return image


def _to_rgb(image: Image.Image, windows: GreyWindows) -> Image.Image:
    deep = to_8_bit(image, windows)
    if deep is not None:
        return deep
    if "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        flat = Image.new("RGBA", image.size, "white")
        flat.alpha_composite(image.convert("RGBA"))
        return flat.convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def thumbnail_jpeg(image: Image.Image, side: int = 160, quality: int = 80) -> bytes:
    """Make a small JPEG of the whole image.

    Args:
        image: of any mode.
        side: maximum length of the longest side, pixels.
        quality: JPEG quality, 1 to 95.
    """
    small = image.convert("RGB")  # a copy, which `thumbnail` changes in place
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=quality)
    return out.getvalue()


@contextmanager
def header_of(content: bytes) -> Iterator[ImageFile.ImageFile]:
    """Open an image without decoding it; raises whatever Pillow does.

    Args:
        content: the bytes of its file.
    """
    if content[4:8] == b"ftyp":
        _know_heif()
    with _libraries_are_quiet(), Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        yield image


_in_flight = Budget(affordable_pixels(MAX_PIXELS))
_quiet_lock = threading.Lock()
_quiet_users = 0
_quiet_filter = warnings.catch_warnings()


@contextmanager
def _libraries_are_quiet() -> Iterator[None]:
    """Silence the warnings of Pillow and pydicom (odd metadata...), safely with many threads.

    Python's warning filters are global to the process: threads that each save and restore them
    would restore each other's. So the first thread in sets the filter, and the last one out
    removes it. Warnings of other modules pass.
    """
    global _quiet_users, _quiet_filter
    with _quiet_lock:
        if _quiet_users == 0:
            _quiet_filter = warnings.catch_warnings()
            _quiet_filter.__enter__()
            warnings.filterwarnings("ignore", module=r"(PIL|pydicom)\.")
        _quiet_users += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_users -= 1
            if _quiet_users == 0:
                _quiet_filter.__exit__(None, None, None)

"""One picture, whatever its format: decoded to RGB, or named with the reason why not."""

from __future__ import annotations

import functools
import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from podium.data.grey import OWN_WINDOWS, GreyValues, GreyWindows, describe_grey, to_8_bit
from podium.errors import UnreadableImageError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif"}
)
"""Endings, in lower case, of files that are taken for images."""

MAX_PIXELS = 100_000_000
"""The most pixels that are decoded: 300 MB as RGB. More is refused from the header alone."""

MAX_BYTES = 1 << 30
"""The largest file that is read: 100 million pixels fit in it even as 16-bit RGBA."""

GREY_MODES = frozenset({"1", "L", "LA", "La", "F"})
"""Pillow's modes of a picture that is stored without colour, beside those that begin with I."""

# Only what the endings above promise, whatever a file is really called. Pillow knows more, and
# hands some of it (EPS) to other programs; pictures from the web are often AVIF by another name.
_FORMATS = ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "AVIF"]


@dataclass(frozen=True)
class Stored:
    """How a file stores its picture.

    Attributes:
        mode: Pillow's, such as `RGB`, `L`, `CMYK`, `I;16`.
        values: of grey that is deeper than 8 bit.
        deep_colour: whether colours have 16 bits, of which Pillow reads the upper 8.
    """

    mode: str
    values: GreyValues | None = None
    deep_colour: bool = False


def load_rgb(
    path: Path,
    *,
    name: str | None = None,
    windows: GreyWindows = OWN_WINDOWS,
) -> Image.Image:
    """Read a picture as 8-bit RGB, turned as its EXIF says; the first frame of several.

    Args:
        path: the file.
        name: what to call it in an error; empty: its path.
        windows: of the data set, for grey values deeper than 8 bit; see `podium.data.grey`.

    Returns:
        A picture of mode RGB. Transparency lies on white.

    Raises:
        UnreadableImageError: the file cannot be read, is no image, is cut short or too large.
    """
    called = name or str(path)
    return decode_rgb(read_image_file(path, called), called, windows=windows)


def read_image_file(path: Path, name: str) -> bytes:
    """The bytes of a file, if it is one that could hold an image.

    Raises:
        UnreadableImageError: it is missing, forbidden, empty, too large or no regular file.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UnreadableImageError(name, "a folder, not a file")
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
            raise UnreadableImageError(name, "not a regular file")
        if status.st_size > MAX_BYTES:
            raise UnreadableImageError(
                name, f"{status.st_size:,} bytes are more than the limit, {MAX_BYTES:,}"
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
    """As `load_rgb`, from bytes.

    Args:
        content: of the file.
        name: what to call it in an error.
        max_pixels: more are refused from the header alone, for those who trust pictures less.
        windows: as in `load_rgb`.
    """
    with _decoded(content, name, max_pixels) as (image, _):
        return _to_rgb(image, windows)


def decode_with_mode(content: bytes, name: str) -> tuple[Image.Image, Stored]:
    """As `decode_rgb`, and how the picture is stored."""
    with _decoded(content, name, MAX_PIXELS) as (image, stored):
        return _to_rgb(image, OWN_WINDOWS), replace(stored, values=describe_grey(image))


@contextmanager
def _decoded(content: bytes, name: str, max_pixels: int) -> Iterator[tuple[Image.Image, Stored]]:
    """The picture, upright and in its own mode, and how it is stored, but for its values.

    What goes wrong with it, in this block too, is told as one kind of error.
    """
    max_pixels = min(max_pixels, MAX_PIXELS)
    if not content:
        raise UnreadableImageError(name, "the file is empty (0 bytes)")
    if content[4:8] == b"ftyp":
        _know_heif()
    try:
        with _pillow_is_quiet(), Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise UnreadableImageError(name, _too_large(f"{width:,} x {height:,}", max_pixels))
            # a decoder's raw mode, such as RGB;16B, is gone once the picture is loaded
            stored = Stored(image.mode, None, image.mode[0] != "I" and ";16" in str(image.tile))
            with _in_flight.of(image.width * image.height):
                image.load()
                yield _upright(image), stored
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:
        raise UnreadableImageError(name, "not an image that Pillow can identify") from None
    except Image.DecompressionBombError as error:  # twice Pillow's own limit: before we see it
        pixels = re.search(r"\d+", str(error))
        count = f"{int(pixels[0]):,}" if pixels else "its"
        raise UnreadableImageError(name, _too_large(count, max_pixels)) from None
    except MemoryError:
        raise UnreadableImageError(name, "there is not enough memory to decode it") from None
    except Exception as error:  # decoders raise dozens of kinds on damaged files
        raise UnreadableImageError(name, f"damaged ({error or type(error).__name__})") from None


def squeeze(image: Image.Image, size: int) -> Image.Image:
    """Both sides to `size` pixels, bilinear and antialiased; a picture of that size stays as is."""
    if image.size == (size, size):
        return image
    return image.resize((size, size), Image.Resampling.BILINEAR)


@functools.cache
def _know_heif() -> None:
    """Teach Pillow HEIC, as phones write it: once, and only where there may be such a picture."""
    import pi_heif

    pi_heif.register_heif_opener()
    _FORMATS.append("HEIF")


def _too_large(pixels: str, limit: int) -> str:
    return f"{pixels} pixels are more than the limit, {limit:,}"


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the pixels are sound, only what is said about them is damaged
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
    """A small JPEG of the whole picture, its longest side at most `side` pixels."""
    small = image.convert("RGB")  # a copy, which `thumbnail` changes in place
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=quality)
    return out.getvalue()


class _Budget:
    """Pixels that threads may decode at the same time: a few huge pictures must not fill memory."""

    def __init__(self, total: int) -> None:
        self.total = self.free = total
        self.changed = threading.Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        """Wait until so many are free, and take them for the block."""
        taken = min(pixels, self.total)
        with self.changed:
            self.changed.wait_for(lambda: self.free >= taken)
            self.free -= taken
        try:
            yield
        finally:
            with self.changed:
                self.free += taken
                self.changed.notify_all()


def _affordable_pixels() -> int:
    """As many as a twentieth of the memory holds, at 11 bytes each: RGBA, that on white, RGB."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not told on Windows
        memory = 8 << 30
    return max(MAX_PIXELS, memory // 20 // 11)


_in_flight = _Budget(_affordable_pixels())

_quiet_lock = threading.Lock()
_quiet_users = 0
_quiet_filter = warnings.catch_warnings()


@contextmanager
def _pillow_is_quiet() -> Iterator[None]:
    """Keep Pillow's warnings (odd EXIF, large pictures) to itself, with many threads inside.

    Python's warning filters belong to the process: threads that each saved and restored them
    would restore each other's. So the first one in sets the filter, and the last one out takes
    it away. Warnings of other modules pass.
    """
    global _quiet_users, _quiet_filter
    with _quiet_lock:
        if _quiet_users == 0:
            _quiet_filter = warnings.catch_warnings()
            _quiet_filter.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
        _quiet_users += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_users -= 1
            if _quiet_users == 0:
                _quiet_filter.__exit__(None, None, None)

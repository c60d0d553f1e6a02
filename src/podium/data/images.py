"""One picture, whatever its format: decoded to RGB, or named with the reason why not."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from podium.errors import UnreadableImageError

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "decode_rgb", "load_rgb", "thumbnail_jpeg"]

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
"""Endings, in lower case, of files that are taken for images."""

MAX_PIXELS = 100_000_000
"""The most pixels that are decoded: 300 MB as RGB. More is refused from the header alone."""


def load_rgb(path: Path, *, name: str | None = None) -> Image.Image:
    """Read a picture as 8-bit RGB, turned as its EXIF says; the first frame of several.

    Args:
        path: the file.
        name: what to call it in an error; empty: its path.

    Returns:
        A picture of mode RGB. Transparency lies on white; 16-bit values are scaled to 8.

    Raises:
        UnreadableImageError: the file cannot be read, is no image, is cut short or too large.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(name or str(path), error.strerror or str(error)) from None
    return decode_rgb(content, name or str(path))


def decode_rgb(content: bytes, name: str) -> Image.Image:
    """As `load_rgb`, from bytes."""
    if not content:
        raise UnreadableImageError(name, "the file is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd EXIF and of large pictures
            with Image.open(io.BytesIO(content)) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise UnreadableImageError(
                        name, f"{width} x {height} pixels are more than the limit, {MAX_PIXELS:,}"
                    )
                image.load()
                return _to_rgb(ImageOps.exif_transpose(image))
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:
        raise UnreadableImageError(name, "not an image that Pillow can identify") from None
    except Image.DecompressionBombError:
        raise UnreadableImageError(name, f"more pixels than the limit, {MAX_PIXELS:,}") from None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise dozens of kinds on damaged files
        raise UnreadableImageError(name, f"damaged ({error or type(error).__name__})") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep(image)
    if image.mode == "P" or "transparency" in image.info or image.mode in ("RGBA", "LA", "PA"):
        flat = Image.new("RGBA", image.size, "white")
        flat.alpha_composite(image.convert("RGBA"))
        return flat.convert("RGB")
    return image.convert("RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float greyscale to 8 bit; Pillow's own conversion would clip at 255."""
    values = np.asarray(image, dtype=np.float64)
    finite = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    top = float(finite.max(initial=0.0))
    if image.mode == "F" and top <= 1.0:
        scale = 255.0
    elif top <= 255.0 and image.mode in ("F", "I"):
        scale = 1.0
    else:
        scale = 255.0 / max(65535.0, top)
    grey = np.clip(np.rint(finite * scale), 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def thumbnail_jpeg(image: Image.Image, side: int = 160, quality: int = 80) -> bytes:
    """A small JPEG of an RGB picture, its longest side at most `side` pixels."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=quality)
    return out.getvalue()

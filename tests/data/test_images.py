"""Every kind of picture becomes RGB, or is named with the reason why not."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import struct
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

from podium.data.images import (
    IMAGE_SUFFIXES,
    MAX_BYTES,
    MAX_PIXELS,
    Stored,
    decode_rgb,
    decode_with_mode,
    load_rgb,
    thumbnail_jpeg,
)
from podium.errors import UnreadableImageError


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def photo(width: int = 40, height: int = 30) -> Image.Image:
    """Smooth, so that JPEG and WebP change little."""
    y, x = np.mgrid[:height, :width]
    bands = [255 * x / width, 255 * y / height, 128 + 0 * x]
    return Image.fromarray(np.stack(bands, axis=2).astype(np.uint8))


def far(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference, in levels of 255."""
    assert one.size == other.size
    pair = [np.asarray(image, dtype=np.int16) for image in (one, other)]
    return float(np.abs(pair[0] - pair[1]).mean())


def png_of(width: int, height: int, data: bytes = b"\0") -> bytes:
    """A PNG with a valid header of any size and next to no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP", "JPEG", "AVIF"])
def test_a_photograph_comes_back_from_every_format(kind: str) -> None:
    options = {"quality": 95} if kind in ("JPEG", "WEBP", "AVIF") else {}
    image = decode_rgb(encoded(photo(), kind, **options), "p")
    assert image.mode == "RGB"
    limit = 12.0 if kind == "GIF" else 3.0 if options else 0.0  # GIF has 256 colours
    assert far(image, photo()) <= limit


HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAchtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAA"
    "AAAAAAAAAAADRpbG9jAAAAAERAAAIAAQAAAAAB7AABAAAAAAAAAHAAAgAAAAACXAABAAAAAAAAACQAAAA4aWluZgAA"
    "AAAAAgAAABVpbmZlAgAAAAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAABB2lwcn"
    "AAAADmaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroC"
    "QGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm"
    "5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AA"
    "AAACAAAAEHBpeGkAAAAAAwgICAAAAAlpcm90AwAAABlpcG1hAAAAAAAAAAEAAQaBAgMFhIYAAAAaaXJlZgAAAAAAAA"
    "AOY2RzYwACAAEAAQAAAJxtZGF0AAAAbCgBrxOA9UU941XBs/sF0d+nYI+Dlna5H37zhGHd7b3GWwhj0dy4/A10/+Sd"
    "chrWIj7gPgq/Q+PMO8J2IodcsoJ/h9HX5Gbm756HGOPk3Ko0EsTwBUIcY6OVMlptdVkrTxXBW0yoXKF2auSTgAAAAA"
    "ZFeGlmAABNTQAqAAAACAABARIAAwAAAAEABgAAAAAAAA=="
)
"""`photo(64, 48)` with EXIF orientation 6, by pillow-heif at quality 50; ours only reads."""


def test_heic_is_read_as_phones_write_it(tmp_path: Path) -> None:
    upright = photo(64, 48).transpose(Image.Transpose.ROTATE_270)
    assert far(decode_rgb(HEIC, "p"), upright) < 3
    (tmp_path / "p.HEIC").write_bytes(HEIC)
    assert far(load_rgb(tmp_path / "p.HEIC"), upright) < 3
    with pytest.raises(UnreadableImageError, match=r"damaged|not an image"):
        decode_rgb(HEIC[:200], "p")
    with pytest.raises(UnreadableImageError, match="48 x 64 pixels exceed the limit"):
        decode_rgb(HEIC, "p", max_pixels=1000)


def test_greyscale_gets_three_equal_channels() -> None:
    grey = photo().convert("L")
    image, stored = decode_with_mode(encoded(grey, "PNG"), "p")
    assert stored == Stored("L")
    assert far(image, Image.merge("RGB", [grey] * 3)) == 0


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_keeps_its_colours(kind: str) -> None:
    # Adobe's JPEGs store CMYK inverted; Pillow writes and reads them so
    image, stored = decode_with_mode(encoded(photo().convert("CMYK"), kind), "p")
    assert stored == Stored("CMYK")
    assert far(image, photo()) < 6


def test_one_bit_becomes_black_and_white() -> None:
    pixels = np.zeros((8, 8), dtype=bool)
    pixels[2:5, 3:7] = True
    image = decode_rgb(encoded(Image.fromarray(pixels), "PNG"), "p")
    assert np.array_equal(np.asarray(image)[..., 0], pixels * 255)


def transparent_palette() -> bytes:
    image = Image.new("P", (4, 2), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 1)
    return encoded(image, "PNG", transparency=0)


def half_transparent(mode: str, colour: Any) -> bytes:
    return encoded(Image.new(mode, (4, 2), colour), "PNG")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (transparent_palette(), (255, 255, 255)),
        (half_transparent("RGBA", (200, 0, 0, 0)), (255, 255, 255)),
        (half_transparent("RGBA", (0, 0, 0, 51)), (204, 204, 204)),
        (half_transparent("LA", (0, 51)), (204, 204, 204)),
        (encoded(Image.new("RGB", (4, 2), (9, 8, 7)), "PNG", transparency=(9, 8, 7)), (255,) * 3),
        (encoded(Image.new("L", (4, 2), 7), "PNG", transparency=7), (255,) * 3),
    ],
    ids=["palette", "clear", "a fifth of black", "LA", "RGB with a clear colour", "L with one"],
)
def test_transparency_lies_on_white(content: bytes, expected: tuple[int, ...]) -> None:
    assert decode_rgb(content, "p").getpixel((3, 1)) == expected


def test_opaque_pixels_of_a_transparent_palette_keep_their_colour() -> None:
    assert decode_rgb(transparent_palette(), "p").getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_is_scaled_not_clipped(kind: str) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = decode_rgb(encoded(Image.fromarray(values), kind), "p")
    assert np.array_equal(np.asarray(image)[..., 0], np.rint(values / 257))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 0.5, 1, np.nan]], dtype=np.float32), [0, 128, 255, 0]),
        (np.array([[0, 100, 255, np.nan]], dtype=np.float32), [0, 100, 255, 0]),
        (np.array([[0, 32768, 65535, np.inf]], dtype=np.float32), [0, 128, 255, 0]),
        (np.array([[0, 100, 255, 7]], dtype=np.int32), [0, 100, 255, 7]),
        (np.array([[0, 2**21, 2**22 - 1, 0]], dtype=np.int32), [0, 128, 255, 0]),
    ],
    ids=["0 to 1", "0 to 255", "0 to 65535", "integers to 255", "large integers"],
)
def test_deep_tiff(values: Any, expected: list[int]) -> None:
    image = decode_rgb(encoded(Image.fromarray(values), "TIFF"), "p")
    assert np.asarray(image)[0, :, 1].tolist() == expected


# What each EXIF orientation stores of an upright picture (EXIF 2.32, table 6)
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_exif_orientation_is_undone(orientation: int, kind: str) -> None:
    upright = photo()
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](np.asarray(upright))))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind == "JPEG" else {}
    image = decode_rgb(encoded(stored, kind, exif=exif, **options), "p")
    assert far(image, upright) <= (3 if kind == "JPEG" else 0)


def test_damaged_exif_leaves_a_sound_picture() -> None:
    broken = encoded(
        photo(), "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\x99" * 40
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert far(decode_rgb(broken, "p"), photo()) < 3


def test_the_first_frame_of_several() -> None:
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "TIFF", "WEBP"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        red, _, blue = np.asarray(decode_rgb(content, "p"))[3, 3]
        assert red > 240, kind
        assert blue < 20, kind


def jpeg() -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return encoded(Image.fromarray(noise), "JPEG", quality=90)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"these are words, not pixels\n" * 20, "not an image"),
        (jpeg()[: len(jpeg()) // 2], "truncated"),
        (jpeg()[:30], "damaged|not an image"),
        (encoded(photo(), "PNG")[:60], "damaged|truncated"),
        (png_of(30_000, 30_000), "900,000,000 pixels exceed the limit"),
        (png_of(12_000, 12_000), "12,000 x 12,000 pixels exceed the limit"),
        (png_of(100, 100), "damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    ],
    ids=["0 bytes", "text", "half a JPEG", "start of one", "part of a PNG", "bomb", "large",
         "PNG without pixels", "PostScript", "SVG", "Git LFS"],
)  # fmt: skip
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a b.jpg"
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=reason) as caught:
        load_rgb(path, name="cats/a b.jpg")
    assert caught.value.path == "cats/a b.jpg"
    assert str(caught.value).startswith("cats/a b.jpg: ")
    with pytest.raises(UnreadableImageError) as caught:
        load_rgb(path)
    assert caught.value.path == str(path)


def test_a_bomb_is_refused_from_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    side = int(MAX_PIXELS**0.5) + 1
    before = Image.MAX_IMAGE_PIXELS

    def load(self: Image.Image) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    for size in (side, 30_000, 60_000):
        with pytest.raises(UnreadableImageError, match="pixels exceed the limit"):
            decode_rgb(png_of(size, size), "p")
    assert before == Image.MAX_IMAGE_PIXELS


def test_missing_file_folder_pipe_and_forbidden(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="No such file"):
        load_rgb(tmp_path / "none.jpg")
    with pytest.raises(UnreadableImageError, match="a folder"):
        load_rgb(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        with pytest.raises(UnreadableImageError, match="not a regular file"):
            load_rgb(tmp_path / "pipe.jpg")
    secret = tmp_path / "secret.png"
    secret.write_bytes(encoded(photo(), "PNG"))
    secret.chmod(0)
    if not os.access(secret, os.R_OK):  # to root, all is readable
        with pytest.raises(UnreadableImageError, match="Permission"):
            load_rgb(secret)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.tif"
    with open(path, "wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse: takes no room
    with pytest.raises(UnreadableImageError, match="bytes exceed the limit"):
        load_rgb(path)


def test_no_warning_leaks_and_filters_are_restored_with_many_threads() -> None:
    odd = encoded(
        photo(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x63\0\0\0\xff\0"
    )
    contents = [odd, jpeg(), transparent_palette()] * 40 + [png_of(9_700, 9_700), odd] * 3

    def look(content: bytes) -> None:
        with contextlib.suppress(UnreadableImageError):
            decode_rgb(content, "p")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(look, contents))
        assert warnings.filters == before
        warnings.warn("ours still pass", stacklevel=1)
    assert [str(one.message) for one in caught] == ["ours still pass"]


SEEDS = [
    encoded(photo(), "PNG"),
    encoded(photo(), "JPEG"),
    encoded(photo().convert("CMYK"), "JPEG"),
    encoded(photo(), "GIF"),
    encoded(photo(), "WEBP"),
    encoded(photo(), "BMP"),
    encoded(photo(), "TIFF", compression="tiff_lzw"),
    encoded(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)), "PNG"),
    encoded(Image.fromarray(np.arange(64, dtype=np.float32).reshape(8, 8)), "TIFF"),
    encoded(photo(), "PPM"),
    transparent_palette(),
]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    keep=st.floats(0, 1),
    tail=st.binary(max_size=20),
)
def test_damage_gives_a_picture_or_one_kind_of_error(
    seed: bytes, changes: list[tuple[float, int]], keep: float, tail: bytes
) -> None:
    content = bytearray(seed)
    for where, value in changes:
        # half of them in the first 64 bytes, where headers are
        span = min(64, len(content)) if value % 2 else len(content)
        content[int(where * span)] = value
    whole = bytes(content[: round(keep * len(content))] if keep < 0.5 else content) + tail
    with contextlib.suppress(UnreadableImageError):
        image = decode_rgb(whole, "p")
        assert image.mode == "RGB"
        assert image.width * image.height <= MAX_PIXELS


def test_thumbnails_keep_the_whole_picture() -> None:
    small = Image.open(io.BytesIO(thumbnail_jpeg(photo(400, 300), side=100)))
    assert (small.format, small.mode, small.size) == ("JPEG", "RGB", (100, 75))
    assert far(small.convert("RGB"), photo(100, 75)) < 4
    assert Image.open(io.BytesIO(thumbnail_jpeg(photo(), side=100))).size == (40, 30)
    line = Image.new("RGB", (5000, 1))
    assert Image.open(io.BytesIO(thumbnail_jpeg(line, side=100))).size == (100, 1)
    assert len(thumbnail_jpeg(photo(400, 300), quality=95)) > len(thumbnail_jpeg(photo(400, 300)))


def test_endings_are_lower_case_with_a_dot() -> None:
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in IMAGE_SUFFIXES)
    assert ".lnk" not in IMAGE_SUFFIXES


def test_huge_pictures_are_decoded_one_after_the_other() -> None:
    from podium.data.budget import Budget

    budget, inside, most, lock = Budget(100), [0], [0], threading.Lock()

    def decode(pixels: int) -> None:
        with budget.of(pixels):
            with lock:
                inside[0] += min(pixels, 100)
                most[0] = max(most[0], inside[0])
            time.sleep(0.002)
            with lock:
                inside[0] -= min(pixels, 100)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(decode, [60, 1, 500, 30, 99, 2, 60, 40] * 8))
    assert most[0] == 100
    assert budget.free == 100

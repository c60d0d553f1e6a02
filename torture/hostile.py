"""Hostile requests that a server must refuse, as bytes."""

from __future__ import annotations

import io
import random
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

__all__ = ["HOSTILE", "MEGABYTES", "TIMEOUT", "Pieces", "as_form"]

MEGABYTES = 2
"""Upload limit of the server under test."""

TIMEOUT = 1.0
"""Seconds that an upload may stall."""

Pieces = tuple[list[bytes], float]
"""The bytes to send, piece by piece, and the pause between pieces in seconds."""


def as_form(content: bytes, boundary: str = "-----torture") -> tuple[bytes, str]:
    """Encode a file as a multipart form, under a hostile file name.

    Args:
        content: bytes of the file.
        boundary: separator of the form's parts.

    Returns:
        the body, and its Content-Type.
    """
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; '
        'filename="../../../tmp/evil.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    )
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def _request(body: bytes, *lines: str, kind: str = "image/jpeg", query: str = "") -> bytes:
    head = [
        f"POST /v1/predict{query} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {kind}",
        f"Content-Length: {len(body)}", *lines, "", "",
    ]  # fmt: skip
    return "\r\n".join(head).encode() + body


def _noise(chance: random.Random, side: int = 64) -> bytes:
    out = io.BytesIO()
    pixels = np.frombuffer(chance.randbytes(3 * side * side), np.uint8).reshape(side, side, 3)
    Image.fromarray(pixels).save(out, "JPEG")
    return out.getvalue()


def _truncated(chance: random.Random) -> Pieces:
    content = _noise(chance)
    return [_request(content[: len(content) // 2])], 0


def _bomb(chance: random.Random) -> Pieces:
    """144 megapixels in 140 kB."""
    side = 12_000

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)

    size = side.to_bytes(4)
    packed = zlib.compress(bytes((side + 1) * side), 1)
    content = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + size + bytes([8, 0, 0, 0, 0]))
        + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )  # fmt: skip
    return [_request(content, kind="image/png")], 0


def _text(chance: random.Random) -> Pieces:
    return [_request(chance.randbytes(3000))], 0


def _wrong_type(chance: random.Random) -> Pieces:
    return [_request(_noise(chance), kind="application/zip")], 0


def _declared(chance: random.Random) -> Pieces:
    head = _request(b"").replace(b"Content-Length: 0", b"Content-Length: 99999999999")
    return [head, chance.randbytes(100_000)], 0


def _chunked(chance: random.Random) -> Pieces:
    head = _request(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    piece = b"40000\r\n" + chance.randbytes(0x40000) + b"\r\n"
    return [head, *[piece] * (MEGABYTES * 4 + 2)], 0


def _slow_body(chance: random.Random) -> Pieces:
    return [_request(_noise(chance))[:-500]], 0


def _slow_head(chance: random.Random) -> Pieces:
    return [b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"], 0


def _dribble(chance: random.Random) -> Pieces:
    """Never stalls for long, and never finishes."""
    whole = _request(_noise(chance))
    return [whole[:-200], *[b"x"] * int(9 * TIMEOUT / 0.5)], 0.5


def _garbage_form(chance: random.Random) -> Pieces:
    return [_request(chance.randbytes(5000), kind="multipart/form-data; boundary=xyz")], 0


def _two_files(chance: random.Random) -> Pieces:
    body, kind = as_form(_noise(chance))
    first = body.removesuffix(b"--\r\n") + b"\r\n"
    return [_request(first + body.partition(b"\r\n")[2], kind=kind)], 0


def _long_head(chance: random.Random) -> Pieces:
    return [_request(b"x", f"X-Long: {'x' * 300_000}")], 0


def _many_headers(chance: random.Random) -> Pieces:
    return [_request(b"x", *(f"X-{n}: {chance.random()}" for n in range(2000)))], 0


def _no_http(chance: random.Random) -> Pieces:
    return [b"\x16\x03\x01" + chance.randbytes(300) + b"\r\n\r\n"], 0


def _wrong_host(chance: random.Random) -> Pieces:
    return [_request(_noise(chance)).replace(b"127.0.0.1", b"evil.example")], 0


def _cross_site(chance: random.Random) -> Pieces:
    return [_request(_noise(chance), "Origin: https://evil.example")], 0


def _wrong_query(chance: random.Random) -> Pieces:
    queries = ("?top=-1", "?top=9e9", "?model=../../etc/passwd", "?explain=%00", "?gradcam=x")
    return [_request(_noise(chance), query=chance.choice(queries))], 0


HOSTILE: dict[str, Callable[[random.Random], Pieces]] = {
    "truncated": _truncated,
    "decompression bomb": _bomb,
    "no picture": _text,
    "wrong type": _wrong_type,
    "too large, and says so": _declared,
    "too large, in chunks": _chunked,
    "upload stands still": _slow_body,
    "upload dribbles": _dribble,
    "head stands still": _slow_head,
    "garbage as a form": _garbage_form,
    "two files": _two_files,
    "endless header": _long_head,
    "2,000 headers": _many_headers,
    "no HTTP": _no_http,
    "another host's name": _wrong_host,
    "another site's page": _cross_site,
    "wrong parameters": _wrong_query,
}
"""Kind of request -> function that makes one."""

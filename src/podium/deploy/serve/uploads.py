"""Uploads: read within limits, in memory only, and never referred to by file name."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import FormParser, parse_options_header

from podium.deploy.serve.limits import ApiError, Limits

FIELD = "image"
"""Name of the one part of a multipart upload."""

# without a handler the parser would log parts of the upload to standard error
logging.getLogger("python_multipart").addHandler(logging.NullHandler())
logging.getLogger("python_multipart").propagate = False

_ENVELOPE = 16_384  # bytes of boundaries and headers around an image in multipart form
_DIGITS = re.compile(r"\d{1,18}")

UploadKind = tuple[str, bytes]
"""`("raw", b"")`, or `("multipart", boundary)`."""


def upload_kind(content_type: str | None) -> UploadKind:
    """Determine how the image is sent.

    Args:
        content_type: value of the header; None: there is none.

    Raises:
        ApiError: 415 for any other type; 400 for multipart without a boundary.
    """
    try:
        kind, options = parse_options_header(content_type)
    except (ValueError, AssertionError):
        kind, options = b"", {}
    if kind == b"multipart/form-data":
        boundary = options.get(b"boundary", b"")
        if not 1 <= len(boundary) <= 70:  # RFC 2046
            raise ApiError(
                400, "bad_multipart", "multipart/form-data needs a boundary of 1 to 70 characters."
            )
        return "multipart", boundary
    if kind.startswith(b"image/"):
        return "raw", b""
    raise ApiError(
        415,
        "unsupported_type",
        "Send an image: its raw bytes with Content-Type image/jpeg, image/png or the "
        f"like, or multipart/form-data with one file in the field `{FIELD}`.",
    )


def declared_size(length: str | None, kind: UploadKind, limits: Limits) -> int:
    """The most bytes that an upload may have: its declared size, or else the limit.

    Args:
        length: value of the header Content-Length; None: there is none.
        kind: the result of `upload_kind`.
        limits: limits of the server.

    Raises:
        ApiError: 413 for a declared size over the limit, before a byte is read.
    """
    most = limits.max_bytes + (_ENVELOPE if kind[0] == "multipart" else 0)
    if length is None:
        return most
    if not _DIGITS.fullmatch(length) or int(length) > most:
        raise _too_large(limits)
    return int(length)


async def read_body(chunks: AsyncIterator[bytes], size: int, limits: Limits) -> bytes:
    """Read a whole upload, unless it is too large, too slow, or stalls.

    Args:
        chunks: the parts of the body as they arrive.
        size: the most bytes it may have, from `declared_size`.
        limits: limits of the server.

    Raises:
        ApiError: 413 or 408.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            while True:
                async with asyncio.timeout(limits.idle_seconds):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return bytes(body)
                if len(body) + len(chunk) > size:
                    raise _too_large(limits)
                body += chunk
    except TimeoutError:
        raise ApiError(
            408,
            "too_slow",
            f"The upload did not finish: it may stall for at most {limits.idle_seconds:g} s "
            f"and take at most {limits.body_seconds:g} s in all.",
        ) from None


def picture_bytes(body: bytes, kind: UploadKind, limits: Limits) -> bytes:
    """Extract the image from an upload.

    Args:
        body: the body as sent.
        kind: the result of `upload_kind`.
        limits: limits of the server.

    Raises:
        ApiError: 400 if the multipart is malformed, 413 if the image is too large, 422 if there
            is another part, several, or none.
    """
    content = body if kind[0] == "raw" else _only_part(body, kind[1])
    if len(content) > limits.max_bytes:
        raise _too_large(limits)
    if not content:
        raise ApiError(422, "empty", "The image is empty (0 bytes).")
    return content


def _only_part(body: bytes, boundary: bytes) -> bytes:
    """The content of the one part, which must be the field `image`.

    It does not use Starlette's `request.form()`, which writes anything over 1 MB to disk.
    """
    parts: list[tuple[bytes | None, bytes]] = []
    ended: list[bool] = []

    def on_file(one: Any) -> None:
        parts.append((one.field_name, one.file_object.getvalue()))

    try:
        parser = FormParser(
            "multipart/form-data",
            on_field=lambda one: parts.append((one.field_name, one.value or b"")),
            on_file=on_file,
            on_end=lambda: ended.append(True),
            boundary=boundary,
            config={"MAX_MEMORY_FILE_SIZE": len(body)},
        )
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError, AssertionError, IndexError):
        ended.clear()
    if not ended:
        raise ApiError(400, "bad_multipart", "The upload is not complete multipart/form-data.")
    if [name for name, _ in parts] != [FIELD.encode()]:
        got = ("none", "another one", "several parts")[min(len(parts), 2)]
        raise _one_field(got)
    return parts[0][1]


def _one_field(got: str) -> ApiError:
    return ApiError(
        422,
        "wrong_parts",
        f"Expected one file in the field `{FIELD}` and nothing else, got {got}.",
    )


def _too_large(limits: Limits) -> ApiError:
    return ApiError(
        413,
        "too_large",
        f"An image may have at most {limits.max_bytes / 1e6:,.3g} MB here. Send a smaller one.",
    )

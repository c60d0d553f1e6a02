"""An upload: read within its limits, in memory alone, and never called by its file name."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from podium.deploy.serve.limits import ApiError, Limits

FIELD = "image"
"""Name of the one part of a multipart upload."""

# the parser would tell of what it was sent, on the stream of errors where nobody else listens
logging.getLogger("python_multipart").addHandler(logging.NullHandler())
logging.getLogger("python_multipart").propagate = False

_ENVELOPE = 16_384  # bytes of boundaries and headers around a picture in multipart form
_DIGITS = re.compile(r"\d{1,18}")

UploadKind = tuple[str, bytes]
"""`("raw", b"")`, or `("multipart", boundary)`."""


def upload_kind(content_type: str | None) -> UploadKind:
    """How the picture is sent.

    Args:
        content_type: the header, if there is one.

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
        "Send a picture: its bytes as they are with Content-Type image/jpeg, image/png or the "
        f"like, or multipart/form-data with one file in the field `{FIELD}`.",
    )


def declared_size(length: str | None, kind: UploadKind, limits: Limits) -> int:
    """Bytes that an upload may come to: what it says, or else the limit.

    Args:
        length: the header Content-Length, if there is one.
        kind: as `upload_kind` gives it.
        limits: of the server.

    Raises:
        ApiError: 413, before a byte is read, where it says that it is too large.
    """
    most = limits.max_bytes + (_ENVELOPE if kind[0] == "multipart" else 0)
    if length is None:
        return most
    if not _DIGITS.fullmatch(length) or int(length) > most:
        raise _too_large(limits)
    return int(length)


async def read_body(chunks: AsyncIterator[bytes], size: int, limits: Limits) -> bytes:
    """All of an upload, unless it is too large, too slow, or stands still.

    Args:
        chunks: as they come.
        size: the most that it may be, as `declared_size` gives it.
        limits: of the server.

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
            f"The upload did not come to its end: it may stand still for {limits.idle_seconds:g} s "
            f"and take {limits.body_seconds:g} s in all.",
        ) from None


def picture_bytes(body: bytes, kind: UploadKind, limits: Limits) -> bytes:
    """The picture of an upload.

    Args:
        body: as it was sent.
        kind: as `upload_kind` gives it.
        limits: of the server.

    Raises:
        ApiError: 400 where it is no such multipart, 413 where the picture is too large, 422 where
            it has another part, several, or none.
    """
    content = body if kind[0] == "raw" else _only_part(body, kind[1])
    if len(content) > limits.max_bytes:
        raise _too_large(limits)
    if not content:
        raise ApiError(422, "empty", "The picture is empty (0 bytes).")
    return content


def _only_part(body: bytes, boundary: bytes) -> bytes:
    """The content of the one part, which must be the field `image`."""
    parts: list[list[bytes]] = []
    names: list[bytes] = []
    header, value, ended = bytearray(), bytearray(), False

    def begin() -> None:
        if len(parts) == 1:
            raise _one_field("several parts")
        parts.append([])

    def header_end() -> None:
        if bytes(header).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(value))
            names.append(options.get(b"name", b""))
        header.clear()
        value.clear()

    def end() -> None:
        nonlocal ended
        ended = True

    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": begin,
            "on_part_data": lambda data, start, stop: parts[-1].append(data[start:stop]),
            "on_header_field": lambda data, start, stop: header.extend(data[start:stop]),
            "on_header_value": lambda data, start, stop: value.extend(data[start:stop]),
            "on_header_end": header_end,
            "on_end": end,
        },
        max_header_count=8,
        max_header_size=4096,
    )
    try:
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError, AssertionError, IndexError):
        ended = False
    if not ended:
        raise ApiError(
            400, "bad_multipart", "The upload is no multipart/form-data that comes to its end."
        )
    if names != [FIELD.encode()]:
        raise _one_field("another one" if names else "none")
    return b"".join(parts[0])


def _one_field(came: str) -> ApiError:
    return ApiError(
        422,
        "wrong_parts",
        f"Expected one file in the field `{FIELD}` and nothing else, got {came}.",
    )


def _too_large(limits: Limits) -> ApiError:
    return ApiError(
        413,
        "too_large",
        f"A picture may have {limits.max_bytes / 1e6:,.3g} MB here. Send a smaller one.",
    )

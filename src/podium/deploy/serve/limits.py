"""Limits of the server, and its error responses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from podium.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """Limits of one server. Requests beyond them get an error message."""

    max_bytes: int = 20_000_000
    """Most bytes of one upload."""
    max_pixels: int = 40_000_000
    """Most pixels of one image, read from its header before it is decoded."""
    requests: int = 64
    """Most images that are read, waiting or answered at the same time."""
    bytes_at_once: int = 256_000_000
    """Most bytes of all uploads held at the same time; at least one upload always fits."""
    head_bytes: int = 16_384
    """Most bytes of a request's first line and headers."""
    connections: int = 256
    """Most open connections, including idle ones."""
    head_seconds: float = 10.0
    """Seconds within which a request's head must arrive."""
    idle_seconds: float = 10.0
    """Seconds that an upload may stall."""
    body_seconds: float = 60.0
    """Seconds within which an upload must arrive."""
    stop_seconds: float = 10.0
    """Seconds that current requests get when the server is told to stop."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ConfigError(f"{name} must be more than 0, got {value}.")


class ApiError(Exception):
    """An error response. Carries `status`, `code` and `headers`; its text is the message.

    Args:
        status: HTTP status.
        code: for programs: short, lower case, never changed.
        message: for people: what was expected, what was got, what to do.
        headers: further headers of the response; None: none.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, dict(headers or {})

    def content(self) -> dict[str, dict[str, str]]:
        """The JSON of the response."""
        return error_json(self.code, str(self))


def head_too_large(limits: Limits) -> ApiError:
    """The response to a head that is longer than `limits.head_bytes`.

    Args:
        limits: limits of the server.
    """
    return ApiError(
        431,
        "head_too_large",
        f"The head of a request may have at most {limits.head_bytes:,} bytes.",
        {"Connection": "close"},
    )


def error_json(code: str, message: str) -> dict[str, dict[str, str]]:
    """The format of every error: `{"error": {"code": ..., "message": ...}}`.

    Args:
        code: for programs.
        message: for people.
    """
    return {"error": {"code": code, "message": message}}


@dataclass
class Admission:
    """Counts the requests and bytes held now. For one thread: that of the server's loop."""

    limits: Limits
    requests: int = 0
    bytes: int = field(default=0)

    @contextmanager
    def of(self, size: int) -> Iterator[None]:
        """Reserve a place for an upload during the block.

        Args:
            size: bytes of the upload.

        Raises:
            ApiError: 503, with Retry-After: too many are already held.
        """
        full = self.requests >= self.limits.requests
        too_much = self.requests > 0 and self.bytes + size > self.limits.bytes_at_once
        if full or too_much:
            raise ApiError(
                503,
                "busy",
                f"{self.requests} images are being processed, and no more are accepted at the "
                "moment. Try again in a second.",
                {"Retry-After": "1"},
            )
        self.requests += 1
        self.bytes += size
        try:
            yield
        finally:
            self.requests -= 1
            self.bytes -= size

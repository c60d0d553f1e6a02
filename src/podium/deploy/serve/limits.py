"""What a server takes on, and the words with which it refuses the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from podium.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """Bounds of one server. A picture, a client or a crowd beyond them gets an error in words."""

    max_bytes: int = 20_000_000
    """Of one upload."""
    max_pixels: int = 40_000_000
    """Of one picture, known from its header before it is decoded."""
    requests: int = 64
    """Pictures that are read, wait or are answered at the same time."""
    bytes_at_once: int = 256_000_000
    """Of all uploads that are held at the same time; at least one always fits."""
    head_bytes: int = 16_384
    """Of a request's first line and headers."""
    connections: int = 256
    """Open at the same time, idle ones too."""
    head_seconds: float = 10.0
    """In which a request's head must have come."""
    idle_seconds: float = 10.0
    """That an upload may stand still."""
    body_seconds: float = 60.0
    """In which an upload must have come."""
    stop_seconds: float = 10.0
    """That requests under way get when the server is told to stop."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ConfigError(f"{name} must be more than 0, got {value}.")


class ApiError(Exception):
    """An answer that is an error. Carries `status`, `code` and `headers`; its text says it all.

    Args:
        status: of HTTP.
        code: for programs: short, lower case, never changed.
        message: for people: what was expected, what came, what to do.
        headers: further ones of the answer.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, dict(headers or {})

    def content(self) -> dict[str, dict[str, str]]:
        """The JSON of the answer."""
        return error_json(self.code, str(self))


def head_too_large(limits: Limits) -> ApiError:
    """The answer to a head that is longer than `limits.head_bytes`."""
    return ApiError(
        431,
        "head_too_large",
        f"The head of a request may have {limits.head_bytes:,} bytes.",
        {"Connection": "close"},
    )


def error_json(code: str, message: str) -> dict[str, dict[str, str]]:
    """What every error looks like: `{"error": {"code": ..., "message": ...}}`."""
    return {"error": {"code": code, "message": message}}


@dataclass
class Admission:
    """How many requests and bytes are held now. For one thread: that of the server's loop."""

    limits: Limits
    requests: int = 0
    bytes: int = field(default=0)

    @contextmanager
    def of(self, size: int) -> Iterator[None]:
        """Hold a place for an upload of `size` bytes for the block.

        Raises:
            ApiError: 503, with Retry-After: too many are held already.
        """
        full = self.requests >= self.limits.requests
        too_much = self.requests > 0 and self.bytes + size > self.limits.bytes_at_once
        if full or too_much:
            raise ApiError(
                503,
                "busy",
                f"{self.requests} pictures are being answered already, and no more are taken at "
                "once. Try again in a second.",
                {"Retry-After": "1"},
            )
        self.requests += 1
        self.bytes += size
        try:
            yield
        finally:
            self.requests -= 1
            self.bytes -= size

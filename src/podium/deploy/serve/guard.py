"""Access control, response headers, and proper ends of refused requests."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from podium.deploy.serve.limits import ApiError, Limits, head_too_large

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Log = Callable[[str], None]

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""Headers of every response. A page of another site cannot read, embed or frame one."""

FAILED = ApiError(500, "failed", "The server failed on this request; its own output says where.")
"""The response to the server's own failures. Details appear only in the server's output."""

_LINGER = 1.0  # seconds during which the rest of a refused upload is read and discarded
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class Rules:
    """Access rules.

    Starlette's `TrustedHostMiddleware` supports neither arbitrary addresses nor IPv6, and answers
    in plain text.

    Args:
        hosts: names allowed in the Host header, besides numeric addresses if `addresses`.
        addresses: whether any IP address is accepted as Host. A name that an attacker has bound
            to this machine (DNS rebinding) is not.
        token: required in `Authorization: Bearer` for /v1; None: no token is required.
    """

    def __init__(
        self, hosts: Iterable[str] = LOCAL, *, addresses: bool = False, token: str | None = None
    ) -> None:
        self.hosts = frozenset(name.lower() for name in hosts) | LOCAL
        self.addresses = addresses
        self.token = token

    def check(self, method: str, path: str, headers: dict[str, str]) -> None:
        """Check whether a request is allowed.

        Args:
            method: HTTP method, in upper case.
            path: without the query.
            headers: names in lower case.

        Raises:
            ApiError: 400, 401 or 403.
        """
        own = headers.get("host", "")
        name = host_of(own)
        if name is None or not (name in self.hosts or (self.addresses and _is_address(name))):
            raise ApiError(
                400,
                "unknown_host",
                "This server is not known by that name. Use its address, or allow the "
                "name with --allow-host.",
            )
        self._same_site(method, own, headers)
        if self.token is not None and path.startswith("/v1/"):
            kind, _, given = headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(given.strip().encode(), self.token.encode())
            if kind.lower() != "bearer" or not right:
                raise ApiError(
                    401,
                    "token_needed",
                    "This server requires a token: Authorization: Bearer TOKEN.",
                    {"WWW-Authenticate": "Bearer"},
                )

    @staticmethod
    def _same_site(method: str, own: str, headers: dict[str, str]) -> None:
        """Allow pages of other sites to link here, and nothing else.

        Browsers state where a request comes from (Sec-Fetch-Site, and Origin for requests with a
        body); programs do not, and are allowed.

        Args:
            method: HTTP method, in upper case.
            own: the server's own name, from the Host header.
            headers: names in lower case.
        """
        site = headers.get("sec-fetch-site", "none")
        followed = method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
        foreign = site not in ("same-origin", "none") and not followed
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != own.lower():
            foreign = True
        if foreign:
            raise ApiError(
                403, "cross_site", "Pages of other sites may not use this server. Open it directly."
            )


def host_of(header: str) -> str | None:
    """The name or address in a Host header, without its port; None: malformed.

    Args:
        header: value of the header.
    """
    try:
        parts = urlsplit(f"//{header}")
        name, _ = parts.hostname, parts.port
    except ValueError:
        return None
    plain = parts.netloc == header and not (parts.path or parts.query or parts.fragment)
    return name if plain and "@" not in header else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Wraps an application: checks, headers, one log line, and a final handler for all errors.

    An upload that is refused early is answered at once; further data is discarded for a moment,
    so that the client can read the answer.
    """

    def __init__(
        self, app: App, rules: Rules, limits: Limits, *, log: Log | None = None, fault: Log = print
    ) -> None:
        self._app, self._rules, self._limits = app, rules, limits
        self._log, self._fault = log, fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await _Exchange(scope, receive, send, self._limits).run(
                self._app, self._rules, self._log, self._fault
            )
        # websockets are not supported, see `podium.deploy.serve.listen`


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: Limits) -> None:
        self.scope, self._receive, self._send, self._limits = scope, receive, send, limits
        self.headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        self.head = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        self.head += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        length = self.headers.get("content-length", "0")
        self.unread = "transfer-encoding" in self.headers or length.strip("0") != ""
        self.status = 0
        self.gone = False

    async def run(self, app: App, rules: Rules, log: Log | None, fault: Log) -> None:
        began = time.perf_counter()
        try:
            # the protocol's own limit misses a head that arrives in one piece
            if self.head > self._limits.head_bytes:
                raise head_too_large(self._limits)
            rules.check(self.scope["method"], self.scope["path"], self.headers)
            await app(self.scope, self.receive, self.send)
        except ApiError as error:
            await self._refuse(error)
        except Exception as error:
            if not self.gone:  # report only where it failed, nothing of the upload
                fault(f"{self.scope['method']} failed: {type(error).__name__} ({_place(error)})")
            await self._refuse(FAILED)
        if log is not None:
            took = 1000 * (time.perf_counter() - began)
            log(f"{self.scope['method']} {self.scope['path']} {self.status or '-'} {took:.0f} ms")

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
            self.unread = False
        elif not message.get("more_body", False):
            self.unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            taken = {name for name, _ in own}
            kept = [pair for pair in message.get("headers", ()) if pair[0].lower() not in taken]
            if self.unread:
                own.append((b"connection", b"close"))
            await self._send({**message, "headers": kept + own})
        elif self.unread and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._linger()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await self._send(message)

    async def _linger(self) -> None:
        """Read on for a moment: closing with unread bytes would lose the answer."""
        left = 2 * self._limits.max_bytes
        try:
            async with asyncio.timeout(_LINGER):
                while self.unread and left > 0:
                    left -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            pass

    async def _refuse(self, error: ApiError) -> None:
        if self.status:  # the response has started: nothing can be added
            return
        body = json.dumps(error.content()).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        pairs = [(k.lower().encode(), v.encode()) for k, v in (headers | error.headers).items()]
        await self.send({"type": "http.response.start", "status": error.status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


def _place(error: BaseException) -> str:
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    if at is None:
        return "unknown place"
    return f"{at.tb_frame.f_code.co_filename.rpartition('/')[2]}:{at.tb_lineno}"

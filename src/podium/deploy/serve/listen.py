"""The socket, the protocol's own limits, and a reliable start and end of the server."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
import sys
from collections.abc import Callable
from http import HTTPStatus
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from podium.deploy.serve.guard import HEADERS
from podium.deploy.serve.limits import ApiError, Limits, head_too_large
from podium.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host.

    Args:
        host: a name or address.
    """
    return host == "localhost" or host == "::1" or host.startswith("127.")


def bind(host: str, port: int) -> socket.socket:
    """Bind a socket to a free port; it listens once the server runs.

    Args:
        host: a name or address of this machine.
        port: 0: any free port.

    Raises:
        ConfigError: the port is in use or not allowed, or the address is not this machine's.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # for a name with both, IPv4 first: that is what people type
        family, kind, number, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        made = socket.socket(family, kind, number)
    except (OSError, UnicodeError) as error:
        what = "expected a name or address of this machine"
        raise ConfigError(f"--host {host}: {what} ({error}).") from None
    try:
        if os.name == "posix":  # on other systems it would let two servers share a port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        return made
    except (OSError, OverflowError) as error:
        made.close()
        cause = getattr(error, "errno", None)
        if cause == errno.EADDRINUSE:
            what = f"port {port} is in use, perhaps by another `podium serve`. Give another"
            raise ConfigError(f"{what} (--port; 0: any free port).") from None
        if cause in (errno.EACCES, errno.EPERM):
            raise ConfigError(
                f"port {port} may not be used here. Give one above 1023 (--port)."
            ) from None
        raise ConfigError(f"{host}, port {port} cannot be listened on ({error}).") from None


def url_of(made: socket.socket, host: str) -> str:
    """The server's URL for a browser on this machine.

    Args:
        made: the socket.
        host: the name or address that was given.
    """
    port = made.getsockname()[1]
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)
    return f"http://{f'[{name}]' if ':' in name and '[' not in name else name}:{port}"


def run(
    app: Any,
    made: socket.socket,
    limits: Limits,
    *,
    ready: Callable[[], None] = lambda: None,
    server_ready: Callable[[uvicorn.Server], None] = lambda server: None,
) -> None:
    """Serve until Ctrl-C or SIGTERM; current requests are finished.

    Args:
        app: the result of `create_app`.
        made: the result of `bind`.
        limits: limits of the server.
        ready: called once it listens.
        server_ready: called with the server before that; `should_exit = True` stops it.
    """
    logging.getLogger("uvicorn.error").setLevel(
        logging.ERROR
    )  # its warnings concern single clients

    class Protocol(_Protocol):
        bounds = limits

    server = _Server(
        uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            interface="asgi3",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=int(limits.stop_seconds) or 1,
            h11_max_incomplete_event_size=limits.head_bytes,
        )
    )
    server.ready = ready
    server_ready(server)
    server.run(sockets=[made])


class _Server(uvicorn.Server):
    ready: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn's own raises the signal again at the end: the exit code would not be 0
        self.force_exit = self.should_exit
        self.should_exit = True


class _Protocol(H11Protocol):
    """uvicorn's HTTP/1.1, with limits on connections and on the time for a head.

    uvicorn itself has neither: its `limit_concurrency` counts only once a request has arrived, so
    silent connections are unlimited, and its `timeout_keep_alive` starts after an answer.

    Errors before there is a request (a head that is too long, too slow, or missing) are answered
    here, in the same JSON format as all others.
    """

    bounds = Limits()
    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.bounds.connections:
            self._end(
                ApiError(503, "busy", "Too many connections are open. Try again in a second.")
            )
        else:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        between = self.cycle is None or self.cycle.response_complete
        if not between:
            self._head_came()
        elif self._head is None and not self.transport.is_closing():
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Handle input that is not HTTP, at any point of a connection."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()  # a body that breaks off: its request ends as disconnected
            return
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if status == 431:
            self._end(head_too_large(self.bounds))
        else:
            self._end(ApiError(400, "bad_http", "This is not an HTTP/1.1 request."))

    def _await_head(self) -> None:
        self._head = self.loop.call_later(self.bounds.head_seconds, self._head_is_late)

    def _head_came(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _head_is_late(self) -> None:
        self._head = None
        seconds = self.bounds.head_seconds
        self._end(ApiError(408, "too_slow", f"A request must start within {seconds:g} s."))

    def _end(self, error: ApiError) -> None:
        if self.transport.is_closing():
            return
        body = json.dumps(error.content()).encode()
        lines = [
            f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *(["Retry-After: 1"] if error.status == 503 else []),
            *(f"{name}: {value}" for name, value in HEADERS.items()),
        ]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()

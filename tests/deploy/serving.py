"""A server in a thread of the test's own process, and requests to it from the standard library."""

from __future__ import annotations

import http.client
import io
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import uvicorn
from PIL import Image

from podium.deploy.serve import Limits
from podium.deploy.serve.listen import bind, run, url_of

__all__ = ["Reply", "Running", "form", "jpeg", "serving"]


@dataclass(frozen=True)
class Reply:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of an error."""
        return str(self.json["error"]["code"])


@dataclass
class Running:
    """A server that listens."""

    url: str
    port: int
    server: uvicorn.Server
    faults: list[str] = field(default_factory=list)

    def ask(
        self,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        method: str | None = None,
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(
                method or ("GET" if body is None else "POST"), path, body, dict(headers or {})
            )
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        finally:
            connection.close()

    def predict(self, body: bytes, query: str = "", kind: str = "image/jpeg") -> Reply:
        return self.ask(f"/v1/predict{query}", body, {"Content-Type": kind})


@contextmanager
def serving(app: Any, limits: Limits | None = None) -> Iterator[Running]:
    """Serve `app` on a free port of the loopback address."""
    made = bind("127.0.0.1", 0)
    listening = threading.Event()
    servers: list[uvicorn.Server] = []
    thread = threading.Thread(
        target=run,
        args=(app, made, limits or Limits()),
        kwargs={"ready": listening.set, "server_ready": servers.append},
    )
    thread.start()
    try:
        assert listening.wait(30)
        yield Running(url_of(made, "127.0.0.1"), made.getsockname()[1], servers[0])
    finally:
        servers[0].should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def jpeg(pixels: np.ndarray[Any, Any] | None = None, size: tuple[int, int] = (64, 48)) -> bytes:
    """A JPEG of `pixels`, or of noise."""
    if pixels is None:
        pixels = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()


def form(parts: Sequence[tuple[str, bytes]], boundary: str = "x-y-z") -> tuple[bytes, str]:
    """A multipart body and its Content-Type; all parts are files of a hostile name."""
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; '
        f'filename="../../etc/passwd"\r\nContent-Type: image/jpeg\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, content in parts
    )
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"

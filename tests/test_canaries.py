"""Private and global things of other libraries that Podium leans on.

Each test says what of Podium breaks where it fails: look there before the new version is allowed.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.file_download import http_get


def test_pytorch_asks_its_flag_before_it_handles_a_dead_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`podium.data.loader`: a killed worker would raise in the middle of an optimizer's step."""
    from torch.utils.data._utils import signal_handling

    before = signal.getsignal(signal.SIGCHLD)
    try:
        monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", True)
        signal_handling._set_SIGCHLD_handler()
        assert signal.getsignal(signal.SIGCHLD) is before
        monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", False)
        signal_handling._set_SIGCHLD_handler()
        assert signal.getsignal(signal.SIGCHLD) is not before
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_uvicorn_calls_what_our_protocol_overrides() -> None:
    """`podium.deploy.serve.listen`: the bounds on connections and on heads would hold no more."""
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol
    from uvicorn.server import ServerState

    told: list[str] = []

    class Watched(H11Protocol):
        def send_400_response(self, msg: str) -> None:
            told.append(msg)

    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError("there is no request")

    loop, state = asyncio.new_event_loop(), ServerState()
    try:
        config = uvicorn.Config(app, log_config=None, ws="none", interface="asgi3")
        made = Watched(config, state, {}, loop)
        transport = MagicMock(spec=asyncio.Transport)
        transport.get_extra_info.return_value = None
        made.connection_made(transport)
        assert made.connections == {made}
        assert made.transport is transport
        assert made.loop is loop
        assert made.cycle is None
        made.data_received(b"this is no HTTP\r\n\r\n")
        assert len(told) == 1
        made.connection_lost(None)
        assert state.connections == set()
    finally:
        loop.close()


CONTENT = b"0123456789"


class _Ranges(BaseHTTPRequestHandler):
    asked: str | None = None

    def do_GET(self) -> None:
        type(self).asked = self.headers["Range"]
        self.send_response(206)
        self.send_header("Content-Length", "6")
        self.send_header("Content-Range", "bytes 4-9/10")
        self.end_headers()
        self.wfile.write(CONTENT[4:])

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def _server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Ranges) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/file"
        server.shutdown()
        thread.join()


def test_the_hubs_library_goes_on_with_a_part(tmp_path: Path) -> None:
    """`podium.data.fetch`: a download that broke off would begin anew, or fail."""
    part = tmp_path / "part"
    part.write_bytes(CONTENT[:4])
    with _server() as url, open(part, "ab") as file:
        http_get(url, file, resume_size=4, expected_size=10, displayed_filename="file")
    assert _Ranges.asked == "bytes=4-"
    assert part.read_bytes() == CONTENT


def test_the_hubs_library_asks_its_constant_at_every_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`podium.runtime.network`: without a network each file would take most of a minute."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(LocalEntryNotFoundError):
        hf_hub_download("podium/nothing", "model.json", cache_dir=tmp_path)

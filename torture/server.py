"""A server with some hostile clients: all good ones are answered, and nothing is left behind.

The server is `podium serve` in a separate process, on the loopback address. The clients are threads
of this one: most send images whose answer is known from the predictor, some send hostile requests.
It ends on its own, at the latest at its time limit.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from podium.data.images import decode_rgb
from podium.deploy.find.choose import choose_run
from podium.deploy.predictor import load_predictor
from torture.hostile import HOSTILE, MEGABYTES, TIMEOUT, as_form

__all__ = ["ServerResult", "torture_server"]

HOSTILE_SHARE = 0.05
_MARGIN = 0.01  # of the first class over the second, for an image to be used
_GROWTH = (0.05, 32)  # of memory after the warm-up: relative, and in MiB; more of both is a leak


@dataclass
class ServerResult:
    """Results of the test."""

    requests: int = 0
    clients: int = 0
    good: int = 0
    hostile: dict[str, int] = field(default_factory=dict)
    """Kind of hostile request -> count."""
    failures: list[str] = field(default_factory=list)
    """Good requests without the correct answer, hostile ones without a refusal in JSON."""
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    """Latency of the good requests, measured by the clients."""
    per_second: float = 0.0
    warm_mib: int = 0
    """Memory of the server after a quarter of the requests, including all kinds."""
    end_mib: int = 0
    peak_mib: int = 0
    temporary_files: int = 0
    exit_code: int | None = None
    said: str = ""
    """The server's standard error."""
    seconds: float = 0.0

    @property
    def grew(self) -> bool:
        """Whether memory grew by more than both 5 % and 32 MiB after the warm-up."""
        more = self.end_mib - self.warm_mib
        return more > _GROWTH[1] and more > _GROWTH[0] * self.warm_mib

    @property
    def sound(self) -> bool:
        return (
            not self.failures and not self.grew and not self.temporary_files
            and self.exit_code == 0 and not self.said
        )  # fmt: skip


def torture_server(
    folder: Path,
    study: Path,
    requests: int = 2000,
    clients: int = 16,
    seed: int = 0,
    *,
    without: Collection[str] = (),
    bound: float = 900.0,
) -> ServerResult:
    """Serve a study to many clients at once.

    Args:
        folder: for the server's temporary files and its standard error.
        study: folder of a finished study, with weights.
        requests: total number; one in twenty is hostile, and at least one of each kind.
        clients: number of concurrent clients.
        seed: random seed of the images and the order of requests.
        without: kinds of `HOSTILE` to leave out.
        bound: seconds after which clients give up; a request not sent by then is a failure.

    Returns:
        latencies, memory and every failure.
    """
    chance = random.Random(seed)
    good = _known_answers(study, seed)
    every = [kind for kind in HOSTILE if kind not in without]
    hostile = max(len(every), round(HOSTILE_SHARE * requests))
    kinds = [every[number % len(every)] for number in range(hostile)]
    plan: list[str | None] = [*kinds, *[None] * (requests - hostile)]
    # the warm-up sees every kind
    warm = max(requests // 4, len(every))
    head = [*every, *[None] * (warm - len(every))]
    rest = list((Counter(plan) - Counter(head)).elements())
    chance.shuffle(head)
    chance.shuffle(rest)

    result = ServerResult(requests, clients, requests - hostile, dict(Counter(kinds)))
    began = time.monotonic()
    deadline = began + bound
    with _served(folder, study, result) as (process, port):
        crowd = _Crowd(port, good, deadline, seed)
        busy = crowd.ask(head, clients)
        result.warm_mib = _memory(process.pid, "VmRSS")
        busy += crowd.ask(rest, clients)
        result.end_mib = _memory(process.pid, "VmRSS")
        result.peak_mib = _memory(process.pid, "VmHWM")
        if crowd.under_way() != 0:
            crowd.failures.append("the server still counts pictures as under way")
    result.failures = sorted(crowd.failures)
    times = np.asarray(crowd.times or [0.0])
    result.p50_ms, result.p99_ms = (round(float(v), 1) for v in np.percentile(times, [50, 99]))
    result.per_second = round(requests / busy, 1)
    result.seconds = round(time.monotonic() - began, 1)
    return result


@contextmanager
def _served(
    folder: Path, study: Path, result: ServerResult
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Yield the server's process and port; its exit is recorded in `result`."""
    scratch, said = folder / "tmp", folder / "stderr.txt"
    scratch.mkdir()
    command = [
        sys.executable, "-m", "podium", "serve", str(study.resolve()), "--port", "0",
        "--device", "cpu", "--max-megabytes", str(MEGABYTES), "--timeout", str(TIMEOUT),
    ]  # fmt: skip
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with open(said, "w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command, cwd=scratch, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        line = ""
        while "Serving on" not in line:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the server did not start: {said.read_text()}")
        yield process, int(re.findall(r":(\d+) ", line)[0])
        result.temporary_files = sum(path.is_file() for path in scratch.rglob("*"))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        result.exit_code = process.returncode
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
        result.said = said.read_text(encoding="utf-8")[-500:]


def _memory(process: int, what: str) -> int:
    """A memory figure of a process in MiB, as reported by Linux."""
    text = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(re.findall(rf"{what}:\s+(\d+) kB", text)[0]) // 1024


@dataclass(frozen=True)
class _Known:
    """A request body with its content type, and the class that the predictor gives its image."""

    body: bytes
    kind: str
    answer: str


def _known_answers(study: Path, seed: int, many: int = 48) -> list[_Known]:
    """Images of several formats and sizes on which the model has a clear answer."""
    predictor, _ = load_predictor(choose_run(study), device="cpu")
    chance = np.random.default_rng(seed)
    found: list[_Known] = []
    for number in range(10 * many):
        side = int(chance.integers(32, 900))
        small = chance.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((side, 3 * side // 4), Image.Resampling.BICUBIC)
        picture = picture.filter(ImageFilter.UnsharpMask(3))
        form = ("JPEG", "PNG", "WEBP", "BMP")[number % 4 if side < 500 else 0]
        out = io.BytesIO()
        picture.save(out, form)
        first, second = predictor.predict([decode_rgb(out.getvalue(), "it")], top=2)[0]
        if first.probability - second.probability < _MARGIN:
            continue
        content, kind = out.getvalue(), f"image/{form.lower()}"
        if number % 3 == 0:
            content, kind = as_form(content)
        found.append(_Known(content, kind, first.name))
        if len(found) == many:
            return found
    raise RuntimeError(f"{study}: its model is undecided on nearly all pictures")


class _Crowd:
    """The clients, with their latencies and failures."""

    def __init__(self, port: int, good: Sequence[_Known], deadline: float, seed: int) -> None:
        self.port, self.good, self.deadline, self.seed = port, good, deadline, seed
        self.times: list[float] = []
        """Latencies of good requests in milliseconds."""
        self.failures: list[str] = []

    def ask(self, plan: Sequence[str | None], clients: int) -> float:
        """Send all requests of `plan` from `clients` threads; returns the seconds taken."""
        began = time.monotonic()
        threads = [
            threading.Thread(target=self._client, args=(number, plan[number::clients]))
            for number in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.monotonic() - began

    def under_way(self) -> int:
        with contextlib.closing(self._connect()) as line:
            line.request("GET", "/healthz")
            return int(json.loads(line.getresponse().read())["under_way"])

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def _client(self, number: int, plan: Sequence[str | None]) -> None:
        chance = random.Random(f"{self.seed} {number}")
        line = self._connect()
        for kind in plan:
            if time.monotonic() > self.deadline:
                self.failures.append("not asked within the time bound")
                continue
            try:
                if kind is None:
                    self._good(line, chance)
                else:
                    self._hostile(kind, chance)
            except Exception as error:  # any error is a failure to answer
                self.failures.append(f"{kind or 'good'}: {type(error).__name__}: {error}"[:300])
                line.close()
        line.close()

    def _good(self, line: http.client.HTTPConnection, chance: random.Random) -> None:
        known = chance.choice(self.good)
        path = "/v1/predict?gradcam=true" if chance.random() < 0.1 else "/v1/predict"
        began = time.perf_counter()
        line.request("POST", path, known.body, {"Content-Type": known.kind})
        reply = line.getresponse()
        body = reply.read()
        self.times.append(1000 * (time.perf_counter() - began))
        if reply.status != 200:
            self.failures.append(f"good: {reply.status}: {body[:200]!r}")
            return
        told = json.loads(body)
        if told["predictions"][0]["class"] != known.answer:
            self.failures.append(f"good: {told['predictions'][0]}, expected {known.answer}")
        if ("gradcam" in path) != (told["gradcam"] is not None):
            self.failures.append("good: Grad-CAM where none was asked for, or the reverse")

    def _hostile(self, kind: str, chance: random.Random) -> None:
        pieces, pause = HOSTILE[kind](chance)
        found = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as line:
            # the server may answer, and close, before it has received everything
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    line.sendall(piece)
                    time.sleep(pause)
            with contextlib.suppress(ConnectionError):
                while chunk := line.recv(65_536):
                    found += chunk
                    if _is_whole(found):
                        break
        status, code = _refusal(found)
        if not 400 <= status < 500 or not code:
            self.failures.append(f"{kind}: answered {found[:200]!r}")


def _is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    return length is not None and len(body) >= int(length[1])


def _refusal(answer: bytes) -> tuple[int, str]:
    """Status and error code of an answer; 0 and an empty string if it is not a refusal."""
    head, _, body = answer.partition(b"\r\n\r\n")
    try:
        return int(head.split(b" ")[1]), str(json.loads(body)["error"]["code"])
    except (IndexError, ValueError, KeyError, TypeError):
        return 0, ""

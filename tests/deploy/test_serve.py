"""The server over HTTP: answers against the predictor as the oracle, refusals, start and end."""

from __future__ import annotations

import contextlib
import io
import json
import re
import signal
import socket
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from podium.cli.app import main
from podium.cli.serve import _read_token
from podium.data.images import decode_rgb
from podium.deploy.predictor import Predictor, load_predictor
from podium.deploy.serve import Limits, create_app
from podium.deploy.serve.app import build_app
from podium.deploy.serve.batching import Worker
from podium.deploy.serve.examples import folder_examples, study_examples
from podium.deploy.serve.guard import HEADERS, Rules, host_of
from podium.deploy.serve.limits import Admission, ApiError
from podium.deploy.serve.listen import bind
from podium.deploy.serve.models import Served, best_of, load_models
from podium.deploy.serve.pages import asset
from podium.deploy.serve.uploads import picture_bytes
from podium.errors import ConfigError, DataError, RunFolderError
from podium.runs.folder import RunFolder, StudyFolder
from tests.deploy.serving import Running, form, jpeg, serving
from torture.hostile import HOSTILE
from torture.server import torture_server

TIGHT = Limits(max_bytes=60_000, max_pixels=90_000, requests=3, bytes_at_once=200_000)
HURRIED = Limits(
    connections=12, head_seconds=0.3, idle_seconds=0.3, body_seconds=0.8, stop_seconds=2.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def study(small_run: RunFolder) -> Path:
    return small_run.path.parent.parent


@pytest.fixture(scope="module")
def faults() -> list[str]:
    return []


@pytest.fixture(scope="module")
def server(study: Path, faults: list[str]) -> Iterator[Running]:
    with serving(create_app([study], limits=TIGHT, fault=faults.append), TIGHT) as running:
        yield running


@pytest.fixture(scope="module")
def oracle(small_run: RunFolder) -> Predictor:
    return load_predictor(small_run, device="cpu")[0]


def echo(name: str = "echo", seconds: float = 0.0) -> Served:
    """A model that answers at once, or slowly: the class is the brightness of the first pixel."""

    def compute(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        time.sleep(seconds)
        return np.asarray(9 * np.eye(256, dtype=np.float32)[pixels[:, 0, 0, 0]])

    predictor = Predictor(tuple(f"class {n}" for n in range(256)), 8, 1.0, compute, name)
    return Served(name, name, predictor)


# ---- what it answers ----


def test_the_answer_is_the_predictors(
    server: Running, oracle: Predictor, pictures: Path, small_run: RunFolder
) -> None:
    for path in sorted(pictures.glob("test/*/0.png")):
        content = path.read_bytes()
        (expected,) = oracle.predict([decode_rgb(content, "it")], top=2)
        reply = server.predict(content, "?top=2", "image/png")
        assert reply.status == 200, reply.body
        told = reply.json
        assert [one["class"] for one in told["predictions"]] == [one.name for one in expected]
        assert [one["probability"] for one in told["predictions"]] == pytest.approx(
            [one.probability for one in expected], abs=1e-5
        )
        assert told["model"] == small_run.contender
        assert told["image"] == {"width": 40, "height": 40}
        assert told["gradcam"] is None
        assert told["milliseconds"] > 0


def test_multipart_gives_the_same_as_raw_bytes(server: Running) -> None:
    picture = jpeg()
    body, kind = form([("image", picture)])
    sent, raw = server.predict(body, kind=kind), server.predict(picture)
    assert sent.status == raw.status == 200
    assert sent.json["predictions"] == raw.json["predictions"]


def test_more_classes_than_there_are_means_all(server: Running, oracle: Predictor) -> None:
    told = server.predict(jpeg(), "?top=1000").json["predictions"]
    assert {one["class"] for one in told} == set(oracle.class_names)
    assert sum(one["probability"] for one in told) == pytest.approx(1)


def test_a_sideways_photograph_is_turned(server: Running) -> None:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 32)).save(out, "JPEG", exif=exif)
    assert server.predict(out.getvalue()).json["image"] == {"width": 32, "height": 64}


def test_grad_cam_is_a_picture_of_the_pictures_shape(server: Running, oracle: Predictor) -> None:
    import base64

    picture = jpeg(size=(200, 100))
    plain = server.predict(picture).json
    told = server.predict(picture, "?gradcam=true").json
    assert told["explained"] == told["predictions"][0]["class"] == plain["predictions"][0]["class"]
    assert told["predictions"][0]["probability"] == pytest.approx(
        plain["predictions"][0]["probability"], abs=1e-5
    )
    kind, _, data = told["gradcam"].partition(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (200, 100)
    last = oracle.class_names[-1]
    other = server.predict(picture, f"?explain={last}").json
    assert other["explained"] == last
    assert other["gradcam"] != told["gradcam"] or told["explained"] == last


def test_several_models_answer_side_by_side() -> None:
    models = [echo("one"), replace(echo("two"), valid_accuracy=0.5)]
    with serving(build_app(models)) as server:
        picture = jpeg(np.full((8, 8, 3), 77, np.uint8))
        told = server.predict(picture, "?model=all&top=1").json["answers"]
        assert [one["model"] for one in told] == ["one", "two"]
        assert told[0]["predictions"][0]["class"] == "class 77"
        assert told[0]["predictions"][0]["probability"] == pytest.approx(
            np.exp(9) / (np.exp(9) + 255)
        )
        chosen = server.predict(picture, "?model=two&model=one").json["answers"]
        assert [one["model"] for one in chosen] == ["two", "one"]
        assert server.predict(picture, "?model=one").json["model"] == "one"
        assert server.predict(picture).json["model"] == "two"  # the best on validation images
        assert server.predict(picture, "?gradcam=true").json["gradcam"] is None  # no inside


def test_models_are_told_with_their_accuracy(server: Running, small_run: RunFolder) -> None:
    told = server.ask("/v1/models").json
    (one,) = told["models"]
    test = small_run.read_predictions("test")
    assert told["default"] == one["name"] == small_run.contender
    assert one["classes"] == list(test.class_names)
    assert one["test_images"] == len(test)
    assert one["test_accuracy"] == pytest.approx((test.predicted == test.labels).mean())
    assert one["test_interval"][0] < one["test_accuracy"] <= one["test_interval"][1]
    assert one["valid_accuracy"] == small_run.read_done()["valid_accuracy"]
    assert told["limits"] == {"max_bytes": 60_000, "max_pixels": 90_000}
    assert server.ask("/healthz").json["status"] == "ok"


def test_examples_are_test_images_with_their_classes(server: Running, study: Path) -> None:
    told = server.ask("/v1/examples").json
    assert told["source"] == "test images"
    labels = [one["label"] for one in told["examples"]]
    assert len(labels) == 12
    assert {labels.count(one) for one in labels} == {4}  # one of each class in turn
    kept = StudyFolder(study).read_thumbnails()
    for one in told["examples"]:
        reply = server.ask(one["url"])
        assert reply.headers["content-type"] == "image/jpeg"
        assert reply.body in kept.values()
    assert server.ask("/v1/examples/12").status == 404


def test_examples_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (3000, 40)).save(tmp_path / "a" / "1.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    (tmp_path / "c.txt").write_bytes(b"text")
    (one,) = folder_examples(tmp_path, ["a"])
    assert one.label == "a"
    assert max(Image.open(io.BytesIO(one.jpeg)).size) == 800
    assert folder_examples(tmp_path, ["z"])[0].label is None
    with pytest.raises(DataError, match="found none that can be opened"):
        folder_examples(tmp_path / "b", ["a"])


# ---- what it refuses ----


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header promises a size that nobody has paid for."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + crc

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


REFUSED = {
    "text": (b"hello", "image/jpeg", 415, "not_an_image"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", 415, "not_an_image"),
    "type": (jpeg(), "application/octet-stream", 415, "unsupported_type"),
    "no type": (jpeg(), "", 415, "unsupported_type"),
    "truncated": (jpeg()[:-900], "image/jpeg", 422, "undecodable"),
    "empty": (b"", "image/jpeg", 422, "empty"),
    "pixels": (png_of(400, 300), "image/png", 422, "too_many_pixels"),
    "bomb": (png_of(60_000, 60_000), "image/png", 422, "too_many_pixels"),
    "large": (b"x" * 60_001, "image/jpeg", 413, "too_large"),
    "no boundary": (b"x", "multipart/form-data", 400, "bad_multipart"),
    "garbage": (b"x" * 90, "multipart/form-data; boundary=x-y-z", 400, "bad_multipart"),
    "open end": (form([("image", jpeg())])[0][:-9], form([])[1], 400, "bad_multipart"),
    "other field": (*form([("picture", jpeg())]), 422, "wrong_parts"),
    "two files": (*form([("image", jpeg()), ("image", jpeg())]), 422, "wrong_parts"),
    "no part": (*form([]), 422, "wrong_parts"),
    "form, text": (*form([("image", b"hello")]), 415, "not_an_image"),
    "form, large": (*form([("image", b"x" * 60_001)]), 413, "too_large"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_uploads_are_refused_in_words(server: Running, what: str) -> None:
    body, kind, status, code = REFUSED[what]
    reply = server.predict(body, kind=kind)
    assert (reply.status, reply.code) == (status, code), reply.body
    assert reply.headers["content-type"] == "application/json"
    assert len(reply.json["error"]["message"]) > 20


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("?model=nobody", 404, "unknown_model"),
        ("?top=0", 422, "bad_parameter"),
        ("?top=many", 422, "bad_parameter"),
        ("?gradcam=perhaps", 422, "bad_parameter"),
        ("?explain=nothing", 422, "unknown_class"),
    ],
)
def test_parameters_are_refused_in_words(
    server: Running, query: str, status: int, code: str
) -> None:
    reply = server.predict(jpeg(), query)
    assert (reply.status, reply.code) == (status, code)


def test_addresses_that_are_none(server: Running) -> None:
    assert server.ask("/nowhere").code == "not_found"
    assert server.ask("/assets/..%2f__init__.py").code == "not_found"
    assert server.ask("/v1/predict").code == "wrong_method"
    assert server.ask("/docs").code == server.ask("/redoc").code == "not_found"


def raw(server: Running, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Send pieces, and read until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as line:
        for piece in pieces:
            with contextlib.suppress(OSError):  # it may have closed already, after an answer
                line.sendall(piece)
            time.sleep(pause)
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while (chunk := line.recv(65_536)) and not whole(found := found + chunk):
                pass
        return found


def whole(answer: bytes) -> bool:
    start, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", start.lower())
    return length is not None and len(body) >= int(length[1])


def head(*lines: str, host: str = "localhost") -> bytes:
    text = "\r\n".join(
        ["POST /v1/predict HTTP/1.1", f"Host: {host}", "Content-Type: image/jpeg", *lines, "", ""]
    )
    return text.encode()


def test_too_large_is_known_before_the_upload_comes(server: Running) -> None:
    found = raw(server, head("Content-Length: 900000000000"))
    assert found.startswith(b"HTTP/1.1 413")
    assert b'"too_large"' in found
    assert b"connection: close" in found.lower()


def test_too_large_is_known_while_it_streams(server: Running) -> None:
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    found = raw(server, head("Transfer-Encoding: chunked"), *[chunk] * 4)
    assert found.startswith(b"HTTP/1.1 413")


@pytest.fixture(scope="module")
def hurried() -> Iterator[Running]:
    with serving(build_app([echo()], limits=HURRIED), HURRIED) as running:
        yield running


def test_slow_bodies_and_slow_heads_end(hurried: Running) -> None:
    began = time.monotonic()
    found = raw(hurried, head("Content-Length: 500"), b"xx")
    assert found.startswith(b"HTTP/1.1 408")
    found = raw(hurried, head("Content-Length: 500"), *[b"x"] * 6, pause=0.2)
    assert found.startswith(b"HTTP/1.1 408")  # never still for long, yet too long in all
    found = raw(hurried, b"POST /v1/predict HT")
    assert found.startswith(b"HTTP/1.1 408")
    assert b'"too_slow"' in found
    assert time.monotonic() - began < 9


def test_what_is_no_http(server: Running, faults: list[str]) -> None:
    assert b'"bad_http"' in raw(server, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
    found = raw(server, head("X-Long: " + "x" * 40_000))
    assert found.startswith(b"HTTP/1.1 431")
    assert json.loads(found.partition(b"\r\n\r\n")[2])["error"]["code"] == "head_too_large"
    raw(server, head("Transfer-Encoding: chunked"), b"no length\r\n")
    assert server.ask("/healthz").status == 200
    assert faults == []


def test_connections_are_bounded(hurried: Running) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(HURRIED.connections):
            stack.enter_context(socket.create_connection(("127.0.0.1", hurried.port)))
        found = raw(hurried)
        assert found.startswith(b"HTTP/1.1 503")
        assert b"Retry-After: 1" in found
    for _ in range(50):  # until the closed ones are seen
        with contextlib.suppress(OSError):
            if hurried.ask("/healthz").status == 200:
                return
        time.sleep(0.05)
    pytest.fail("connections that ended still count")


def test_a_full_queue_sends_away_and_answers_the_others() -> None:
    with serving(build_app([echo(seconds=0.3)], limits=TIGHT), TIGHT) as server:
        replies = []
        picture = jpeg(np.full((8, 8, 3), 5, np.uint8))
        threads = [
            threading.Thread(target=lambda: replies.append(server.predict(picture)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {one.status for one in replies} == {200, 503}
        away = next(one for one in replies if one.status == 503)
        assert away.headers["retry-after"] == "1"
        assert away.code == "busy"
        assert server.ask("/healthz").json["under_way"] == 0


def test_memory_of_waiting_uploads_is_bounded() -> None:
    gate = Admission(Limits(bytes_at_once=100, requests=9))
    with gate.of(500), pytest.raises(ApiError), gate.of(1):  # one always fits
        pass
    with gate.of(60), gate.of(40), pytest.raises(ApiError, match="Try again"), gate.of(1):
        pass
    assert (gate.requests, gate.bytes) == (0, 0)
    with pytest.raises(ConfigError, match="requests must be more than 0"):
        Limits(requests=0)


def test_a_fault_of_the_server_tells_nothing_of_the_picture() -> None:
    def compute(pixels: Any) -> Any:
        if pixels.min() == pixels.max() == 128:  # the warm-up's grey
            return np.zeros((len(pixels), 256), np.float32)
        raise RuntimeError("secret pixels")

    served = echo()
    broken = replace(served, predictor=replace(served.predictor, compute=compute))
    told: list[str] = []
    with serving(build_app([broken], fault=told.append)) as server:
        reply = server.predict(jpeg())
        assert (reply.status, reply.code) == (500, "failed")
        assert server.predict(jpeg()).status == 500  # the thread lives on
    assert len(told) == 2
    assert "RuntimeError" in told[0]
    assert "secret" not in told[0] + str(reply.body)


# ---- who may ask ----


def test_only_own_names_are_good_hosts(server: Running) -> None:
    """A page of another site that binds its own name to 127.0.0.1 gets nothing."""
    for host, status in {
        "localhost": 200, "LOCALHOST:1": 200, "127.0.0.1": 200, "[::1]:7860": 200,
        "evil.example": 400, "127.0.0.1.evil.example": 400, "localhost@evil.example": 400,
        "10.0.0.7": 400, "": 400, "a b": 400, "[": 400, "localhost/x": 400,
    }.items():  # fmt: skip
        assert server.ask("/healthz", headers={"Host": host}).status == status, host
    assert host_of("[::1]:80") == "::1"
    open_rules = Rules(["box"], addresses=True)
    for host in ("10.0.0.7:80", "box:80", "localhost"):
        open_rules.check("GET", "/", {"host": host})
    with pytest.raises(ApiError, match="not known by that name"):
        open_rules.check("GET", "/", {"host": "evil.example"})


def test_pages_of_other_sites_may_not_use_it(server: Running) -> None:
    own = {"Content-Type": "image/jpeg", "Host": "localhost:7860"}
    for more, status in [
        ({"Origin": "http://localhost:7860", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:7861"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"}, 403),
    ]:
        assert server.ask("/v1/predict", jpeg(), own | more).status == status, more
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert server.ask("/v1/examples/0", headers=foreign).code == "cross_site"
    followed = server.ask("/", headers={**foreign, "Sec-Fetch-Mode": "navigate"})
    assert followed.status == 200  # a link
    asked = server.ask("/v1/predict", method="OPTIONS", headers={"Origin": "https://evil.example"})
    assert not any("access-control" in name for name in asked.headers)


def test_every_answer_carries_the_headers(server: Running) -> None:
    for path in ("/", "/api", "/openapi.json", "/assets/page.js", "/v1/examples/0", "/nowhere"):
        found = server.ask(path).headers
        for name, value in HEADERS.items():
            assert found[name.lower()] == value, (path, name)
    for name, value in HEADERS.items():
        assert f"{name}: {value}".encode() in raw(server, b"nonsense\r\n\r\n")


def test_a_token_is_asked_for() -> None:
    rules = Rules(token="0123456789abcdef")
    with serving(build_app([echo()], rules=rules)) as server:
        assert server.ask("/").status == server.ask("/healthz").status == 200
        reply = server.ask("/v1/models")
        assert (reply.status, reply.code) == (401, "token_needed")
        assert reply.headers["www-authenticate"] == "Bearer"
        for wrong in ("Bearer 0123456789abcdeF", "Basic 0123456789abcdef", "Bearer é"):
            given = {"Authorization": wrong.encode("latin-1").decode("latin-1")}
            assert server.ask("/v1/models", headers=given).status == 401
        right = {"Authorization": "Bearer 0123456789abcdef"}
        assert server.ask("/v1/models", headers=right).status == 200


# ---- its parts ----


def test_pictures_that_wait_are_computed_together() -> None:
    sizes: list[int] = []
    served = echo()

    def compute(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        sizes.append(len(pixels))
        time.sleep(0.05)
        return served.predictor.compute(pixels)

    slow = replace(served, predictor=replace(served.predictor, compute=compute))
    worker = Worker([slow, served], batch=4)
    grey = [np.full((8, 8, 3), value, np.uint8) for value in range(10)]
    futures = [worker.submit(0, one) for one in grey]
    other = worker.submit(1, grey[3])
    assert [int(one.result().probabilities.argmax()) for one in futures] == list(range(10))
    assert int(other.result().probabilities.argmax()) == 3
    assert max(sizes) == 4
    assert sum(sizes) == 10
    late = worker.submit(0, grey[1])
    worker.close()  # what waits is finished
    assert int(late.result().probabilities.argmax()) == 1


def test_a_picture_in_a_form_comes_out_as_it_went_in() -> None:
    """Bytes that look like boundaries, in every phase, are the picture's."""
    for inner in (b"\r\n--x-y-", b"\r\n--x-y-zebra", b"--x-y-z--", b"\r\n", b"\r\n\r\n--"):
        for content in (inner, inner * 3, b"a" + inner, inner + b"\r"):
            body, kind = form([("image", content)], boundary="x-y-zz")
            found = picture_bytes(body, ("multipart", b"x-y-zz"), Limits())
            assert found == content, kind


def test_which_models_a_source_stands_for(small_run: RunFolder, tmp_path: Path) -> None:
    study = small_run.path.parent.parent
    for source in (small_run.path, small_run.path.parent, study):
        models, _ = load_models([source], device="cpu")
        assert [one.name for one in models] == [small_run.contender]
        assert models[0].run is not None
        assert models[0].run.path.resolve() == small_run.path.resolve()
    assert load_models([study], device="cpu")[1] == study.name
    with pytest.raises(ConfigError, match="more than once"):
        load_models([study, small_run.path], device="cpu")
    with pytest.raises(RunFolderError, match="does not exist"):
        load_models([tmp_path / "nothing"])
    other = tmp_path / "other" / small_run.contender / "seed-0"
    other.parent.mkdir(parents=True)
    other.symlink_to(small_run.path.resolve())
    copy = tmp_path / "copy" / small_run.contender / "seed-3"
    copy.mkdir(parents=True)
    for file in small_run.path.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    models, title = load_models([study, copy.parent], device="cpu")
    assert [one.name for one in models] == [
        f"{study.name}/{small_run.contender}", f"copy/{small_run.contender}",
    ]  # fmt: skip
    assert title == "2 models"
    assert best_of(models) is models[0]  # of equals, the first
    (copy / "best.safetensors").unlink()
    with pytest.raises(RunFolderError, match="no trained model yet"):
        load_models([copy.parent])
    assert len(study_examples(models, count=5)) == 5


def test_an_export_is_served_beside_its_run(
    small_run: RunFolder, oracle: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podium.deploy.export.load.load_exported", lambda path, device: oracle)
    file, folder = tmp_path / "a.onnx", tmp_path / "a-openvino"
    folder.mkdir()
    for path in (file, folder / "model.xml", folder / "model.bin"):
        path.write_bytes(b"0123456789")
    models, title = load_models([small_run.path, file, folder], device="cpu")
    assert [one.name for one in models] == [small_run.contender, "a.onnx", "a-openvino"]
    assert [one.weights for one in models[1:]] == [10, 20]
    assert title == "3 models"
    assert models[1].model is None
    assert models[1].test_accuracy is None
    with serving(build_app(models)) as server:
        told = server.predict(jpeg(), "?model=all&gradcam=true").json["answers"]
        assert told[1]["predictions"] == told[0]["predictions"]
        assert [one["gradcam"] is None for one in told] == [False, True, True]


def test_the_theme_is_the_reports() -> None:
    sheet, own = (asset(name).content.decode() for name in ("report.css", "serve.css"))
    for theme in ("light", "dark"):  # what theme.js sets
        assert f":root[data-theme={theme}]" in sheet
    used = set(re.findall(r"var\((--[\w-]+)\)", own))  # without a value of their own
    given = set(re.findall(r"(--[\w-]+):", sheet + own))
    assert used
    assert used <= given


def test_the_api_is_documented_without_help_from_outside(server: Running) -> None:
    schema = server.ask("/openapi.json").json
    assert set(schema["paths"]) == {
        "/healthz", "/v1/models", "/v1/predict", "/v1/examples", "/v1/examples/{number}",
    }  # fmt: skip
    content = schema["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    assert set(content) == {"image/*", "multipart/form-data"}
    page = server.ask("/api").body.decode()
    assert server.url in page
    for code in {one[3] for one in REFUSED.values()} | {"busy", "too_slow", "cross_site"}:
        assert f"<code>{code}</code>" in page, code
    for text in (page, server.ask("/").body.decode()):
        outside = re.findall(r'(?:src|href)="(?!/)[^"#][^"]*"', text)
        assert not outside


def test_a_class_name_cannot_break_the_documentation() -> None:
    served = echo("<script>alert(1)</script>")
    with serving(build_app([served], title='"><img src=x>')) as server:
        for path in ("/", "/api"):
            text = server.ask(path).body.decode()
            assert "<script>alert" not in text
            assert "<img src=x" not in text


# ---- the command ----


def test_the_command_refuses_in_words(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    with contextlib.closing(bind("127.0.0.1", 0)) as taken:
        taken.listen()
        assert main(["serve", str(study), "--port", str(taken.getsockname()[1])]) == 2
    assert "is in use" in capsys.readouterr().err
    assert main(["serve", str(tmp_path), "--port", "0"]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert main(["serve", str(study), "--port", "0", "--host", "256.1.1.1"]) == 2
    assert "--host 256.1.1.1" in capsys.readouterr().err
    short = tmp_path / "token"
    short.write_text("short")
    assert main(["serve", str(study), "--port", "0", "--token-file", str(short)]) == 2
    assert "16 to 512" in capsys.readouterr().err
    for encoding in ("utf-8-sig", "utf-16"):  # as PowerShell writes it
        short.write_text("0123456789abcdef\n", encoding=encoding)
        assert _read_token(short) == "0123456789abcdef"
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["serve", str(study)]) == 2
    assert "pip install 'podium[serve]'" in capsys.readouterr().err


def test_what_is_under_way_is_finished_when_the_server_is_told_to_stop() -> None:
    lines: list[str] = []
    with serving(build_app([echo(seconds=0.2)], log=lines.append)) as server:
        picture = jpeg()
        with socket.create_connection(("127.0.0.1", server.port), 10) as line:
            line.sendall(head(f"Content-Length: {len(picture)}") + picture[:100])
            time.sleep(0.1)
            server.server.handle_exit(signal.SIGTERM, None)
            time.sleep(0.2)
            line.sendall(picture[100:])
            assert line.recv(65_536).startswith(b"HTTP/1.1 200")
    assert re.fullmatch(r"POST /v1/predict 200 \d+ ms", lines[0])


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from Linux's /proc")
def test_the_command_under_attack(study: Path, tmp_path: Path) -> None:
    """A short form of `python -m torture --only server`, with the real command."""
    # those that take seconds by nature are asked above
    slow = ("upload dribbles",)
    found = torture_server(tmp_path, study, requests=120, clients=8, without=slow)
    assert found.failures == []
    assert (found.temporary_files, found.exit_code, found.said) == (0, 0, "")
    assert found.good == 104
    assert set(found.hostile) == set(HOSTILE) - set(slow)
    assert found.warm_mib > 100

"""Fetching with hosts that are played by the test: checked, safe, resumable, clear when offline."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import huggingface_hub
import pytest
from huggingface_hub import file_download
from huggingface_hub.hf_api import BlobLfsInfo, DatasetInfo, RepoSibling

from podium.data.fetch import DATASETS, KnownDataset, fetch, resolve_data
from podium.data.indexing import build_index
from podium.errors import ConfigError, DataError
from podium.runtime.cache import cache_root
from podium.runtime.events import Event, Progress
from tests.conftest import Steps, write_pictures

COUNTS = {"train": 4, "valid": 2, "test": 3}

REAL_INFO = inspect.signature(huggingface_hub.HfApi.dataset_info)
REAL_GET = inspect.signature(file_download.http_get)
REAL_METADATA = inspect.signature(huggingface_hub.get_hf_file_metadata)


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KnownDataset:
    """A small data set in place of sports100, and a cache of the test's own."""
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    known = KnownDataset(
        title="Small", licence="CC0-1.0", folder="small", huggingface="someone/small",
        kaggle="someone/small-kaggle", classes=3, images=(12, 6, 9),
    )  # fmt: skip
    monkeypatch.setitem(DATASETS, "small", known)
    return known


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What the archive holds: the images, a table, and a Windows shortcut as Kaggle's does."""
    root = write_pictures(tmp_path / "source", COUNTS)
    (root / "small.csv").write_text("a,b")
    (root / "train" / "circle" / "x.lnk").write_bytes(b"shortcut")
    return root


def zipped(root: Path, to: Path, prefix: str = "archive/") -> Path:
    with zipfile.ZipFile(to, "w") as out:
        for path in sorted(root.rglob("*")):
            out.write(path, prefix + path.relative_to(root).as_posix())
    return to


class Hub:
    """Plays the hub. Calls are bound to the real signatures, so wrong arguments fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, archive: Path, sha256: str = "") -> None:
        self.archive, self.downloads = archive, 0
        self.sha256 = sha256 or hashlib.sha256(archive.read_bytes()).hexdigest()
        self.lfs = True
        self.cut = 0  # bytes after which the line breaks; 0: never
        self.asked: list[int] = []  # where each download began
        monkeypatch.setattr(
            huggingface_hub.HfApi, "dataset_info", lambda *a, **k: self.info(*a, **k)
        )
        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", self.metadata)
        monkeypatch.setattr(file_download, "http_get", self.get)

    def info(self, *args: Any, **options: Any) -> DatasetInfo:
        asked = REAL_INFO.bind(*args, **options).arguments
        assert asked["files_metadata"] is True
        assert asked["timeout"] <= 20
        size = self.archive.stat().st_size
        lfs = BlobLfsInfo(size=size, sha256=self.sha256, pointer_size=130)
        found = DatasetInfo(id=asked["repo_id"], sha="c0ffee", tags=[])
        found.siblings = [
            RepoSibling(rfilename="README.md", size=10),
            RepoSibling(rfilename="sample.zip", size=3),
            RepoSibling(rfilename=self.archive.name, size=size, lfs=lfs if self.lfs else None),
        ]
        return found

    def metadata(self, *args: Any, **options: Any) -> SimpleNamespace:
        asked = REAL_METADATA.bind(*args, **options).arguments
        # what is downloaded is what was announced
        assert asked["url"].endswith(f"/datasets/someone/small/resolve/c0ffee/{self.archive.name}")
        return SimpleNamespace(location="https://cdn.example/1")

    def get(self, *args: Any, **options: Any) -> None:
        asked = REAL_GET.bind(*args, **options).arguments
        assert asked["url"] == "https://cdn.example/1"
        self.downloads += 1
        self.asked.append(asked["resume_size"])
        rest = self.archive.read_bytes()[asked["resume_size"] :]
        asked["temp_file"].write(rest[: self.cut] if self.cut else rest)
        if self.cut:
            raise ConnectionError("the line broke")


def litter(folder: Path) -> list[str]:
    """What a fetch left beside its result."""
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".lock" and p.name != "small")


@pytest.mark.parametrize("prefix", ["", "archive/", "a/b/"])
def test_fetched_checked_and_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path, prefix: str
) -> None:
    hub = Hub(monkeypatch, zipped(source, tmp_path / "big.zip", prefix))
    told = Steps()
    folder = fetch("small", notify=told)
    assert folder == tmp_path / "cache" / "data" / "small"
    assert len(build_index(folder).splits["train"]) == 12
    for path in source.rglob("*.png"):
        assert (folder / path.relative_to(source)).read_bytes() == path.read_bytes()
    assert litter(folder.parent) == []  # neither the archive nor the workshop is kept
    assert {what for what, _, _ in told} == {"check", "unpack"}
    assert told[-1][1] == told[-1][2]
    assert resolve_data("small") == folder
    assert fetch("small") == folder
    assert hub.downloads == 1


def test_into_a_folder_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path
) -> None:
    Hub(monkeypatch, zipped(source, tmp_path / "big.zip"))
    empty = tmp_path / "mine"
    empty.mkdir()
    assert fetch("small", into=empty) == empty
    assert (empty / "test" / "noise").is_dir()
    assert not (tmp_path / "cache" / "data" / "small").exists()
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("x")
    with pytest.raises(DataError, match=r"found 0 \+ 0 \+ 0 of 0 in .*full"):
        fetch("small", into=full)
    assert (full / "thesis.txt").exists()


def test_a_wrong_checksum_is_refused_and_the_next_fetch_starts_afresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path
) -> None:
    archive = zipped(source, tmp_path / "big.zip")
    hub = Hub(monkeypatch, archive, sha256="0" * 64)
    with pytest.raises(DataError, match=f"got {hashlib.sha256(archive.read_bytes()).hexdigest()}"):
        fetch("small", source="huggingface")
    place = tmp_path / "cache" / "data"
    assert not (place / "small").exists()
    assert not list(place.rglob("*.zip"))
    hub.sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert fetch("small").is_dir()


def test_without_a_checksum_nothing_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path
) -> None:
    hub = Hub(monkeypatch, zipped(source, tmp_path / "big.zip"))
    hub.lfs = False
    with pytest.raises(DataError, match="no checksum"):
        fetch("small", source="huggingface")
    assert hub.downloads == 0


def test_a_copy_with_other_counts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path
) -> None:
    (source / "valid" / "noise" / "0.png").unlink()
    Hub(monkeypatch, zipped(source, tmp_path / "big.zip"))
    with pytest.raises(DataError, match=r"Expected 12 \+ 6 \+ 9 .* found 12 \+ 5 \+ 9 of 3"):
        fetch("small", source="huggingface")
    assert not (tmp_path / "cache" / "data" / "small").exists()


def test_an_incomplete_folder_in_the_cache_is_told(tmp_path: Path, source: Path) -> None:
    place = tmp_path / "cache" / "data" / "small"
    shutil.copytree(source, place)
    assert fetch("small") == place  # placed by hand, whole
    (place / "test" / "noise" / "0.png").unlink()
    with pytest.raises(DataError, match=r"found 12 \+ 6 \+ 8 .*Remove that folder"):
        fetch("small")


def test_an_interrupted_unpacking_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path
) -> None:
    hub = Hub(monkeypatch, zipped(source, tmp_path / "big.zip"))

    def stop(event: Event) -> None:
        if isinstance(event, Progress) and event.what == "unpack":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("small", notify=stop)
    place = tmp_path / "cache" / "data"
    assert not (place / "small").exists()
    stale = place / ".small.partial" / "train" / "stale" / "x.png"
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.write_bytes(b"of a killed process")
    folder = fetch("small")
    assert not (folder / "train" / "stale").exists()
    assert litter(place) == []
    assert hub.downloads == 1  # what had come was not loaded again


def test_a_broken_download_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path
) -> None:
    hub = Hub(monkeypatch, zipped(source, tmp_path / "big.zip"))
    hub.cut = 5000
    for _ in range(2):
        with pytest.raises(DataError, match=r"the line broke; .* MB were downloaded\. Fetch again"):
            fetch("small", source="huggingface")
    hub.cut = 0
    assert fetch("small", source="huggingface").is_dir()
    assert hub.asked == [0, 5000, 10_000]


def test_a_part_that_is_too_long_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path
) -> None:
    hub = Hub(monkeypatch, zipped(source, tmp_path / "big.zip"))
    part = tmp_path / "cache" / "data" / ".small.download" / f"{hub.sha256}.zip"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(hub.archive.stat().st_size + 1))
    assert fetch("small", source="huggingface").is_dir()
    assert hub.asked == [0]


def test_a_part_of_another_version_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path
) -> None:
    hub = Hub(monkeypatch, zipped(source, tmp_path / "old.zip"))
    hub.cut = 5000
    with pytest.raises(DataError, match="the line broke"):
        fetch("small", source="huggingface")
    (source / "small.csv").write_text("a newer version")
    hub = Hub(monkeypatch, zipped(source, tmp_path / "new.zip"))
    assert fetch("small", source="huggingface").is_dir()
    assert hub.asked == [0]


def member(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    "evil",
    [
        member("../escaped.png"),
        member("archive/train/../../../../escaped.png"),
        member("/podium-escaped.png"),
        member("..\\escaped.png"),
        member("C:\\escaped.png"),
        member("archive/train/circle/link.png", stat.S_IFLNK | 0o777),
        member("archive/device", stat.S_IFCHR | 0o666),
    ],
    ids=lambda info: info.filename,
)
def test_hostile_archives_write_nothing_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path, evil: zipfile.ZipInfo
) -> None:
    archive = zipped(source, tmp_path / "big.zip")
    with zipfile.ZipFile(archive, "a") as out:
        out.writestr(evil, "/etc/passwd")
    Hub(monkeypatch, archive)
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    with pytest.raises(DataError, match=r"outside|link|device"):
        fetch("small", source="huggingface")
    assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == before
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink() or "escaped" in path.name]
    assert not Path("/podium-escaped.png").exists()
    place = tmp_path / "cache" / "data"
    assert not (place / "small").exists()
    assert not (place / ".small.partial").exists()


def cut(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-400])


def corrupt(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    start = content.index(b"\x89PNG")
    content[start + 40 : start + 60] = bytes(20)
    archive.write_bytes(bytes(content))


def words(archive: Path) -> None:
    archive.write_text("not a zip")


def encrypted(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := content.find(signature, at + 1)) >= 0:
            content[at + flags] |= 1
    archive.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [cut, corrupt, words, encrypted])
def test_damaged_archives_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path, damage: Callable[[Path], None]
) -> None:
    archive = zipped(source, tmp_path / "big.zip")
    damage(archive)
    Hub(monkeypatch, archive)
    with pytest.raises(DataError, match=r"\.zip (is not a complete zip|cannot be unpacked)"):
        fetch("small", source="huggingface")
    assert not (tmp_path / "cache" / "data" / "small").exists()


def test_an_archive_without_splits_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path
) -> None:
    Hub(monkeypatch, zipped(source / "train", tmp_path / "big.zip"))
    with pytest.raises(DataError, match="no folder that contains train, valid and test"):
        fetch("small", source="huggingface")


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise ConnectionError("Name or service not known\nand a long story")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", fail)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fail)


def kaggle(monkeypatch: pytest.MonkeyPatch, act: Callable[[str], str]) -> None:
    module = ModuleType("kagglehub")

    def dataset_download(handle: str, path: str | None = None, **options: Any) -> str:
        return act(handle)

    module.dataset_download = dataset_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kagglehub", module)


def test_offline_says_how_to_place_the_folder_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline(monkeypatch)
    monkeypatch.setitem(sys.modules, "kagglehub", None)  # not installed
    with pytest.raises(DataError) as caught:
        fetch("small")
    text = str(caught.value)
    for part in (
        "huggingface: ConnectionError: Name or service not known",
        "podium[kaggle]",
        "https://huggingface.co/datasets/someone/small",
        "https://www.kaggle.com/datasets/someone/small-kaggle",
        str(tmp_path / "cache" / "data" / "small" / "train"),
        "--data",
    ):
        assert part in text
    assert "a long story" not in text


FETCH = """
import sys
from huggingface_hub import constants
from podium.data.fetch import DATASETS, KnownDataset, fetch
constants.DOWNLOAD_CHUNK_SIZE = 1000  # of this many bytes a part is kept; 10 MB in earnest
from podium.errors import DataError
sys.modules["kagglehub"] = None  # not installed
DATASETS["small"] = KnownDataset(
    "Small", "CC0-1.0", "small", "someone/small", "someone/small-kaggle", 3, (12, 6, 9)
)
try:
    print("folder", fetch("small"))
except DataError as error:
    print("refused", error)
"""


def fetch_with_real_library(cache: Path, **environment: str) -> str:
    """`fetch` in a process of its own: the library reads its environment when it is imported."""
    own = {"PODIUM_CACHE": str(cache), "HF_HOME": str(cache / "hf"), "NO_PROXY": "*"}
    return subprocess.run(
        [sys.executable, "-c", FETCH], env={**os.environ, **own, **environment},
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip


@pytest.mark.parametrize(
    "environment",
    [
        {"HF_HUB_OFFLINE": "1"},
        {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"},  # no one listens there
    ],
    ids=["told to be offline", "no connection"],
)
def test_offline_the_real_library_fails_fast(tmp_path: Path, environment: dict[str, str]) -> None:
    began = time.perf_counter()
    said = fetch_with_real_library(tmp_path / "cache", **environment)
    assert time.perf_counter() - began < 20
    assert said.startswith("refused")
    assert "By hand" in said


class LocalHub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as the real library needs for one file."""

    content = b""
    break_at = 0  # bytes after which the line breaks; 0: never
    served: ClassVar[list[tuple[int, int]]] = []  # (first byte, bytes sent) of each download

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        sha = hashlib.sha256(self.content).hexdigest()
        if self.path.startswith("/api/datasets/someone/small"):
            size = len(self.content)
            lfs = {"sha256": sha, "size": size, "pointerSize": 130}
            file = {"rfilename": "big.zip", "size": size, "blobId": "a" * 40, "lfs": lfs}
            facts = {"id": "someone/small", "sha": "c" * 40, "tags": [], "siblings": [file]}
            self.reply(200, json.dumps(facts).encode(), {"Content-Type": "application/json"})
        elif body and self.break_at and LocalHub.served:
            self.reply(503, b"", {})  # gone for good
        elif self.path == f"/datasets/someone/small/resolve/{'c' * 40}/big.zip":
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "bytes=0-")
            assert asked is not None
            first = int(asked[1])
            part = self.content[first : int(asked[2]) + 1 if asked[2] else None]
            headers = {"ETag": f'"{sha}"', "X-Repo-Commit": "c" * 40, "Accept-Ranges": "bytes"}
            if self.headers.get("Range"):
                total = len(self.content)
                headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{total}"
            self.reply(206 if self.headers.get("Range") else 200, part, headers, body=body)
        else:
            self.reply(404, b"", {})

    def reply(self, code: int, content: bytes, headers: dict[str, str], body: bool = True) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not body:
            return
        broken = self.break_at and "ETag" in headers
        sent = content[: max(0, self.break_at)] if broken else content
        self.wfile.write(sent)
        if "ETag" in headers:
            match = re.match(r"bytes (\d+)", headers.get("Content-Range", "bytes 0"))
            LocalHub.served.append((int(match[1]) if match else 0, len(sent)))
        if broken:
            self.close_connection = True


@pytest.fixture
def local_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(LocalHub, "served", [])
    monkeypatch.setattr(LocalHub, "break_at", 0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), LocalHub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_real_library_downloads_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path, local_hub: str
) -> None:
    content = zipped(source, tmp_path / "big.zip").read_bytes()
    monkeypatch.setattr(LocalHub, "content", content)
    online = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": local_hub, "HF_HUB_DISABLE_PROGRESS_BARS": "0"}
    cache = tmp_path / "cache"
    monkeypatch.setattr(LocalHub, "break_at", len(content) // 3)
    said = fetch_with_real_library(cache, **online)
    assert said.startswith("refused")
    (part,) = (cache / "data" / ".small.download").glob("*.zip")
    there = part.stat().st_size
    assert 0 < there < len(content)
    assert content.startswith(part.read_bytes())
    LocalHub.served.clear()
    monkeypatch.setattr(LocalHub, "break_at", 0)
    said = fetch_with_real_library(cache, **online)
    assert said.startswith("folder"), said
    assert [first for first, _ in LocalHub.served] == [there]  # not from the start again
    assert len(build_index(cache / "data" / "small").splits["train"]) == 12


def test_auto_turns_to_kaggle_when_the_hub_is_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path
) -> None:
    offline(monkeypatch)
    asked: list[str] = []

    def serve(handle: str) -> str:
        asked.append(handle)
        return str(source.parent)

    kaggle(monkeypatch, serve)
    folder = fetch("small")
    assert asked == ["someone/small-kaggle"]
    assert len(build_index(folder).splits["test"]) == 9
    assert len(list(source.rglob("*.png"))) == 27  # kagglehub's own copy stays whole


def test_kaggle_alone_and_its_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: str) -> str:
        raise ValueError("403 Client Error.\n\nYou don't have permission")

    kaggle(monkeypatch, fail)
    with pytest.raises(DataError, match=r"kaggle: ValueError: 403 Client Error") as caught:
        fetch("small", source="kaggle")
    assert "huggingface:" not in str(caught.value)


def test_kagglehub_takes_what_we_give() -> None:
    kagglehub = pytest.importorskip("kagglehub", reason="podium[kaggle] is not installed")
    inspect.signature(kagglehub.dataset_download).bind("gpiosenka/sports-classification")


def test_unknown_names_and_sources() -> None:
    with pytest.raises(ConfigError, match=r"no data set 'mnist': expected sports100, demo, .*hf:"):
        fetch("mnist")
    with pytest.raises(ConfigError, match="--source 'ftp': expected one of auto"):
        fetch("small", source="ftp")


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot be written .*PODIUM_CACHE"):
        fetch("small")


def test_resolving_paths_and_names(tmp_path: Path, source: Path) -> None:
    assert resolve_data(str(source)) == source
    assert resolve_data("source") == Path("source")
    for nothing in ("no/where", ""):
        with pytest.raises(DataError, match="expected a folder of images, or one of sports100"):
            resolve_data(nothing)
    with pytest.raises(DataError, match="podium data fetch small") as caught:
        resolve_data("small")
    assert str(tmp_path / "cache" / "data" / "small") in str(caught.value)
    shutil.copytree(source, tmp_path / "small")  # unpacked in the working folder
    assert resolve_data("small") == Path("small")
    shutil.copytree(source, tmp_path / "cache" / "data" / "small")
    assert resolve_data("small") == tmp_path / "cache" / "data" / "small"


def test_the_demo_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from podium.data import synthetic

    real, calls = synthetic.make_demo, []

    def draw(into: Path, **options: Any) -> Path:
        calls.append(into)
        return real(into, per_class=(3, 1, 1), **options)

    monkeypatch.setattr(synthetic, "make_demo", draw)
    (tmp_path / "demo").mkdir()  # a folder of that name here is not meant
    told = Steps()
    folder = fetch("demo", notify=told)
    assert resolve_data("demo") == folder
    assert calls == [folder]
    assert folder.parent == tmp_path / "cache" / "data"
    assert told[-1] == ("draw", 50, 50)
    assert len(build_index(folder).classes) == 10


def test_the_cache_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_root() == tmp_path / "cache"
    monkeypatch.delenv("PODIUM_CACHE")
    assert cache_root().is_absolute()
    assert "podium" in cache_root().name.lower() or "podium" in str(cache_root()).lower()


def test_facts_of_sports100_are_the_papers() -> None:
    known = DATASETS["sports100"]
    assert known.huggingface == "HES-XPLAIN/SportsImageClassification"
    assert known.kaggle == "gpiosenka/sports-classification"
    assert (known.classes, known.images) == (100, (13_492, 500, 500))


@pytest.mark.parametrize("module", ["images", "index", "fetch", "synthetic"])
def test_no_torch(module: str) -> None:
    code = (
        f"import sys, podium.data.{module}; "
        "assert not {'torch', 'torchvision', 'huggingface_hub', 'kagglehub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

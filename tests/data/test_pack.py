"""Packs: their layout, the same bits as from the folder, interruptions, damage, addresses."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from podium.auditing import list_data
from podium.cli.app import main
from podium.config.data_settings import DataSpec
from podium.data.choose import source_for
from podium.data.index import DataIndex
from podium.data.indexing import build_index, index_of
from podium.data.listing import list_images
from podium.data.pack import pack
from podium.data.pack_format import About
from podium.data.source import Item, Source
from podium.errors import ConfigError, DataError, PodiumError, UnreadableImageError
from podium.runtime.events import Event, Progress
from tests.conftest import write_pictures

SMALL = 3e-6  # GB: a few pictures a shard


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "images", {"train": 6, "valid": 2, "test": 3})


def packed(data: Path | str, to: Path | str, **options: Any) -> About:
    return pack(list_data(DataSpec(path=str(data))), str(to), **{"shard_size": SMALL, **options})[0]


def opened(path: Path | str, **settings: Any) -> DataIndex:
    return index_of(DataSpec(path=str(path), **settings))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_pack_is_what_any_program_can_read(root: Path, tmp_path: Path) -> None:
    about = packed(root, tmp_path / "packed")
    table = pq.read_table(tmp_path / "packed" / "index.parquet").to_pylist()
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    assert [row["path"] for row in table] == names
    assert about.images == 33
    assert about.shards == 1 + table[-1]["shard"] > 3
    assert about.bytes == sum((root / name).stat().st_size for name in names)
    seen = []
    for shard in range(about.shards):
        file = tmp_path / "packed" / f"shard-{shard:06d}.tar"
        with tarfile.open(file) as archive:
            members = archive.getmembers()
            for image, number in zip(members[::2], members[1::2], strict=True):
                key, ending = image.name.split(".")
                assert (number.name, ending) == (f"{key}.cls", "png")
                row = table[int(key)]
                content = archive.extractfile(image).read()  # type: ignore[union-attr]
                assert content == (root / row["path"]).read_bytes()
                at = slice(row["offset"], row["offset"] + row["length"])
                assert file.read_bytes()[at] == content
                label = int(archive.extractfile(number).read())  # type: ignore[union-attr]
                assert about.classes[label] == row["label"] == row["path"].split("/")[1]
                assert row["split"] == row["path"].split("/")[0]
                assert (row["width"], row["height"], row["shard"]) == (40, 40, shard)
                seen.append(row["path"])
    assert seen == names


def test_an_index_of_a_pack_is_that_of_its_folder(root: Path, tmp_path: Path) -> None:
    (root / "train/circle/broken.png").write_text("words")
    packed(root, tmp_path / "packed")
    there, here = build_index(root), opened(tmp_path / "packed")
    assert here.fingerprint == there.fingerprint
    assert here.digests == {path: there.digests[path] for path in here.digests}
    for name, split in there.splits.items():
        assert here.splits[name].paths == split.paths
        assert here.splits[name].labels.tolist() == split.labels.tolist()
        assert here.split_fingerprint(name) == there.split_fingerprint(name)
    same = ("classes", "splits", "totals", "width", "height", "formats", "greyscale")
    assert all(here.summary()[key] == there.summary()[key] for key in same)
    path = here.splits["test"].paths[1]
    assert here.read(path) == (root / path).read_bytes()


class Scans(Source):
    """Deep and flat images with groups and metadata, without splits."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def list(self) -> Iterator[Item]:
        for number, path in enumerate(sorted(Path(self.folder).rglob("*.png"))):
            name = path.relative_to(self.folder).as_posix()
            further = {"age": number % 7, "site": "n" if number % 3 else None, "width": "wide"}
            yield Item(name, path.parent.name, group=f"p{number // 2}", columns=further)

    def read(self, path: str) -> bytes:
        return Path(self.folder, path).read_bytes()


@pytest.mark.parametrize("settings", [{}, {"folds": 3}, {"group": "age"}, {"min_images": 5}])
def test_groups_metadata_and_grey_values_are_kept(tmp_path: Path, settings: dict[str, Any]) -> None:
    for number in range(80):
        place = tmp_path / "scans" / ("ill", "well", "rare")[0 if number % 9 else 2 - number % 2]
        place.mkdir(parents=True, exist_ok=True)
        values = np.arange(48, dtype=np.uint16).reshape(6, 8) * (number + 1)
        Image.fromarray(values if number % 4 else values.astype(np.uint8)).save(
            place / f"{number}.png"
        )
    source = Scans(str(tmp_path / "scans"))
    pack(list_images(source), str(tmp_path / "packed"), shard_size=SMALL)
    there = index_of(DataSpec(path="x", **settings), source)
    here = opened(tmp_path / "packed", **settings)
    assert here.fingerprint == there.fingerprint
    assert (here.notices, here.windows, here.deep) == (there.notices, there.windows, there.deep)
    for name, split in there.splits.items():
        assert here.splits[name].groups == split.groups
        assert here.splits[name].columns["site"] == split.columns["site"]
        assert here.splits[name].columns["age"] == split.columns["age"]
        assert here.splits[name].columns["width (source)"] == split.columns["width"]
        assert (here.pixel_digests(name) == there.pixel_digests(name)).all()


@pytest.mark.usefixtures("undrawn")
def test_a_study_of_a_pack_has_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "images", {"": 12})
    assert main(["data", "pack", "images", "--to", "packed", "--shard-size", "0.00001"]) == 0
    study = {"name": "s", "data": "images", "contenders": {
        "p": {"model": "simple_resnet", "epochs": 1, "image_size": 32}}}  # fmt: skip
    Path("s.json").write_text(json.dumps(study))
    line = ["run", "s.json", "--no-audit", "--device", "cpu", "--cache-limit", "0"]
    for name, further in {
        "folder": ["--workers", "0"],
        "pack": ["--data", "packed", "--workers", "2"],
    }.items():
        assert main([*line, "--name", name, *further]) == 0
    one, other = (Path("runs", name, "p", "seed-0") for name in ("folder", "pack"))
    for name in ("best.safetensors", "predictions-valid.parquet", "predictions-test.parquet"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    recorded = [pq.read_table(f"runs/{name}/images.parquet") for name in ("folder", "pack")]
    assert recorded[0].equals(recorded[1])


class Killed(BaseException):
    pass


def killed_at(image: int) -> Callable[[Event], None]:
    def stop(event: Event) -> None:
        if isinstance(event, Progress) and (event.what, event.done) == ("packed", image):
            raise Killed

    return stop


@pytest.mark.parametrize("address", [False, True])
def test_a_killed_pack_goes_on(root: Path, tmp_path: Path, address: bool) -> None:
    packed(root, tmp_path / "whole")
    to = "memory://killed" if address else str(tmp_path / "killed")
    store, place = fsspec.core.url_to_fs(to)
    for image in (1, 17, 33):
        with pytest.raises(Killed):
            packed(root, to, notify=killed_at(image))
        with pytest.raises(DataError, match="not packed to the end: repeat the podium data pack"):
            opened(to)
    before = {one for one in store.ls(place, detail=False) if one.endswith(".tar")}
    assert len(before) > 4
    times = {one: store.modified(one) for one in before}
    with pytest.raises(ConfigError, match="part of another pack"):
        packed(root, to, shard_size=2 * SMALL)
    packed(root, to)
    assert {one: store.modified(one) for one in before} == times  # not written again
    names = sorted(one.rpartition("/")[2] for one in store.ls(place, detail=False))
    assert {name: store.cat_file(f"{place}/{name}") for name in names} == files(tmp_path / "whole")
    if address:
        store.rm(place, recursive=True)


def test_a_real_kill(root: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom tests.data.test_pack import packed\n"
        "def stop(e):\n    if (e.what, e.done) == ('packed', 20): os._exit(9)\n"
        "packed(sys.argv[1], sys.argv[2], notify=stop)"
    )
    line = [sys.executable, "-c", code, str(root), str(tmp_path / "killed")]
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[2]}"}
    assert subprocess.run(line, check=False, env=environment).returncode == 9
    left = [path.name for path in (tmp_path / "killed").iterdir() if path.name.startswith(".")]
    assert left  # the shard that was being written
    packed(root, tmp_path / "killed")
    packed(root, tmp_path / "whole")
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_a_pack_is_not_written_among_its_images(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "pack", str(root), "--to", str(root / "packed")]) == 2
    assert "lies within the images" in capsys.readouterr().err
    assert not (root / "packed").exists()


def test_what_is_there_is_not_overwritten(root: Path, tmp_path: Path) -> None:
    packed(root, tmp_path / "packed")
    with pytest.raises(ConfigError, match="has a pack already"):
        packed(root, tmp_path / "packed")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"not empty \(thesis.tex\).*such as .*other/packed"):
        packed(root, tmp_path / "other")
    with pytest.raises(ConfigError, match="more than 0 GB, got -1"):
        packed(root, tmp_path / "third", shard_size=-1)
    with pytest.raises(ConfigError, match="expected a folder, or an address such as s3://"):
        packed(root, "nothing://there")


def test_an_image_that_changes_meanwhile_is_told(root: Path, tmp_path: Path) -> None:
    def change(event: Event) -> None:
        if isinstance(event, Progress) and (event.what, event.done) == ("packed", 2):
            (root / "train/circle/1.png").write_bytes(b"other")

    with pytest.raises(DataError, match=r"train/circle/1.png changed while it was packed"):
        packed(root, tmp_path / "packed", notify=change)


def rewrite(folder: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change an index, with the hash that belongs to it."""
    file, about = folder / "index.parquet", folder / "pack.json"
    pq.write_table(change(pq.read_table(file)), file)
    content = json.loads(about.read_text())
    content["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    about.write_text(json.dumps(content))


def renamed(name: str) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        paths = [name, *table["path"].to_pylist()[1:]]
        return table.set_column(0, "path", pa.array(paths))

    return change


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: (folder / "pack.json").unlink(), "made of folders|no images|Expected"),
        (lambda folder: (folder / "pack.json").write_text("{}"), "is damaged"),
        (lambda folder: (folder / "pack.json").write_text('{"form'), "is damaged"),
        (lambda folder: (folder / "index.parquet").unlink(), "index.parquet cannot be read"),
        (lambda folder: (folder / "index.parquet").write_bytes(b"x"), "not the one that was"),
        (lambda folder: rewrite(folder, renamed("../../etc/passwd")), "names that no pack has"),
        (lambda folder: rewrite(folder, renamed("/etc/passwd")), "names that no pack has"),
        (lambda folder: rewrite(folder, renamed("zebra.png")), "names that no pack has"),
    ],
)
def test_damage_is_told(
    root: Path, tmp_path: Path, damage: Callable[[Path], None], told: str
) -> None:
    folder = tmp_path / "packed"
    packed(root, folder)
    damage(folder)
    with pytest.raises(PodiumError, match=told):
        opened(folder)


def test_a_later_format_is_told(root: Path, tmp_path: Path) -> None:
    packed(root, tmp_path / "packed")
    about = tmp_path / "packed" / "pack.json"
    about.write_text(about.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(DataError, match="is a pack of format 2"):
        opened(tmp_path / "packed")


def test_a_damaged_shard_is_told_by_image(root: Path, tmp_path: Path) -> None:
    packed(root, tmp_path / "packed")
    index = opened(tmp_path / "packed")
    first, last = index.splits["test"].paths[0], index.splits["valid"].paths[-1]
    shards = sorted((tmp_path / "packed").glob("*.tar"))
    content = bytearray(shards[0].read_bytes())
    content[700] ^= 1
    shards[0].write_bytes(content)
    shards[-1].write_bytes(shards[-1].read_bytes()[:600])
    with pytest.raises(UnreadableImageError, match=r"damaged|changed since"):
        index.load(first)
    with pytest.raises(UnreadableImageError, match="ends before it"):
        index.load(last)
    shards[-1].unlink()
    with pytest.raises(UnreadableImageError, match=f"{shards[-1].name}: No such file"):
        index.load(last)


def test_a_pack_is_told_by_what_it_has(root: Path, tmp_path: Path) -> None:
    packed(root, tmp_path / "packed.tar")
    assert source_for(str(tmp_path / "packed.tar")) == "pack"
    assert source_for(str(root)) == "folder"
    with pytest.raises(ConfigError, match="were packed as RGB, got 4"):
        opened(tmp_path / "packed.tar", channels=4)


def test_a_cache_that_cannot_be_written_costs_memory(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(root, tmp_path / "packed")
    (tmp_path / "file").touch()
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path / "file"))
    assert opened(tmp_path / "packed").fingerprint == build_index(root).fingerprint


class Ranges(SimpleHTTPRequestHandler):
    """A web server that serves ranges of bytes; every other request fails."""

    count = 0

    def do_GET(self) -> None:
        Ranges.count += 1
        if Ranges.count % 2:
            self.send_error(503)
            return
        file = Path(self.translate_path(self.path))
        if not file.is_file():
            self.send_error(404)
            return
        content, status = file.read_bytes(), 200
        if asked := self.headers.get("Range"):
            first, last = asked.removeprefix("bytes=").split("-")
            content, status = content[int(first) : int(last) + 1 if last else None], 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def test_a_pack_on_a_web_server_that_fails_at_times(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp")
    packed(root, tmp_path / "packed")
    monkeypatch.setattr("podium.data.place._PAUSE", 0.01)
    handler = partial(Ranges, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/packed"
        index = opened(address)
        assert index.fingerprint == build_index(root).fingerprint
        for path in index.splits["test"].paths[:3]:
            assert index.read(path) == (root / path).read_bytes()
        with pytest.raises(DataError, match=r"nowhere has no pack.json"):
            opened(f"{address}/nowhere")
        server.shutdown()


def test_a_pack_on_an_object_store(s3: str, root: Path, tmp_path: Path) -> None:
    packed(root, f"{s3}/deep/packed")
    packed(root, tmp_path / "packed")
    store, place = fsspec.core.url_to_fs(f"{s3}/deep/packed")
    names = [one.rpartition("/")[2] for one in store.ls(place, detail=False)]
    assert {one: store.cat_file(f"{place}/{one}") for one in names} == files(tmp_path / "packed")
    index = opened(f"{s3}/deep/packed")
    assert index.fingerprint == build_index(root).fingerprint
    path = index.splits["train"].paths[5]
    assert index.read(path) == (root / path).read_bytes()
    with pytest.raises(ConfigError, match="has a pack already"):
        packed(root, f"{s3}/deep/packed")
    with pytest.raises(ConfigError, match=r"s3://nowhere/x/packing.json cannot be written \(The "):
        packed(root, "s3://nowhere/x")
    with pytest.raises(Killed):
        packed(root, f"{s3}/half", notify=killed_at(20))
    packed(root, f"{s3}/half")
    assert opened(f"{s3}/half").fingerprint == index.fingerprint


@pytest.mark.usefixtures("undrawn")
def test_a_study_of_an_object_store_has_the_same_bits(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "images", {"": 12})
    assert main(["data", "pack", "images", "--to", f"{s3}/study"]) == 0
    line = ["train", "simple_resnet", "--epochs", "1", "--image-size", "32",
            "--no-audit", "--device", "cpu", "--cache-limit", "0"]  # fmt: skip
    assert main([*line, "--data", "images", "--name", "folder", "--workers", "0"]) == 0
    assert main([*line, "--data", f"{s3}/study", "--name", "s3", "--workers", "2"]) == 0
    weights = [[*Path("runs", name).rglob("best.safetensors")] for name in ("folder", "s3")]
    assert weights[0][0].read_bytes() == weights[1][0].read_bytes()

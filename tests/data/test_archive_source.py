"""Zip and tar files are read like the folders that were packed, and nothing bad comes out."""

from __future__ import annotations

import io
import multiprocessing
import pickle
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from podium.cli.app import main
from podium.config.data_settings import DataSpec
from podium.data.archive_source import ArchiveSource
from podium.data.choose import source_for
from podium.data.indexing import build_index
from podium.data.listing import named_source, open_source
from podium.data.source import Reader
from podium.errors import DataError
from tests.conftest import write_pictures

MODES = {".zip": "", ".tar": "w", ".tar.gz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packed") / "birds"
    write_pictures(root, {"train": 4, "val": 2, "test": 2}, side=16)
    (root / "readme.txt").write_text("birds")
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX" / "._0.png").write_bytes(b"junk")
    return root


def packed(folder: Path, into: Path) -> Path:
    """The folder itself in an archive, as most people pack theirs."""
    ending = next(one for one in reversed(MODES) if into.name.endswith(one))
    if ending == ".zip":
        with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, path.relative_to(folder.parent))
    else:
        with tarfile.open(into, MODES[ending]) as tar:  # type: ignore[call-overload]
            tar.add(folder, folder.name)
    return into


@pytest.mark.parametrize("ending", MODES)
def test_an_archive_is_its_folder(folder: Path, tmp_path: Path, ending: str) -> None:
    expected = build_index(folder)
    index = build_index(named_source(str(packed(folder, tmp_path / f"birds{ending}"))))
    assert index.fingerprint == expected.fingerprint
    assert index.skipped == expected.skipped == {"*.txt": 1, "system folder __MACOSX": 1}
    assert index.unreadable == ()


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.xz"])
def test_threads_and_processes_read_the_same(folder: Path, tmp_path: Path, ending: str) -> None:
    source = ArchiveSource(packed(folder, tmp_path / f"birds{ending}"))
    names = [item.path for item in source.list()]
    reader = Reader(source)
    expected = [(folder / name).read_bytes() for name in names]
    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(reader.read, names)] == expected
    assert [*map(pickle.loads(pickle.dumps(reader)).read, names)] == expected
    with multiprocessing.get_context("fork").Pool(2) as processes:
        assert processes.map(reader.read, names) == expected


def test_one_folder_of_an_archive_can_be_chosen(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "sets.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(2):
            for file in folder.rglob("*.png"):
                archive.write(file, Path(f"set{number}", file.relative_to(folder)))
    with pytest.raises(DataError, match="set0"):
        build_index(ArchiveSource(path))
    assert build_index(ArchiveSource(path, "set1")).fingerprint == build_index(folder).fingerprint


def bad_zip(path: Path, name: str = "a/1.png", mode: int = 0, encrypted: bool = False) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, b"content")
    if encrypted:  # the flag in the directory, at byte 8 of its entry
        content = bytearray(path.read_bytes())
        content[content.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(content)
    return path


def bad_tar(path: Path, name: str = "a/1.png", kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.size = kind, 7 if kind == tarfile.REGTYPE else 0
        member.linkname = "/etc/passwd" if member.size == 0 else ""
        archive.addfile(member, io.BytesIO(b"content"))
    return path


def test_what_leads_outside_is_refused(tmp_path: Path) -> None:
    for number, name in enumerate(("../1.png", "/etc/1.png", "a/../../1.png", "C:/1.png")):
        for make, ending in ((bad_zip, ".zip"), (bad_tar, ".tar")):
            with pytest.raises(DataError, match="outside of the archive"):
                ArchiveSource(make(tmp_path / f"{number}{ending}", name))
    with pytest.raises(DataError, match="outside of the archive"):
        ArchiveSource(bad_zip(tmp_path / "windows.zip", r"..\1.png"))


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a link or a device"):
        ArchiveSource(bad_zip(tmp_path / "link.zip", mode=0o120777))
    for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)):
        with pytest.raises(DataError, match="is a link, a device"):
            ArchiveSource(bad_tar(tmp_path / f"{number}.tar", kind=kind))


def test_damage_and_passwords_are_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="encrypted"):
        ArchiveSource(bad_zip(tmp_path / "locked.zip", encrypted=True))
    with pytest.raises(DataError, match="does not exist"):
        ArchiveSource(tmp_path / "none.zip")
    for ending in MODES:
        whole = packed(folder, tmp_path / f"birds{ending}")
        whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        with pytest.raises(DataError, match="not a complete archive"):
            ArchiveSource(whole)


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podium.data.archive_source.MOST_BYTES", 1 << 20)
    path = tmp_path / "bomb.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("a/1.png")
        member.size = 4 << 20
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(DataError, match="would decompress to more than"):
        ArchiveSource(path)


def test_a_later_file_replaces_an_earlier_one(folder: Path, tmp_path: Path) -> None:
    path = packed(folder, tmp_path / "birds.tar")
    with tarfile.open(path, "a") as archive:
        archive.add(folder / "train/circle/1.png", "birds/train/circle/0.png")
    source = ArchiveSource(path)
    assert "train/circle/0.png" in {item.path for item in source.list()}
    assert source.skipped["files that the archive holds again, later"] == 1
    read = Reader(source).read("train/circle/0.png")
    assert read == (folder / "train/circle/1.png").read_bytes()


def test_a_copy_in_the_cache_is_made_once(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "birds.tgz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, "birds")
    first = ArchiveSource(path)
    assert [*first.list()]
    copy = Path(first.notices[-1].rpartition(": ")[2])
    made = copy.stat().st_ino
    again = ArchiveSource(path)
    assert len([*again.list()]) == 24
    assert copy.stat().st_ino == made


def test_the_command_checks_an_archive(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = packed(folder, tmp_path / "birds.zip")
    assert source_for(str(path)) == "archive"
    assert main(["data", "check", str(path)]) == 0
    assert "3 classes" in capsys.readouterr().out
    assert main(["data", "check", str(tmp_path / "none.zip")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_classes_in_the_names_of_an_archive(tmp_path: Path, folder: Path) -> None:
    """As the cats and dogs of Kaggle."""
    path = tmp_path / "train.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number, file in enumerate(sorted(folder.rglob("[0-9]*.png"))):
            archive.write(file, f"train/{'cat' if number % 2 else 'dog'}.{number}.png")
    source = open_source(DataSpec(path=str(path), label=r"(?P<label>[a-z]+)\.\d+"))
    items = [*source.list()]
    assert {item.label for item in items} == {"cat", "dog"}
    assert len(items) == 24
    assert (
        Reader(source).read("train/cat.1.png") == sorted(folder.rglob("[0-9]*.png"))[1].read_bytes()
    )

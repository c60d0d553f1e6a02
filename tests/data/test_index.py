"""Folders as people keep them: what is found, split, left out, remembered and told."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from podium.data import checking, folder as folders
from podium.data.bands import Picture, as_rgb
from podium.data.images import Stored, decode_with_mode, read_image_file
from podium.data.index import DataIndex
from podium.data.indexing import build_index
from podium.data.mapped import read_mapped
from podium.data.splits import SPLITS
from podium.errors import ConfigError, DataError
from podium.runtime.events import Event
from tests.conftest import Steps, write_pictures
from tests.data.test_images import png_of

THREE = {"train": 4, "valid": 2, "test": 2}


def add(path: Path, level: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (level % 256, level // 256, 90)).save(path, "PNG")
    return path


def tree(root: Path, counts: dict[str, int]) -> Path:
    """`folder: number of pictures` below `root`; no two are alike."""
    level = 0
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            add(root / folder / f"{number:03d}.png", level)
            level += 1
    return root


def contents(index: DataIndex) -> dict[str, tuple[list[str], list[int]]]:
    return {
        name: (list(split.paths), split.labels.tolist()) for name, split in index.splits.items()
    }


def test_agrees_with_torchvision_on_real_photographs(sports10: Path) -> None:
    from torchvision.datasets import ImageFolder

    index = build_index(sports10)
    assert len(index.classes) == 10
    assert {name: len(split) for name, split in index.splits.items()} == {
        "train": 600, "valid": 50, "test": 50
    }  # fmt: skip
    for name, split in index.splits.items():
        oracle = ImageFolder(str(sports10 / name))
        assert list(index.classes) == oracle.classes
        theirs = [(Path(path).relative_to(sports10).as_posix(), at) for path, at in oracle.samples]
        assert sorted(theirs) == list(zip(split.paths, split.labels.tolist(), strict=True))
    assert index.unreadable == ()
    assert index.statistics["width"] == [224, 224, 224]


def test_what_an_index_holds(pictures: Path) -> None:
    index = build_index(pictures)
    assert tuple(index.splits) == SPLITS
    assert index.classes == ("circle", "noise", "stripes")
    for split in index.splits.values():
        assert split.labels.dtype == np.int64
        assert len(split) == len(split.paths) == len(split.labels)
        for path, label in zip(split.paths, split.labels, strict=True):
            assert path.split("/")[:2] == [split.name, index.classes[label]]
            assert (index.root / path).is_file()
    assert index.class_counts("valid") == dict.fromkeys(index.classes, 9)
    assert index.notices == ()
    summary = json.loads(json.dumps(index.summary()))
    assert summary["totals"] == {"train": 72, "valid": 27, "test": 36}
    assert summary["splits"]["train"] == {"circle": 24, "noise": 24, "stripes": 24}
    assert summary["classes"] == list(index.classes)
    assert summary["width"] == summary["height"] == [40, 40, 40]
    assert summary["formats"] == {".png": 135}
    assert summary["greyscale"] == 0
    assert summary["fingerprint"] == index.fingerprint
    assert len(index.fingerprint) == 64


@pytest.mark.parametrize(
    "names",
    [("train", "val", "test"), ("Training", "VALIDATION", "Testing"), ("TRAIN", "dev", "Test")],
)
def test_split_folders_have_many_names(tmp_path: Path, names: tuple[str, str, str]) -> None:
    counts = {
        f"{name}/{label}": n for name, n in zip(names, (4, 2, 3), strict=True) for label in "ab"
    }
    index = build_index(tree(tmp_path, counts))
    assert {name: len(split) for name, split in index.splits.items()} == {
        "train": 8, "valid": 4, "test": 6
    }  # fmt: skip
    assert index.notices == ()


def test_an_unsplit_folder_is_split_by_class(tmp_path: Path) -> None:
    root = tree(tmp_path, {"ant": 40, "bee": 20, "cow": 3})
    index = build_index(root, split_seed=5, valid_fraction=0.1, test_fraction=0.2)
    assert index.class_counts("valid") == {"ant": 4, "bee": 2, "cow": 1}
    assert index.class_counts("test") == {"ant": 8, "bee": 4, "cow": 1}
    assert index.class_counts("train") == {"ant": 28, "bee": 14, "cow": 1}
    every = [path for split in index.splits.values() for path in split.paths]
    assert sorted(every) == sorted(p.relative_to(root).as_posix() for p in root.rglob("*.png"))
    assert len(set(every)) == 63
    (notice,) = index.notices
    assert "10 % for valid and 20 % for test" in notice
    assert "seed 5" in notice


def test_the_split_depends_on_seed_and_names_alone(tmp_path: Path) -> None:
    one = tree(tmp_path / "one", {"ant": 12, "bee": 9})
    other = tmp_path / "two" / "deep"
    other.mkdir(parents=True)
    for path in sorted(one.rglob("*.png"), reverse=True):  # made in another order, elsewhere
        to = other / path.relative_to(one)
        to.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, to)
    first, again, third = build_index(one), build_index(other), build_index(one, split_seed=1)
    assert contents(first) == contents(again)
    assert first.fingerprint == again.fingerprint
    assert contents(first) != contents(third)
    assert first.fingerprint != third.fingerprint
    # one class more leaves the others' split alone
    tree(one, {"cow": 5})
    more = build_index(one)
    kept = [path for path in more.splits["test"].paths if not path.startswith("cow/")]
    assert kept == list(first.splits["test"].paths)


@pytest.mark.parametrize("absent", ["valid", "test"])
def test_a_missing_split_is_held_out_of_train(tmp_path: Path, absent: str) -> None:
    other = "test" if absent == "valid" else "valid"
    root = tree(tmp_path, {"train/a": 20, "train/b": 10, f"{other}/a": 3, f"{other}/b": 3})
    index = build_index(root)
    assert index.class_counts(absent) == {"a": 2, "b": 1}
    assert index.class_counts("train") == {"a": 18, "b": 9}
    assert index.class_counts(other) == {"a": 3, "b": 3}
    assert all(path.startswith("train/") for path in index.splits[absent].paths)
    assert not set(index.splits[absent].paths) & set(index.splits["train"].paths)
    assert any(absent in notice and "held out" in notice for notice in index.notices)


def test_large_fractions_leave_something_to_train_on(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a": 3, "b": 4, "c": 5, "d": 6})
    index = build_index(root, valid_fraction=0.49, test_fraction=0.49)
    for split in SPLITS:
        assert min(index.class_counts(split).values()) >= 1
    assert sum(map(len, index.splits.values())) == 18


@pytest.mark.parametrize("wrong", [0.0, 0.5, -1.0, float("nan")])
def test_a_fraction_out_of_range_is_refused(pictures: Path, wrong: float) -> None:
    with pytest.raises(ConfigError, match="test_fraction"):
        build_index(pictures, test_fraction=wrong)


def no_folder(root: Path) -> Path:
    return root / "nowhere"


def a_file(root: Path) -> Path:
    return add(root / "file.png")


def empty(root: Path) -> Path:
    return root


def only_text(root: Path) -> Path:
    (root / "a").mkdir()
    (root / "a" / "notes.txt").write_text("no picture")
    return root


def one_class(root: Path) -> Path:
    return tree(root, {"train/only cats": 5, "test/only cats": 2})


def no_train(root: Path) -> Path:
    return tree(root, {"valid/a": 3, "test/a": 3, "valid/b": 3, "test/b": 3})


def too_few(root: Path) -> Path:
    return tree(root, {"many": 9, "two only": 2})


def several_too_few(root: Path) -> Path:
    return tree(root, {"many": 9, "two": 2, "too": 2, "one": 1})


def class_unreadable(root: Path) -> Path:
    tree(root, {"train/a": 3, "train/b": 3, "train/broken": 0})
    (root / "train" / "broken" / "x.jpg").write_text("words")
    return root


def strangers(root: Path) -> Path:
    return tree(root, {"train/a": 3, "train/b": 3, "valid/c": 3, "test/a": 3})


def twice(root: Path) -> Path:
    return tree(root, {"train/a": 3, "train/b": 3, "val/a": 1, "valid/b": 1})


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (no_folder, "does not exist: expected a folder of images"),
        (a_file, "is a file: expected a folder"),
        (empty, "no images in"),
        (only_text, r"no images in .*\*\.txt"),
        (one_class, "two or more classes .*only 'only cats'"),
        (no_train, "no train folder"),
        (too_few, "'two only' has 2 images; at least 3"),
        (
            several_too_few,
            r"3 classes have too few images: 'one' \(1\), 'too' \(2\), 'two' \(2\); at",
        ),
        (class_unreadable, r"No training image of 'broken' .*train/broken/x\.jpg \(not an image"),
        (strangers, "No image of valid belongs to a class of train"),
        (twice, "two folders for one split"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_cannot_be_used_is_told(
    tmp_path: Path, make: Callable[[Path], Path], told: str
) -> None:
    with pytest.raises(DataError, match=told):
        build_index(make(tmp_path))


def test_unreadable_images_are_named_and_left_out(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "data", {"train": 5, "valid": 2, "test": 2})
    broken = root / "train" / "circle"
    whole = (broken / "0.png").read_bytes()
    (broken / "text.jpg").write_text("not a picture")
    (broken / "none.png").write_bytes(b"")
    (broken / "cut.png").write_bytes(whole[: len(whole) // 2])
    (broken / "bomb.png").write_bytes(png_of(30_000, 30_000))
    (root / "test" / "noise" / "gone.png").symlink_to(root / "nowhere.png")
    index = build_index(root)
    reasons = dict(index.unreadable)
    assert set(reasons) == {
        "train/circle/text.jpg", "train/circle/none.png", "train/circle/cut.png",
        "train/circle/bomb.png", "test/noise/gone.png",
    }  # fmt: skip
    assert "0 bytes" in reasons["train/circle/none.png"]
    assert "900,000,000" in reasons["train/circle/bomb.png"]
    assert "No such file" in reasons["test/noise/gone.png"]
    assert "5 files cannot be read and are left out." in index.notices
    assert index.class_counts("train") == dict.fromkeys(index.classes, 5)
    assert not set(reasons) & {path for split in index.splits.values() for path in split.paths}
    assert contents(build_index(root)) == contents(index)  # and so from the cache
    assert build_index(root).unreadable == index.unreadable


def test_other_files_are_skipped_and_counted(tmp_path: Path) -> None:
    root = write_pictures(tmp_path, THREE)
    folder = root / "train" / "circle"
    for name in ("a.lnk", "b.LNK", "Thumbs.db", "README", ".DS_Store", "._0.png"):
        (folder / name).write_bytes(b"x")
    tree(folder, {".git": 2})
    (root / "sports.csv").write_text("a,b")
    index = build_index(root)
    assert index.skipped == {
        "*.csv": 1, "*.db": 1, "*.lnk": 2, "hidden": 3, "readme and licence files": 1
    }  # fmt: skip
    assert index.unreadable == ()
    assert len(index.splits["train"]) == 12


def test_classes_that_differ_between_splits_are_told_not_shifted(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {"train/b": 3, "train/d": 3, "train/e": 3, "valid/a": 4, "valid/b": 1, "valid/d": 1,
         "valid/e": 1, "test/b": 2, "test/e": 2},
    )  # fmt: skip
    index = build_index(root)
    assert index.classes == ("b", "d", "e")
    assert index.class_counts("valid") == {"b": 1, "d": 1, "e": 1}
    assert index.class_counts("test") == {"b": 2, "d": 0, "e": 2}
    assert index.splits["test"].labels.tolist() == [0, 0, 2, 2]
    assert any("valid has 4 images of 'a'" in notice for notice in index.notices)
    assert any("test has no images of 'd'" in notice for notice in index.notices)


ODD = ["a b", "château", "<script>", 'it\'s "so"', "日本", "100%", "-x", "a&b"]


def test_odd_class_names_work(tmp_path: Path) -> None:
    root = tree(tmp_path, {f"{split}/{name}": 2 for split in SPLITS for name in ODD})
    index = build_index(root)
    assert index.classes == tuple(sorted(unicodedata.normalize("NFC", name) for name in ODD))
    assert json.loads(json.dumps(index.summary()))["splits"]["test"] == dict.fromkeys(
        index.classes, 2
    )
    assert index.notices == ()


def test_one_name_in_two_unicode_forms_is_one_class(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    root = tree(tmp_path, {"train/tea": 3, f"train/{decomposed}": 3})
    tree(root, {"valid/tea": 1, f"valid/{composed}": 1, "test/tea": 1, f"test/{composed}": 1})
    index = build_index(root)
    assert index.classes == (composed, "tea")
    assert index.class_counts("valid") == {composed: 1, "tea": 1}
    assert all((root / path).is_file() for path in index.splits["train"].paths)


def test_names_that_differ_in_case_alone_are_told(tmp_path: Path) -> None:
    root = tree(tmp_path, {"Dog": 4, "cat": 4})
    if (root / "dog").exists():
        pytest.skip("this file system does not tell case")
    index = build_index(tree(root, {"dog": 4}))
    assert index.classes == ("Dog", "cat", "dog")  # code-point order, as torchvision
    assert any("'Dog' and 'dog' differ only in case" in notice for notice in index.notices)


def test_names_that_are_no_utf8_are_unreadable(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a": 5, "b": 5})
    try:
        shutil.copyfile(root / "a" / "000.png", os.fsencode(root / "a") + b"/caf\xe9.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    index = build_index(root)
    ((path, reason),) = index.unreadable
    assert "UTF-8" in reason
    json.dumps(index.summary(), ensure_ascii=False).encode("utf-8")
    assert path.startswith("a/caf")


def test_images_may_lie_deeper_and_behind_links(tmp_path: Path) -> None:
    elsewhere = tree(tmp_path / "elsewhere", {"pictures": 2})
    root = tree(tmp_path / "root", {"a/2023/may": 4, "b": 4})
    (root / "b" / "more").symlink_to(elsewhere / "pictures", target_is_directory=True)
    add(tmp_path / "single.png", 999)
    (root / "b" / "linked.png").symlink_to(tmp_path / "single.png")
    (root / "a" / "up").symlink_to(root / "a", target_is_directory=True)  # a loop
    index = build_index(root)
    every = sorted(path for split in index.splits.values() for path in split.paths)
    assert len(every) == 4 + 4 + 2 + 1
    assert "a/2023/may/000.png" in every
    assert "b/more/001.png" in every
    assert index.skipped == {"links in a loop": 1}


@pytest.mark.parametrize("inner", ["data", "archive/Sports Images"])
def test_a_lone_folder_stands_for_what_is_in_it(tmp_path: Path, inner: str) -> None:
    tree(tmp_path, {f"{inner}/{split}/{name}": 2 for split in SPLITS for name in "ab"})
    add(tmp_path / ".hidden" / "x.png")
    index = build_index(tmp_path)
    assert index.root == tmp_path / inner
    assert index.splits["train"].paths[0] == "train/a/000.png"


def test_the_same_image_in_train_and_test_is_told(tmp_path: Path) -> None:
    root = write_pictures(tmp_path, THREE)
    shutil.copyfile(root / "train/circle/0.png", root / "test/circle/again.png")
    (notice,) = build_index(root).notices
    assert notice.startswith("1 image of test also in train")


def test_the_fingerprint_is_of_content(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "one", THREE)
    first = build_index(root).fingerprint
    for path in root.rglob("*.png"):
        os.utime(path, (1, 1))
    assert build_index(root).fingerprint == first
    shutil.copytree(root, tmp_path / "two")
    assert build_index(tmp_path / "two").fingerprint == first
    add(tmp_path / "two/test/circle/0.png", 3)
    assert build_index(tmp_path / "two").fingerprint != first
    (tmp_path / "one/test/circle/0.png").rename(tmp_path / "one/test/circle/00.png")
    assert build_index(root).fingerprint != first


class Counter:
    """Counts what is decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        monkeypatch.setattr(checking, "decode_with_mode", self)

    def __call__(self, content: bytes, name: str, channels: int | None) -> tuple[Picture, Stored]:
        self.names.append(name)
        return decode_with_mode(content, name, channels)


def test_only_what_changed_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = write_pictures(tmp_path / "data", THREE), tmp_path / "cache"
    decoded = Counter(monkeypatch)
    first = build_index(root, cache_folder=cache)
    assert len(decoded.names) == 24
    decoded.names.clear()
    assert build_index(root, cache_folder=cache).summary() == first.summary()
    assert decoded.names == []
    add(root / "test/circle/0.png", 77)
    os.utime(root / "test/noise/0.png", (5, 5))
    build_index(root, cache_folder=cache)
    assert decoded.names == ["test/circle/0.png"]  # the other one has the bytes that it had


def test_copies_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_pictures(tmp_path / "data", THREE)
    for number in range(20):
        shutil.copyfile(root / "train/circle/0.png", root / f"train/circle/copy{number}.png")
    decoded = Counter(monkeypatch)
    index = build_index(root, cache_folder=tmp_path / "cache", workers=1)
    assert len(index.splits["train"]) == 32
    assert 24 <= len(decoded.names) <= 24 + 4  # while the first is decoded, others are under way


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format": 1, "files": {"x": 3}}', b"\xff"])
def test_a_damaged_cache_costs_time_alone(tmp_path: Path, damage: bytes) -> None:
    root, cache = write_pictures(tmp_path / "data", THREE), tmp_path / "cache"
    first = build_index(root, cache_folder=cache)
    (file,) = cache.iterdir()
    file.write_bytes(damage)
    assert build_index(root, cache_folder=cache).summary() == first.summary()
    (file,) = cache.iterdir()
    assert read_mapped(file).num_rows == 24


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    root = write_pictures(tmp_path / "data", THREE)
    assert len(build_index(root, cache_folder=tmp_path / "cache").splits["train"]) == 12


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    root = write_pictures(tmp_path, {"train": 30, "valid": 5, "test": 5})
    seen = Steps()
    build_index(root, notify=seen)
    assert seen == [("files", done, 120) for done in (50, 100, 120)]


def test_an_interruption_stops_at_once_and_keeps_what_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = write_pictures(tmp_path / "data", {"train": 100}), tmp_path / "cache"

    def stop(event: Event) -> None:
        raise KeyboardInterrupt

    decoded, threads = Counter(monkeypatch), set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        build_index(root, cache_folder=cache, notify=stop, workers=1)
    before = len(decoded.names)
    assert 50 <= before < 300
    assert set(threading.enumerate()) <= threads
    decoded.names.clear()
    build_index(root, cache_folder=cache)
    assert len(decoded.names) == 250


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"": 6}, ("train", "plane", "car"))
    index = build_index(tmp_path)
    assert index.classes == ("car", "plane", "train")


def test_a_cache_of_another_shape_is_ignored(tmp_path: Path) -> None:
    images = write_pictures(tmp_path / "images", {"": 6})
    cache = tmp_path / "cache"
    first = build_index(images, cache_folder=cache)
    (stored,) = cache.iterdir()
    stored.write_text('{"format": 2, "files": []}')
    assert build_index(images, cache_folder=cache).fingerprint == first.fingerprint


def bmp(path: Path, level: int) -> None:
    """All such files have the same number of bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (level % 256, level // 256, 90)).save(path, "BMP")


def one_time(root: Path) -> None:
    for path in root.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))


def swap(one: Path, other: Path) -> None:
    away = one.with_name("away")
    one.rename(away)
    other.rename(one)
    away.rename(other)


def rewrite(one: Path, other: Path) -> None:
    """In place: inodes stay, as `rsync --inplace` leaves them."""
    files = [one, other] if one.is_file() else []
    pairs = (
        [(files[0], files[1])]
        if files
        else list(zip(sorted(one.iterdir()), sorted(other.iterdir()), strict=True))
    )
    for a, b in pairs:
        first, second = a.read_bytes(), b.read_bytes()
        a.write_bytes(second)
        b.write_bytes(first)


@pytest.mark.parametrize("change", [swap, rewrite])
@pytest.mark.parametrize("split", ["train", "valid", "test"])
@pytest.mark.parametrize("part", ["", "/000.bmp"])
def test_files_of_one_size_and_time_that_changed_places_are_seen(
    tmp_path: Path, change: Callable[[Path, Path], None], split: str, part: str
) -> None:
    root, cache = tmp_path / "data", tmp_path / "cache"
    for at, name in enumerate(SPLITS):
        for number in range(4):
            for kind, label in enumerate(("dark", "light")):
                bmp(root / name / label / f"{number:03d}.bmp", 100 * at + 10 * number + kind)
    one_time(root)
    before = build_index(root, cache_folder=cache)
    change(root / f"{split}/dark{part}", root / f"{split}/light{part}")
    one_time(root)
    after = build_index(root, cache_folder=cache)
    fresh = build_index(root, cache_folder=tmp_path / "fresh")
    assert after.digests == fresh.digests
    assert after.fingerprint == fresh.fingerprint != before.fingerprint
    for path in after.splits[split].paths:  # no "it changed since it was checked"
        assert as_rgb(after.load(path)).getpixel((0, 0)) == Image.open(root / path).getpixel((0, 0))


class Reads:
    """Counts what is read of folders."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        monkeypatch.setattr(folders, "read_image_file", self)

    def __call__(self, path: Path, name: str) -> bytes:
        self.names.append(name)
        return read_image_file(path, name)


@pytest.mark.skipif(os.name != "posix", reason="there is no time of change")
def test_a_file_with_its_old_stamp_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = write_pictures(tmp_path / "data", THREE), tmp_path / "cache"
    now = time.time_ns
    reads = Reads(monkeypatch)
    first = build_index(root, cache_folder=cache)
    build_index(root, cache_folder=cache)
    assert len(reads.names) == 48  # too young: they may be written again within a tick
    monkeypatch.setattr(time, "time_ns", lambda: now() + 3 * 10**9)
    build_index(root, cache_folder=cache)
    reads.names.clear()
    again = build_index(root, cache_folder=cache)
    assert reads.names == []
    assert (again.fingerprint, again.summary()) == (first.fingerprint, first.summary())
    add(root / "test/circle/0.png", 77)
    swap(root / "train/noise/0.png", root / "train/noise/1.png")
    (root / "valid/circle/new.png").hardlink_to(root / "valid/noise/0.png")
    third = build_index(root, cache_folder=cache)
    assert reads.names == [
        "test/circle/0.png",
        "train/noise/0.png",
        "train/noise/1.png",
        "valid/circle/new.png",
        "valid/noise/0.png",  # its number of links has changed
    ]
    fresh = build_index(root, cache_folder=tmp_path / "fresh")
    assert third.fingerprint == fresh.fingerprint != first.fingerprint
    assert third.digests == fresh.digests


def test_a_file_that_changes_after_a_look_is_read_at_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = write_pictures(tmp_path / "data", THREE), tmp_path / "cache"
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 3 * 10**9)

    def late(path: Path, name: str) -> bytes:
        content = read_image_file(path, name)
        if name == "test/noise/1.png":  # between the stamp and the reading of others
            add(root / "train/circle/0.png", 300)
            add(root / "test/noise/1.png", 301)
        return content

    with monkeypatch.context() as patched:
        patched.setattr(folders, "read_image_file", late)
        build_index(root, cache_folder=cache, workers=1)
    fresh = build_index(root, cache_folder=tmp_path / "fresh")
    assert build_index(root, cache_folder=cache).digests == fresh.digests


def test_what_is_gone_is_not_remembered_for_ever(tmp_path: Path) -> None:
    root, cache = write_pictures(tmp_path / "data", THREE), tmp_path / "cache"
    build_index(root, cache_folder=cache)
    (root / "train/circle/0.png").unlink()
    build_index(root, cache_folder=cache)
    (file,) = cache.iterdir()
    assert read_mapped(file).num_rows == 23


def test_a_faulty_file_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = write_pictures(tmp_path / "data", THREE), tmp_path / "cache"
    (root / "train" / "circle" / "x.png").write_text("words")
    assert build_index(root, cache_folder=cache).unreadable
    decoded = Counter(monkeypatch)  # by a better codec, or with more memory
    assert build_index(root, cache_folder=cache).unreadable
    assert decoded.names == ["train/circle/x.png"]


def test_a_class_that_cannot_be_read_stops_the_study_in_every_split(tmp_path: Path) -> None:
    root = tree(tmp_path, {f"{split}/{label}": 4 for split in SPLITS for label in "ab"})
    for number in range(4):
        (root / "test" / "b" / f"{number:03d}.png").write_text("words")
    with pytest.raises(DataError, match=r"No test image of 'b' can be read: test/b/000\.png"):
        build_index(root)


def test_small_classes_are_left_out_where_the_user_says_so(tmp_path: Path) -> None:
    root = tree(tmp_path / "unsplit", {"a": 20, "b": 10, "c": 2, "d": 1})
    with pytest.raises(DataError, match=r"'c' \(2\), 'd' \(1\).*min_images: 3"):
        build_index(root)
    index = build_index(root, min_images=3)
    assert index.classes == ("a", "b")
    assert any("2 classes with fewer than 3 training images (min_images), 3 images in total, left "
               "out: 'c' (2), 'd' (1)." in notice for notice in index.notices)  # fmt: skip
    same = build_index(tree(tmp_path / "same", {"a": 20, "b": 10}))
    assert contents(index) == contents(same)  # the others' split is what it was

    layout = {"train/a": 5, "train/b": 5, "train/c": 1, "valid/a": 1, "valid/b": 1}
    root = tree(tmp_path / "split", {**layout, "test/a": 1, "test/b": 1, "test/c": 4})
    index = build_index(root, min_images=2)
    assert index.classes == ("a", "b")
    assert index.class_counts("test") == {"a": 1, "b": 1}
    assert any("5 images in total, left out: 'c' (1)" in notice for notice in index.notices)
    with pytest.raises(DataError, match=r"two or more classes .*found only 'a'"):
        build_index(tree(tmp_path / "one", {"a": 9, "b": 3}), min_images=5)


@pytest.mark.usefixtures("undrawn")
def test_min_images_is_a_setting_of_a_study(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from podium.cli.app import main

    write_pictures(tmp_path / "set", {"": 9})
    for number in range(2, 9):
        (tmp_path / "set" / "noise" / f"{number}.png").unlink()
    monkeypatch.chdir(tmp_path)
    study = {"name": "s", "data": {"path": "set"}, "contenders": {
        "p": {"model": "simple_resnet", "epochs": 1, "image_size": 32}}}  # fmt: skip
    Path("s.json").write_text(json.dumps(study))
    line = ["run", "s.json", "--no-audit", "--workers", "0", "--device", "cpu"]
    assert main(line) == 2
    assert "min_images: 3" in " ".join(capfd.readouterr().err.split())
    assert main([*line, "--set", "data.min_images=3"]) == 0
    assert "left out: 'noise' (2)" in " ".join("".join(capfd.readouterr()).split())
    assert json.loads(Path("runs/s/data.json").read_text())["classes"] == ["circle", "stripes"]
    assert main([*line, "--set", "data.min_images=0"]) == 2


def test_pictures_without_a_class_stay_out_of_an_unsplit_set(tmp_path: Path) -> None:
    root = tree(tmp_path, {"": 3, "a": 10, "b": 10})
    index = build_index(root)
    assert index.skipped == {"images outside of a class folder": 3}
    assert any(f"3 images outside of a class folder, in {root.name}, are not used" in notice
               for notice in index.notices)  # fmt: skip

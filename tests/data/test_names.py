"""Labels in the names of files: `cat.123.jpg`, in one folder or in many."""

from __future__ import annotations

from pathlib import Path

import pytest

from podium.config.data_settings import DataSpec
from podium.data.folder import FolderSource
from podium.data.indexing import index_of
from podium.data.layout import BEFORE_NUMBER
from podium.data.listing import list_images, open_source
from podium.errors import ConfigError, DataError
from tests.conftest import write_pictures

NUMBERED = r"(?P<label>[a-z]+)\.\d+\.jpg$"


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_names_are_labels_at_any_depth_and_the_others_are_told(tmp_path: Path) -> None:
    touch(tmp_path, "cat.1.jpg", "more/dog.2.jpg", "more/deep/cat.3.jpg", "CAT.4.jpg", "notes.txt")
    found = list_images(open_source(DataSpec(path=str(tmp_path), label=NUMBERED)))
    assert found.splits == {
        "train": {"cat": ["cat.1.jpg", "more/deep/cat.3.jpg"], "dog": ["more/dog.2.jpg"]}
    }
    assert not found.is_split
    assert found.skipped == {"*.txt": 1, "images without a label": 1}
    assert any("1 image without a label" in one and "CAT.4.jpg" in one for one in found.notices)


def test_the_topmost_folders_may_be_splits(tmp_path: Path) -> None:
    touch(
        tmp_path, "train/cat.1.jpg", "train/dog.1.jpg", "Validation/x/cat.2.jpg", "test/cat.3.jpg"
    )
    found = list_images(FolderSource(tmp_path, label=NUMBERED))
    assert found.splits == {
        "valid": {"cat": ["Validation/x/cat.2.jpg"]},
        "test": {"cat": ["test/cat.3.jpg"]},
        "train": {"cat": ["train/cat.1.jpg"], "dog": ["train/dog.1.jpg"]},
    }
    touch(tmp_path, "loose.4.jpg")
    assert not list_images(FolderSource(tmp_path, label=NUMBERED)).is_split


@pytest.mark.parametrize(
    ("label", "kind", "message"),
    [
        ("species", ConfigError, r"'species' has no named group. Expected \(\?P<label>"),
        ("(?P<label>", ConfigError, "not a regular expression"),
        ("(?P<group>.)", ConfigError, "no named group"),
        (r"(?P<label>\d+)$", DataError, r"fits none of 2 images.*'cat\.1\.jpg', 'dog\.2\.jpg'"),
    ],
)
def test_what_is_no_pattern_or_fits_nothing_is_refused(
    label: str, kind: type[Exception], message: str, tmp_path: Path
) -> None:
    touch(tmp_path, "cat.1.jpg", "dog.2.jpg")
    with pytest.raises(kind, match=message):
        list_images(open_source(DataSpec(path=str(tmp_path), label=label)))


@pytest.mark.parametrize("form", ["{}.{}.jpg", "{}_{}.jpg", "{} ({}).jpg", "{}{}.PNG"])
def test_a_flat_folder_is_refused_with_the_pattern_that_reads_it(form: str, tmp_path: Path) -> None:
    touch(tmp_path, *(form.format(kind, at) for kind in ("cat", "big_dog") for at in range(3)))
    with pytest.raises(DataError, match="outside of class folders") as caught:
        list_images(FolderSource(tmp_path))
    assert BEFORE_NUMBER in str(caught.value)
    found = list_images(FolderSource(tmp_path, label=BEFORE_NUMBER))
    assert {label: len(paths) for label, paths in found.splits["train"].items()} == {
        "big_dog": 3,
        "cat": 3,
    }


def test_an_index_by_names_is_read_and_split(tmp_path: Path) -> None:
    write_pictures(tmp_path / "set", {"": 10}, ("cat", "dog"), 16)
    flat = tmp_path / "flat"
    flat.mkdir()
    for one in (tmp_path / "set").rglob("*.png"):
        one.rename(flat / f"{one.parent.name}.{one.name}")
    index = index_of(DataSpec(path=str(flat), label=r"(?P<label>\w+)\.", group=r"\.(?P<group>\d)"))
    assert index.classes == ("cat", "dog")
    assert {name: len(split) for name, split in index.splits.items()} == {
        "train": 16,
        "valid": 2,
        "test": 2,
    }
    assert set(index.splits["train"].groups) <= set("0123456789")

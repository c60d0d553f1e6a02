"""Images of the trials of a tuning: training and validation as ever, and no test image."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from podium.data.index import DataIndex
from podium.data.indexing import build_index
from tests.conftest import write_pictures


def paths(index: DataIndex, split: str) -> list[str]:
    return list(index.splits[split].paths)


@pytest.mark.parametrize(
    "counts", [{"train": 12, "valid": 4, "test": 5}, {"train": 12, "test": 5}, {"": 20}]
)
def test_the_other_splits_stay_as_they_are(tmp_path: Path, counts: dict[str, int]) -> None:
    images = write_pictures(tmp_path / "images", counts)
    ordinary, index = build_index(images), build_index(images, score_on="nothing")
    for split in ("train", "valid"):
        assert paths(index, split) == paths(ordinary, split)
        assert index.split_fingerprint(split) == ordinary.split_fingerprint(split)
    assert index.classes == ordinary.classes
    assert paths(index, "test") == []
    assert not set(index.images.paths) & set(paths(ordinary, "test"))
    assert index.summary()["totals"]["test"] == 0
    assert index.fingerprint != ordinary.fingerprint


def test_files_that_the_source_calls_test_are_not_opened(pictures: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(pictures, images)
    whole = build_index(images, score_on="nothing")
    for file in (images / "test").rglob("*.png"):
        file.write_bytes(b"no picture")
    index = build_index(images, score_on="nothing")
    assert index.fingerprint == whole.fingerprint
    assert index.unreadable == ()

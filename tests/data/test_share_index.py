"""Shares of the training images: nested, of each class or in whole groups; and no test image."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from podium.data.index import DataIndex
from podium.data.indexing import build_index
from podium.data.parts import fold_index, share_index
from tests.conftest import write_pictures

SHARES = (0.1, 0.25, 0.5, 1.0)


@pytest.fixture(scope="module")
def index(pictures: Path) -> DataIndex:
    return build_index(pictures)


def paths(index: DataIndex, split: str = "train") -> list[str]:
    return list(index.splits[split].paths)


def test_shares_are_nested_and_of_each_class(index: DataIndex) -> None:
    parts = [share_index(index, share, seed=3) for share in SHARES]
    for small, large in pairwise(parts):
        assert set(paths(small)) < set(paths(large))
    for share, part in zip(SHARES, parts, strict=True):
        assert set(part.class_counts("train").values()) == {round(share * 24)}
        assert paths(part, "valid") == paths(index, "valid")
        assert paths(part, "test") == paths(index, "test")
        assert part.split_fingerprint("test") == index.split_fingerprint("test")
        assert paths(part) == sorted(paths(part))
        labels = [part.classes[label] for label in part.splits["train"].labels]
        assert labels == [path.split("/")[1] for path in paths(part)]
    assert paths(parts[-1]) == paths(index)
    assert len({part.fingerprint for part in parts}) == len(parts)


def test_each_seed_draws_its_own_images_and_the_same_again(index: DataIndex) -> None:
    first, again, other = (share_index(index, 0.25, seed=seed) for seed in (0, 0, 1))
    assert paths(first) == paths(again)
    assert set(paths(first)) != set(paths(other))
    tiny = share_index(index, 1e-9, seed=0)  # every class keeps an image
    assert set(tiny.class_counts("train").values()) == {1}


def test_all_shares_are_parts_of_one_index(index: DataIndex) -> None:
    """Features and pixels are then computed once."""
    small, large = (share_index(index, share, seed=0) for share in (0.25, 0.5))
    assert small.part_of is not None
    assert large.part_of is not None
    whole = [list(one.part_of.whole.splits["test"].paths) for one in (small, large) if one.part_of]
    every = sorted(path for split in index.splits for path in paths(index, split))
    assert whole[0] == whole[1] == every
    for split, rows in small.part_of.rows.items():
        assert [every[row] for row in rows] == paths(small, split)


def test_whole_groups_are_drawn_and_no_class_is_lost(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "all", {"train": 30, "valid": 3, "test": 3})
    index = build_index(root, group=r"(?P<group>[a-z]+/[a-z]+/\d)")
    groups = dict(zip(index.splits["train"].paths, index.splits["train"].groups, strict=True))
    of = {path: group or path for path, group in groups.items()}
    before: set[str] = set()
    for share in SHARES:
        part = share_index(index, share, seed=5)
        chosen = set(paths(part))
        assert before <= chosen
        assert chosen == {path for path in of if of[path] in {of[one] for one in chosen}}
        assert all(part.class_counts("train").values())
        assert len(chosen) >= share * 90
        before = chosen
    single = share_index(index, 0.5, seed=5, whole_groups=False)
    assert set(single.class_counts("train").values()) == {15}


def test_a_share_of_a_fold(tmp_path: Path) -> None:
    index = build_index(write_pictures(tmp_path / "flat", {"": 12}), folds=3)
    fold = fold_index(index, 1)
    part = share_index(fold, 0.5, seed=0)
    assert set(paths(part)) < set(paths(fold))
    assert paths(part, "test") == paths(fold, "test")
    assert part.part_of is not None
    assert part.part_of.whole is index


def test_scored_on_valid_no_test_image_is_used(pictures: Path) -> None:
    index = build_index(pictures, score_on="valid", valid_fraction=0.25)
    used = {path for split in index.splits for path in paths(index, split)}
    assert not [path for path in used if path.startswith("test/")]
    assert all(path.startswith("valid/") for path in paths(index, "test"))
    assert all(path.startswith("train/") for path in (*paths(index), *paths(index, "valid")))
    assert {name: len(split) for name, split in index.splits.items()} == {
        "train": 54,
        "valid": 18,
        "test": 27,
    }
    told = " ".join(index.notices)
    assert "36 test images left out (score_on: valid)" in told
    assert "on the 27 validation images instead" in told
    ordinary = build_index(pictures)
    assert index.split_fingerprint("test") == ordinary.split_fingerprint("valid")
    assert index.fingerprint != ordinary.fingerprint


def test_folds_of_all_but_the_test_images(pictures: Path, tmp_path: Path) -> None:
    index = build_index(pictures, score_on="valid", folds=3)
    assert not [path for path in paths(index, "test") if path.startswith("test/")]
    assert len(index.splits["test"]) == 99
    flat = write_pictures(tmp_path / "flat", {"": 20})  # the same images are held out as usual
    held = set(paths(build_index(flat), "test"))
    rest = set(paths(build_index(flat, score_on="valid", folds=3), "test"))
    assert len(held) == 6
    assert held.isdisjoint(rest)
    assert len(rest) == 54


def test_shares_are_as_large_as_they_say(index: DataIndex) -> None:
    sizes = [len(share_index(index, share, 0).splits["train"]) for share in np.linspace(0.05, 1, 9)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == 72

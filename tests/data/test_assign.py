"""Splits by group: whole groups are held out, the source's splits kept or set aside, all told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from podium.config.data_settings import DataSpec, SplitSpec
from podium.data.index import DataIndex
from podium.data.indexing import build_index, index_of
from podium.data.source import Item
from podium.errors import ConfigError, DataError
from tests.conftest import write_pictures
from tests.data.test_source import Given, picture


def patients(
    count: int = 12, each: int = 4, split: str | None = None, classes: str = "ab"
) -> list[Item]:
    """Images `0.png`... of patients of one class each, in turn."""
    return [
        Item(f"{patient:02d}/{n}.png", classes[patient % len(classes)], split, f"patient {patient}")
        for patient in range(count)
        for n in range(each)
    ]


def index(items: list[Item], **settings: object) -> DataIndex:
    return build_index(Given(items, picture()), **settings)  # type: ignore[arg-type]


def torn(index: DataIndex) -> set[str | None]:
    seen = [set(split.groups) - {None} for split in index.splits.values()]
    return (seen[0] & seen[1]) | (seen[0] & seen[2]) | (seen[1] & seen[2])


def contents(index: DataIndex) -> dict[str, tuple[str, ...]]:
    return {name: tuple(split.paths) for name, split in index.splits.items()}


def test_groups_are_held_out_whole_in_any_order_of_the_source() -> None:
    items = patients()
    found = index(items, valid_fraction=0.2, test_fraction=0.2)
    assert not torn(found)
    for name in ("train", "valid", "test"):
        assert set(found.class_counts(name).values()) != {0}
        assert all(found.class_counts(name).values())
    assert sum(map(len, found.splits.values())) == 48
    (told,) = [one for one in found.notices if "group" in one]
    share = {name: f"{name} {100 * len(split) / 48:.1f} %" for name, split in found.splits.items()}
    assert told == (
        "No images for valid and test were found: held out 20 % for valid and 20 % for test of "
        f"each class, by whole groups with seed 0: {share['train']}, {share['test']}, "
        f"{share['valid']}, of 12 groups."
    )
    mixed = [items[at] for at in np.random.default_rng(1).permutation(len(items))]
    assert contents(index(mixed, valid_fraction=0.2, test_fraction=0.2)) == contents(found)
    others = [
        contents(index(items, valid_fraction=0.2, test_fraction=0.2, split_seed=seed))
        for seed in range(1, 4)
    ]
    assert any(one != contents(found) for one in others)


def test_images_without_a_group_are_held_out_singly() -> None:
    items = [*patients(6), *(Item(f"{n}.png", "ab"[n % 2]) for n in range(20))]
    found = index(items)
    assert not torn(found)
    assert any("of 6 groups and 20 images without one." in one for one in found.notices)


def test_only_validation_is_missing() -> None:
    """Groups of train go to validation whole; one that is in the given test is told."""
    items = [*patients(10, split="train"), *patients(2, 1, split="test")]
    items[-1] = Item("new.png", "b", "test", "patient 99")
    items[-2] = Item("seen.png", "a", "test", "patient 0")
    found = index(items)
    assert set(found.splits["train"].groups).isdisjoint(found.splits["valid"].groups)
    assert found.splits["test"].paths == ("new.png", "seen.png")
    (told,) = [one for one in found.notices if "in more than one split" in one]
    assert told.startswith(
        "1 of 11 groups has images in more than one split (patient 0), "
        f"{'1 of test' if 'patient 0' in found.splits['train'].groups else '4 of valid and 1'}"
    )
    assert "{split: {by: group}}" in told
    assert "--price-of-leakage" in told


def three_splits() -> list[Item]:
    """Splits of the source that tear every patient apart."""
    return [
        Item(one.path, one.label, ("train", "train", "valid", "test")[number % 4], one.group)
        for number, one in enumerate(patients())
    ]


def test_the_splits_of_the_source_stay_unless_the_study_says_otherwise() -> None:
    kept = index(three_splits())
    assert [len(one) for one in kept.splits.values()] == [24, 12, 12]
    assert len(torn(kept)) == 12
    assert any(one.startswith("12 of 12 groups have images") for one in kept.notices)

    anew = index(three_splits(), split=SplitSpec())
    assert not torn(anew)
    assert anew.notices[0] == (
        "The splits of the source, train (24) and valid (12) and test (12), are not used: "
        "data.split divides all images anew."
    )
    assert anew.notices[1].startswith("Held out 10 % for valid and 10 % for test of each class, by")
    assert contents(anew) == contents(index(patients()))


def test_single_images_where_asked_for_and_told() -> None:
    spec = DataSpec(path="-", split=SplitSpec(by="image"))
    found = index_of(spec, Given(three_splits(), picture()))
    assert torn(found)
    assert any("which flatters it" in one for one in found.notices)
    alone = [Item(one.path, one.label) for one in three_splits()]
    assert contents(found) == contents(index(alone))  # the split that Podium has always made


def test_by_group_without_groups_is_refused() -> None:
    alone = [Item(one.path, one.label) for one in three_splits()]
    with pytest.raises(ConfigError, match=r"expected groups to split Given by, found none\. State"):
        index(alone, split=SplitSpec())


@pytest.mark.parametrize("by", ["group", "image"])
def test_unstratified(by: str) -> None:
    items = [*patients(20, 3), *(Item(f"{n}.png", "b", group=f"{n}") for n in range(40))]
    split = SplitSpec(by=by, stratify="none")  # type: ignore[arg-type]
    found = index(items, split=split, valid_fraction=0.2, test_fraction=0.2)
    assert [len(one) for one in found.splits.values()] == [60, 20, 20]
    assert bool(torn(found)) == (by == "image")
    assert not any("of each class" in one for one in found.notices)


def test_a_class_with_few_groups_is_learned_first() -> None:
    items = [
        *patients(20, 2),
        *(Item(f"c{n}.png", "c", group="only c") for n in range(4)),
        *(Item(f"d{n}.png", "d", group=f"d {n % 2}") for n in range(4)),
    ]
    found = index(items)
    counts = {name: found.class_counts(name) for name in found.splits}
    assert counts["train"]["c"] == 4
    assert (counts["train"]["d"], counts["test"]["d"] + counts["valid"]["d"]) == (2, 2)
    assert (
        "2 classes with fewer groups than the 3 splits: 'c' (1), 'd' (2). Such a class is "
        "learned, but it is not scored in every split." in found.notices
    )
    assert any(one.startswith("valid has no images of 'c'") for one in found.notices)


def test_groups_as_large_as_classes_cannot_be_held_out(tmp_path: Path) -> None:
    root = write_pictures(tmp_path, {"": 4})
    with pytest.raises(DataError, match="No group can be held out for test and valid: there are 3"):
        build_index(root, group="parent")

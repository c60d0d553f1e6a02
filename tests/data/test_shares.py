"""Folds and splits by whole groups: against scikit-learn, and by what must hold of any of them."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

from podium.data.shares import fold_numbers, group_numbers, share_out
from podium.errors import ConfigError, DataError

Integers = npt.NDArray[np.int64]


def drawn(seed: int, images: int, groups: int, classes: int) -> tuple[Integers, list[str]]:
    """Images of groups of very different sizes; most of a group's images are of one class."""
    random = np.random.default_rng(seed)
    sizes = random.dirichlet(np.full(groups, 0.7))
    of = random.choice(groups, images, p=sizes)
    usual = random.integers(classes, size=groups)
    labels = np.where(random.random(images) < 0.7, usual[of], random.integers(classes, size=images))
    return labels.astype(np.int64), [f"patient {one}" for one in of]


def unevenness(labels: Integers, parts: Integers, folds: int) -> float:
    """What `StratifiedGroupKFold` keeps small: the mean deviation of the classes' shares."""
    counts = np.zeros((folds, labels.max() + 1))
    np.add.at(counts, (parts, labels), 1)
    return float((counts / counts.sum(axis=0)).std(axis=0).mean())


def scikit_learns(splitter: object, labels: Integers, groups: object = None) -> Integers:
    found = np.full(len(labels), -1)
    for fold, (_, tested) in enumerate(splitter.split(labels, labels, groups)):  # type: ignore[attr-defined]
        found[tested] = fold
    return found


@pytest.mark.parametrize("stratify", [True, False])
def test_folds_without_groups_are_scikit_learns(stratify: bool) -> None:
    labels, _ = drawn(0, 230, 10, 4)
    kind = StratifiedKFold if stratify else KFold
    expected = scikit_learns(kind(5, shuffle=True, random_state=3), labels)
    assert fold_numbers(labels, None, 5, 3, stratify=stratify).tolist() == expected.tolist()
    assert fold_numbers(labels, None, 5, 4, stratify=stratify).tolist() != expected.tolist()


def test_a_class_smaller_than_the_folds_is_no_warning() -> None:
    found = fold_numbers(np.asarray([0] * 6 + [1, 1]), None, 5, 0)
    assert len(set(found[-2:])) == 2
    assert len(set(fold_numbers(np.arange(6), None, 3, 0))) == 3  # no class has an image per fold


def test_grouped_folds_are_as_even_as_scikit_learns() -> None:
    ours, theirs = [], []
    for seed in range(20):
        labels, groups = drawn(seed, 600, 60, 5)
        found = fold_numbers(labels, groups, 5, seed)
        assert sorted(set(found)) == [0, 1, 2, 3, 4]
        assert len({*zip(groups, found, strict=True)}) == len(set(groups))
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        ours.append(unevenness(labels, found, 5))
        theirs.append(unevenness(labels, scikit_learns(splitter, labels, groups), 5))
    assert np.mean(ours) < 1.02 * np.mean(theirs)


def test_a_few_groups_are_shared_out_nearly_as_well_as_can_be() -> None:
    def harm(labels: Integers, parts: Integers, shares: Integers) -> float:
        counts = np.zeros((3, labels.max() + 1))
        np.add.at(counts, (parts, labels), 1)
        return float((counts**2 / counts.sum(axis=0) ** 2 / shares[:, None]).sum())

    excess = []
    for seed in range(6):
        labels, names = drawn(seed, 200, 7, 2)
        groups, shares = group_numbers(names), np.asarray([0.6, 0.2, 0.2])
        every = itertools.product(range(3), repeat=int(groups.max()) + 1)
        best = min(harm(labels, np.asarray(one)[groups], shares) for one in every)
        found = share_out(labels, groups, [*shares], seed)
        excess.append(harm(labels, found, shares) / best - 1)
    assert np.mean(excess) < 0.1


def test_the_seed_alone_decides_and_not_the_names_order_or_number_of_runs() -> None:
    labels, groups = drawn(1, 300, 40, 3)
    once = fold_numbers(labels, groups, 5, 8)
    assert once.tolist() == fold_numbers(labels, groups, 5, 8).tolist()
    assert once.tolist() != fold_numbers(labels, groups, 5, 9).tolist()
    mixed = np.random.default_rng(0).permutation(len(labels))
    numbers = group_numbers(groups)
    again = share_out(labels[mixed], numbers[mixed], [0.2] * 5, 8)
    assert again.tolist() == once[mixed].tolist()


def test_images_without_a_group_stand_alone() -> None:
    groups = ["a"] * 4 + [None] * 8
    found = fold_numbers(np.zeros(12, dtype=np.int64), groups, 3, 0)
    assert len(set(found[:4])) == 1
    assert np.bincount(found).tolist() == [4, 4, 4]


def test_unstratified_groups_share_sizes_only() -> None:
    labels, groups = drawn(2, 400, 80, 4)
    found = fold_numbers(labels, groups, 4, 0, stratify=False)
    assert np.ptp(np.bincount(found)) <= 5
    assert len({*zip(groups, found, strict=True)}) == len(set(groups))


@pytest.mark.parametrize("groups", [3, 4, 12])
def test_a_class_with_enough_groups_is_in_every_part(groups: int) -> None:
    """By the shares alone, a class of three equal groups would lie in train only."""
    labels = np.repeat(np.arange(5), groups * 4)
    of = np.repeat(np.arange(5 * groups), 4)
    parts = share_out(labels, of, [0.8, 0.1, 0.1], 0, whole=0)
    for label in range(5):
        assert set(parts[labels == label]) == {0, 1, 2}


def test_a_class_with_few_groups_is_in_the_whole_part() -> None:
    # class 0 is in one large group with class 1, class 2 in two groups
    labels = np.asarray([0] * 5 + [1] * 5 + [1] * 90 + [2] * 4)
    of = np.asarray([0] * 10 + [*range(1, 91)] + [91, 91, 92, 92])
    for whole in range(3):
        parts = share_out(labels, of, [0.8, 0.1, 0.1], 0, whole=whole)
        assert set(parts[labels == 0]) == {whole}
        assert len(set(parts[labels == 2])) == 2
        assert whole in parts[labels == 2]
        assert set(parts[labels == 1]) == {0, 1, 2}


def test_too_few_for_the_folds() -> None:
    labels = np.zeros(4, dtype=np.int64)
    with pytest.raises(ConfigError, match="expected 2 or more, got 1"):
        fold_numbers(labels, None, 1, 0)
    with pytest.raises(DataError, match="5 folds need at least 5 images, found 4"):
        fold_numbers(labels, None, 5, 0)
    with pytest.raises(DataError, match="3 folds need at least 3 groups, found 2"):
        fold_numbers(labels, ["a", "a", "b", "b"], 3, 0)

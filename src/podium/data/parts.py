"""The images of one fold of a study, and of the training on all of them, each as an index."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from podium.data.folds import Folds, derived_seed
from podium.data.index import DataIndex, PartOf
from podium.data.shares import group_numbers, share_out
from podium.data.splits import Split
from podium.errors import DataError

Integers = npt.NDArray[np.int64]


def fold_index(index: DataIndex, number: int) -> DataIndex:
    """The index of one fold: `test` is the fold, `train` and `valid` are the other images.

    Args:
        index: of the study.
        number: of the fold, from 0 through all repeats.
    """
    folds, pool = index.folds, index.splits["test"]
    assert folds is not None
    repeat, fold = divmod(number, folds.count)
    tested = folds.numbers[repeat] == fold
    rest = np.flatnonzero(~tested)
    held_out = _held_out(pool, folds, rest, derived_seed(folds.seed, "valid", number))
    rows = {"train": rest[~held_out], "valid": rest[held_out], "test": np.flatnonzero(tested)}
    for name, those in rows.items():
        if not len(those):
            raise DataError(
                f"Fold {number} of {index.root} has no {name} images: choose fewer folds."
            )
    return _part(index, rows, f"fold {number}")


def refit_index(index: DataIndex) -> DataIndex:
    """The index of the training on all images: there are none to validate or test on.

    Args:
        index: of the study.
    """
    none = np.empty(0, dtype=np.int64)
    rows = {"train": np.arange(len(index.splits["test"])), "valid": none, "test": none}
    return _part(index, rows, "all")


def share_index(
    index: DataIndex, share: float, seed: int, *, whole_groups: bool = True
) -> DataIndex:
    """The index with a share of the training images; the other splits stay.

    With one seed, a smaller share is a part of a larger one. All shares have their features and
    decoded images in common.

    Args:
        index: of the study, or of one of its folds.
        share: of the training images, above 0 and at most 1: of each class, at least one; with
            groups, of all.
        seed: of the draw.
        whole_groups: where images have groups, draw whole groups.
    """
    part = index.part_of or _parts_of(index)
    rows, whole = part.rows["train"], part.whole
    pool = whole.splits["test"].part("train", rows)
    if whole_groups and any(group is not None for group in pool.groups):
        kept = _share_of_groups(pool.labels, group_numbers(pool.groups), share, seed)
    else:
        kept = np.zeros(len(rows), dtype=bool)
        for label in np.unique(pool.labels).tolist():
            own = np.flatnonzero(pool.labels == label)
            drawn = np.random.default_rng(derived_seed(seed, "share", label)).permutation(own)
            kept[drawn[: max(1, round(share * len(own)))]] = True
    return _part(whole, {**part.rows, "train": rows[kept]}, f"{index.fingerprint} {share} {seed}")


def _share_of_groups(
    labels: Integers, groups: Integers, share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Groups in random order until the share is reached, and the first of each class besides."""
    turn = np.random.default_rng(derived_seed(seed, "share", -1)).permutation(int(groups.max()) + 1)
    place = np.argsort(turn)[groups]  # of each image's group
    sizes = np.bincount(place)
    reached = int(np.searchsorted(np.cumsum(sizes), share * len(labels) - 1e-9)) + 1
    first = np.full(int(labels.max()) + 1, len(sizes))
    np.minimum.at(first, labels, place)
    return np.asarray((place < reached) | np.isin(place, first))


def _parts_of(index: DataIndex) -> PartOf:
    """The splits of an index as parts of all of its images."""
    images = index.images
    labels = np.empty(len(images.paths), dtype=np.int64)
    for split in index.splits.values():
        labels[split.rows] = split.labels
    pool = Split("test", images, np.arange(len(labels)), labels)
    whole = replace(index, splits={"test": pool})
    return PartOf(whole, {name: split.rows for name, split in index.splits.items()})


def without_images(index: DataIndex, split: str, digests: Collection[str]) -> DataIndex:
    """Leave images out of a split by the bytes of their files.

    Args:
        index: the images.
        split: the split to leave them out of.
        digests: SHA-256 of the files.

    Returns:
        The index of the others, with the same fingerprint; `index` itself if there are none.
    """
    part = index.splits[split]
    hexes = part.images.hexes(part.rows)
    kept = np.asarray([at for at, one in enumerate(hexes) if one not in digests], dtype=np.int64)
    if len(kept) == len(part):
        return index
    return replace(index, splits={**index.splits, split: part.part(split, kept)})


def each_index(index: DataIndex) -> Iterator[DataIndex]:
    """The index of each fold in turn; without folds, the index itself.

    Args:
        index: of the study.
    """
    if index.folds is None:
        yield index
    else:
        yield from (fold_index(index, number) for number in range(index.folds.total))


def _part(index: DataIndex, rows: dict[str, Integers], name: str) -> DataIndex:
    pool = index.splits["test"]
    return replace(
        index,
        splits={split: pool.part(split, those) for split, those in rows.items()},
        fingerprint=hashlib.sha256(f"{index.fingerprint} {name}".encode()).hexdigest(),
        folds=None,
        part_of=PartOf(index, rows),
    )


def _held_out(pool: Split, folds: Folds, rest: Integers, seed: int) -> npt.NDArray[np.bool_]:
    """Which of the images outside a fold are validated on; every class keeps some to train on."""
    labels, share = pool.labels[rest], folds.valid_fraction
    kinds = labels if folds.stratify else np.zeros_like(labels)
    if folds.whole_groups:
        groups = group_numbers(pool.part(pool.name, rest).groups)
        parts = share_out(kinds, groups, [1 - share, share], seed, whole=0)
        return np.equal(parts, 1)
    random, found = np.random.default_rng(seed), np.zeros(len(rest), dtype=bool)
    for kind in np.unique(kinds):
        those = random.permutation(np.flatnonzero(kinds == kind))
        found[those[: min(max(1, round(share * len(those))), len(those) - 1)]] = True
    return found

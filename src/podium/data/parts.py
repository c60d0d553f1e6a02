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

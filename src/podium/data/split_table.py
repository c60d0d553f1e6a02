"""The split of a data set as a table that other programs can use; no image is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from podium.config.data_settings import DataSpec
from podium.data.assign import completed, described, split_anew
from podium.data.leaks import torn_groups
from podium.data.listing import SPLITS, Listing
from podium.data.shares import fold_numbers
from podium.data.splits import make_split
from podium.data.words import counted, listed
from podium.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class SplitTable:
    """Images with their splits.

    Attributes:
        table: the columns `path`, `label`, `split` (`train`, `valid` or `test`), `fold` (if asked
            for: the fold in which an image is tested, from 0) and `group` (null where there is
            none); one row per image, sorted by path.
        counts: split -> number of images.
        notices: sentences for the user.
    """

    table: pa.Table
    counts: Mapping[str, int]
    notices: tuple[str, ...]


def split_table(found: Listing, data: DataSpec, folds: int | None = None) -> SplitTable:
    """Split the images as a study with this `data` does if all of its files can be read.

    Args:
        found: the images, with their groups.
        data: how they are split.
        folds: number of folds, 2 or more, that all images are dealt into; None: no folds.

    Raises:
        ConfigError: the split is by group, and there are no groups.
        DataError: the images cannot be split.
    """
    import pyarrow as pa

    found = split_anew(found, data.split)
    if "train" not in found.splits:
        raise DataError(f"{found.place} has {found.advice.no_train}")
    given = {
        name: {label: sorted(paths) for label, paths in by_class.items()}
        for name, by_class in found.splits.items()
    }
    fractions = {"valid": data.valid_fraction, "test": data.test_fraction}
    parts, told = completed(
        given, found.groups, fractions, split=data.split, seed=data.split_seed, advice=found.advice
    )
    notices = [*found.notices, *told]
    classes = tuple(sorted(parts["train"]))
    bare = replace(found, columns={})
    splits = {
        name: described(make_split(name, parts[name], classes, notices, found.advice), bare)
        for name in SPLITS
    }
    notices += torn_groups(splits)

    rows = sorted(
        (path, int(label), name)
        for name, split in splits.items()
        for path, label in zip(split.paths, split.labels, strict=True)
    )
    groups = [found.groups.get(path) for path, _, _ in rows]
    columns = {
        "path": pa.array([path for path, _, _ in rows], pa.string()),
        "label": pa.array([classes[label] for _, label, _ in rows], pa.string()),
        "split": pa.array([name for _, _, name in rows], pa.string()),
    }
    if folds is not None:
        labels = np.asarray([label for _, label, _ in rows], dtype=np.int64)
        stratify = data.split is None or data.split.stratify == "label"
        by_group = bool(found.groups) and (data.split is None or data.split.by == "group")
        units = groups if by_group else None
        numbers = fold_numbers(labels, units, folds, data.split_seed, stratify=stratify)
        columns["fold"] = pa.array(numbers)
        pairs = np.unique(np.stack([labels, numbers]), axis=1)
        lone = [classes[at] for at in np.flatnonzero(np.bincount(pairs[0]) == 1)]
        if lone:
            notices.append(
                f"{counted(len(lone), 'class', 'classes')} in a single fold: {listed(lone)}. When "
                "that fold is tested, nothing of the class is left to train on."
            )
    columns["group"] = pa.array(groups, pa.string())
    counts = {name: len(split) for name, split in splits.items()}
    return SplitTable(pa.table(columns), counts, tuple(notices))

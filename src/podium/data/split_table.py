"""The split of a data set as a table that other programs can use; no image is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from podium.config.data_settings import DataSpec
from podium.data.assign import completed, split_anew
from podium.data.file_checks import Verdicts
from podium.data.leaks import torn_groups
from podium.data.listing import Listing
from podium.data.shares import fold_numbers
from podium.data.splits import SPLITS, Split, class_names, of_classes
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
    if "train" not in found.parts:
        raise DataError(f"{found.place} has {found.advice.no_train}")
    fractions = {"valid": data.valid_fraction, "test": data.test_fraction}
    parts, told = completed(found, found.parts, fractions, split=data.split, seed=data.split_seed)
    notices = [*found.notices, *told]
    classes = tuple(sorted(class_names(parts["train"], found.labels, found.names)))
    drawn = {
        name: of_classes(
            name, parts[name], found.labels, found.names, classes, notices, found.advice
        )
        for name in SPLITS
    }
    unread = found.table(Verdicts.empty(len(found.paths)), np.arange(len(found.paths)))
    splits = {name: Split(name, unread, *one) for name, one in drawn.items()}
    notices += torn_groups(splits)

    rows = np.concatenate([split.rows for split in splits.values()])
    order = np.argsort(rows)
    rows = rows[order]
    labels = np.concatenate([split.labels for split in splits.values()])[order]
    names = np.repeat(np.arange(len(splits)), [len(split) for split in splits.values()])[order]
    groups = None if found.groups is None else found.groups.take(rows)
    columns = {
        "path": found.paths.take(rows).text().cast(pa.string()),
        "label": pa.array(classes, pa.string()).take(pa.array(labels)),
        "split": pa.array(SPLITS, pa.string()).take(pa.array(names)),
    }
    if folds is not None:
        stratify = data.split is None or data.split.stratify == "label"
        units = groups if data.split is None or data.split.by == "group" else None
        numbers = fold_numbers(labels, units, folds, data.split_seed, stratify=stratify)
        columns["fold"] = pa.array(numbers)
        pairs = np.unique(np.stack([labels, numbers]), axis=1)
        lone = [classes[at] for at in np.flatnonzero(np.bincount(pairs[0]) == 1)]
        if lone:
            notices.append(
                f"{counted(len(lone), 'class', 'classes')} in a single fold: {listed(lone)}. When "
                "that fold is tested, nothing of the class is left to train on."
            )
    columns["group"] = pa.array(groups or [None] * len(rows), pa.string())
    counts = {name: len(split) for name, split in splits.items()}
    return SplitTable(pa.table(columns), counts, tuple(notices))

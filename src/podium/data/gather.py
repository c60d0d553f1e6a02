"""Gathers what a source lists as columns sorted by path, and says what cannot be used."""

from __future__ import annotations

import os
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from podium.data.columns import Coded, Coder, Rows, Texts
from podium.data.file_checks import Verdicts
from podium.data.source import Item
from podium.data.splits import SPLITS, Parts
from podium.data.words import counted, listed, shown

_BATCH = 65_536  # names that become Arrow's at a time
_CODES = {split: code for code, split in enumerate(SPLITS)}
_NONE = -1


@dataclass(eq=False)
class Gathered:
    """What a source lists, one row per image.

    Attributes:
        paths: sorted by code points.
        labels: class of each image, as its place in `names`; int32 of shape (n,).
        names: of the classes, in the order in which they were listed.
        splits: place of each image's split in `SPLITS`; -1: none; int8 of shape (n,).
        groups: of each image; None: no image has one.
        columns: by name.
        checked: properties of the files; None: they are not known.
        total: number of things that were listed, usable or not.
        faults: what is wrong -> examples of it.
        others: kind of things that are not items -> how many.
    """

    paths: Texts
    labels: npt.NDArray[np.int32]
    names: tuple[str, ...]
    splits: npt.NDArray[np.int8]
    groups: Coded | None = None
    columns: dict[str, Coded] = field(default_factory=dict)
    checked: Verdicts | None = None
    total: int = 0
    faults: dict[str, list[str]] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)

    @property
    def is_split(self) -> bool:
        """Whether images have splits."""
        return bool((self.splits != _NONE).any())

    def parts(self) -> Parts:
        """Split -> rows; without splits, everything is `train`."""
        if not self.is_split:
            return {"train": np.arange(len(self.splits))}
        found = {name: np.flatnonzero(self.splits == code) for name, code in _CODES.items()}
        return {name: rows for name, rows in found.items() if len(rows)}

    def wrong(self) -> str:
        """What cannot be used, all at once, to follow the source's name; empty if nothing."""
        if self.others:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.others.most_common())
            return f": expected only items of type podium.Item, got {kinds}."
        if not self.total:
            return " lists no images."
        faults = dict(self.faults)
        if _NAMELESS not in faults and (again := self._again()):
            faults[_AGAIN] = again
        split = self.splits != _NONE
        if split.any() and not split.all():
            some = _SPLIT_LESS.format(int(split.sum()))
            faults[some] = [*map(repr, self.paths.take(np.flatnonzero(~split)))]
        if not faults:
            return ""
        ranked = sorted(faults, key=lambda what: [what.startswith(one) for one in _ORDER][::-1])
        told = "; ".join(
            f"{counted(len(faults[what]), 'item')} {what}: "
            f"{shown(listed([*dict.fromkeys(faults[what])]))}"
            for what in ranked
        )
        return (
            f" lists {counted(self.total, 'image')} that cannot be used: {told}. Fix the source, "
            "or the data that it reads."
        )

    def _again(self) -> list[str]:
        """The names of more than one image, as often as they are listed."""
        names = self.paths.arrow()
        if len(names) < 2:
            return []
        same = pc.equal(names.slice(0, len(names) - 1), names.slice(1))
        after = same.to_numpy(zero_copy_only=False)
        twice = np.zeros(len(names), np.bool_)
        twice[1:] |= after
        twice[:-1] |= after
        return [*map(repr, self.paths.take(np.flatnonzero(twice)))]


_NAMELESS = "without a relative name such as cat/1.jpg"
_AGAIN = "with a duplicate name"
_UNLABELLED = "without a label"
_OF_NO_SPLIT = "of a split that is not train, valid or test"
_SPLIT_LESS = "without a split, while {:,} have one"
_ODD_GROUP = "whose group is not a string"
_ORDER = (_NAMELESS, _AGAIN, _UNLABELLED, _OF_NO_SPLIT, _SPLIT_LESS[:15], _ODD_GROUP)


def gathered(items: Iterable[Any]) -> Gathered:
    """Gather items, as they come.

    Args:
        items: what a source lists; things of other types are counted.
    """
    parts: list[Texts] = []
    batch: list[str] = []
    labels, splits = array("i"), array("b")
    names: dict[str, int] = {}  # NFC: one class if two Unicode spellings look the same
    spelled: dict[str, int] = {}
    groups = Coder()
    columns: dict[str, Coder] = {}
    faults: dict[str, list[str]] = {}
    others: Counter[str] = Counter()
    total = rows = 0

    for item in items:
        total += 1
        if not isinstance(item, Item):
            others[type(item).__name__] += 1
            continue
        label, split, group = item.label, item.split, item.group
        sound = _is_name(item.path)
        if not sound:
            faults.setdefault(_NAMELESS, []).append(repr(item.path))
        if not (isinstance(label, str) and label.strip()):
            faults.setdefault(_UNLABELLED, []).append(repr(item.path))
            sound = False
        if not (split is None or split in SPLITS):
            faults.setdefault(_OF_NO_SPLIT, []).append(repr(split))
            sound = False
        if not (group is None or isinstance(group, str)):
            faults.setdefault(_ODD_GROUP, []).append(repr(group))
            sound = False
        if not sound:
            continue
        batch.append(item.path)
        if len(batch) == _BATCH:
            parts.append(Texts.of(batch))
            batch = []
        if label not in spelled:
            normal = unicodedata.normalize("NFC", label)
            spelled[label] = names.setdefault(normal, len(names))
        labels.append(spelled[label])
        splits.append(_NONE if split is None else _CODES[split])
        groups.add(group)
        for name, cell in item.columns.items():
            if name not in columns:
                columns[name] = Coder()
            columns[name].pad(rows)
            columns[name].add(cell)
        rows += 1

    paths = Texts.joined([*parts, Texts.of(batch)])
    del parts, batch
    for coder in columns.values():
        coder.pad(rows)
    order = paths.order()
    if order is not None:
        paths = Texts(paths.take(order).arrow())
    return Gathered(
        paths,
        _ordered(np.array(labels, np.int32), order),
        tuple(names),
        _ordered(np.array(splits, np.int8), order),
        groups.column(order) if groups.values else None,
        {name: columns[name].column(order) for name in sorted(columns)},
        total=total,
        faults=faults,
        others=others,
    )


def gathered_table(table: pa.Table) -> Gathered:
    """Gather the rows of a table that Podium has written and checked: nothing is copied.

    Args:
        table: as `podium.data.packing` writes it.
    """
    labels, groups = _coded(table["label"]), _coded(table["group"])
    splits = _coded(table["split"])
    codes = np.array([*(_CODES[name] for name in splits.values), _NONE], np.int8)
    return Gathered(
        Texts(table["path"].chunk(0)),
        labels.codes,
        tuple(labels.values),
        codes[splits.codes],
        groups if len(groups.values) else None,
        {
            name.removeprefix(FURTHER): _coded(table[name])
            for name in table.column_names
            if name.startswith(FURTHER)
        },
        checked=Verdicts.of_columns(table),
        total=table.num_rows,
    )


FURTHER = "column:"
"""Before the name of a column of further metadata."""


def _coded(column: pa.ChunkedArray) -> Coded:
    whole = column.chunk(0)
    values: Any = whole.dictionary
    values = Texts(values) if pa.types.is_large_string(values.type) else values.to_pylist()
    return Coded(values, pc.fill_null(whole.indices, _NONE).to_numpy())


def _ordered(values: npt.NDArray[Any], order: Rows | None) -> npt.NDArray[Any]:
    return values if order is None else values[order]


def _is_name(path: object) -> bool:
    """Whether it is a valid image name: one that stays inside the folder it is joined to."""
    if not isinstance(path, str) or not path or "\0" in path:
        return False
    climbs = ".." in path and ".." in path.replace("\\", "/").split("/")
    return not (climbs or path[0] == "/" or (os.name == "nt" and Path(path).is_absolute()))

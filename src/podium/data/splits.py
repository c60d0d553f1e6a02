"""Makes the splits: holds images out if a split is missing, and leaves small classes out.

Images are rows of a table that is sorted by path, so rows in ascending order are paths in order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from podium.data.advice import FOLDERS, Advice
from podium.data.columns import Rows, Texts
from podium.data.image_table import Entries, ImageTable
from podium.data.words import counted, listed, named
from podium.errors import DataError

SPLITS = ("train", "valid", "test")

Parts = dict[str, Rows]
"""Split -> rows of its images, ascending."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one split.

    Attributes:
        name: `train`, `valid` or `test`.
        images: all images of the index.
        rows: of this split's images in `images`; int64 of shape (n,).
        labels: int64 of shape (n,).
    """

    name: str
    images: ImageTable
    rows: Rows
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def paths(self) -> Texts:
        """Relative to the root, with '/'; sorted by code points."""
        return self.images.paths.take(self.rows)

    @cached_property
    def groups(self) -> Sequence[str | None]:
        """The group of each image, or None; empty if the source has no groups."""
        return () if self.images.groups is None else self.images.groups.take(self.rows)

    @cached_property
    def columns(self) -> Mapping[str, Sequence[Any]]:
        """Name -> the value of each image, None if it has none."""
        return {name: cells.take(self.rows) for name, cells in self.images.columns.items()}

    def entries(self) -> Entries:
        """What reading the images takes."""
        return Entries(self.paths, self.images.digests, self.labels, self.rows)

    def part(self, name: str, numbers: Rows) -> Split:
        """Some of the images, as a split of their own.

        Args:
            name: of the new split.
            numbers: of the images in this one; int64 of shape (m,).
        """
        return Split(name, self.images, self.rows[numbers], self.labels[numbers])


def without_small(
    parts: Parts, labels: npt.NDArray[np.int32], names: Sequence[str], least: int, told: list[str]
) -> Parts:
    """Leave out the classes with fewer training images than `least`, in every split.

    Args:
        parts: the images of each split.
        labels: class of each row, shape (n,).
        names: of the classes.
        least: minimum number of training images of a class.
        told: sentences for the user; extended.
    """
    sizes = _class_sizes(labels[parts["train"]], names)
    small = (sizes > 0) & (sizes < least)
    if not small.any():
        return parts
    kept = {split: rows[~small[labels[rows]]] for split, rows in parts.items()}
    lost = sum(map(len, parts.values())) - sum(map(len, kept.values()))
    classes = [f"{label!r} ({count})" for label, count in sorted(_counts(sizes, names, small))]
    told.append(
        f"{counted(len(classes), 'class', 'classes')} with fewer than {least} training images "
        f"(min_images), {counted(lost, 'image')} in total, left out: {listed(classes)}."
    )
    return kept


def hold_out(
    train: Rows,
    labels: npt.NDArray[np.int32],
    names: Sequence[str],
    fractions: Mapping[str, float],
    seed: int,
    advice: Advice = FOLDERS,
) -> Parts:
    """Split each class at random, depending only on the seed and the sorted paths.

    Args:
        train: rows to split, ascending.
        labels: class of each row, shape (n,).
        names: of the classes.
        fractions: split -> share of each class that is held out for it.
        seed: of the random split.
        advice: remedies for the error message.

    Raises:
        DataError: a class has too few images.
    """
    least = 1 + len(fractions)
    sizes = _class_sizes(labels[train], names)
    small = [*_counts(sizes, names, (sizes > 0) & (sizes < least))]
    if small:
        which, count = small[0]
        too_few = f"Class {which!r} has {counted(count, 'image')}"
        if len(small) > 1:
            shown = listed([f"{label!r} ({count})" for label, count in small])
            too_few = f"{len(small)} classes have too few images: {shown}"
        raise DataError(
            f"{too_few}; at least {least} are needed to hold out {' and '.join(fractions)} images. "
            f"Add some, remove {'these classes' if len(small) > 1 else 'the class'}, "
            f"{advice.own_split}, or leave out all classes that small with "
            f"data: {{path: ..., min_images: {least}}} in the study."
        )
    parts: dict[str, list[Rows]] = {name: [] for name in ("train", *fractions)}
    for label, rows in _by_class(train, labels, len(names)):
        key = hashlib.sha256(f"{seed}\0{names[label]}".encode()).digest()
        random = np.random.default_rng(np.frombuffer(key, dtype="<u4"))
        shuffled = rows[random.permutation(len(rows))]
        first = next(iter(fractions))
        for name, fraction in fractions.items():
            count = max(1, round(fraction * len(rows)))
            parts[name].append(shuffled[:count])
            shuffled = shuffled[count:]
        if not len(shuffled):  # tiny classes: rounding must leave one training image
            shuffled, parts[first][-1] = parts[first][-1][-1:], parts[first][-1][:-1]
        parts["train"].append(shuffled)
    return {name: np.sort(np.concatenate(rows)) for name, rows in parts.items()}


def of_classes(
    name: str,
    rows: Rows,
    labels: npt.NDArray[np.int32],
    names: Sequence[str],
    classes: tuple[str, ...],
    told: list[str],
    advice: Advice = FOLDERS,
) -> tuple[Rows, npt.NDArray[np.int64]]:
    """Number the classes of a split as train does; images of other classes are told and left out.

    Args:
        name: of the split.
        rows: of the split, ascending.
        labels: class of each row among `names`, shape (n,).
        names: of the classes that the source has.
        classes: classes of train, in order.
        told: sentences for the user; extended.
        advice: remedies for the error message.

    Returns:
        `(rows, labels)`: the images that are left, and their classes; int64 of shape (m,) each.

    Raises:
        DataError: none of its images belongs to one of the classes.
    """
    sizes = dict(_counts(_class_sizes(labels[rows], names), names))
    unknown = sorted(set(sizes) - set(classes))
    if unknown:
        count = sum(sizes[label] for label in unknown)
        told.append(
            f"{name} has {counted(count, 'image')} of {named(unknown)}, which train does not "
            "have; left out."
        )
    absent = [label for label in classes if label not in sizes]
    if absent and name != "train":
        told.append(f"{name} has no images of {named(absent)}.")
    number = {label: at for at, label in enumerate(classes)}
    found = np.array([number.get(label, -1) for label in names], np.int64)[labels[rows]]
    kept = found >= 0
    if not kept.any():
        raise DataError(
            f"No image of {name} belongs to a class of train ({named(list(classes))}). "
            f"{advice.other_classes}"
        )
    return rows[kept], found[kept]


def class_names(rows: Rows, labels: npt.NDArray[np.int32], names: Sequence[str]) -> list[str]:
    """Names of the classes that some rows have, in the order of `names`.

    Args:
        rows: the rows.
        labels: class of each row of the table, shape (n,).
        names: of the classes.
    """
    return [name for name, _ in _counts(_class_sizes(labels[rows], names), names)]


def _class_sizes(labels: npt.NDArray[np.int32], names: Sequence[str]) -> npt.NDArray[np.int64]:
    return np.bincount(labels, minlength=len(names))


def _counts(
    sizes: npt.NDArray[np.int64], names: Sequence[str], those: npt.NDArray[np.bool_] | None = None
) -> list[tuple[str, int]]:
    """`(class, images)` of the classes that have any, or of `those`."""
    numbers = np.flatnonzero(sizes > 0 if those is None else those).tolist()
    return [(names[number], int(sizes[number])) for number in numbers]


def _by_class(rows: Rows, labels: npt.NDArray[np.int32], count: int) -> list[tuple[int, Rows]]:
    """`(class, its rows in ascending order)`, of the classes that have any."""
    own = labels[rows]
    order = np.argsort(own, kind="stable")
    bounds = np.searchsorted(own[order], np.arange(count + 1))
    pairs = zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
    return [(at, rows[order[low:high]]) for at, (low, high) in enumerate(pairs) if high > low]

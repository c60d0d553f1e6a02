"""Makes the splits: holds images out if a split is missing, and leaves small classes out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from podium.data.advice import FOLDERS, Advice
from podium.data.words import counted, listed, named
from podium.errors import DataError


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one split.

    Attributes:
        name: `train`, `valid` or `test`.
        paths: relative to the root, with '/'.
        labels: int64 of shape (n,).
        groups: the group of each image, or None; empty if the source has no groups.
        columns: name -> the value of each image, None if it has none.
    """

    name: str
    paths: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    groups: tuple[str | None, ...] = ()
    columns: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)


def without_small(
    readable: dict[str, dict[str, list[str]]], least: int, notices: list[str]
) -> dict[str, dict[str, list[str]]]:
    """Leave out the classes with fewer training images than `least`, in every split.

    Args:
        readable: split -> class -> paths.
        least: minimum number of training images of a class.
        notices: sentences for the user; extended.
    """
    small = {label: len(paths) for label, paths in readable["train"].items() if len(paths) < least}
    if not small:
        return readable
    classes = [f"{label!r} ({count})" for label, count in sorted(small.items())]
    others = sum(
        len(paths)
        for split, by_class in readable.items()
        if split != "train"
        for label, paths in by_class.items()
        if label in small
    )
    total = counted(sum(small.values()) + others, "image")
    notices.append(
        f"{counted(len(small), 'class', 'classes')} with fewer than {least} training images "
        f"(min_images), {total} in total, left out: {listed(classes)}."
    )
    return {
        split: {label: paths for label, paths in by_class.items() if label not in small}
        for split, by_class in readable.items()
    }


def hold_out(
    train: dict[str, list[str]],
    fractions: dict[str, float],
    seed: int,
    advice: Advice = FOLDERS,
) -> dict[str, dict[str, list[str]]]:
    """Split each class at random, depending only on the seed and the sorted paths.

    Args:
        train: class -> paths.
        fractions: split -> share of each class that is held out for it.
        seed: of the random split.
        advice: remedies for the error message.

    Returns:
        Split -> class -> paths.

    Raises:
        DataError: a class has too few images.
    """
    parts: dict[str, dict[str, list[str]]] = {"train": {}, **{name: {} for name in fractions}}
    least = 1 + len(fractions)
    small = {label: len(paths) for label, paths in train.items() if len(paths) < least}
    if small:
        which, count = next(iter(small.items()))
        too_few = f"Class {which!r} has {counted(count, 'image')}"
        if len(small) > 1:
            shown = listed([f"{label!r} ({count})" for label, count in small.items()])
            too_few = f"{len(small)} classes have too few images: {shown}"
        raise DataError(
            f"{too_few}; at least {least} are needed to hold out {' and '.join(fractions)} images. "
            f"Add some, remove {'these classes' if len(small) > 1 else 'the class'}, "
            f"{advice.own_split}, or leave out all classes that small with "
            f"data: {{path: ..., min_images: {least}}} in the study."
        )
    for label, paths in train.items():
        key = hashlib.sha256(f"{seed}\0{label}".encode()).digest()
        random = np.random.default_rng(np.frombuffer(key, dtype="<u4"))
        shuffled = [paths[at] for at in random.permutation(len(paths))]
        for name, fraction in fractions.items():
            count = max(1, round(fraction * len(paths)))
            parts[name][label], shuffled = shuffled[:count], shuffled[count:]
        if not shuffled:  # tiny classes: rounding must leave one training image
            shuffled = [parts[next(iter(fractions))][label].pop()]
        parts["train"][label] = sorted(shuffled)
    return parts


def make_split(
    name: str,
    by_class: dict[str, list[str]],
    classes: tuple[str, ...],
    notices: list[str],
    advice: Advice = FOLDERS,
) -> Split:
    """Make a split from paths by class; images of unknown classes are reported and left out.

    Args:
        name: of the split.
        by_class: class -> paths.
        classes: classes of train, in order.
        notices: sentences for the user; extended.
        advice: remedies for the error message.

    Raises:
        DataError: none of its images belongs to one of the classes.
    """
    unknown = sorted(set(by_class) - set(classes))
    if unknown:
        count = sum(len(by_class[label]) for label in unknown)
        notices.append(
            f"{name} has {counted(count, 'image')} of {named(unknown)}, which train does not "
            "have; left out."
        )
    absent = [label for label in classes if not by_class.get(label)]
    if absent and name != "train":
        notices.append(f"{name} has no images of {named(absent)}.")
    pairs = sorted(
        (path, number) for number, label in enumerate(classes) for path in by_class.get(label, [])
    )
    if not pairs:
        raise DataError(
            f"No image of {name} belongs to a class of train ({named(list(classes))}). "
            f"{advice.other_classes}"
        )
    labels = np.asarray([number for _, number in pairs], dtype=np.int64)
    return Split(name, tuple(path for path, _ in pairs), labels)

"""Cross-validation: every image is tested once per repeat, by a model that never saw its group.

A study's index then has a single split, `test`, with all images; `podium.data.parts` makes the
index of one fold from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from podium.config.data_settings import SplitSpec
from podium.data.shares import fold_numbers, group_numbers
from podium.data.splits import Split
from podium.data.words import counted, named
from podium.errors import DataError

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Folds:
    """The folds of a study.

    Attributes:
        count: number of folds per repeat.
        numbers: fold that tests each image, in the order of the study's `test` split, from 0;
            int64 of shape (repeats, n).
        whole_groups: whether groups are kept together.
        stratify: whether each class is shared out evenly.
        valid_fraction: share of the images outside a fold that chooses epochs and penalties.
        seed: of the split.
    """

    count: int
    numbers: Integers
    whole_groups: bool
    stratify: bool
    valid_fraction: float
    seed: int

    @property
    def total(self) -> int:
        """Number of folds of all repeats."""
        return self.count * len(self.numbers)

    def fingerprint(self, images: str) -> str:
        """SHA-256 of images and of how they are shared out.

        Args:
            images: fingerprint of the images.
        """
        total = hashlib.sha256(f"{images} {self.count} {self.valid_fraction}\n".encode())
        total.update(np.ascontiguousarray(self.numbers, "<i8").tobytes())
        return total.hexdigest()


def make_folds(
    pool: Split,
    classes: Sequence[str],
    folds: int,
    repeats: int,
    *,
    split: SplitSpec,
    seed: int,
    valid_fraction: float,
    was_split: bool,
) -> tuple[Folds, list[str]]:
    """Share images out among folds.

    Args:
        pool: all images, in the order of their paths.
        classes: names of the classes.
        folds: number of folds.
        repeats: how often they are shared out anew.
        split: whether groups are kept together, and whether classes are shared out evenly.
        seed: of the split.
        valid_fraction: share of the images outside a fold that is held out for validation.
        was_split: whether the source has splits, which are not used.

    Returns:
        The folds, and sentences for the user.

    Raises:
        DataError: a class has a single image, or there are fewer images or groups than folds.
    """
    sizes = np.bincount(pool.labels, minlength=len(classes))
    if single := [name for name, size in zip(classes, sizes, strict=True) if size < 2]:
        raise DataError(
            f"{counted(len(single), 'class', 'classes')} with a single image ({named(single)}): "
            "the model that is tested on it cannot have learned the class. Add images, or leave "
            "such classes out with data: {path: ..., min_images: 2} in the study."
        )
    groups = pool.groups if split.by == "group" and pool.groups else None
    stratify = split.stratify == "label"
    seeds = [repeat_seed(seed, repeat) for repeat in range(repeats)]
    numbers = np.stack(
        [fold_numbers(pool.labels, groups, folds, one, stratify=stratify) for one in seeds]
    )
    found = Folds(folds, numbers, groups is not None, stratify, valid_fraction, seed)
    notices = [_told(pool, found, was_split)]
    if groups is not None and (alone := _in_one_group(pool, classes)):
        notices.append(
            f"All images of {named(alone)} are in one group: no model that is tested on them has "
            "seen the class."
        )
    return found, notices


def _told(pool: Split, folds: Folds, was_split: bool) -> str:
    units, repeats = counted(len(pool), "image"), len(folds.numbers)
    if folds.whole_groups:
        units += f" in {counted(int(group_numbers(pool.groups).max()) + 1, 'group')}"
    again = f" in each of {repeats} repeats" if repeats > 1 else ""
    source = " The splits of the source are not used." if was_split else ""
    return (
        f"{folds.count} folds of {units}: every image is tested once{again}, by a model that had "
        f"not seen it{' or its group' if folds.whole_groups else ''}.{source}"
    )


def _in_one_group(pool: Split, classes: Sequence[str]) -> list[str]:
    pairs = set(zip(pool.labels.tolist(), group_numbers(pool.groups).tolist(), strict=True))
    count = np.bincount([label for label, _ in pairs], minlength=len(classes))
    return [name for name, groups in zip(classes, count, strict=True) if groups == 1]


def repeat_seed(seed: int, repeat: int) -> int:
    """The seed of a repeat's folds; the first one's is that of the split itself."""
    return seed if repeat == 0 else derived_seed(seed, "repeat", repeat)


def derived_seed(seed: int, purpose: str, number: int) -> int:
    """A seed of its own for each draw, below 2^32."""
    digest = hashlib.sha256(f"{seed}\0{purpose}\0{number}".encode()).digest()
    return int.from_bytes(digest[:4], "little")

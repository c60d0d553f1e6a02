"""Shares images out among folds or splits: whole groups, each class in proportion."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from podium.data.columns import Coded, coded
from podium.errors import ConfigError, DataError

Integers = npt.NDArray[np.int64]


def fold_numbers(
    labels: Integers,
    groups: Sequence[str | None] | None,
    folds: int,
    seed: int,
    *,
    stratify: bool = True,
) -> Integers:
    """Give each image the fold in which it is tested; all images of a group are in the same fold.

    Without groups these are the folds of scikit-learn's `StratifiedKFold` (`KFold` if not
    stratified) with `shuffle`. With groups see `share_out`.

    Args:
        labels: the class of each image, from 0; shape (n,), the images in the order of their
            sorted paths, so that the folds do not depend on the order in which a source lists them.
        groups: the group of each image, None where it belongs to no other; None: no groups.
        folds: number of folds, 2 or more.
        seed: of the shuffling.
        stratify: give each fold each class's share of images, as nearly as the groups allow.

    Returns:
        int64 of shape (n,): the fold of each image, from 0. A class with fewer groups than folds is
        absent from some folds; one with a single group is absent from the images that the others
        leave to train on.

    Raises:
        ConfigError: fewer than two folds.
        DataError: there are fewer images or groups than folds.

    Examples:
        >>> labels = np.asarray([0, 0, 1, 1, 0, 0, 1, 1])
        >>> fold_numbers(labels, ["a", "a", "b", "b", "c", "c", "d", "d"], folds=2, seed=0).tolist()
        [1, 1, 0, 0, 0, 0, 1, 1]
    """
    if folds < 2:
        raise ConfigError(f"folds: expected 2 or more, got {folds}.")
    if groups is not None:
        numbers = group_numbers(groups)
        _refuse_few(int(numbers.max(initial=-1)) + 1, "group", folds)
        kinds = labels if stratify else np.zeros_like(labels)
        return share_out(kinds, numbers, [1 / folds] * folds, seed)
    _refuse_few(len(labels), "image", folds)

    from sklearn.model_selection import KFold, StratifiedKFold  # takes a second to load

    # scikit-learn refuses to stratify where no class has an image for each fold
    kind = StratifiedKFold if stratify and np.bincount(labels).max() >= folds else KFold
    splitter = kind(folds, shuffle=True, random_state=seed)
    found = np.empty(len(labels), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        for fold, (_, tested) in enumerate(splitter.split(labels, labels)):
            found[tested] = fold
    return found


def _refuse_few(there: int, what: str, folds: int) -> None:
    if there < folds:
        raise DataError(
            f"{folds} folds need at least {folds} {what}s, found {there}. Choose fewer folds."
        )


def group_numbers(groups: Sequence[str | None]) -> Integers:
    """Number the groups from 0; an image without a group is one of its own.

    Args:
        groups: the group of each image, None where it belongs to no other.

    Examples:
        >>> group_numbers(["b", None, "a", "b", None]).tolist()
        [1, 2, 0, 1, 3]
    """
    column = groups if isinstance(groups, Coded) else coded(groups)
    codes, values = column.codes, column.values
    used = sorted(np.unique(codes[codes >= 0]).tolist(), key=values.__getitem__)
    number = np.full(len(values) + 1, -1)  # the last one: of -1, no group
    number[used] = np.arange(len(used))
    found = number[codes]
    alone = np.flatnonzero(found < 0)
    found[alone] = len(used) + np.arange(len(alone))
    return found


def share_out(
    labels: Integers,
    groups: Integers,
    shares: Sequence[float],
    seed: int,
    *,
    whole: int | None = None,
) -> Integers:
    """Share whole groups out among parts, so that each part gets its share of each class.

    As in scikit-learn's `StratifiedGroupKFold`, groups are taken in turn, the largest first, and
    each goes where it does least harm. Unlike there, the parts may be of different sizes, a class
    with a group for each part is in all of them if other classes allow it, and a million images
    take seconds. What is kept small is the sum of `count^2 / (share * total^2)` over classes and
    parts: for each class, the chi-squared distance from the shares.

    Args:
        labels: the class of each image, from 0; shape (n,).
        groups: the group of each image, from 0; shape (n,).
        shares: share of the images that each part should get; they sum to 1.
        seed: decides between groups of the same size.
        whole: a part that must have every class, whatever the others then lack; None: no such part.

    Returns:
        int64 of shape (n,): the part of each image.
    """
    wide = int(labels.max()) + 1
    pairs, sizes = np.unique(groups * wide + labels, return_counts=True)
    owner, kinds = np.divmod(pairs, wide)
    weights = sizes / np.bincount(labels)[kinds]  # share of a class that lies in a group
    count = int(groups.max()) + 1
    starts = np.searchsorted(owner, np.arange(count + 1))
    contents = [slice(*ends) for ends in pairwise(starts.tolist())]

    shuffled = np.random.default_rng(seed).permutation(count)
    turns = np.argsort(-np.bincount(owner, weights**2)[shuffled], kind="stable")
    filled = np.zeros((len(shares), wide))
    per_share = 1 / np.asarray(shares)
    parts = np.empty(count, dtype=np.int64)
    for group in shuffled[turns].tolist():
        kind, weight = kinds[contents[group]], weights[contents[group]]
        harm = ((2 * filled[:, kind] + weight) @ weight) * per_share
        parts[group] = best = int(harm.argmin())
        filled[best, kind] += weight

    numbers = np.zeros((len(shares), wide), dtype=np.int64)  # of groups
    np.add.at(numbers, (parts[owner], kinds), 1)

    def move_into(part: int, label: int, *, at_any_price: bool) -> None:
        """Move the group of the class that does least harm there, if no other part needs it."""
        least, chosen = np.inf, -1
        for group in owner[kinds == label].tolist():
            kind, weight = kinds[contents[group]], weights[contents[group]]
            home = parts[group]
            if (home != whole and at_any_price) or (numbers[home, kind] > 1).all():
                added = (2 * filled[part, kind] + weight) @ weight * per_share[part]
                saved = (2 * filled[home, kind] - weight) @ weight * per_share[home]
                if added - saved < least:
                    least, chosen = added - saved, group
        if chosen >= 0:
            kind, weight, home = kinds[contents[chosen]], weights[contents[chosen]], parts[chosen]
            filled[home, kind] -= weight
            filled[part, kind] += weight
            numbers[home, kind] -= 1
            numbers[part, kind] += 1
            parts[chosen] = part

    if whole is not None:
        for label in np.flatnonzero((numbers[whole] == 0) & (numbers.sum(axis=0) > 0)).tolist():
            move_into(whole, label, at_any_price=True)
    rarest_first = np.argsort(numbers.sum(axis=0), kind="stable")
    for label in rarest_first[(numbers == 0).any(axis=0)[rarest_first]].tolist():
        for part in np.argsort(numbers[:, label], kind="stable").tolist():
            if numbers[part, label] == 0:
                move_into(part, label, at_any_price=False)
    return parts[groups]

"""Assigns images to splits: as the source does, or anew, by whole groups where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from podium.config.data_settings import SplitSpec
from podium.data.columns import Coded, Rows
from podium.data.listing import Listing
from podium.data.shares import group_numbers, share_out
from podium.data.splits import SPLITS, Parts, class_names, hold_out
from podium.data.words import counted, listed
from podium.errors import ConfigError, DataError


def split_anew(found: Listing, split: SplitSpec | None) -> Listing:
    """Disregard the splits of the source, if all images are to be split anew.

    Args:
        found: the images.
        split: how to split all images; None: keep the source's splits.

    Raises:
        ConfigError: the split is to be by group, and no image has a group.
    """
    if split is None:
        return found
    if split.by == "group" and found.groups is None:
        raise ConfigError(
            f"data.split: expected groups to split {found.place} by, found none. State what "
            "belongs together, such as data: {group: parent}, or split single images with data: "
            "{split: {by: image}}."
        )
    if not found.is_split:
        return found
    had = " and ".join(
        f"{name} ({len(found.parts[name]):,})" for name in SPLITS if len(found.parts.get(name, ()))
    )
    told = f"The splits of the source, {had}, are not used: data.split divides all images anew."
    return together(replace(found, notices=(*found.notices, told)))


def together(found: Listing) -> Listing:
    """The images of all splits, as those of a source without splits.

    Args:
        found: the images.
    """
    return replace(found, parts={"train": pooled(found.parts)}, is_split=False)


def pooled(parts: Parts) -> Rows:
    """The rows of all splits together, ascending.

    Args:
        parts: split -> rows.
    """
    return np.sort(np.concatenate([*parts.values()]))


def without_test(
    found: Listing,
    given: Parts,
    fractions: Mapping[str, float],
    *,
    split: SplitSpec | None = None,
    seed: int = 0,
) -> tuple[Parts, list[str]]:
    """Leave the test images out; the validation images are to be tested on in their place.

    Args:
        found: the images.
        given: split -> rows of the images that are used, with `train`.
        fractions: as in `completed`, for the splits that are missing.
        split: likewise.
        seed: likewise.

    Returns:
        `(parts, notices)`: rows of `train` and `test`, and sentences for the user.

    Raises:
        DataError: as in `completed`.
    """
    parts, told = completed(found, given, fractions, split=split, seed=seed)
    told.append(
        f"{counted(len(parts['test']), 'test image')} left out (score_on: valid): runs are scored "
        f"on the {counted(len(parts['valid']), 'validation image')} instead."
    )
    return {"train": parts["train"], "test": parts["valid"]}, told


def completed(
    found: Listing,
    given: Parts,
    fractions: Mapping[str, float],
    *,
    split: SplitSpec | None = None,
    seed: int = 0,
) -> tuple[Parts, list[str]]:
    """Hold out the images of missing splits from the training images.

    Whole groups are held out where images have groups, unless the split is to be by image.

    Args:
        found: the images.
        given: split -> rows of the images that are used, with `train`.
        fractions: split -> share of the training images to hold out for it if it is missing, 0..1.
        split: how to split; None: by group if there are groups, stratified by class.
        seed: of the random split.

    Returns:
        `(parts, notices)`: split -> rows, and sentences for the user.

    Raises:
        DataError: a class has too few images, or there are too few groups.
    """
    missing = {name: share for name, share in fractions.items() if not len(given.get(name, ()))}
    if not missing:
        return given, []
    by_label = split is None or split.stratify == "label"
    each = " of each class" if by_label else ""
    shares = " and ".join(f"{100 * share:g} % for {name}" for name, share in missing.items())
    lead = f"No images for {' and '.join(missing)} were found: " if split is None else ""
    train, groups = given["train"], found.groups
    if groups is not None and (split is None or split.by == "group"):
        parts, told = _whole_groups(found, groups.take(train), train, missing, seed, by_label)
        first = f"{lead}held out {shares}{each}, by whole groups with seed {seed}"
        return given | parts, [_sentence(f"{first}: {told[0]}"), *told[1:]]
    labels, names = (
        (found.labels, found.names) if by_label else (np.zeros_like(found.labels), ("",))
    )
    parts = hold_out(train, labels, names, missing, seed, found.advice)
    told = [_sentence(f"{lead}held out {shares}{each}, at random with seed {seed}.")]
    return given | parts, told


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _whole_groups(
    found: Listing,
    groups: Coded,
    train: Rows,
    fractions: Mapping[str, float],
    seed: int,
    by_label: bool,
) -> tuple[Parts, list[str]]:
    """Hold out whole groups; the first notice says what each split got."""
    classes = sorted(class_names(train, found.labels, found.names))
    number = {label: at for at, label in enumerate(classes)}
    place = np.array([number.get(label, -1) for label in found.names], np.int64)
    labels = place[found.labels[train]]
    units = group_numbers(groups)
    count = int(units.max()) + 1
    # the test before validation: a class with two groups is learned and scored
    names = ("train", *sorted(fractions))
    shares = [1 - sum(fractions.values()), *(fractions[name] for name in names[1:])]
    kinds = labels if by_label else np.zeros_like(labels)
    drawn = share_out(kinds, units, shares, seed, whole=0)

    sizes = np.bincount(drawn, minlength=len(names))
    empty = [name for name, size in zip(names, sizes, strict=True) if not size]
    if empty:
        raise DataError(
            f"No group can be held out for {' and '.join(empty)}: there "
            f"{'is' if count == 1 else 'are'} {counted(count, 'group')}, and each class needs a "
            "group in train. State groups that are smaller than a class (data.group), or let the "
            "source assign the splits."
        )
    alone = int((groups.codes < 0).sum())
    known = counted(count - alone, "group")
    there = f"{known} and {counted(alone, 'image')} without one" if alone else known
    got = ", ".join(
        f"{name} {100 * sizes[at] / len(labels):.1f} %" for at, name in enumerate(names)
    )
    told = [f"{got}, of {there}."]
    owners = np.unique(np.stack([labels, units]), axis=1)[0]
    few = {
        classes[at]: int(owned)
        for at, owned in enumerate(np.bincount(owners, minlength=len(classes)))
        if owned < len(names)
    }
    if few:
        shown = listed([f"{label!r} ({owned})" for label, owned in few.items()])
        told.append(
            f"{counted(len(few), 'class', 'classes')} with fewer groups than the {len(names)} "
            f"splits: {shown}. Such a class is learned, but it is not scored in every split."
        )
    parts = {name: train[drawn == at] for at, name in enumerate(names)}
    return parts, told

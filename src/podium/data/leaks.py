"""Reports what lies in several splits: groups, and copies of one file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from podium.data.mapped import as_numbers
from podium.data.splits import Split
from podium.data.words import counted, listed


def torn_groups(splits: Mapping[str, Split]) -> list[str]:
    """Report groups whose images are in more than one split.

    Args:
        splits: the splits, with the group of each image.
    """
    groups = next(iter(splits.values())).images.groups
    if groups is None:
        return []
    codes = {name: groups.codes[split.rows] for name, split in splits.items()}
    found = np.zeros(len(groups.values), np.int64)  # of splits
    for those in codes.values():
        found[np.unique(those[those >= 0])] += 1
    leaking = found > 1
    torn = sorted(groups.values[code] for code in np.flatnonzero(leaking).tolist())
    if not torn:
        return []
    lost = {name: int(leaking[those[those >= 0]].sum()) for name, those in codes.items()}
    scored = " and ".join(
        f"{lost[name]:,} of {name}" for name in ("valid", "test") if lost.get(name)
    )
    return [
        f"{len(torn):,} of {counted(int((found > 0).sum()), 'group')} "
        f"{'has' if len(torn) == 1 else 'have'} "
        f"images in more than one split ({listed(torn)}), {scored} among them: a model is scored "
        "on images like those it learned from, which flatters it. Keep groups together with "
        "data: {split: {by: group}}; podium audit --price-of-leakage measures what the leak is "
        "worth."
    ]


def copies_across(splits: Mapping[str, Split]) -> list[str]:
    """Report held-out images that are byte for byte training images: their score means little.

    Args:
        splits: `train` and others.
    """
    digests, train = splits["train"].images.digests, splits["train"].rows
    numbers = as_numbers(digests[train])
    ordered = np.sort(numbers)
    counts = {}
    for name in (name for name in splits if name != "train"):
        rows = splits[name].rows
        sought = as_numbers(digests[rows])
        place = np.minimum(np.searchsorted(ordered, sought), len(ordered) - 1)
        # few share the first 8 bytes: only those are compared as a whole
        alike = ordered[place] == sought
        known = train[np.isin(numbers, sought[alike])] if alike.any() else train[:0]
        learned = {digests[row].tobytes() for row in known}
        counts[name] = sum(digests[row].tobytes() in learned for row in rows[alike])
    return [
        f"{counted(count, 'image')} of {name} also in train, byte for byte: the model may have "
        "memorised what is scored there."
        for name, count in counts.items()
        if count
    ]

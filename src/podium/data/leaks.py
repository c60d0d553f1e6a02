"""Reports what lies in several splits: groups, and copies of one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from podium.data.splits import Split
from podium.data.words import counted, listed


def torn_groups(splits: Mapping[str, Split]) -> list[str]:
    """Report groups whose images are in more than one split.

    Args:
        splits: the splits, with the group of each image.
    """
    lie_in: dict[str, set[str]] = {}
    for split in splits.values():
        for group in split.groups:
            if group is not None:
                lie_in.setdefault(group, set()).add(split.name)
    torn = sorted(group for group, names in lie_in.items() if len(names) > 1)
    if not torn:
        return []
    leaking = set(torn)
    lost = Counter(
        split.name for split in splits.values() for group in split.groups if group in leaking
    )
    scored = " and ".join(f"{lost[name]:,} of {name}" for name in ("valid", "test") if lost[name])
    return [
        f"{len(torn):,} of {counted(len(lie_in), 'group')} {'has' if len(torn) == 1 else 'have'} "
        f"images in more than one split ({listed(torn)}), {scored} among them: a model is scored "
        "on images like those it learned from, which flatters it. Keep groups together with "
        "data: {split: {by: group}}; podium audit --price-of-leakage measures what the leak is "
        "worth."
    ]


def copies_across(splits: Mapping[str, Split], digests: Mapping[str, str]) -> list[str]:
    """Report held-out images that are byte for byte training images: their score means little.

    Args:
        splits: `train`, `valid` and `test`.
        digests: path -> SHA-256 of the bytes.
    """
    train = {digests[path] for path in splits["train"].paths}
    counts = {
        name: sum(digests[path] in train for path in splits[name].paths)
        for name in ("valid", "test")
    }
    return [
        f"{counted(count, 'image')} of {name} also in train, byte for byte: the model may have "
        "memorised what is scored there."
        for name, count in counts.items()
        if count
    ]

"""Match different spellings of one class or one image: predictions come from many tools.

Unambiguous spellings are matched, with a notice. Comparing under two spellings would silently give
0 % accuracy.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import PurePosixPath

from podium.config.text import listed
from podium.errors import DataError


def some(names: Iterable[str], most: int = 5) -> str:
    """The first few names, in quotes, for a message.

    Args:
        names: to list.
        most: how many to list before the rest is counted.
    """
    return listed([repr(name[:60]) for name in names], most=most)


def as_number(text: str) -> float | None:
    """Parse a finite number; None where it is not one.

    Args:
        text: a number with a point or, as spreadsheets in many languages write it, a comma.
    """
    if not text.isascii() or "_" in text:
        return None
    try:
        value = float(text.replace(",", ".", 1))
    except ValueError:
        return None
    return value + 0.0 if math.isfinite(value) else None  # -0.0 is 0


def class_key(name: str) -> str:
    """A normal form that is equal for all spellings of one class.

    It ignores case, spaces, underscores, Unicode forms of a letter, number formats, and the
    apostrophe that protects a spreadsheet from formulas.

    Args:
        name: of a class.
    """
    text = name[1:] if name[:1] == "'" and name[1:2] in tuple("=+-@") else name
    value = as_number(text)
    if value is not None:
        return repr(value)
    text = " ".join(unicodedata.normalize("NFKC", text).replace("_", " ").split())
    return unicodedata.normalize("NFKC", text.casefold())


def same_classes(
    labels: Collection[str], answers: Collection[str], known: Collection[str], who: str
) -> tuple[dict[str, str], str]:
    """Match names that are spelled differently to their class: `2.0` is 2, and `Cat` is cat.

    Two classes of `known` or `labels` that differ only in spelling stay separate, and no other
    name is matched to either.

    Args:
        labels: the true classes in the source of the predictions.
        answers: the predicted classes.
        known: classes whose spelling is settled.
        who: the model and its source, for messages.

    Returns:
        `(meaning, notice)`: the class of each such name, and a notice; both may be empty.

    Raises:
        DataError: no predicted class is the class of any image.
    """
    settled = set(known)
    by_key: dict[str, list[str]] = {}
    for name in sorted(settled):
        by_key.setdefault(class_key(name), []).append(name)
    alike = Counter(map(class_key, set(labels)))
    for name in sorted(set(labels) - settled):
        key = class_key(name)
        if key not in by_key or alike[key] > 1:  # two spellings in one source: two classes
            settled.add(name)
            by_key.setdefault(key, []).append(name)
    meaning: dict[str, str] = {}
    for name in sorted({*labels, *answers} - settled):
        found = by_key.get(class_key(name), [])
        if len(found) == 1:
            meaning[name] = found[0]
    truth = {meaning.get(name, name) for name in labels}
    said = {meaning.get(name, name) for name in answers}
    if len(truth) > 1 and not said & truth:
        raise DataError(
            f"{who}: none of its predictions ({some(sorted(said))}) is a class of these images "
            f"({some(sorted(truth))}). Use the same class names in labels and predictions; remove "
            "columns that do not hold predictions."
        )
    if not meaning:
        return meaning, ""
    pairs = [f"{name!r} is read as {to!r}" for name, to in meaning.items()]
    return meaning, f"{who}: {listed(pairs, most=3)}."


def same_paths(first: Sequence[str], other: Sequence[str]) -> dict[str, str]:
    """Match paths of the same images that are spelled differently.

    Backslashes count as slashes. One set of paths may start further up the tree, such as
    `/data/test/cat/1.jpg` and `test/cat/1.jpg`, if all of its paths do so in the same way.

    Args:
        first: the reference paths.
        other: the paths to match.

    Returns:
        The path in `first` of each path in `other`; empty where the match is ambiguous.
    """
    parts = [
        {path: PurePosixPath(path.replace("\\", "/")).parts for path in paths}
        for paths in (first, other)
    ]
    tops = [_common_folders(list(one.values())) for one in parts]
    short, long = sorted(tops, key=len)
    if long[len(long) - len(short) :] != short:  # fold1/0.png is not fold2/0.png
        return {}
    below = [
        {path: cut[len(top) :] for path, cut in one.items()}
        for one, top in zip(parts, tops, strict=True)
    ]
    named = {cut: path for path, cut in below[0].items()}
    unlike = len(named) < len(first) or len(set(below[1].values())) < len(other)
    if unlike or set(named) != set(below[1].values()):
        return {}
    return {path: named[cut] for path, cut in below[1].items()}


def _common_folders(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The folders that all paths start with."""
    low, high = min(paths)[:-1], max(paths)[:-1]
    count = 0
    while count < min(len(low), len(high)) and low[count] == high[count]:
        count += 1
    return low[:count]

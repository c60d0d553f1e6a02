"""Labels in the names of files, such as `cat.123.jpg`: found by a regular expression."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from podium.data.images import IMAGE_SUFFIXES
from podium.data.layout import SPLIT_NAMES, Classes, Found
from podium.data.walk import walk_images
from podium.data.words import counted, listed, shown
from podium.errors import ConfigError, DataError


def label_pattern(label: str) -> re.Pattern[str]:
    """Compile a study's `label` that is a regular expression.

    Args:
        label: with a named group `(?P<label>...)`.

    Raises:
        ConfigError: it is not a regular expression, or has no such group.

    Examples:
        >>> label_pattern(r"(?P<label>[a-z]+)\\.\\d+").search("cat.123.jpg")["label"]
        'cat'
        >>> label_pattern("species")
        Traceback (most recent call last):
        ...
        podium.errors.ConfigError: data.label: 'species' has no named group. Expected ...
    """
    try:
        pattern = re.compile(label)
    except re.error as error:
        raise ConfigError(f"data.label: '{label}' is not a regular expression ({error}).") from None
    if "label" not in pattern.groupindex:
        raise ConfigError(
            f"data.label: '{label}' has no named group. Expected (?P<label>...), a regular "
            "expression that is searched in each image's path; only a table has columns."
        )
    return pattern


def labels_in(
    paths: Sequence[str], pattern: re.Pattern[str], place: str
) -> tuple[list[str | None], list[str]]:
    """The label in each path.

    Args:
        paths: relative paths with '/'.
        pattern: from `label_pattern`.
        place: what holds the images, in messages.

    Returns:
        `(labels, notices)`: None for a path without a label, and a sentence on how many those are.

    Raises:
        DataError: no path has a label.
    """
    found = [pattern.search(path) for path in paths]
    labels = [(one["label"] or "").strip() or None if one else None for one in found]
    without = [path for path, label in zip(paths, labels, strict=True) if label is None]
    if len(without) == len(paths):
        raise DataError(
            f"data.label: '{pattern.pattern}' fits none of {counted(len(paths), 'image')} of "
            f"{place}, such as {shown(listed([*map(repr, paths[:3])], most=3))}."
        )
    if not without:
        return labels, []
    return labels, [
        f"{counted(len(without), 'image')} without a label by '{pattern.pattern}', left out: "
        f"{shown(listed(without))}."
    ]


NO_LABEL = "images without a label"


def find_named_images(
    root: Path, pattern: re.Pattern[str], suffixes: frozenset[str] = IMAGE_SUFFIXES
) -> Found:
    """List the image files of a folder, at any depth, with the labels in their paths.

    If the topmost folders that have images are all named after splits (`train`, `val`, `test`...),
    the images have these splits.

    Args:
        root: the folder.
        pattern: from `label_pattern`; searched in each path, relative to `root`.
        suffixes: file extensions, in lower case, of images.

    Raises:
        DataError: it is missing, partly unreadable, or has no image with a label.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder: expected a folder of images.")
    skipped: Counter[str] = Counter()
    failed: list[OSError] = []
    paths = [
        (place / name).relative_to(root).as_posix()
        for place, names in walk_images(root, skipped, failed=failed.append, suffixes=suffixes)
        for name in names
    ]
    if failed:
        raise DataError(
            f"{counted(len(failed), 'folder')} of {root} cannot be read "
            f"({failed[0].strerror or failed[0]}): "
            f"{shown(listed([str(error.filename) for error in failed]))}. Make them readable."
        )
    return named_images(root, paths, skipped, pattern)


def named_images(
    root: Path, paths: Sequence[str], skipped: Counter[str], pattern: re.Pattern[str]
) -> Found:
    """Sort images by the labels in their paths, and by splits as `find_named_images` does.

    Args:
        root: what holds the images.
        paths: of all images, relative to `root`, with '/'.
        skipped: kind -> number of files and folders that were skipped; extended.
        pattern: from `label_pattern`.

    Raises:
        DataError: there are no images, or none has a label.
    """
    if not paths:
        raise DataError(f"There are no images in {root}.")
    paths = sorted(paths)
    labels, notices = labels_in(paths, pattern, str(root))
    if without := labels.count(None):
        skipped[NO_LABEL] += without
    given = splits_in_paths(paths)
    splits: dict[str, Classes] = {}
    for path, label, split in zip(paths, labels, given or ["train"] * len(paths), strict=True):
        if label is not None:
            splits.setdefault(split, {}).setdefault(label, []).append(path)
    return Found(root, splits, skipped, notices, bool(given))


def splits_in_paths(paths: Sequence[str]) -> list[str]:
    """The splits that paths are sorted into by their first folder; empty: they are not.

    Args:
        paths: relative paths with '/'.

    Examples:
        >>> splits_in_paths(["train/cat.1.jpg", "val/cat.2.jpg"])
        ['train', 'valid']
        >>> splits_in_paths(["train/cat.1.jpg", "more/cat.2.jpg"])
        []
    """
    folders = [path.partition("/")[0].lower() if "/" in path else "" for path in paths]
    known = {one: SPLIT_NAMES.get(one, "") for one in set(folders)}
    if len(set(known.values())) < 2 or not all(known.values()):
        return []
    return [known[one] for one in folders]

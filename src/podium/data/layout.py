"""Interprets folders: which are splits, which are classes, which files are skipped.

A layout with one possible interpretation is read that way; an ambiguous one is refused with a
remedy. No image is assigned to another class, or left out, without a notice.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from podium.data.dicom import REMEDY, SUFFIXES
from podium.data.images import IMAGE_SUFFIXES
from podium.data.walk import HIDDEN, Folder, read_folder, unread_pictures
from podium.data.words import counted, in_study, listed
from podium.errors import DataError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}
"""Words, in lower case, that mark a folder's name as that of a split."""

_FILLERS = frozenset({"set", "sets", "data", "dataset", "images", "image", "imgs", "img", "split"})

LAYOUT = (
    "Expected train/CLASS/*.jpg, valid/CLASS/*.jpg and test/CLASS/*.jpg, or CLASS/*.jpg "
    "without splits."
)

BEFORE_NUMBER = r"(?P<label>[^/]+?)[\W_]*\d+\W*\.\w+$"
"""The label in names such as `cat.123.jpg`, `cat_123.jpg` and `cat (123).jpg`."""

LOOSE = "images outside of a class folder"

Classes = dict[str, list[str]]


@dataclass(frozen=True)
class Found:
    """Image files by split and class; no file has been opened yet.

    Attributes:
        root: the folder that paths are relative to.
        splits: split -> class -> paths with '/'. Without split folders, everything is `train`.
        skipped: kind -> number of files and folders that were skipped.
        notices: sentences for the user.
        is_split: whether there are split folders.
    """

    root: Path
    splits: dict[str, Classes]
    skipped: Counter[str]
    notices: list[str]
    is_split: bool


def find_images(root: Path, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> Found:
    """List the image files of a folder.

    A folder without splits gives a single split, `train`. If it contains only one other folder, as
    unpacked archives do, that one is used. Splits may also be inside the class folders:
    `CLASS/train/*.jpg`.

    Args:
        root: the folder.
        suffixes: file extensions, in lower case, of images.

    Raises:
        DataError: it is missing, not a folder, empty or partly unreadable; or its layout is not
            recognised, or ambiguous.
    """
    return interpret(_read(root, suffixes))


def interpret(whole: Folder) -> Found:
    """Tell splits and classes of a folder, or of an archive's files arranged as folders.

    Args:
        whole: the folder, as it was read.

    Raises:
        DataError: it is empty, or its layout is not recognised, or ambiguous.
    """
    *around, top = _unwrapped(whole, into_splits=False)
    skipped = whole.all_passed()
    notices: list[str] = []
    if by_split := _by_split(top):
        _refuse_lost([], top)
        splits, inner = _classes_of_splits(top, by_split, notices)
        around += [top, *inner]
    elif within := _splits_within_classes(top):
        splits = within
        notices.append(
            f"The class folders contain split folders ({', '.join(sorted(within))}): read as "
            "CLASS/SPLIT."
        )
        around += [top, *top.folders]
    else:
        if top.images and not _with_images(top):
            _refuse_flat(top)
        splits = {"train": _classes(top, top, notices, in_split=False)}
        if around:
            notices.append(
                f"The classes are the folders in {top.path}, the only folder that contains images."
            )
        around.append(top)
    if not any(paths for classes in splits.values() for paths in classes.values()):
        passed = ", ".join(f"{count} {what}" for what, count in sorted(skipped.items()))
        passed = f" (skipped: {passed})" if passed else ""
        remedy = f" Convert them to {_readable(skipped)}." if _of_rgb(skipped) else _remedy(skipped)
        raise DataError(f"There are no images in {whole.path}{passed}.{remedy} {LAYOUT}")
    _tell_loose(whole, around, skipped, notices)
    _tell_unread(whole, notices)
    return Found(top.path, splits, skipped, notices, bool(by_split or within))


def _read(root: Path, suffixes: frozenset[str]) -> Folder:
    """Read a folder; an unreadable folder inside it is an error, since it could be a class."""
    if not os.path.isdir(root):  # noqa: PTH112 - Path.is_dir raises where it may not look
        what = "is a file" if os.path.exists(root) else "does not exist"  # noqa: PTH110
        raise DataError(f"{root} {what}: expected a folder of images. {LAYOUT}")
    top, failed = read_folder(root, suffixes)
    if failed:
        paths = [_inside(root, Path(str(error.filename))) for error in failed]
        raise DataError(
            f"{counted(len(failed), 'folder')} of {root} cannot be read "
            f"({failed[0].strerror or failed[0]}): {listed(paths)}. Their classes and images "
            "would be missing. Make them readable (on Linux and macOS: "
            f"chmod -R u+rX {root}), or move them away."
        )
    return top


def _unwrapped(folder: Folder, *, into_splits: bool) -> list[Folder]:
    """The folder, and the chain of folders inside it down to the data set itself.

    A folder is a wrapper, as archives and downloads add, if only one folder in it has images, and
    those in subfolders: a data set has at least two classes.
    """
    way = [folder]
    while True:
        inner = _with_images(way[-1])
        if len(inner) != 1 or not _with_images(inner[0]):
            return way
        if _split_of(inner[0]) is not None and not into_splits:
            return way
        _refuse_lost([one for one in way[-1].folders if one is not inner[0]], way[-1])
        way.append(inner[0])


def _with_images(folder: Folder) -> list[Folder]:
    return [one for one in folder.folders if one.holds_images]


def _split_of(folder: Folder) -> str | None:
    """The split that a name consists of, as `test_set`, `ValidationData`, `train2017`; or None."""
    split, rest = _parts(folder)
    return split if rest == "" else None


def _parts(folder: Folder) -> tuple[str | None, str]:
    """The split that is one of the words of a folder's name, and its other words."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", folder.name).lower()
    words = [word for word in re.split(r"[\W\d_]+", spaced) if word]
    words = [part for word in words for part in _without_filler(word)]
    splits = [SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES]
    if len(splits) != 1:
        return None, ""
    rest = [word for word in words if word not in SPLIT_NAMES and word not in _FILLERS]
    return splits[0], " ".join(rest)


def _without_filler(word: str) -> tuple[str, ...]:
    """Split `trainset` into two words."""
    for filler in _FILLERS:
        if word.removesuffix(filler) in SPLIT_NAMES:
            return word.removesuffix(filler), filler
    return (word,)


def _by_split(top: Folder) -> dict[str, Folder] | None:
    """Folders by the split that they contain; None if there are no split folders.

    Names of split folders may share words: `seg_train` and `seg_test`.
    """
    groups: dict[str, dict[str, list[Folder]]] = {}
    for folder in top.folders:
        split, rest = _parts(folder)
        if split is not None:
            groups.setdefault(rest, {}).setdefault(split, []).append(folder)
    named = groups.get("")
    if named is None:
        pairs = {
            rest: group for rest, group in groups.items() if "train" in group and len(group) > 1
        }
        if len(pairs) > 1:
            names = sorted(
                one.name for group in pairs.values() for few in group.values() for one in few
            )
            raise DataError(
                f"{top.path} has several folders for one split ({listed(names)}). Move the data "
                f"set that you want to its own folder. {LAYOUT}"
            )
        named = next(iter(pairs.values()), None)
    if named is None:
        return None
    folders = [folder for same in named.values() for folder in same]
    others = [one for one in _with_images(top) if one not in folders]
    single = len(named) == 1 or "train" not in named
    if others and single and not any(map(_with_images, folders)):
        return None  # images of a train next to those of a plane
    twice = [[one.name for one in same] for same in named.values() if len(same) > 1]
    if twice:
        raise DataError(
            f"{top.path} has two folders for one split ({' and '.join(twice[0])}). Keep one."
        )
    return {split: same[0] for split, same in named.items()}


def _classes_of_splits(
    top: Folder, by_split: dict[str, Folder], notices: list[str]
) -> tuple[dict[str, Classes], list[Folder]]:
    """Split -> class -> images; and the folders that contain the class folders."""
    others = [one for one in top.folders if one not in by_split.values()]
    if others:
        contents = [f"{one.name} ({_contents(one)})" for one in others]
        notices.append(f"Skipped, since they are not splits: {listed(contents)}.")
    ways = {name: _unwrapped(folder, into_splits=True) for name, folder in by_split.items()}
    if "train" in ways:
        known = {one.name for one in ways["train"][-1].folders}
        for name, folder in by_split.items():
            if name != "train" and known & {one.name for one in folder.folders}:
                ways[name] = [folder]  # a test of a single class, with folders inside
        if by_split["train"].images and not _with_images(by_split["train"]):
            _refuse_flat(by_split["train"])
    splits = {name: _classes(top, way[-1], notices, in_split=True) for name, way in ways.items()}
    return splits, [folder for way in ways.values() for folder in way]


def _splits_within_classes(top: Folder) -> dict[str, Classes] | None:
    """Classes by split if every class folder contains split folders; None if none does."""
    folders = _with_images(top)
    inside = {one.name: _by_split(one) or {} for one in folders}
    whole = [
        one
        for one in folders
        if inside[one.name] and not one.images and len(inside[one.name]) == len(_with_images(one))
    ]
    if not any(len(inside[one.name]) > 1 for one in folders):
        return None
    if any(map(_with_images, (part for parts in inside.values() for part in parts.values()))):
        sets = [one.name for one in folders if inside[one.name]]
        raise DataError(
            f"{top.path} contains {listed([one.name for one in folders])}, and {listed(sets)} "
            f"{'has' if len(sets) == 1 else 'have'} split folders with folders in them. Give the "
            f"data set that you want: {top.path / sets[0]}"
        )
    if len(whole) < len(folders):
        odd = next(one.name for one in folders if one not in whole)
        even = next(one.name for one in folders if len(inside[one.name]) > 1)
        raise DataError(
            f"{top.path / even} contains split folders ({', '.join(sorted(inside[even]))}), and "
            f"{top.path / odd} contains images outside of split folders: read as classes, test "
            f"images would be trained on. {LAYOUT}"
        )
    _refuse_lost([one for one in top.folders if one not in folders], top)
    splits: dict[str, Classes] = {}
    for one in folders:
        for split, folder in inside[one.name].items():
            of_split = splits.setdefault(split, {})
            of_split.setdefault(one.name, []).extend(folder.paths(top.path))
    return splits


def _classes(top: Folder, split: Folder, notices: list[str], *, in_split: bool) -> Classes:
    """Class name -> image files at any depth in its folder, as paths relative to `top`."""
    found: Classes = {}
    full = _with_images(split)
    empty = [folder for folder in split.folders if not folder.holds_images]
    _refuse_lost(empty, split, in_split=in_split)
    for folder in full:
        found.setdefault(folder.name, []).extend(folder.paths(top.path))
    if empty and full:
        contents = [f"{one.name} ({_contents(one)})" for one in empty]
        notices.append(f"Folders without images are not classes: {listed(contents)}.")
    nested = {one.name: [inner.name for inner in _with_images(one)] for one in full}
    deep = [f"{name!r} contains {listed(inner)}" for name, inner in nested.items() if inner]
    if deep:
        notices.append(
            f"Folders inside a class folder count as that class: {listed(deep, '; ')}. If those "
            "are your classes, move them up one folder."
        )
    return found


def _refuse_lost(folders: list[Folder], where: Folder, *, in_split: bool = False) -> None:
    """Refuse a folder without readable images that is likely a class: it must not be lost."""
    if where.broken:
        raise DataError(f"{where.path / where.broken[0]} is a broken link. Fix it, or remove it.")
    for folder in folders:
        # inside a split folder, a folder of any files can only be a class
        meant = unread_pictures(folder) or {
            kind: count
            for kind, count in folder.all_passed().items()
            if in_split and kind != HIDDEN and not kind.startswith("system folder")
        }
        if meant:
            contents = ", ".join(f"{count:,} {kind}" for kind, count in sorted(meant.items()))
            raise DataError(
                f"{folder.path} has no image that Podium can read, but {contents}: the class "
                f"{folder.name!r} would be lost. Convert them to {_readable(meant)} (or add the "
                f"file extension), or move the folder away.{_remedy(meant)}"
            )


def _refuse_flat(folder: Folder) -> None:
    """Refuse training images that are all in one folder: only their names could tell the class."""
    names = folder.images
    matches = [re.search(BEFORE_NUMBER, name) for name in names]
    prefixes = Counter(match["label"] if match else "" for match in matches)
    guess = "a regular expression on their names, label: '(?P<label>...)'"
    likely = ""
    worded = all(re.search(r"[^\W\d_]", prefix) for prefix in prefixes)  # not the 0 of 001.jpg
    if 2 <= len(prefixes) <= len(names) // 2 and worded:
        found = [f"{name!r} ({count:,})" for name, count in sorted(prefixes.items())]
        likely = f" Their names start with {listed(found)}, which may be classes."
        guess = f"{in_study({'path': '...', 'label': BEFORE_NUMBER})}"
    raise DataError(
        f"{counted(len(names), 'image')} in {folder.path} outside of class folders, and there are "
        f"no class folders next to them.{likely} If the names tell the classes, say how: {guess}. "
        f"If a table does, give the table. Else make a folder for each class. {LAYOUT}"
    )


def _contents(folder: Folder) -> str:
    if folder.holds_images:
        return counted(folder.count, "image")
    kinds = folder.all_passed()
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items())) or "empty"


def _tell_loose(
    top: Folder, folders: Iterable[Folder], skipped: Counter[str], notices: list[str]
) -> None:
    """Report the images that are next to class or split folders."""
    loose = [one.path / name for one in folders for name in sorted(one.images)]
    if loose:
        skipped[LOOSE] += len(loose)
        where = sorted({_inside(top.path, path.parent) for path in loose})
        notices.append(
            f"{counted(len(loose), 'image')} outside of a class folder, in {listed(where)}, "
            f"{'is' if len(loose) == 1 else 'are'} not used: {_inside(top.path, loose[0])}"
            f"{', ...' if len(loose) > 1 else ''}"
        )


def _tell_unread(whole: Folder, notices: list[str]) -> None:
    unread = unread_pictures(whole)
    if unread:
        meant = [f"{count:,} {kind}" for kind, count in sorted(unread.items())]
        where = " with data.channels" if _of_rgb(unread) else ""
        notices.append(
            f"Possibly images, but in formats that Podium does not read{where}: {listed(meant)}. "
            f"Convert them to {_readable(unread)} to use them.{_remedy(unread)}"
        )


def _of_rgb(kinds: Iterable[str]) -> bool:
    """Whether images of RGB were passed over, which they are only in studies with channels."""
    return any(one.removeprefix("*") in IMAGE_SUFFIXES for one in kinds)


def _readable(kinds: Iterable[str]) -> str:
    return "TIFF or .npy" if _of_rgb(kinds) else "PNG or JPEG"


def _remedy(kinds: Iterable[str]) -> str:
    endings = {one.removeprefix("*") for one in kinds}
    if ".npy" in endings:
        return " Or, to read arrays of several channels, say how many: data: {channels: N}."
    return f" Or, {REMEDY}." if endings & SUFFIXES else ""


def tell_lookalikes(names: Iterable[str]) -> list[str]:
    """Report classes whose names differ so little that it may be a mistake, one sentence each.

    Args:
        names: of the classes.
    """
    by_fold: dict[str, list[str]] = {}
    for name in sorted(names):
        by_fold.setdefault(name.casefold().strip(), []).append(name)
    return [
        f"Classes {' and '.join(map(repr, same))} differ only in case or spaces; they are kept "
        "separate."
        for same in by_fold.values()
        if len(same) > 1
    ]


def _inside(top: Path, path: Path) -> str:
    return path.relative_to(top).as_posix() if path != top else top.name or str(top)

"""How folders are read: which are splits, which are classes, which files are passed over."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from podium.data.images import IMAGE_SUFFIXES
from podium.errors import DataError

__all__ = ["SPLIT_NAMES", "Found", "find_images", "passed_over", "walk_images"]

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "valid", "valid": "valid", "validation": "valid", "dev": "valid",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Folder names, in lower case, that are taken for splits."""

LAYOUT = (
    "Expected train/CLASS/*.jpg, valid/CLASS/*.jpg and test/CLASS/*.jpg, or CLASS/*.jpg "
    "without splits."
)


@dataclass(frozen=True)
class Found:
    """Image files by split and class, as paths relative to `root`. Nothing was opened yet."""

    root: Path
    splits: dict[str, dict[str, list[str]]]
    skipped: Counter[str]
    notices: list[str]


def find_images(root: Path) -> Found:
    """List the image files of a folder.

    A folder without splits gives a single split, `train`. A folder that holds nothing but one
    other folder, as unpacked archives do, stands for that one.

    Raises:
        DataError: it is missing, no folder, empty, or has validation or test images alone.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(f"{root} {what}: expected a folder of images. {LAYOUT}")
    skipped: Counter[str] = Counter()
    notices: list[str] = []
    try:
        top, folders = root, _folders(root)
        while len(folders) == 1 and _split_of(folders[0]) is None and _holds_folders(folders[0]):
            top, folders = folders[0], _folders(folders[0])
    except OSError as error:
        raise DataError(f"{root} cannot be read ({error.strerror}).") from None
    by_split = _by_split(folders)
    if not by_split:
        splits = {"train": _classes(top, folders, skipped)}
    else:
        twice = [[f.name for f in same] for same in by_split.values() if len(same) > 1]
        if twice:
            raise DataError(
                f"{top} has two folders for one split ({' and '.join(twice[0])}). Keep one."
            )
        if "train" not in by_split:
            raise DataError(
                f"{top} has {' and '.join(f[0].name for f in by_split.values())}, but no train "
                f"folder. {LAYOUT}"
            )
        others = [folder.name for folder in folders if _split_of(folder) is None]
        if others:
            notices.append(f"Not a split, and passed over: {', '.join(sorted(others)[:5])}.")
        splits = {
            name: _classes(top, _folders(same[0]), skipped) for name, same in by_split.items()
        }
    if not any(paths for classes in splits.values() for paths in classes.values()):
        told = ", ".join(f"{count} {what}" for what, count in skipped.items())
        raise DataError(
            f"There are no images in {root}{f' (passed over: {told})' if told else ''}. {LAYOUT}"
        )
    _count_loose_files(top, by_split, skipped)
    _tell_lookalikes(splits, notices)
    return Found(top, splits, skipped, notices)


def _by_split(folders: list[Path]) -> dict[str, list[Path]]:
    """Folders by the split that they hold; none where `train` and the like are class names."""
    named = [folder for folder in folders if _split_of(folder) is not None]
    if len(named) < len(folders) and not any(_holds_folders(folder) for folder in named):
        return {}  # pictures of a train beside those of a plane
    found: dict[str, list[Path]] = {}
    for folder in named:
        found.setdefault(SPLIT_NAMES[folder.name.lower()], []).append(folder)
    return found


def _folders(folder: Path) -> list[Path]:
    return sorted(
        entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )


def _split_of(folder: Path) -> str | None:
    return SPLIT_NAMES.get(folder.name.lower())


def _holds_folders(folder: Path) -> bool:
    return bool(_folders(folder))


def _classes(top: Path, folders: list[Path], skipped: Counter[str]) -> dict[str, list[str]]:
    """Class name -> image files at any depth below its folder."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        # one spelling for names that look the same: macOS writes them decomposed
        name = unicodedata.normalize("NFC", folder.name)
        images = _walk(top, folder, skipped)
        if images:
            found.setdefault(name, []).extend(images)
        else:
            skipped["folders without images"] += 1
    return found


def _walk(top: Path, folder: Path, skipped: Counter[str]) -> list[str]:
    """Image files below `folder`, as paths relative to `top`."""
    images = []
    for place, names in walk_images(folder, skipped):
        inside = place.relative_to(top).as_posix()
        images += [f"{inside}/{name}" for name in names]
    return images


def walk_images(
    folder: Path,
    skipped: Counter[str],
    seen: set[tuple[int, int]] | None = None,
    failed: Callable[[OSError], object] | None = None,
) -> Iterator[tuple[Path, list[str]]]:
    """The image files below a folder, one folder at a time, in the order of the system.

    Args:
        folder: where to begin; links are followed.
        skipped: what is passed over is added here, by its kind.
        seen: folders (device and inode) that were walked before, which are left out and added to.
        failed: told of folders that cannot be read; empty: they are passed over.

    Yields:
        `(place, names)`: a folder at or below `folder`, and the names of its images.
    """
    seen = set() if seen is None else seen
    for at, inner, files in os.walk(folder, onerror=failed, followlinks=True):
        place = Path(at)
        status = place.stat()
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back up
            inner.clear()
            skipped["links in a loop"] += 1
            continue
        seen.add((status.st_dev, status.st_ino))
        skipped.update("hidden" for name in inner if name.startswith("."))
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        images = []
        for name in files:
            kind = passed_over(name)
            if kind is None:
                images.append(name)
            else:
                skipped[kind] += 1
        yield place, images


def passed_over(name: str) -> str | None:
    """Why a file of this name is taken for no image: its kind, in a word; None if it is one."""
    if name.startswith("."):
        return "hidden"
    suffix = Path(name).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return None
    return f"*{suffix}" if suffix else "without an ending"


def _count_loose_files(top: Path, by_split: dict[str, list[Path]], skipped: Counter[str]) -> None:
    for folder in [top, *(same[0] for same in by_split.values())]:
        for entry in folder.iterdir():
            if entry.is_file():
                kind = passed_over(entry.name)
                skipped[kind or "images outside of a class folder"] += 1


def _tell_lookalikes(splits: dict[str, dict[str, list[str]]], notices: list[str]) -> None:
    names = {name for classes in splits.values() for name in classes}
    by_fold: dict[str, list[str]] = {}
    for name in sorted(names):
        by_fold.setdefault(name.casefold().strip(), []).append(name)
    for same in by_fold.values():
        if len(same) > 1:
            notices.append(
                f"Classes {' and '.join(map(repr, same))} differ in case or spaces alone; they "
                "are kept apart."
            )

"""Finds the files that a table names: relative or absolute, with or without an extension."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from podium.data.images import IMAGE_SUFFIXES
from podium.data.words import counted, listed, shown
from podium.errors import DataError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_DRIVE = re.compile(r"[A-Za-z]:[/\\]")


@dataclass(frozen=True)
class Located:
    """The files of a table.

    Attributes:
        root: the folder that the names are relative to.
        names: of each row, with '/', as the file is really named.
        missing: numbers of the rows whose file does not exist, from 0.
        respelled: number of files found with other capital letters or another Unicode spelling.
        completed: number of files found by adding an image extension to the name.
    """

    root: Path
    names: list[str]
    missing: list[int]
    respelled: int
    completed: int


def locate(cells: Sequence[str | None], folder: Path, extension: str, place: str) -> Located:
    """Find the files that the cells name. Each folder is listed once, and no file is asked for.

    Args:
        cells: paths or ids, as the table has them.
        folder: what relative ones are relative to.
        extension: what is added to those that do not end with it; empty: nothing.
        place: the table's name in messages.

    Raises:
        DataError: a cell cannot be the path of a file here, an id fits several files, or a folder
            cannot be read.
    """
    _refuse(cells, place)
    paths = [str(cell).replace("\\", "/") for cell in cells]
    if extension:
        end = extension.lower()
        paths = [one if one.lower().endswith(end) else one + extension for one in paths]
    paths = [posixpath.normpath(one) if "./" in one or "//" in one else one for one in paths]
    root = folder
    if any(one[0] == "/" or one.startswith("../") or _has_drive(one) for one in paths):
        root, paths = _below_one_root(paths, folder, place)
    by_folder: dict[str, list[int]] = {}
    for number, path in enumerate(paths):
        by_folder.setdefault(path.rpartition("/")[0], []).append(number)
    missing: list[int] = []
    respelled = completed = 0
    for inside, rows in by_folder.items():
        start = len(inside) + 1 if inside else 0
        there = _files(root / inside)
        absent = [row for row in rows if paths[row][start:] not in there]
        if not absent:
            continue
        spelled, stems = _spellings(there), _stems(there)
        for row in absent:
            name = paths[row][start:]
            if like := spelled.get(_folded(name), []):
                respelled += 1
            elif like := stems.get(name, []):
                completed += 1
            if len(like) == 1:
                paths[row] = paths[row][:start] + like[0]
            elif like:
                raise DataError(
                    f"{place}: {name!r} fits {' and '.join(sorted(like)[:3])} in {root / inside}. "
                    "Write the whole name, or say which: data: {options: {extension: "
                    f"{Path(sorted(like)[0]).suffix}}}}}."
                )
            else:
                missing.append(row)
    return Located(root, paths, sorted(missing), respelled, completed)


def where_else(names: Sequence[str], folder: Path) -> str:
    """Where files that are missing in a folder are instead: a setting to add, or nothing.

    Args:
        names: some of those that are missing, relative to the folder.
        folder: where they were expected.

    Returns:
        A sentence; empty if they are nowhere near.
    """
    try:
        inner = sorted(one for one in folder.iterdir() if one.is_dir())[:100]
    except OSError:
        inner = []
    for place in (*inner, folder.parent, Path.cwd()):
        try:
            found = locate(names, place, "", str(place))
        except DataError:
            continue
        if len(found.missing) < 0.8 * len(names):  # some may be missing for another reason
            near = place in inner
            where = place.name if near else str(place)
            return f" They are in {place}: add data: {{options: {{images: {where}}}}}."
    return ""


def _refuse(cells: Sequence[str | None], place: str) -> None:
    """Refuse cells that cannot name a file on this machine."""
    texts = [str(cell) for cell in cells]
    if web := [one for one in texts if "://" in one and _ADDRESS.match(one)]:
        raise DataError(
            f"{place}: {counted(len(web), 'path')} on the web ({shown(listed(web, most=2))}). "
            "Download the images first, and give the names of the files."
        )
    if os.name != "nt" and (drive := [*filter(_DRIVE.match, texts)]):
        raise DataError(
            f"{place}: {counted(len(drive), 'path')} on a drive of another machine "
            f"({shown(listed(drive, most=2))}). Give the part that is relative to a folder here, "
            "and that folder: data: {options: {images: ...}}."
        )
    if nul := [one for one in texts if "\0" in one]:
        raise DataError(f"{place}: {counted(len(nul), 'path')} with a NUL character.")


def _has_drive(path: str) -> bool:
    return os.name == "nt" and bool(_DRIVE.match(path))


def _below_one_root(paths: list[str], folder: Path, place: str) -> tuple[Path, list[str]]:
    """The folder that all paths share, and the paths relative to it."""
    base = folder.resolve().as_posix()
    whole = [posixpath.normpath(posixpath.join(base, one)) for one in paths]
    try:
        root = os.path.commonpath({one.rpartition("/")[0] or "/" for one in whole})
    except ValueError:
        raise DataError(
            f"{place}: its images are on several drives. Put them, or links to them, into one "
            "folder."
        ) from None
    root = root.replace("\\", "/")
    skip = len(root.rstrip("/")) + 1
    return Path(root), [one[skip:] for one in whole]


def _files(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if not entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror or error}).") from None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _spellings(names: frozenset[str]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_folded(name), []).append(name)
    return found


def _stems(names: frozenset[str]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        stem, dot, suffix = name.rpartition(".")
        if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES:
            found.setdefault(stem, []).append(name)
    return found

"""Walks folders: which files are images by their names, and which are skipped and why."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from podium.config.text import words
from podium.data.images import IMAGE_SUFFIXES

SYSTEM_FOLDERS = frozenset(
    (
        "__macosx",  # macOS archives unpacked on another system
        *("$recycle.bin", "system volume information", "found.000"),  # Windows
        *("lost+found", "network trash folder", "temporary items"),  # Linux, macOS on a server
        *("@eadir", "#recycle", "#snapshot", "@tmp"),  # Synology: @eaDir holds thumbnails
        *("@recycle", "@recently-snapshot", "@__thumb", "~snapshot"),  # QNAP, NetApp
        *("__pycache__", ".ipynb_checkpoints"),
    )
)
"""Names, in lower case, of folders that operating systems and clouds create among a user's own."""

UNREAD_SUFFIXES = frozenset(
    words(
        ".jxl .jp2 .j2k .jpx .jxr .svg .eps .ico .tga .psd .xcf .exr .hdr .dds .pcx .sgi .qoi .pfm "
        ".dng .cr2 .cr3 .nef .arw .orf .rw2 .raf .pef .srw "
        ".dcm .dicom .ima .nii .nrrd .mha .mhd .fits .fit .svs .ndpi .mrxs .czi .lif .nd2 "
        ".mp4 .mov .avi .mkv .webm .m4v .mpg .mpeg .wmv"
    )
)
"""Extensions of images and videos that Podium does not read; a folder of them is likely a class.
Those of DICOM are read if pydicom is installed."""

_Identity = tuple[int, int]  # device and inode
NO_ENDING, HIDDEN, NOT_FETCHED = "without an ending", "hidden", "iCloud files not downloaded"
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")
_BESIDE = frozenset({"readme", "license", "licence", "copying", "notice", "makefile"})


@dataclass
class Folder:
    """The content of a folder.

    Attributes:
        path: of the folder.
        images: names of the images in it.
        passed: kind -> number of skipped files and folders in it.
        folders: subfolders, sorted by path, without system and hidden ones.
        broken: names of broken links in it.
        bare: names of files in it without an extension.
    """

    path: Path
    images: list[str] = field(default_factory=list)
    passed: Counter[str] = field(default_factory=Counter)
    folders: list[Folder] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The folder's name in one Unicode spelling (NFC): macOS writes names decomposed."""
        return unicodedata.normalize("NFC", self.path.name)

    def everything(self) -> Iterator[Folder]:
        """Yield this folder and all folders below it."""
        yield self
        for folder in self.folders:
            yield from folder.everything()

    @property
    def count(self) -> int:
        """Number of images at any depth."""
        return sum(len(one.images) for one in self.everything())

    @property
    def holds_images(self) -> bool:
        """Whether there are images at any depth."""
        return any(one.images for one in self.everything())

    def paths(self, root: Path) -> list[str]:
        """The images at any depth, relative to `root`, with '/'."""
        found: list[str] = []
        for one in self.everything():
            inside = one.path.relative_to(root).as_posix()
            found += [f"{inside}/{name}" for name in one.images]
        return found

    def all_passed(self) -> Counter[str]:
        """Count the skipped files and folders at any depth, by kind."""
        total: Counter[str] = Counter()
        for one in self.everything():
            total.update(one.passed)
        return total


def read_folder(
    root: Path, suffixes: frozenset[str] = IMAGE_SUFFIXES
) -> tuple[Folder, list[OSError]]:
    """Read a folder at any depth; links are followed, no file is opened.

    Args:
        root: the folder.
        suffixes: file extensions, in lower case, of images.

    Returns:
        The folder, and an error for each folder at or below it that cannot be read.
    """
    failed: list[OSError] = []

    def read(path: Path, above: tuple[_Identity, ...]) -> Folder | None:
        try:
            found, inner = _listed(path, suffixes)
            identity = _identity(path)
        except OSError as error:
            failed.append(error)
            return Folder(path)
        if identity in above:  # a link to a parent folder
            return None
        for name in inner:
            folder = read(path / name, (*above, identity))
            if folder is None:
                found.passed["links in a loop"] += 1
            else:
                found.folders.append(folder)
        return found

    return read(root, ()) or Folder(root), failed


def folder_of_names(
    root: Path, names: Iterable[str], suffixes: frozenset[str] = IMAGE_SUFFIXES
) -> Folder:
    """Arrange the files of an archive as folders, by the same rules as `read_folder`.

    Args:
        root: what the names are relative to.
        names: of the files, with '/', each once.
        suffixes: file extensions, in lower case, of images.
    """
    top = Folder(root)
    known: dict[tuple[str, ...], Folder | None] = {(): top}  # None: a folder that is passed over

    def find(parts: tuple[str, ...]) -> Folder | None:
        if parts not in known:
            above = find(parts[:-1])
            kind = _passed_folder(parts[-1])
            if above is not None and kind is not None:
                above.passed[kind] += 1
            elif above is not None:
                above.folders.append(Folder(above.path / parts[-1]))
            known[parts] = above.folders[-1] if above is not None and kind is None else None
        return known[parts]

    for name in sorted(names):
        *parts, last = name.split("/")
        folder = find(tuple(parts))
        if folder is None:
            continue
        kind = why_skipped(last, suffixes)
        if kind is None:
            folder.images.append(last)
        else:
            folder.passed[kind] += 1
    for folder in top.everything():
        folder.folders.sort(key=lambda one: one.path.name)
    return top


def walk_images(
    folder: Path,
    skipped: Counter[str],
    seen: set[tuple[int, int]] | None = None,
    failed: Callable[[OSError], object] | None = None,
    suffixes: frozenset[str] = IMAGE_SUFFIXES,
) -> Iterator[tuple[Path, list[str]]]:
    """Walk the image files below a folder, one folder at a time, without keeping earlier ones.

    Args:
        folder: where to start; links are followed.
        skipped: counts of skipped files and folders by kind; extended.
        seen: folders (device and inode) that were walked before and are skipped; extended. None:
            no folder was walked before.
        failed: called with the error of each folder that cannot be read; None: those are skipped.
        suffixes: file extensions, in lower case, of images.

    Yields:
        `(place, names)`: a folder at or below `folder`, and the names of its images.
    """
    seen = set() if seen is None else seen
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            found, inner = _listed(place, suffixes)
            identity = _identity(place)
        except OSError as error:
            if failed is not None:
                failed(error)
            continue
        if identity in seen:
            skipped["links in a loop"] += 1
            continue
        seen.add(identity)
        skipped.update(found.passed)
        yield place, found.images
        waiting += [place / name for name in reversed(inner)]


def _listed(path: Path, suffixes: frozenset[str]) -> tuple[Folder, list[str]]:
    """Read a folder without its subfolders; returns it and the sorted names of its subfolders.

    Raises:
        OSError: it cannot be read.
    """
    found, inner = Folder(path), []
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                is_folder = entry.is_dir()
            except OSError:  # a link to a place without permission
                is_folder = False
            kind = _passed_folder(entry.name) if is_folder else why_skipped(entry.name, suffixes)
            if kind == NO_ENDING and entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
                found.broken.append(entry.name)
                kind = "links that lead nowhere"
            elif kind == NO_ENDING:
                found.bare.append(entry.name)
            if kind is not None:
                found.passed[kind] += 1
            elif is_folder:
                inner.append(entry.name)
            else:
                found.images.append(entry.name)
    return found, sorted(inner)


def _identity(path: Path) -> _Identity:
    status = path.stat()
    return status.st_dev, status.st_ino


def _passed_folder(name: str) -> str | None:
    if name.lower() in SYSTEM_FOLDERS:
        return f"system folder {name}"
    return HIDDEN if name.startswith(".") else None


def why_skipped(name: str, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> str | None:
    """Why a file of this name is not treated as an image, as a short kind; None if it is one.

    Args:
        name: of the file.
        suffixes: file extensions, in lower case, of images.
    """
    if name.startswith("."):
        return NOT_FETCHED if name.lower().endswith(".icloud") else HIDDEN
    stem, _, end = name.rpartition(".")  # Path takes seconds for a million names
    suffix = f".{end.lower()}" if stem and end else ""
    if suffix in suffixes:
        return None
    if suffix:
        return f"*{suffix}"
    return "readme and licence files" if name.lower() in _BESIDE else NO_ENDING


def unread_pictures(folder: Folder) -> dict[str, int]:
    """Count the files in a folder, at any depth, that are likely images but are not read, by kind.

    Of files without an extension, the first bytes of a few are checked: annotations may also have
    none.

    Args:
        folder: the folder.
    """
    found = {kind: count for kind, count in folder.all_passed().items() if _is_picture(kind)}
    bare = [one.path / name for one in folder.everything() for name in sorted(one.bare)[:2]]
    if any(map(_begins_as_picture, bare[:20])):
        found[NO_ENDING] = folder.all_passed()[NO_ENDING]
    return found


def _is_picture(kind: str) -> bool:
    if kind == NOT_FETCHED:
        return True
    suffix = kind.removeprefix("*")
    # .jpg_large, .jpeg~1: a known extension followed by something else
    return suffix in UNREAD_SUFFIXES or any(suffix.startswith(one) for one in IMAGE_SUFFIXES)


def _begins_as_picture(path: Path) -> bool:
    try:
        if not path.is_file():  # reading a pipe would block forever
            return False
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        return False
    return start.startswith(_BEGINNINGS) or start[4:8] == b"ftyp"

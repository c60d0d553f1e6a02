"""Folders and the files in them: what is an image by its name, and what is passed over and why."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from podium.config.text import words
from podium.data.images import IMAGE_SUFFIXES

SYSTEM_FOLDERS = frozenset(
    (
        "__macosx",  # unpacked by another system than macOS
        *("$recycle.bin", "system volume information", "found.000"),  # Windows
        *("lost+found", "network trash folder", "temporary items"),  # Linux, macOS on a server
        *("@eadir", "#recycle", "#snapshot", "@tmp"),  # Synology: @eaDir holds thumbnails
        *("@recycle", "@recently-snapshot", "@__thumb", "~snapshot"),  # QNAP, NetApp
        *("__pycache__", ".ipynb_checkpoints"),
    )
)
"""Names, in lower case, of folders that systems and clouds put among a user's own."""

UNREAD_SUFFIXES = frozenset(
    words(
        ".jxl .jp2 .j2k .jpx .jxr .svg .eps .ico .tga .psd .xcf .exr .hdr .dds .pcx .sgi .qoi .pfm "
        ".dng .cr2 .cr3 .nef .arw .orf .rw2 .raf .pef .srw "
        ".dcm .dicom .ima .nii .nrrd .mha .mhd .fits .fit .svs .ndpi .mrxs .czi .lif .nd2 "
        ".mp4 .mov .avi .mkv .webm .m4v .mpg .mpeg .wmv"
    )
)
"""Endings of pictures and films that Podium does not read; a folder of them is meant as a class."""

_Identity = tuple[int, int]  # device and inode
NO_ENDING, HIDDEN, NOT_FETCHED = "without an ending", "hidden", "iCloud files not downloaded"
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")
_BESIDE = frozenset({"readme", "license", "licence", "copying", "notice", "makefile"})


@dataclass
class Folder:
    """A folder as it was read.

    Attributes:
        path: of the folder.
        images: names of the images in it.
        passed: files and folders in it that are passed over, by kind.
        folders: those in it, sorted by path; system and hidden ones are left out.
        broken: names of links in it that lead nowhere.
        bare: names of files in it without an ending.
    """

    path: Path
    images: list[str] = field(default_factory=list)
    passed: Counter[str] = field(default_factory=Counter)
    folders: list[Folder] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """In one spelling for names that look the same: macOS writes them decomposed."""
        return unicodedata.normalize("NFC", self.path.name)

    def everything(self) -> Iterator[Folder]:
        """This folder and all below it."""
        yield self
        for folder in self.folders:
            yield from folder.everything()

    @property
    def count(self) -> int:
        """Images at any depth."""
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
        """What is passed over at any depth, by kind."""
        total: Counter[str] = Counter()
        for one in self.everything():
            total.update(one.passed)
        return total


def read_folder(root: Path) -> tuple[Folder, list[OSError]]:
    """All that is in a folder, at any depth; links are followed, no file is opened.

    Returns:
        The folder, and an error for each folder at or below it that cannot be read.
    """
    failed: list[OSError] = []

    def read(path: Path, above: tuple[_Identity, ...]) -> Folder | None:
        try:
            found, inner = _listed(path)
            identity = _identity(path)
        except OSError as error:
            failed.append(error)
            return Folder(path)
        if identity in above:  # a link that leads back up
            return None
        for name in inner:
            folder = read(path / name, (*above, identity))
            if folder is None:
                found.passed["links in a loop"] += 1
            else:
                found.folders.append(folder)
        return found

    return read(root, ()) or Folder(root), failed


def walk_images(
    folder: Path,
    skipped: Counter[str],
    seen: set[tuple[int, int]] | None = None,
    failed: Callable[[OSError], object] | None = None,
) -> Iterator[tuple[Path, list[str]]]:
    """The image files below a folder, one folder at a time; nothing is kept of those before.

    Args:
        folder: where to begin; links are followed.
        skipped: what is passed over is added here, by its kind.
        seen: folders (device and inode) that were walked before, which are left out and added to.
        failed: told of folders that cannot be read; None: they are passed over.

    Yields:
        `(place, names)`: a folder at or below `folder`, and the names of its images.
    """
    seen = set() if seen is None else seen
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            found, inner = _listed(place)
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


def _listed(path: Path) -> tuple[Folder, list[str]]:
    """A folder without those in it, and their names, sorted.

    Raises:
        OSError: it cannot be read.
    """
    found, inner = Folder(path), []
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                is_folder = entry.is_dir()
            except OSError:  # a link that leads to where we may not look
                is_folder = False
            kind = _passed_folder(entry.name) if is_folder else why_skipped(entry.name)
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


def why_skipped(name: str) -> str | None:
    """Why a file of this name is taken for no image: its kind, in a word; None if it is one."""
    if name.startswith("."):
        return NOT_FETCHED if name.lower().endswith(".icloud") else HIDDEN
    suffix = Path(name).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return None
    if suffix:
        return f"*{suffix}"
    return "readme and licence files" if name.lower() in _BESIDE else NO_ENDING


def unread_pictures(folder: Folder) -> dict[str, int]:
    """What in a folder, at any depth, are likely pictures that are not read: files by kind.

    Of files without an ending, a few are looked into: annotations come without one, too.
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
    # .jpg_large, .jpeg~1: an ending of ours with something behind it
    return suffix in UNREAD_SUFFIXES or any(suffix.startswith(one) for one in IMAGE_SUFFIXES)


def _begins_as_picture(path: Path) -> bool:
    try:
        if not path.is_file():  # reading a pipe would wait for ever
            return False
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        return False
    return start.startswith(_BEGINNINGS) or start[4:8] == b"ftyp"

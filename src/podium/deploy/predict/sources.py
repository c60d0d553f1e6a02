"""The images to predict: files, folders, patterns, lists, packs and addresses, each image once.

No image is opened here, and of an image in a folder only its folder is remembered: a million of
them take no more memory than the longest directory listing. Of an address, the names of all images
are in memory.
"""

from __future__ import annotations

import codecs
import functools
import glob
import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from podium.config.text import text_encoding
from podium.data.images import IMAGE_SUFFIXES
from podium.data.pack_format import ABOUT, UNDERWAY, read_about
from podium.data.packed_source import PackedSource, is_pack
from podium.data.place import Place, is_address
from podium.data.walk import walk_images, why_skipped
from podium.errors import DataError

_CHUNK = 1 << 16
_LONGER_MARKS = (codecs.BOM_UTF8[:2], codecs.BOM_UTF16_LE[:1], codecs.BOM_UTF16_BE[:1])
"""A stream that begins with no more than one of these may be in the middle of a mark."""


@dataclass(frozen=True)
class Source:
    """An image file, or the reason why there is none.

    Attributes:
        path: as given, or as found below the given folder.
        place: its place below a folder of results, such as `photos/a/b.jpg`: below the name of
            the given folder. Never absolute, never with `..`.
        error: what is wrong, if nothing can be opened; empty string: no error.
        read: reads its bytes, or raises `OSError` or `UnreadableImageError`; None: `path` is a
            file.
    """

    path: str
    place: str
    error: str = ""
    read: Callable[[], bytes] | None = None


@dataclass
class Sources:
    """The images that paths stand for, in order; can be iterated more than once.

    A path is a file (with any suffix), a folder (its images at any depth, sorted; hidden files
    and those without an image suffix are skipped), a pack, an address such as
    `s3://bucket/photographs` of an image, of images at any depth or of a pack, or, if there is no
    such file, a pattern with `*`, `?`, `[...]` or `**`. Links are followed, except in loops.

    Args:
        paths: the paths given by the user.
        leave_out: folders that are not searched, such as that of the results.
        suffixes: file extensions, in lower case, of the images in folders.
    """

    paths: Iterable[str | Path]
    leave_out: Iterable[Path] = ()
    suffixes: frozenset[str] = IMAGE_SUFFIXES
    skipped: Counter[str] = field(default_factory=Counter, init=False)
    """Counts of what was skipped in the last iteration, by kind."""
    found: int = field(default=0, init=False)
    """Number of files found in the last iteration."""

    def __iter__(self) -> Iterator[Source]:
        self.skipped.clear()
        self.found = 0
        self._folders = {_identity(one) for one in self.leave_out if one.is_dir()}
        self._files: set[bytes] = set()
        self._addresses: set[str] = set()
        for path in self.paths:
            for source in self._of(os.fspath(path)):
                self.found += not source.error
                yield source

    def _of(self, given: str) -> Iterator[Source]:
        path = Path(given)
        try:
            if is_address(given):
                yield from self._at(given.rstrip("/"))
            elif path.is_dir() and is_pack(given):
                yield from _packed(given)
            elif path.is_dir():
                yield from self._below(path)
            elif path.exists() or not glob.has_magic(given):
                yield from self._file(path, given)
            else:
                yield from self._matching(given)
        except DataError as error:
            yield Source(given, _inside(path), str(error))
        except (OSError, ValueError) as error:  # a name that no system accepts
            yield Source(given, _inside(path), getattr(error, "strerror", None) or str(error))

    def _file(self, path: Path, shown: str) -> Iterator[Source]:
        if not path.exists():
            yield Source(shown, _inside(path), "there is no such file")
            return
        folder = _identity(path.parent)
        if folder in self._folders and why_skipped(path.name, self.suffixes) is None:
            return  # already found with its folder
        key = _key(folder, path.name)
        if key not in self._files:
            self._files.add(key)
            yield Source(shown, _inside(path))

    def _at(self, address: str) -> Iterator[Source]:
        if address in self._addresses:
            return
        self._addresses.add(address)
        above, _, top = address.rpartition("/")
        if Path(top).suffix.lower() in self.suffixes:
            yield Source(address, top, read=functools.partial(Place(above).read, top))
            return
        place = Place(address)
        if place.has(ABOUT) or place.has(UNDERWAY):
            yield from _packed(address)
            return
        names = place.below()
        if not names:
            yield Source(address, top, "there is nothing at this address")
        for name in names:
            if (kind := _why_skipped(name, self.suffixes)) is not None:
                self.skipped[kind] += 1
                continue
            read = functools.partial(place.read, name)
            yield Source(f"{address}/{name}", f"{top}/{name}", read=read)

    def _below(self, top: Path) -> Iterator[Source]:
        name = top.resolve().name
        failed: list[OSError] = []
        for folder, names in walk_images(
            top, self.skipped, self._folders, failed.append, self.suffixes
        ):
            inside = (Path(name) / folder.relative_to(top)).as_posix()
            identity = _identity(folder) if self._files else (0, 0)
            for image in sorted(names):
                if not self._files or _key(identity, image) not in self._files:
                    yield Source(str(folder / image), f"{inside}/{image}".lstrip("/"))
            while failed:
                yield self._unreadable(failed.pop())
        while failed:
            yield self._unreadable(failed.pop())
        del self.skipped["links in a loop"]  # or a folder visited before: nothing is missing

    def _unreadable(self, error: OSError) -> Source:
        path = str(error.filename)
        return Source(path, _inside(Path(path)), error.strerror or str(error))

    def _matching(self, pattern: str) -> Iterator[Source]:
        # Path.glob rejects absolute patterns, and includes hidden files
        found = sorted(glob.iglob(pattern, recursive=True))  # noqa: PTH207
        if not found:
            yield Source(pattern, _inside(Path(pattern)), "nothing matches this pattern")
        for match in found:
            path = Path(match)
            if path.is_dir():
                yield from self._below(path)
            elif (kind := why_skipped(path.name, self.suffixes)) is not None:
                self.skipped[kind] += 1
            else:
                yield from self._file(path, match)


def _packed(path: str) -> Iterator[Source]:
    """All images of a pack; which channels they have is told by each."""
    pack = PackedSource(path, read_about(Place(path)).channels)
    top = path.rstrip("/").rpartition("/")[2]
    for image in pack.images():
        yield Source(f"{path.rstrip('/')}/{image.path}", f"{top}/{image.path}", read=image.read)


def _why_skipped(name: str, suffixes: frozenset[str]) -> str | None:
    """Why a file at an address is no image, as in folders; hidden folders are passed over too."""
    *folders, last = name.split("/")
    hidden = next((one for one in folders if one.startswith(".")), None)
    return why_skipped(hidden or last, suffixes)


def read_paths(stream: BinaryIO, *, null: bool = False) -> Iterator[str]:
    """Read paths from a stream as they arrive: one per line, or each terminated by NUL.

    Args:
        stream: bytes in the system's encoding of file names, such as `find -print0` writes; or
            lines in UTF-16 or with a byte order mark, as PowerShell and editors on Windows write.
        null: paths end with NUL, so that they may contain any other character; empty ones are
            ignored.

    Raises:
        DataError: lines contain NUL bytes.
    """
    start = _read_some(stream)
    while start and not null and any(mark.startswith(start) for mark in _LONGER_MARKS):
        if not (more := _read_some(stream)):
            break
        start += more
    encoding, mark = ("utf-8", 0) if null else text_encoding(start)
    chunks: Iterator[bytes] = itertools.chain(
        [start[mark:]], iter(functools.partial(_read_some, stream), b"")
    )
    if encoding != "utf-8":
        chunks = codecs.iterencode(codecs.iterdecode(chunks, encoding, "replace"), "utf-8")
    end, rest = (b"\0" if null else b"\n"), b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(end)
        yield from (path for one in whole if (path := _decoded(one, null)))
    if path := _decoded(rest, null):
        yield path


def _read_some(stream: BinaryIO) -> bytes:
    """The available bytes, without waiting for more: paths may come from a running program."""
    read = getattr(stream, "read1", stream.read)
    return bytes(read(_CHUNK))


def _decoded(name: bytes, null: bool) -> str:
    if not null and b"\0" in name:
        raise DataError(
            "The list of paths has NUL bytes in its lines. Expected one path per line in UTF-8 or "
            "UTF-16; for paths that end with NUL, as from find -print0, give --null (-0)."
        )
    return os.fsdecode(name if null else name.rstrip(b"\r"))


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _key(folder: tuple[int, int], name: str) -> bytes:
    """Identifies a file, whichever path leads to its folder."""
    text = f"{folder[0]} {folder[1]} ".encode() + os.fsencode(name)
    return hashlib.blake2b(text, digest_size=16).digest()


def _inside(path: Path) -> str:
    """A file's place: as given, or from the root if the path leads up or is absolute."""
    if path.is_absolute() or path.drive or ".." in path.parts:
        whole = Path(os.path.abspath(path))  # noqa: PTH100 - as written: links are not resolved
        return whole.relative_to(whole.anchor).as_posix()
    return path.as_posix()

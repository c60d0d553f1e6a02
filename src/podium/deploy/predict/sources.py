"""Which pictures to predict: files, folders, patterns and lists, each picture once.

Nothing is opened here, and nothing is remembered of a picture in a folder but its folder: a
million of them take no more memory than the longest listing does.
"""

from __future__ import annotations

import codecs
import functools
import glob
import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from podium.config.text import text_encoding
from podium.data.walk import walk_images, why_skipped
from podium.errors import DataError

_CHUNK = 1 << 16
_LONGER_MARKS = (codecs.BOM_UTF8[:2], codecs.BOM_UTF16_LE[:1], codecs.BOM_UTF16_BE[:1])
"""A stream that begins with no more than one of these may be in the middle of a mark."""


@dataclass(frozen=True)
class Source:
    """A picture's file, or why there is none.

    Attributes:
        path: as it was given, or as it was found below the folder that was given.
        place: where it belongs below a folder of results, such as `photos/a/b.jpg`: below the
            name of the folder that was given. Never absolute, never with `..`.
        error: what is wrong, where nothing can be opened.
    """

    path: str
    place: str
    error: str = ""


@dataclass
class Sources:
    """The pictures that paths stand for, in their order; may be gone through more than once.

    A path is a file (whatever its ending), a folder (its images at any depth, sorted; what is
    hidden or has no image's ending is passed over), or, where there is no such file, a pattern
    with `*`, `?`, `[...]` or `**`. Links are followed, loops of them are not.

    Args:
        paths: of the user's.
        leave_out: folders that are not gone through, such as that of the results.
    """

    paths: Iterable[str | Path]
    leave_out: Iterable[Path] = ()
    skipped: Counter[str] = field(default_factory=Counter, init=False)
    """What was passed over in the last time through, by its kind."""
    found: int = field(default=0, init=False)
    """Files that there were, in the last time through."""

    def __iter__(self) -> Iterator[Source]:
        self.skipped.clear()
        self.found = 0
        self._folders = {_identity(one) for one in self.leave_out if one.is_dir()}
        self._files: set[bytes] = set()
        for path in self.paths:
            for source in self._of(os.fspath(path)):
                self.found += not source.error
                yield source

    def _of(self, given: str) -> Iterator[Source]:
        path = Path(given)
        try:
            if path.is_dir():
                yield from self._below(path)
            elif path.exists() or not glob.has_magic(given):
                yield from self._file(path, given)
            else:
                yield from self._matching(given)
        except (OSError, ValueError) as error:  # a name that no system takes
            yield Source(given, _inside(path), getattr(error, "strerror", None) or str(error))

    def _file(self, path: Path, shown: str) -> Iterator[Source]:
        if not path.exists():
            yield Source(shown, _inside(path), "there is no such file")
            return
        folder = _identity(path.parent)
        if folder in self._folders and why_skipped(path.name) is None:
            return  # it came with its folder
        key = _key(folder, path.name)
        if key not in self._files:
            self._files.add(key)
            yield Source(shown, _inside(path))

    def _below(self, top: Path) -> Iterator[Source]:
        name = top.resolve().name
        failed: list[OSError] = []
        for folder, names in walk_images(top, self.skipped, self._folders, failed.append):
            inside = (Path(name) / folder.relative_to(top)).as_posix()
            identity = _identity(folder) if self._files else (0, 0)
            for image in sorted(names):
                if not self._files or _key(identity, image) not in self._files:
                    yield Source(str(folder / image), f"{inside}/{image}".lstrip("/"))
            while failed:
                yield self._unreadable(failed.pop())
        while failed:
            yield self._unreadable(failed.pop())
        del self.skipped["links in a loop"]  # or a folder that came before: nothing is missing

    def _unreadable(self, error: OSError) -> Source:
        path = str(error.filename)
        return Source(path, _inside(Path(path)), error.strerror or str(error))

    def _matching(self, pattern: str) -> Iterator[Source]:
        # Path.glob takes no absolute pattern, and hides no hidden file
        found = sorted(glob.iglob(pattern, recursive=True))  # noqa: PTH207
        if not found:
            yield Source(pattern, _inside(Path(pattern)), "nothing matches this pattern")
        for match in found:
            path = Path(match)
            if path.is_dir():
                yield from self._below(path)
            elif (kind := why_skipped(path.name)) is not None:
                self.skipped[kind] += 1
            else:
                yield from self._file(path, match)


def read_paths(stream: BinaryIO, *, null: bool = False) -> Iterator[str]:
    """The paths in a stream, as they come: one a line, or with a NUL after each.

    Args:
        stream: bytes in the system's encoding of file names, such as `find -print0` writes; or
            lines in UTF-16 or with a byte order mark, as PowerShell and editors on Windows write.
        null: names end with NUL, so that they may hold anything else; empty names are left out.

    Raises:
        DataError: lines hold NUL bytes.
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
    """What is there, without waiting for more: paths may come from a program at work."""
    read = getattr(stream, "read1", stream.read)
    return bytes(read(_CHUNK))


def _decoded(name: bytes, null: bool) -> str:
    if not null and b"\0" in name:
        raise DataError(
            "The list of paths has NUL bytes in its lines. Expected one path a line in UTF-8 or "
            "UTF-16; or give --null (-0) with what ends each path by NUL, such as find -print0."
        )
    return os.fsdecode(name if null else name.rstrip(b"\r"))


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _key(folder: tuple[int, int], name: str) -> bytes:
    """A file, whichever way leads to its folder."""
    text = f"{folder[0]} {folder[1]} ".encode() + os.fsencode(name)
    return hashlib.blake2b(text, digest_size=16).digest()


def _inside(path: Path) -> str:
    """A file's place: as it was given, or from the root on where that leads up or begins there."""
    if path.is_absolute() or path.drive or ".." in path.parts:
        whole = Path(os.path.abspath(path))  # noqa: PTH100 - as written: links are not resolved
        return whole.relative_to(whole.anchor).as_posix()
    return path.as_posix()

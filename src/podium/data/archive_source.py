"""The archive source: class folders inside a zip or tar file, read in place."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NoReturn

from filelock import FileLock

from podium.config.registry import SOURCES
from podium.data.archive import MOST_BYTES, MOST_FILES
from podium.data.folder import LayoutSource
from podium.data.images import MAX_BYTES, image_suffixes
from podium.data.layout import Found, interpret
from podium.data.names import label_pattern, named_images
from podium.data.walk import folder_of_names
from podium.errors import DataError, UnreadableImageError
from podium.runtime.cache import cache_root, mark_used
from podium.runtime.files import atomic_write

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""What the names of archives end with, in lower case."""

_BLOCK = 1 << 20
_END = bytes(1024)  # of a tar
_BY_HAND = "Unpack it by hand if you trust it, and give that folder."
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)

Members = dict[str, int | tuple[int, int]]
"""Name with '/' -> number of the file in a zip; or its offset and size in a tar, bytes."""


class ArchiveSource(LayoutSource):
    """The images of an archive, whose folders are read like those of a `FolderSource`.

    A zip and a plain tar are read in place. A tar that is compressed as a whole can only be read
    from its beginning, so it is decompressed once, as one tar file in Podium's cache.

    Args:
        path: the archive.
        root: the folder inside it that names are relative to; None: `list` finds it.
        members: where each file is; None: read from the archive.
        label: regular expression with a named group `(?P<label>...)`, searched in the path of
            each image at any depth; None: folders are the classes.
        channels: of each image, for which files are images; None: RGB.

    Raises:
        DataError: it is missing, damaged, encrypted or too large, or contains links or paths that
            lead outside.
    """

    def __init__(
        self,
        path: str | Path,
        root: str | None = None,
        members: Members | None = None,
        label: str | None = None,
        channels: int | None = None,
    ) -> None:
        self._suffixes = image_suffixes(channels)
        self._pattern = None if label is None else label_pattern(label)
        self.path, self.root = Path(path).expanduser(), root
        self.replaced = 0
        if not self.path.is_file():
            what = "is a folder" if self.path.is_dir() else "does not exist"
            raise DataError(f"{self.path} {what}: expected a file {', '.join(ENDINGS)}.")
        self._zip: zipfile.ZipFile | None = None
        self.copied = ""
        with _told(self.path):
            if self.path.name.lower().endswith(".zip"):
                self._zip = zipfile.ZipFile(self.path)
                self._file = self.path
                found = self._of_zip(self._zip) if members is None else members
            else:
                self._file = self._plain_tar()
                found = self._of_tar() if members is None else members
        self._members: Members = found

    def __reduce__(self) -> Any:
        # other processes need not read the archive's directory again, but open their own file
        return type(self), (self.path, self.root, self._members)

    def find(self) -> Found:
        inside = f"{self.root.strip('/')}/" if self.root else ""
        names = [name.removeprefix(inside) for name in self._members if name.startswith(inside)]
        top = folder_of_names(self.path / inside, names, self._suffixes)
        if self._pattern is None:
            found = interpret(top)
        else:
            paths = [path.removeprefix("./") for path in top.paths(top.path)]
            found = named_images(top.path, paths, top.all_passed(), self._pattern)
        self.root = found.root.relative_to(self.path).as_posix()
        self.root = "" if self.root == "." else self.root
        if self.replaced:
            found.skipped["files that the archive holds again, later"] += self.replaced
        if self.copied:
            found.notices.append(self.copied)
        return found

    def read(self, path: str) -> bytes | BinaryIO:
        if self.root is None:  # opened only to read
            self.find()
        name = f"{self.root.strip('/')}/{path}" if self.root else path
        where = self._members[name]
        if self._zip is not None:
            assert isinstance(where, int)
            return self._zip.open(self._zip.infolist()[where])  # type: ignore[return-value]
        assert isinstance(where, tuple)
        offset, size = where
        with open(self._file, "rb") as file:
            file.seek(offset)
            content = file.read(min(size, MAX_BYTES + 1))  # the reader refuses more
        if len(content) < min(size, MAX_BYTES):
            raise UnreadableImageError(path, "the archive ends before it")
        return content

    def _of_zip(self, archive: zipfile.ZipFile) -> Members:
        found: Members = {}
        for number, member in enumerate(archive.infolist()):
            if member.is_dir():
                continue
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                self._refuse(f"{member.filename!r} is a link or a device")
            if member.flag_bits & 1:
                self._refuse("it is encrypted. Decrypt it first", remedy="")
            self._put(found, member.filename.replace("\\", "/"), number)
        return found

    def _of_tar(self) -> Members:
        found: Members = {}
        with tarfile.open(self._file, "r:") as archive:
            for member in archive:
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    self._refuse(f"{member.name!r} is a link, a device or a sparse file")
                self._put(found, member.name, (member.offset_data, member.size))
                archive.members = []  # type: ignore[attr-defined]  # it would keep all headers: a gigabyte for a million files
        with open(self._file, "rb") as file:
            file.seek(max(0, self._file.stat().st_size - len(_END)))
            if file.read() != _END:  # cut between two files, it would look whole
                raise tarfile.ReadError("it ends without an end mark")
        return found

    def _put(self, found: Members, name: str, where: int | tuple[int, int]) -> None:
        path = PurePosixPath(name)
        if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            self._refuse(f"{name!r} is a path outside of the archive")
        self.replaced += path.as_posix() in found
        found[path.as_posix()] = where
        if len(found) > MOST_FILES:
            self._refuse(f"it holds more than {MOST_FILES:,} files")

    def _refuse(self, why: str, remedy: str = _BY_HAND) -> NoReturn:
        raise DataError(f"{self.path} was refused: {why}. {remedy}".rstrip())

    def _plain_tar(self) -> Path:
        """The archive itself if it is a plain tar, otherwise its decompressed copy in the cache."""
        with open(self.path, "rb") as file:
            start = file.read(6)
        decompress = _decompressor(start)
        if decompress is None:
            return self.path
        status = self.path.stat()
        key = f"{self.path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        copy = cache_root() / "archives" / f"{digest[:16]}.tar"
        copy.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(copy.with_suffix(".lock")):
            if not copy.is_file():
                with decompress(self.path) as packed:
                    atomic_write(copy, lambda out: self._copy(packed, out))
        mark_used(copy)
        self.copied = (
            f"{self.path.name} is compressed as a whole, so it is read from a decompressed copy "
            f"({copy.stat().st_size / 1e6:,.0f} MB): {copy}"
        )
        return copy

    def _copy(self, packed: BinaryIO, out: BinaryIO) -> None:
        total = 0
        while block := packed.read(_BLOCK):
            total += len(block)
            if total > MOST_BYTES:
                self._refuse(f"it would decompress to more than {MOST_BYTES >> 30} GiB")
            out.write(block)


def _decompressor(start: bytes) -> Callable[[Path], Any] | None:
    """What opens a file that begins like this; None if it is not compressed."""
    if start.startswith(b"\x1f\x8b"):
        return gzip.open
    if start.startswith(b"BZh"):
        return bz2.open
    return lzma.open if start.startswith(b"\xfd7zXZ") else None


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Report a damaged archive as such."""
    try:
        yield
    except _DAMAGED as error:
        raise DataError(
            f"{path} is not a complete archive ({error or type(error).__name__}). Download or "
            "pack it again."
        ) from None


def is_archive(path: str) -> bool:
    """Whether a path ends like that of an archive.

    Args:
        path: of a file that need not exist.
    """
    return path.lower().endswith(ENDINGS)


def _named(
    path: str, root: str | None = None, label: str | None = None, channels: int | None = None
) -> ArchiveSource:
    return ArchiveSource(path, root, label=label, channels=channels)


SOURCES.register("archive", _named)

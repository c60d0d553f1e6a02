"""The files of an export: made in a hidden folder beside their place, and renamed once checked."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from podium.deploy.export.load import is_exported
from podium.errors import RunFolderError, StorageError


@contextmanager
def beside(place: Path) -> Iterator[Path]:
    """A hidden temporary folder in `place`, on the same disk."""
    try:
        folder = tempfile.mkdtemp(prefix=".export-", suffix=".tmp", dir=place)
    except OSError as error:
        raise StorageError(place, error) from None
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put(candidate: Path, end: Path, temporary: Path) -> None:
    """Give a checked export its final name, replacing an older one."""
    try:
        if end.is_dir():
            if not is_exported(end):
                raise RunFolderError(f"{end} is a folder, not an export. Remove it first.")
            os.replace(
                end, temporary / f"old-{end.name}"
            )  # a folder cannot replace another atomically
        os.replace(candidate, end)
    except OSError as error:
        raise StorageError(end, error) from None


def size_of(path: Path) -> int:
    """Bytes of a file, or of the files in a folder."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)

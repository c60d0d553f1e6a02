"""Files that a killed process cannot leave half-written, and clear errors for failed writes."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from podium.errors import RunFolderError, StorageError, chain

Fence = Callable[[Path, Path], object]  # the file, and what is about to get its name

_FENCES: list[tuple[Path, Fence]] = []  # folder, and what is asked before a file appears in it
_UMASK = threading.Lock()  # it can be read only by changing it, for all threads
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")


def atomic_write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call `write` on a new file beside `path`, then move that into place.

    The file is synced before it gets its name, and the folder after, so that after a kill or a
    power cut at any instant `path` is either the old or the new file, never a part. A kill may
    leave the new file behind; `remove_temporaries` removes it.

    Args:
        path: the file to write.
        write: called with the new file, open for writing bytes.

    Raises:
        StorageError: the disk is full or broken, or the folder is not writable. `path` is
            unchanged.
    """
    handled = sys.exc_info()[1]  # an error that the caller is already handling
    try:
        make_folder(path.parent)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        try:
            with open(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            with _UMASK:
                umask = os.umask(0)
                os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp's 0600 would hide results from the group
            for folder, fence in _FENCES:
                if path.is_relative_to(folder):
                    fence(path, temporary)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)
    except StorageError:
        raise
    except Exception as error:
        # the system's error, even if a library wrapped it in its own
        for cause in chain(error, handled):
            if isinstance(cause, OSError):
                raise StorageError(path, cause) from error
        raise


@contextlib.contextmanager
def fenced(folder: Path, fence: Fence) -> Iterator[None]:
    """Call `fence` in this process whenever `atomic_write` is about to name a file below a folder.

    Args:
        folder: the folder.
        fence: called with the file and the new file, whole and synced, that is about to replace
            it; raises an error if this process must not write there any more.
    """
    entry = folder, fence
    _FENCES.append(entry)
    try:
        yield
    finally:
        _FENCES.remove(entry)


def make_folder(path: Path) -> None:
    """Create a folder and its parents, synced to disk.

    Args:
        path: the folder.

    Raises:
        StorageError: it cannot be created.
    """
    if path.is_dir():
        return
    try:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            _sync_folder(folder.parent)
    except OSError as error:
        raise StorageError(path, error) from None


def create_first(path: Path) -> bool:
    """Create an empty file, unless there is one: of several processes, one succeeds.

    File systems decide this in one step, also networks' and without locks.

    Args:
        path: the file; its folder exists.

    Returns:
        Whether this call created it.

    Raises:
        StorageError: it cannot be created.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        _sync_folder(path.parent)
    except FileExistsError:
        return False
    except OSError as error:
        raise StorageError(path, error) from None
    return True


def remove_temporaries(folder: Path) -> None:
    """Remove the temporary files of a killed process; call it only as the folder's sole writer.

    Args:
        folder: the folder to clean up.
    """
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if _TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows has no folder handle to sync
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, with line endings as given."""
    atomic_write(path, lambda file: file.write(text.encode("utf-8")))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def utc_now() -> str:
    """The current time in UTC as ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        RunFolderError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"{path} is missing; expected a file that Podium wrote.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} cannot be read as JSON ({error}).") from None

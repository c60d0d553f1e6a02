"""One process at a time in a folder: a lock that ends with its owner, and names the owner."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from podium.errors import RunFolderError, StorageError
from podium.runtime.files import make_folder, read_json, utc_now, write_json

_LOOK_AGAIN = 0.5  # seconds between two attempts


class InUseError(RunFolderError):
    """Another process holds the folder. Carries `owner`, such as `process 123 on host`."""

    def __init__(self, folder: Path, owner: str, since: str) -> None:
        who = f" ({owner}, since {since})" if owner else ""
        super().__init__(
            f"{folder} is in use by another podium{who}. Wait for it to end, or give this "
            "study another name (--name)."
        )
        self.owner = owner or "another process"


@contextlib.contextmanager
def sole_owner(
    folder: Path, wait: Callable[[str], object] | None = None, *, patience: float = 0.0
) -> Iterator[None]:
    """Hold a folder for this process only; create it if needed.

    The lock is the operating system's, on the file `.lock`: it ends with the process that holds
    it, however that ends (filelock closes it in forked workers). A leftover file locks nothing.

    Args:
        folder: the folder to hold.
        wait: called with the owner, such as `process 123 on host`, twice a second while another
            process holds the folder; it may raise. None: raise an error once patience ends.
        patience: seconds until then.

    Raises:
        InUseError: another process holds it; the message names it.
        RunFolderError: the file system has no locks.
        StorageError: the folder cannot be created or written.
    """
    make_folder(folder)
    # what holds it may let go in another thread
    lock, note = filelock.FileLock(folder / ".lock", thread_local=False), note_of(folder)
    until = time.monotonic() + patience
    while True:
        try:
            lock.acquire(timeout=0 if wait is None and not patience else _LOOK_AGAIN)
            break
        except filelock.Timeout:
            busy = InUseError(folder, *_who(note))
        except NotImplementedError:
            raise RunFolderError(
                f"{folder} is on a file system without locks, where two podiums could overwrite "
                "each other's files. Give another folder with --runs."
            ) from None
        except OSError as error:
            raise StorageError(folder / ".lock", error) from None
        if wait is not None:
            wait(busy.owner)
        elif time.monotonic() >= until:
            raise busy
    try:
        write_json(note, {"pid": os.getpid(), "host": socket.gethostname(), "since": utc_now()})
        yield
    finally:
        with contextlib.suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()


def note_of(folder: Path) -> Path:
    """The file that names the process which holds a folder with `sole_owner`, and since when."""
    return folder / ".owner.json"


def is_in_use(folder: Path) -> bool:
    """Whether any process holds a folder with `sole_owner` at this instant."""
    if not (folder / ".lock").is_file():
        return False
    try:
        with filelock.FileLock(folder / ".lock", timeout=0):
            return False
    except filelock.Timeout:
        return True
    except (NotImplementedError, OSError):
        return False


def owner_of(folder: Path) -> str:
    """The process that holds a folder with `sole_owner`, such as `process 123 on host`.

    Args:
        folder: the folder.

    Returns:
        Its name; empty string: none holds it.
    """
    if not is_in_use(folder):
        return ""
    return _who(note_of(folder))[0] or "another process"


@contextlib.contextmanager
def locked_briefly(path: Path) -> Iterator[None]:
    """Hold a lock file while a few bytes are written, waiting for the current holder.

    If the file system has no locks, or the file cannot be created, the block runs without a lock.

    Args:
        path: the lock file.
    """
    lock = filelock.FileLock(path)
    with contextlib.suppress(NotImplementedError, OSError):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _who(note: Path) -> tuple[str, str]:
    """The owner and its start; empty strings if it has the lock but has not written them yet."""
    try:
        owner = read_json(note)
        return f"process {owner['pid']} on {owner['host']}", str(owner["since"])
    except (RunFolderError, KeyError, TypeError):
        return "", ""

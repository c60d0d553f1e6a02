"""One process at a time in a folder: a lock that dies with its owner, and says who that is."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from podium.errors import RunFolderError, StorageError
from podium.runtime.files import make_folder, read_json, utc_now, write_json

_LOOK_AGAIN = 0.5  # seconds between two words to someone who waits


class InUseError(RunFolderError):
    """Another process holds the folder. Carries `owner`, such as `process 123 on host`."""

    def __init__(self, folder: Path, owner: str, since: str) -> None:
        told = f" ({owner}, since {since})" if owner else ""
        super().__init__(
            f"{folder} is in use by another podium{told}. Wait for it to end, or give this "
            "study another name (--name)."
        )
        self.owner = owner or "another process"


@contextlib.contextmanager
def sole_owner(folder: Path, wait: Callable[[str], object] | None = None) -> Iterator[None]:
    """Hold a folder for this process alone; made if need be.

    The lock is the system's, on the file `.lock`: it ends with the process that holds it, however
    that ends (filelock closes it in forked workers), and a file that is left behind locks nothing.

    Args:
        folder: to hold.
        wait: called with the owner, such as `process 123 on host`, twice a second for as long as
            another process holds the folder; it may raise. None: that is an error at once.

    Raises:
        InUseError: another process holds it; the message says which.
        RunFolderError: the file system has no locks.
        StorageError: the folder cannot be made or written.
    """
    make_folder(folder)
    lock, note = filelock.FileLock(folder / ".lock"), folder / ".owner.json"
    while True:
        try:
            lock.acquire(timeout=0 if wait is None else _LOOK_AGAIN)
            break
        except filelock.Timeout:
            busy = InUseError(folder, *_who(note))
        except NotImplementedError:
            raise RunFolderError(
                f"{folder} is on a file system without locks, where two podiums could write over "
                "each other. Give another folder with --runs."
            ) from None
        except OSError as error:
            raise StorageError(folder / ".lock", error) from None
        if wait is None:
            raise busy
        wait(busy.owner)
    try:
        write_json(note, {"pid": os.getpid(), "host": socket.gethostname(), "since": utc_now()})
        yield
    finally:
        with contextlib.suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()


def is_in_use(folder: Path) -> bool:
    """Whether `sole_owner` holds a folder at this instant, in whichever process."""
    if not (folder / ".lock").is_file():
        return False
    try:
        with filelock.FileLock(folder / ".lock", timeout=0):
            return False
    except filelock.Timeout:
        return True
    except (NotImplementedError, OSError):
        return False


@contextlib.contextmanager
def locked_briefly(path: Path) -> Iterator[None]:
    """Hold a lock file while a few bytes are written, waiting for whoever holds it.

    Where the file system has no locks, or the file cannot be made, the block runs without.
    """
    lock = filelock.FileLock(path)
    with contextlib.suppress(NotImplementedError, OSError):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _who(note: Path) -> tuple[str, str]:
    """The owner and since when; empty where it holds the lock and has not said so yet."""
    try:
        owner = read_json(note)
        return f"process {owner['pid']} on {owner['host']}", str(owner["since"])
    except (RunFolderError, KeyError, TypeError):
        return "", ""

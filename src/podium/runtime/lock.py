"""One process at a time in a folder: a lock that dies with its owner, and says who that is."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import filelock

from podium.errors import RunFolderError, StorageError
from podium.runtime.files import make_folder, read_json, utc_now, write_json


@contextlib.contextmanager
def sole_owner(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone; made if need be.

    The lock is the system's, on the file `.lock`: it ends with the process that holds it, however
    that ends (filelock closes it in forked workers), and a file that is left behind locks nothing.

    Raises:
        RunFolderError: another process holds it; the message says which.
        StorageError: the folder cannot be made or written.
    """
    make_folder(folder)
    lock, note = filelock.FileLock(folder / ".lock"), folder / ".owner.json"
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise RunFolderError(
            f"{folder} is in use by another podium{_who(note)}. Wait for it to end, or give this "
            "study another name (--name)."
        ) from None
    except NotImplementedError:
        raise RunFolderError(
            f"{folder} is on a file system without locks, where two podiums could write over each "
            "other. Give another folder with --runs."
        ) from None
    except OSError as error:
        raise StorageError(folder / ".lock", error) from None
    try:
        write_json(note, {"pid": os.getpid(), "host": socket.gethostname(), "since": utc_now()})
        yield
    finally:
        with contextlib.suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()


def _who(note: Path) -> str:
    try:
        owner = read_json(note)
        return f" (process {owner['pid']} on {owner['host']}, since {owner['since']})"
    except (RunFolderError, KeyError, TypeError):  # it holds the lock, and has not said so yet
        return ""

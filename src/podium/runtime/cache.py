"""Where Podium keeps what it can make or fetch again, and how what is not used makes room."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path

import platformdirs

_TEMPORARY_SECONDS = 86_400.0  # what a kill left behind is removed after a day


def cache_root() -> Path:
    """The cache folder: `PODIUM_CACHE`, or the user's cache folder of this system."""
    return Path(os.environ.get("PODIUM_CACHE") or platformdirs.user_cache_dir("podium"))


def mark_used(entry: Path) -> None:
    """Note that an entry was read or written now."""
    with contextlib.suppress(OSError):  # a folder that may only be read
        os.utime(entry)


def entries(folder: Path) -> list[tuple[float, int, Path]]:
    """`(time of use, bytes, path)` of the files and folders in one; the longest unused first."""
    found = []
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            with contextlib.suppress(OSError):  # another podium may remove it meanwhile
                files = [entry] if entry.is_file() else [f for f in entry.iterdir() if f.is_file()]
                size = sum(file.stat().st_size for file in files)
                found.append((entry.stat().st_mtime, size, entry))
    return sorted(found)


def prune(folder: Path, *, limit: float, keep: Collection[Path] = (), room: int = 0) -> list[Path]:
    """Remove what was not used for the longest time, until the rest is no more than it may be.

    Args:
        folder: whose entries, files or folders, are looked at.
        limit: bytes that all of them may take.
        keep: those that stay.
        room: bytes that must be free on the disk.

    Returns:
        What was removed.
    """
    found = entries(folder)
    removed, total = [], sum(size for _, size, _ in found)
    free = shutil.disk_usage(folder).free if room else 0
    for used, size, entry in found:
        stale = entry.suffix == ".tmp" and found[-1][0] - used > _TEMPORARY_SECONDS
        if entry in keep or not (stale or total > limit or free < room):
            continue
        with contextlib.suppress(OSError):  # on Windows a file in use stays
            entry.unlink() if entry.is_file() else shutil.rmtree(entry)
            removed.append(entry)
            total, free = total - size, free + size
    return removed

"""The cache of what Podium can make or fetch again, and the removal of entries not in use."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path

import platformdirs

_TEMPORARY_SECONDS = 86_400.0  # temporary files left by a killed process are removed after a day


def cache_root() -> Path:
    """The cache folder: `PODIUM_CACHE`, or the user's cache folder of this system."""
    return Path(os.environ.get("PODIUM_CACHE") or platformdirs.user_cache_dir("podium"))


def mark_used(entry: Path) -> None:
    """Set an entry's time of use to now."""
    with contextlib.suppress(OSError):  # a read-only folder
        os.utime(entry)


def entries(folder: Path) -> list[tuple[float, int, Path]]:
    """`(time of use, bytes, path)` of the entries of a folder, least recently used first.

    Args:
        folder: the cache folder; an entry is a file, or a folder of files.
    """
    found = []
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            with contextlib.suppress(OSError):  # another process may remove it meanwhile
                files = [entry] if entry.is_file() else [f for f in entry.iterdir() if f.is_file()]
                size = sum(file.stat().st_size for file in files)
                found.append((entry.stat().st_mtime, size, entry))
    return sorted(found)


def prune(folder: Path, *, limit: float, keep: Collection[Path] = (), room: int = 0) -> list[Path]:
    """Remove the least recently used entries until the rest fits within the limits.

    Args:
        folder: the cache folder; its files and folders are the entries.
        limit: most bytes that all entries may take.
        keep: entries that are never removed.
        room: bytes that must be free on the disk; 0: any number.

    Returns:
        The removed entries, least recently used first.
    """
    found = entries(folder)
    removed, total = [], sum(size for _, size, _ in found)
    free = shutil.disk_usage(folder).free if room else 0
    for used, size, entry in found:
        stale = entry.suffix == ".tmp" and found[-1][0] - used > _TEMPORARY_SECONDS
        if entry in keep or not (stale or total > limit or free < room):
            continue
        with contextlib.suppress(OSError):  # Windows does not remove files in use
            entry.unlink() if entry.is_file() else shutil.rmtree(entry)
            removed.append(entry)
            total, free = total - size, free + size
    return removed

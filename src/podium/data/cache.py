"""Pictures decoded once: their pixels in files that contenders, seeds and studies share.

A file holds the pictures of one split at one size and is named after their bytes alone, so that
other class names, folders or studies find it again. Where a few pictures are new, the others are
taken over from the older file. `podium.data.pixels` says what is in a file.

A file gets its name when all of it is there; what a kill leaves behind is gone on with. A full
disk or a folder that cannot be written costs time, never correctness or the run: pictures are
then decoded from their own files as ever.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import filelock
import numpy as np

from podium.data.images import squeeze
from podium.data.index import DataIndex
from podium.data.pixels import FORMAT, CachedPixels as CachedPixels, PixelFile, file_bytes, writing
from podium.runtime.cache import cache_root, entries, mark_used, prune
from podium.runtime.events import (
    CacheProgress,
    Message,
    Notify,
    StopRequest,
    WarningMessage,
    silent,
)
from podium.runtime.threads import in_order

CHUNK = 16  # pictures that a thread decodes at a time


def cache_pixels(
    index: DataIndex,
    sizes: Mapping[str, int],
    *,
    limit: float,
    notify: Notify = silent,
    stop: StopRequest | None = None,
    folder: Path | None = None,
    workers: int | None = None,
) -> dict[str, CachedPixels]:
    """The decoded pictures of some splits, from files that are there or are made now.

    Args:
        index: the images.
        sizes: side of the squares by split, pixels.
        limit: most GB of all files in the folder together; for it, those are removed that were
            not used for the longest time. 0: nothing is cached.
        notify: told of the progress, and of what stands in the way.
        stop: asked now and then; what is done by then is kept.
        folder: where the files are; empty: `pixels` in Podium's cache.
        workers: threads that decode; empty: one a core.

    Returns:
        Pictures by split; empty where they must be decoded every time: they take more than the
        limit or the disk has, or the folder cannot be used. `notify` was told why.

    Raises:
        UnreadableImageError: an image vanished or changed since it was checked.
        KeyboardInterrupt: `stop` was set.
    """
    if not limit:
        return {}
    place = folder or cache_root() / "pixels"
    wanted = {split: _Wanted(index, split, size, place) for split, size in sizes.items()}
    needed = sum(one.bytes for one in wanted.values())
    try:
        if not all(one.is_there() for one in wanted.values()):
            if needed > limit * 1e9:
                notify(WarningMessage(_too_large(sizes, needed, limit)))
                return {}
            place.mkdir(parents=True, exist_ok=True)
            with _locked(place, notify, stop):
                for one in wanted.values():
                    one.discard_unless_whole()
                _make_room(place, list(wanted.values()), limit)
                for one in wanted.values():
                    if not one.is_there():  # another process may have built it meanwhile
                        _build(one, place, notify, stop, workers)
    except OSError as error:
        notify(
            WarningMessage(
                f"Decoded images cannot be kept in {place} ({error.strerror or error}): every "
                "epoch decodes them anew. Free some space, or set PODIUM_CACHE to another folder.",
            )
        )
        return {}
    for one in wanted.values():
        mark_used(one.path)
    return {split: CachedPixels(one.path, one.size, one.rows) for split, one in wanted.items()}


class _Wanted:
    """What a split needs: the file's name, its digests, and the row of every image."""

    def __init__(self, index: DataIndex, split: str, size: int, folder: Path) -> None:
        paths = index.splits[split].paths
        raw = b"".join(bytes.fromhex(index.pixel_digest(path)) for path in paths)
        table = np.frombuffer(raw, dtype=np.uint8).reshape(-1, 32)
        self.digests, first, rows = np.unique(table, axis=0, return_index=True, return_inverse=True)
        self.rows = rows.reshape(-1).astype(np.int64)
        self.size = size
        self.index, self.paths = index, [paths[i] for i in first]
        self.bytes = file_bytes(len(self.digests), size)
        key = hashlib.sha256(self.digests.tobytes()).hexdigest()
        self.path = folder / f"{size}px-v{FORMAT}-{key[:32]}.pixels"
        self.partial = self.path.with_suffix(".partial")

    def is_there(self) -> bool:
        """Whether the file is complete."""
        found = PixelFile.open(self.path)
        return found is not None and np.array_equal(found.digests, self.digests)

    def discard_unless_whole(self) -> None:
        """Remove a file that is cut short; under the lock, since another process may build it."""
        if not self.is_there():
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)


def _build(
    one: _Wanted, place: Path, notify: Notify, stop: StopRequest | None, workers: int | None
) -> None:
    """Fill the partial file, from where a kill may have left it, and give it its name."""
    total, side = len(one.digests), one.size
    siblings = map(PixelFile.open, place.glob(f"{side}px-v{FORMAT}-*.pixels"))
    older = [file for file in siblings if file is not None]

    def decode(row: int) -> bytes:
        for file in older:
            if (pixels := file.find(one.digests[row])) is not None:
                return pixels.tobytes()
        return squeeze(one.index.load(one.paths[row]), side).tobytes()

    def work(rows: Sequence[int]) -> list[tuple[int, bytes]]:
        return [(row, decode(row)) for row in rows]

    try:
        # Pillow decodes without the interpreter's lock, so threads use all cores
        with writing(one.partial, side, one.digests) as file:
            chunks = (
                [row for row in range(at, min(at + CHUNK, total)) if not file.has(row)]
                for at in range(0, total, CHUNK)
            )
            with contextlib.closing(in_order(work, chunks, threads=workers)) as results:
                for number, decoded in enumerate(results):
                    file.write(decoded)
                    notify(CacheProgress(f"{side} px", number * CHUNK, total))
                    _refuse_to_go_on(stop)
    except OSError:
        with contextlib.suppress(OSError):
            one.partial.unlink(missing_ok=True)  # a full disk is not left full
        raise
    finally:
        notify(CacheProgress(f"{side} px", total, total))
    os.replace(one.partial, one.path)
    kept = f"{total:,} decoded images of {side} px, {_gb(one.bytes)}"
    notify(Message(f"keeps {kept}, in {place}"))


def _make_room(place: Path, wanted: Sequence[_Wanted], limit: float) -> None:
    """Remove files, those first that were not used for the longest time.

    Args:
        place: the folder.
        wanted: what will be in it, and stays.
        limit: GB of the folder.

    Raises:
        OSError: the disk is too small even so; nothing was removed.
    """
    own = {path for one in wanted for path in (one.path, one.partial)}
    sizes = {path: size for _, size, path in entries(place)}
    others = {path for path in sizes if path.suffix in (".pixels", ".partial")} - own
    kept = sizes.keys() - others
    needed = sum(one.bytes for one in wanted)
    missing = sum(one.bytes for one in wanted if not one.path.exists() and not one.partial.exists())
    free = shutil.disk_usage(place).free
    if missing > free + sum(sizes[path] for path in others):
        raise OSError(f"{_gb(missing)} are needed and {_gb(free)} are free")
    allowed = limit * 1e9 - needed + sum(sizes[path] for path in kept)
    prune(place, limit=allowed, keep=kept, room=missing)


@contextlib.contextmanager
def _locked(place: Path, notify: Notify, stop: StopRequest | None) -> Iterator[None]:
    """One process builds at a time; it uses all cores."""
    lock = filelock.FileLock(place / ".lock")
    told = False
    while True:
        try:
            lock.acquire(timeout=0.5)
            break
        except filelock.Timeout:
            _refuse_to_go_on(stop)
            if not told:
                notify(Message("waits for another podium that decodes images"))
                told = True
    try:
        yield
    finally:
        lock.release()


def _refuse_to_go_on(stop: StopRequest | None) -> None:
    if stop is not None and stop.is_set():
        raise KeyboardInterrupt


def _too_large(sizes: Mapping[str, int], needed: int, limit: float) -> str:
    sides = " and ".join(str(size) for size in sorted(set(sizes.values())))
    return (
        f"The decoded images ({sides} px) take {_gb(needed)}, and --cache-limit is {limit:g} GB: "
        f"every epoch decodes them anew. With --cache-limit {int(needed / 1e9) + 1} they are "
        "decoded once."
    )


def _gb(size: float) -> str:
    return f"{size / 1e9:,.2f} GB"

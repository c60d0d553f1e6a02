"""The cache of decoded images, shared by contenders, seeds and studies.

A file holds the images of one split at one size; with cross-validation, all images of the study,
so that all folds share it. Its name depends only on their bytes, so that
it is found under other class names, folders or studies. If a few images are new, the others are
copied from the older file. `podium.data.pixels` describes the format.

If the limit is too low for all images, as many as fit are kept. Files that no split asks for go
first; then the images that take most bytes, since each saves one decoding an epoch. Among images
of one size, those with the lowest digests are kept: a random share that stays the same from run
to run, whatever the order of the files.

A file gets its final name when it is complete; a file left by a kill is continued. A full disk or
a read-only folder costs time, never correctness or the run: images are then decoded from their
own files in every epoch.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import filelock
import numpy as np

from podium.data.images import squeeze
from podium.data.index import DataIndex
from podium.data.pixels import (
    FORMAT,
    NOT_KEPT,
    CachedPixels,
    PixelFile,
    file_bytes,
    most_images,
    writing,
)
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

CHUNK = 16  # images that a thread decodes at a time


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
    """Decode the images of some splits into cache files, or open the existing files.

    Args:
        index: the images.
        sizes: split -> side of the square images, pixels.
        limit: maximum GB of all files in the folder together; the least recently used are removed
            to stay below it, and images beyond it are not cached. 0: nothing is cached.
        notify: receives the progress, and warnings if the cache cannot be used.
        stop: checked regularly; images decoded so far are kept.
        folder: folder of the files; None: `pixels` in Podium's cache.
        workers: number of decoding threads; None: one per core.

    Returns:
        Images by split, without the splits of which nothing is cached; empty if the disk is full
        or the folder cannot be used. Images that are not in it must be decoded in every epoch.
        `notify` receives the share that is cached, or the reason why none is.

    Raises:
        UnreadableImageError: an image vanished or changed since it was checked.
        KeyboardInterrupt: `stop` was set.
    """
    if not limit:
        return {}
    place = folder or cache_root() / "pixels"
    wanted = {split: _Wanted(index, split, size, place) for split, size in sizes.items()}
    needed = sum({one.path: one.bytes for one in wanted.values()}.values())
    try:
        if not all(one.is_there() for one in wanted.values()):
            if needed > limit * 1e9:
                told = _keep_what_fits(wanted.values(), limit * 1e9)
                notify(WarningMessage(_too_large(sizes, needed, limit, told)))
                wanted = {split: one for split, one in wanted.items() if len(one.digests)}
                if not wanted:
                    return {}
            place.mkdir(parents=True, exist_ok=True)
            with _locked(place, notify, stop):
                for one in wanted.values():
                    one.discard_unless_whole()
                _make_room(place, list(wanted.values()), limit)
                for one in wanted.values():
                    if not one.is_there():  # another process may have built it in the meantime
                        _build(one, place, notify, stop, workers)
    except OSError as error:
        notify(
            WarningMessage(
                f"Decoded images cannot be cached in {place} ({error.strerror or error}): every "
                "epoch decodes them again. Free some space, or set PODIUM_CACHE to another folder.",
            )
        )
        return {}
    for one in wanted.values():
        mark_used(one.path)
    return {split: CachedPixels(one.path, one.size, one.rows) for split, one in wanted.items()}


class _Wanted:
    """The cache file that a split needs: its name, its digests, and the row of every image."""

    def __init__(self, index: DataIndex, split: str, size: int, folder: Path) -> None:
        part = index.part_of
        of = split if part is None else "test"
        table = (index if part is None else part.whole).pixel_digests(of)
        self.digests, first, rows = np.unique(table, axis=0, return_index=True, return_inverse=True)
        self.rows = rows.reshape(-1).astype(np.int64)
        if part is not None:
            self.rows = self.rows[part.rows[split]]
        self.size, self.folder = size, folder
        self.index = index
        self.paths = (index if part is None else part.whole).splits[of].paths.take(first)
        self.channels = index.windows.inputs
        self._name()

    def _name(self) -> None:
        self.bytes = file_bytes(len(self.digests), self.size, self.channels)
        key = hashlib.sha256(self.digests.tobytes()).hexdigest()
        further = "" if self.channels == 3 else f"-{self.channels}ch"
        self.kind = f"{self.size}px{further}-v{FORMAT}"
        self.path = self.folder / f"{self.kind}-{key[:32]}.pixels"
        self.partial = self.path.with_suffix(".partial")

    def keep(self, count: int) -> None:
        """Leave all but the first `count` images to be decoded in every epoch."""
        self.digests, self.paths = self.digests[:count], self.paths[:count]
        self.rows = np.where(self.rows < count, self.rows, NOT_KEPT)
        self._name()

    def is_there(self) -> bool:
        """Whether the file is complete."""
        found = PixelFile.open(self.path)
        return found is not None and np.array_equal(found.digests, self.digests)

    def discard_unless_whole(self) -> None:
        """Remove an incomplete file; under the lock, since another process may be building it."""
        if not self.is_there():
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)


def _build(
    one: _Wanted, place: Path, notify: Notify, stop: StopRequest | None, workers: int | None
) -> None:
    """Fill the partial file, continuing after a kill, and give it its final name."""
    total, side = len(one.digests), one.size
    siblings = map(PixelFile.open, place.glob(f"{one.kind}-*.pixels"))
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
        with writing(one.partial, side, one.digests, one.channels) as file:
            chunks = (
                [row for row in range(at, min(at + CHUNK, total)) if not file.has(row)]
                for at in range(0, total, CHUNK)
            )
            with contextlib.closing(in_order(work, chunks, threads=workers)) as results:
                for number, decoded in enumerate(results):
                    file.write(decoded)
                    notify(CacheProgress(f"{side} px", number * CHUNK, total))
                    _raise_if_stopped(stop)
    except OSError:
        with contextlib.suppress(OSError):
            one.partial.unlink(missing_ok=True)  # do not leave the disk full
        raise
    finally:
        notify(CacheProgress(f"{side} px", total, total))
    os.replace(one.partial, one.path)
    kept = f"{total:,} decoded images of {side} px, {_gb(one.bytes)}"
    notify(Message(f"caches {kept}, in {place}"))


def _keep_what_fits(wanted: Iterable[_Wanted], room: float) -> str:
    """Cut files down to `room` bytes together, those of small images last; says what is kept."""
    kept, total = 0, 0
    files: dict[Path, list[_Wanted]] = {}
    for one in sorted(wanted, key=lambda one: one.size):
        files.setdefault(one.path, []).append(one)  # two splits may share one
    for sharing in files.values():
        total += len(sharing[0].digests)
        count = min(
            len(sharing[0].digests), most_images(room, sharing[0].size, sharing[0].channels)
        )
        for one in sharing:
            one.keep(count)
        kept += count
        room -= sharing[0].bytes if count else 0
    return f"{kept:,} of {total:,} ({100 * kept / total:.0f} %)"


def _make_room(place: Path, wanted: Sequence[_Wanted], limit: float) -> None:
    """Remove the least recently used files.

    Args:
        place: the folder.
        wanted: the files that will be written, or kept.
        limit: maximum size of the folder, GB.

    Raises:
        OSError: the disk is still too small; nothing was removed.
    """
    own = {path for one in wanted for path in (one.path, one.partial)}
    sizes = {path: size for _, size, path in entries(place)}
    others = {path for path in sizes if path.suffix in (".pixels", ".partial")} - own
    kept = sizes.keys() - others
    files = {one.path: one for one in wanted}.values()  # two splits may share one
    needed = sum(one.bytes for one in files)
    missing = sum(one.bytes for one in files if not one.path.exists() and not one.partial.exists())
    free = shutil.disk_usage(place).free
    if missing > free + sum(sizes[path] for path in others):
        raise OSError(f"{_gb(missing)} needed, {_gb(free)} free")
    allowed = limit * 1e9 - needed + sum(sizes[path] for path in kept)
    prune(place, limit=allowed, keep=kept, room=missing)


@contextlib.contextmanager
def _locked(place: Path, notify: Notify, stop: StopRequest | None) -> Iterator[None]:
    """Let one process build at a time; it uses all cores."""
    lock = filelock.FileLock(place / ".lock")
    reported = False
    while True:
        try:
            lock.acquire(timeout=0.5)
            break
        except filelock.Timeout:
            _raise_if_stopped(stop)
            if not reported:
                notify(Message("waits for another podium process that decodes images"))
                reported = True
    try:
        yield
    finally:
        lock.release()


def _raise_if_stopped(stop: StopRequest | None) -> None:
    if stop is not None and stop.is_set():
        raise KeyboardInterrupt


def _too_large(sizes: Mapping[str, int], needed: int, limit: float, kept: str) -> str:
    sides = " and ".join(str(size) for size in sorted(set(sizes.values())))
    return (
        f"The decoded images ({sides} px) take {_gb(needed)}, and --cache-limit is {limit:g} GB: "
        f"{kept} are cached, every epoch decodes the others again. With --cache-limit "
        f"{int(needed / 1e9) + 1} all are decoded once."
    )


def _gb(size: float) -> str:
    return f"{size / 1e9:,.2f} GB"

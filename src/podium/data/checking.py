"""Reads files once: records their properties, or why they cannot be decoded."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from podium.data import bands
from podium.data.bands import Picture
from podium.data.columns import Rows
from podium.data.file_checks import STAMP, Verdict, VerdictCache, Verdicts
from podium.data.grey import OWN_WINDOWS, GreyWindows
from podium.data.images import GREY_MODES, decode_picture, decode_with_mode
from podium.data.listing import Listing
from podium.data.source import Reader
from podium.data.splits import Parts
from podium.data.words import counted, in_study, listed, named, shown
from podium.errors import ConfigError, DataError, UnreadableImageError
from podium.runtime.events import IndexProgress, Notify
from podium.runtime.threads import in_order


def check_files(
    found: Listing,
    cache_folder: Path | None,
    workers: int | None,
    notify: Notify,
) -> Verdicts:
    """Read every file that may have changed, and decode those with bytes not seen before.

    Args:
        found: the files.
        cache_folder: folder of the cache; None: Podium's cache.
        workers: number of threads; None: one per core.
        notify: receives the progress: number of files checked.

    Returns:
        One row per file, in the order of the listing.

    Raises:
        ConfigError: there are TIFF files of several channels, and the library for them is missing.
    """
    if found.checked is not None:
        return found.checked
    _need_tifffile(found)
    cache = VerdictCache(Path(found.place), cache_folder, found.channels)
    total = len(found.paths)
    stamps = _stamps(found)
    known = cache.rows(found.paths, stamps)
    checked = known >= 0
    if checked.all() and len(cache.verdicts) == total:  # mapped, instead of copied
        notify(IndexProgress("files", total, total))
        return cache.verdicts
    verdicts, same = Verdicts.empty(total), np.flatnonzero(checked)
    verdicts.copy(same, cache.verdicts, known[same])
    unknown = np.flatnonzero(~checked)

    def inspect(path: str) -> Verdict:
        return inspect_image(found.reader, path, cache, found.channels)

    # Pillow decodes and hashlib digests without the interpreter's lock, so threads use all cores
    try:
        paths = found.paths.take(unknown)
        with contextlib.closing(in_order(inspect, paths, threads=workers)) as results:
            pairs = zip(unknown.tolist(), results, strict=True)
            for done, (row, verdict) in enumerate(pairs, 1 + len(same)):
                verdicts.put(row, verdict)
                cache.note(verdict)
                checked[row] = True
                if done % 50 == 0 or done == total:
                    notify(IndexProgress("files", done, total))
        if not len(unknown):
            notify(IndexProgress("files", total, total))
    finally:  # also when interrupted: what was checked is kept
        whole = bool(checked.all())
        checked[[*verdicts.errors]] = False
        cache.save(found.paths, stamps, verdicts, np.flatnonzero(checked), whole=whole)
    return verdicts


def _stamps(found: Listing) -> npt.NDArray[np.int64]:
    """What tells whether a file has changed, int64 of shape (n, 4); 0 where nothing does."""
    stamps = np.zeros((len(found.paths), len(STAMP)), np.int64)
    for row, path in enumerate(found.paths):
        if (stamp := found.reader.stamp_of(path)) is not None:
            stamps[row] = stamp
    return stamps


def _need_tifffile(found: Listing) -> None:
    """Refuse at once what would leave out every TIFF file, and only those."""
    if found.channels is None or bands.can_read_tiff():
        return
    if those := [path for path in found.paths if path.lower().endswith((".tif", ".tiff"))]:
        raise ConfigError(f"{counted(len(those), 'TIFF file')} in {found.place}: {bands.REMEDY}.")


def load_checked(
    reader: Reader, path: str, digest: str | None, windows: GreyWindows = OWN_WINDOWS
) -> Picture:
    """Decode an image as a model sees it, and check that its file has not changed.

    Args:
        reader: of its source.
        path: name of the file in the source.
        digest: expected SHA-256 of the file; None: not checked.
        windows: of the model: how grey values deeper than 8 bits are mapped, and the channels.

    Raises:
        UnreadableImageError: the file cannot be read, or has changed.
    """
    content = reader.read(path)
    picture = decode_picture(content, path, windows)
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise UnreadableImageError(path, "it changed since it was checked")
    return picture


def inspect_image(
    reader: Reader, path: str, known: VerdictCache, channels: int | None = None
) -> Verdict:
    """Decode one file: its hash, size and mode, or why it cannot be read.

    Args:
        reader: of its source.
        path: name of the file in the source.
        known: verdicts on files that need not be decoded again.
        channels: that it must have; None: it is decoded to RGB.
    """
    if shown(path) != path:
        return Verdict(error="its name is not valid UTF-8; rename the file or its folder")
    digest = ""
    try:
        content = reader.read(path)
        digest = hashlib.sha256(content).hexdigest()
        if (same := known.get(digest)) is not None:
            return same
        image, stored = decode_with_mode(content, path, channels)
    except UnreadableImageError as error:
        return Verdict(digest=digest, error=error.reason)
    grey = stored.mode in GREY_MODES or stored.mode.startswith("I")
    return Verdict(
        digest,
        *image.size,
        grey,
        values=stored.values,
        deep_colour=stored.deep_colour,
        more_frames=stored.more_frames,
    )


def readable_images(found: Listing, verdicts: Verdicts) -> tuple[Parts, list[str]]:
    """Leave out unreadable files.

    Args:
        found: the files.
        verdicts: on all files.

    Returns:
        `(parts, notices)`: split -> rows of its readable images, and sentences for the user.

    Raises:
        DataError: a split would lose all images of a class.
    """
    kept: Parts = {}
    for split, rows in found.parts.items():
        fine = np.ones(len(found.paths), np.bool_)
        fine[[*verdicts.errors]] = False
        kept[split] = rows[fine[rows]]
        _refuse_lost(found, verdicts, split, rows, kept[split])
    notices = list(found.notices)
    if found.likely_groups and found.groups is None:
        notices.append(
            f"{listed([*map(repr, found.likely_groups)])} may name what images belong to. If so, "
            "keep those of a group together in every split: "
            f"{in_study({'group': found.likely_groups[0]})}."
        )
    if unreadable := len(verdicts.errors):
        verb = "is" if unreadable == 1 else "are"
        notices.append(f"{counted(unreadable, 'file')} cannot be read and {verb} left out.")
    return kept, notices


def _refuse_lost(found: Listing, verdicts: Verdicts, split: str, rows: Rows, kept: Rows) -> None:
    """Refuse to go on without a class."""
    codes = np.setdiff1d(found.labels[rows], found.labels[kept])
    if not len(codes):
        return
    of_those = rows[np.isin(found.labels[rows], codes)].tolist()
    gone = sorted(of_those, key=lambda row: (found.names[found.labels[row]], row))
    lost = [*dict.fromkeys(found.names[found.labels[row]] for row in gone)]
    what = {"train": "training", "valid": "validation"}.get(split, split)
    why = [f"{shown(found.paths[row])} ({verdicts.errors[row]})" for row in gone]
    raise DataError(
        f"No {what} image of {named(lost)} can be read: {'; '.join(why[:3])}"
        f"{f' and {len(why) - 3:,} more' if len(why) > 3 else ''}. "
        "Repair the files, or remove the class."
    )

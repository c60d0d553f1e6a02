"""Reads every file once: records its properties, or why it cannot be decoded."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path

from podium.data import bands
from podium.data.bands import Picture
from podium.data.file_checks import Verdict, VerdictCache
from podium.data.grey import OWN_WINDOWS, GreyWindows
from podium.data.images import GREY_MODES, decode_picture, decode_with_mode
from podium.data.listing import Listing
from podium.data.source import Reader
from podium.data.words import counted, in_study, listed, named, shown
from podium.errors import ConfigError, DataError, UnreadableImageError
from podium.runtime.events import IndexProgress, Notify
from podium.runtime.threads import in_order


def check_files(
    found: Listing,
    cache_folder: Path | None,
    workers: int | None,
    notify: Notify,
) -> dict[str, Verdict]:
    """Read every file, and decode those that are not in the cache.

    Args:
        found: the files.
        cache_folder: folder of the cache; None: Podium's cache.
        workers: number of threads; None: one per core.
        notify: receives the progress: number of files read.

    Returns:
        Path -> verdict.

    Raises:
        ConfigError: there are TIFF files of several channels, and the library for them is missing.
    """
    _need_tifffile(found)
    cache = VerdictCache(Path(found.place), cache_folder, found.channels)
    before = set(cache.known)
    paths = sorted(found.paths)
    verdicts: dict[str, Verdict] = {}

    def inspect(path: str) -> Verdict:
        return inspect_image(found.reader, path, cache.known, found.channels)

    # Pillow decodes and hashlib digests without the interpreter's lock, so threads use all cores
    try:
        with contextlib.closing(in_order(inspect, paths, threads=workers)) as results:
            for done, (path, verdict) in enumerate(zip(paths, results, strict=True), 1):
                verdicts[path] = verdict
                cache.put(verdict)
                if done % 50 == 0 or done == len(paths):
                    notify(IndexProgress("files", done, len(paths)))
        cache.keep(verdicts.values())
    finally:  # also when interrupted: what was checked is kept
        if set(cache.known) != before:
            cache.save()
    return verdicts


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
    reader: Reader, path: str, known: Mapping[str, Verdict], channels: int | None = None
) -> Verdict:
    """Decode one file: its hash, size and mode, or why it cannot be read.

    Args:
        reader: of its source.
        path: name of the file in the source.
        known: verdicts by SHA-256, for files that need not be decoded again.
        channels: that it must have; None: it is decoded to RGB.
    """
    if shown(path) != path:
        return Verdict(error="its name is not valid UTF-8; rename the file or its folder")
    digest = ""
    try:
        content = reader.read(path)
        digest = hashlib.sha256(content).hexdigest()
        if digest in known:
            return known[digest]
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


def readable_images(
    found: Listing, verdicts: dict[str, Verdict]
) -> tuple[dict[str, dict[str, list[str]]], list[str]]:
    """Leave out unreadable files.

    Args:
        found: the files.
        verdicts: path -> verdict, of all files.

    Returns:
        `(paths, notices)`: split -> class -> sorted paths, and sentences for the user.

    Raises:
        DataError: a split would lose all images of a class.
    """
    kept: dict[str, dict[str, list[str]]] = {}
    for split, by_class in found.splits.items():
        kept[split] = {}
        for label, paths in by_class.items():
            kept[split][label] = sorted(path for path in paths if not verdicts[path].error)
        lost = sorted(label for label, paths in kept[split].items() if not paths)
        if lost:
            what = {"train": "training", "valid": "validation"}.get(split, split)
            why = [
                f"{shown(path)} ({verdicts[path].error})"
                for label in lost
                for path in sorted(by_class[label])
            ]
            raise DataError(
                f"No {what} image of {named(lost)} can be read: {'; '.join(why[:3])}"
                f"{f' and {len(why) - 3:,} more' if len(why) > 3 else ''}. "
                "Repair the files, or remove the class."
            )
    notices = list(found.notices)
    if found.likely_groups and not found.groups:
        notices.append(
            f"{listed([*map(repr, found.likely_groups)])} may name what images belong to. If so, "
            "keep those of a group together in every split: "
            f"{in_study({'group': found.likely_groups[0]})}."
        )
    unreadable = sum(bool(verdict.error) for verdict in verdicts.values())
    if unreadable:
        verb = "is" if unreadable == 1 else "are"
        notices.append(f"{counted(unreadable, 'file')} cannot be read and {verb} left out.")
    return kept, notices

"""Builds an index: lists a source, checks every file, and makes the splits or folds."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from podium.config.data_settings import DataSpec, SplitSpec
from podium.data.assign import completed, described, split_anew
from podium.data.checking import check_files, readable_images
from podium.data.file_checks import Verdict
from podium.data.folds import make_folds, pooled
from podium.data.grey import OWN_WINDOWS, GreyWindows, Window, grey_notices
from podium.data.groups import grouped
from podium.data.index import DataIndex
from podium.data.leaks import copies_across, torn_groups
from podium.data.listing import SPLITS, Listing, listed_images, open_source
from podium.data.source import Source
from podium.data.splits import Split, make_split, without_small
from podium.data.words import counted, named, shown
from podium.errors import ConfigError, DataError
from podium.runtime.events import Notify, silent


def index_of(
    data: DataSpec,
    source: Source | Listing | None = None,
    *,
    notify: Notify = silent,
    **options: Any,
) -> DataIndex:
    """Index the images that a study's `data` describes.

    Args:
        data: where the images are, what belongs together, and how they are split.
        source: the images instead of those at `data.path`, perhaps already listed; None: open that.
        notify: receives the progress: number of files read.
        options: `cache_folder` and `workers` of `build_index`.

    Raises:
        ConfigError: a setting does not fit the source.
        DataError: the images cannot be used.
    """
    return build_index(
        open_source(data) if source is None else source,
        group=data.group,
        split=data.split,
        folds=data.folds,
        repeats=data.repeats,
        split_seed=data.split_seed,
        valid_fraction=data.valid_fraction,
        test_fraction=data.test_fraction,
        min_images=data.min_images,
        window=data.window,
        channels=data.channels,
        notify=notify,
        **options,
    )


def build_index(
    root: str | Path | Source | Listing,
    *,
    group: str | None = None,
    split: SplitSpec | None = None,
    folds: int | None = None,
    repeats: int = 1,
    split_seed: int = 0,
    valid_fraction: float = 0.1,
    test_fraction: float = 0.1,
    min_images: int | None = None,
    window: Window | None = None,
    channels: int | None = None,
    cache_folder: Path | None = None,
    workers: int | None = None,
    notify: Notify = silent,
) -> DataIndex:
    """Find the images of a folder, read and check each of them once, and make the splits.

    Args:
        root: a folder with `train/`, `valid/` and `test/` (one folder per class in each), or with
            one folder per class and no splits; see `podium.data.layout`. Or a `Source`, or its
            listing.
        group: what gives the group of an image, see `podium.data.groups`; None: the source.
        split: how to split all images anew; None: keep the source's splits.
        folds: share all images out among this many folds instead, see `podium.data.folds`; None:
            make splits.
        repeats: how often they are shared out anew.
        split_seed: seed of the stratified split that is made if one is missing.
        valid_fraction: share of each class held out for validation if there is no such split,
            above 0 and below 0.5; at least one image.
        test_fraction: share of each class held out for the test if there is no such split, above
            0 and below 0.5; at least one image.
        min_images: classes with fewer training images (before any are held out) are left out;
            None: a class that is too small to split is an error.
        window: grey values deeper than 8 bits that become black and white; None: chosen from the
            training images.
        channels: that every image must have, TIFF or `.npy`; None: images are decoded to RGB.
        cache_folder: where to cache the results of checking files; None: Podium's cache.
        workers: number of decoding threads; None: one per core.
        notify: receives the progress: number of files read.

    Raises:
        ConfigError: a fraction is out of range.
        DataError: the folder is missing, empty or has a single class, or has no usable train
            split; or no image of a class can be read.

    Examples:
        >>> import pathlib, tempfile
        >>> from podium.data.synthetic import make_demo
        >>> demo = make_demo(pathlib.Path(tempfile.mkdtemp()), size=32, per_class=(10, 1, 1))
        >>> index = build_index(demo / "train", valid_fraction=0.2)
        >>> {name: len(split) for name, split in index.splits.items()}
        {'train': 70, 'valid': 20, 'test': 10}
    """
    fractions = {"valid": valid_fraction, "test": test_fraction}
    for name, fraction in fractions.items():
        if not 0 < fraction < 0.5:
            raise ConfigError(
                f"{name}_fraction: expected more than 0 and less than 0.5, got {fraction}."
            )
    found = listed_images(root, channels)
    if group is not None:
        found = grouped(found, group)
    found = split_anew(found, split)
    if "train" not in found.splits:
        there = " and ".join(sorted(found.splits))
        raise DataError(f"{found.place} has {there} images, but {found.advice.no_train}")
    verdicts = check_files(found, cache_folder, workers, notify)
    readable, notices = readable_images(found, verdicts)
    if folds is not None:
        readable = {"train": pooled(readable)}
    if min_images is not None:
        readable = without_small(readable, min_images, notices)
    train = readable["train"]
    if len(train) < 2:
        raise DataError(
            f"Expected images of two or more classes in {found.place}, found "
            f"{f'only {named(sorted(train))}' if train else 'none'}. {found.advice.one_class}"
        )
    if folds is not None:
        classes = tuple(sorted(train))
        everything = {"test": make_split("test", train, classes, notices, found.advice)}
        learned = [verdicts[path].values for path in everything["test"].paths]
        windows = GreyWindows.of(
            [one for one in learned if one is not None], window, found.channels
        )
        chosen = window is not None
        index = _index(
            found,
            verdicts,
            classes,
            everything,
            windows,
            notices,
            chosen=chosen,
            learned_from="test",
        )
        shared_out, told = make_folds(
            index.splits["test"],
            classes,
            folds,
            repeats,
            split=split or SplitSpec(),
            seed=split_seed,
            valid_fraction=valid_fraction,
            was_split=found.is_split,
        )
        return replace(
            index,
            folds=shared_out,
            fingerprint=shared_out.fingerprint(index.fingerprint),
            notices=(*index.notices, *told),
        )
    readable, told = completed(
        readable, found.groups, fractions, split=split, seed=split_seed, advice=found.advice
    )
    notices += told
    classes = tuple(sorted(readable["train"]))
    splits = {
        name: make_split(name, readable[name], classes, notices, found.advice) for name in SPLITS
    }
    notices += copies_across(splits, {path: one.digest for path, one in verdicts.items()})
    learned = [verdicts[path].values for path in splits["train"].paths]
    windows = GreyWindows.of([one for one in learned if one is not None], window, found.channels)
    return _index(found, verdicts, classes, splits, windows, notices, chosen=window is not None)


def build_scored_index(
    root: str | Path | Source | Listing,
    split: str = "test",
    *,
    channels: int | None = None,
    cache_folder: Path | None = None,
    workers: int | None = None,
    notify: Notify = silent,
) -> DataIndex:
    """Index the images that a trained model is scored on; nothing is held out.

    Args:
        root: a folder as for `build_index`, or a `Source`. Without splits, all images are used.
        split: the split to use if there are several; it is the only one in the index.
        channels: that every image must have; None: images are decoded to RGB.
        cache_folder: where to cache the results of checking files; None: Podium's cache.
        workers: number of decoding threads; None: one per core.
        notify: receives the progress: number of files read.

    Raises:
        DataError: the folder cannot be used, or has split folders but not this one.
    """
    found = listed_images(root, channels)
    if not found.is_split:
        found = replace(found, splits={split: found.splits["train"]})
    elif not found.splits.get(split):
        there = " and ".join(sorted(name for name, classes in found.splits.items() if classes))
        raise DataError(
            f"{found.place} has {there} images, but none for {split}. {found.advice.no_split}"
        )
    found = replace(found, splits={split: found.splits[split]})
    verdicts = check_files(found, cache_folder, workers, notify)
    readable, notices = readable_images(found, verdicts)
    classes = tuple(sorted(readable[split]))
    splits = {split: make_split(split, readable[split], classes, notices, found.advice)}
    windows = replace(OWN_WINDOWS, channels=found.channels)
    return _index(found, verdicts, classes, splits, windows, notices, chosen=False)


def _index(
    found: Listing,
    verdicts: dict[str, Verdict],
    classes: tuple[str, ...],
    splits: dict[str, Split],
    windows: GreyWindows,
    notices: list[str],
    *,
    chosen: bool,
    learned_from: str = "train",
) -> DataIndex:
    splits = {name: described(split, found) for name, split in splits.items()}
    notices += torn_groups(splits)
    kept = {path: verdicts[path] for split in splits.values() for path in split.paths}
    deep = {path: one.values for path, one in kept.items() if one.values is not None}
    learned = set(splits[learned_from].paths) if learned_from in splits else set()
    notices += grey_notices(
        [values for path, values in deep.items() if path in learned],
        [values for path, values in deep.items() if path not in learned],
        windows,
        len(kept),
        chosen=chosen,
    )
    coloured = sum(one.deep_colour for one in kept.values())
    if coloured:
        notices.append(
            f"{counted(coloured, 'image')} with 16 bits per channel: the upper 8 are used. If "
            "only the lower 10 or 12 are used, the images are nearly black: convert them to 8 bits."
        )
    if found.channels is not None:
        notices.append(
            f"Images are read with {counted(found.channels, 'channel')}, from TIFF and .npy files. "
            f"Reports and the audit show the first {'three' if found.channels >= 3 else 'one'}."
        )
    if several := sum(one.more_frames for one in kept.values()):
        notices.append(
            f"{counted(several, 'image')} of several frames, pages or slices: the first is used."
        )
    return DataIndex(
        reader=found.reader,
        classes=classes,
        splits=splits,
        skipped={shown(kind): count for kind, count in sorted(found.skipped.items())},
        unreadable=tuple(
            (shown(path), verdicts[path].error) for path in sorted(verdicts) if verdicts[path].error
        ),
        notices=tuple(map(shown, notices)),
        fingerprint=_fingerprint(
            splits, classes, verdicts, windows if deep or windows.channels else None
        ),
        statistics=_statistics(kept),
        digests={path: one.digest for path, one in kept.items()},
        windows=windows,
        deep=frozenset(deep),
        unreadable_in={
            shown(path): (split if found.is_split else "", label)
            for split, by_class in found.splits.items()
            for label, paths in by_class.items()
            for path in paths
            if verdicts[path].error
        },
    )


def _fingerprint(
    splits: dict[str, Split],
    classes: tuple[str, ...],
    verdicts: dict[str, Verdict],
    windows: GreyWindows | None,
) -> str:
    """SHA-256 over all images and labels: stays the same when the folder is moved.

    Args:
        splits: the images.
        classes: names of the classes.
        verdicts: path -> verdict, with the digest of each image.
        windows: of the images deeper than 8 bits or of several channels; None: there are none.
    """
    total = hashlib.sha256()
    if windows is not None:
        total.update(f"{windows.key}\n".encode())
    for split in splits.values():
        for path, label in zip(split.paths, split.labels, strict=True):
            line = f"{split.name}\0{classes[label]}\0{path}\0{verdicts[path].digest}\n"
            total.update(line.encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _statistics(images: Mapping[str, Verdict]) -> dict[str, Any]:
    kept = images.values()

    def spread(values: list[int]) -> list[int]:
        return [min(values), int(np.median(values)), max(values)]

    return {
        "width": spread([verdict.width for verdict in kept]),
        "height": spread([verdict.height for verdict in kept]),
        "greyscale": sum(verdict.grey for verdict in kept),
        "formats": dict(
            Counter(PurePosixPath(path).suffix.lower() for path in images).most_common()
        ),
    }

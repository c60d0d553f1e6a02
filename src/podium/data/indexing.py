"""Builds an index: lists a source, checks every file, and makes the splits or folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from podium.config.data_settings import DataSpec, SplitSpec
from podium.data.assign import completed, pooled, split_anew, without_test
from podium.data.checking import check_files, readable_images
from podium.data.file_checks import Verdicts
from podium.data.fingerprints import fingerprint
from podium.data.folds import make_folds
from podium.data.grey import OWN_WINDOWS, GreyWindows, Window, grey_notices
from podium.data.groups import grouped
from podium.data.index import DataIndex
from podium.data.leaks import copies_across, torn_groups
from podium.data.listing import Listing, listed_images, open_source
from podium.data.source import Source
from podium.data.splits import SPLITS, Parts, Split, class_names, of_classes, without_small
from podium.data.words import counted, named, shown
from podium.errors import ConfigError, DataError
from podium.runtime.events import Notify, silent
from podium.runtime.memory import return_memory

_BLOCK = 65_536  # names that are looked at together


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
        score_on=data.score_on,
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
    score_on: Literal["test", "valid", "nothing"] = "test",
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
        score_on: `valid`: leave the test images out, and make the validation images `test`;
            `nothing`: leave them out, and have no image in `test`.
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
    if score_on == "nothing" and len(found.parts.get("test", ())):
        # where the source says which they are, the files are not even opened
        found = found.only(*(name for name in found.parts if name != "test"))
        del fractions["test"]
    if "train" not in found.parts:
        there = " and ".join(sorted(found.parts))
        raise DataError(f"{found.place} has {there} images, but {found.advice.no_train}")
    verdicts = check_files(found, cache_folder, workers, notify)
    readable, notices = readable_images(found, verdicts)
    if folds is not None and score_on == "test":
        readable = {"train": pooled(readable)}
    if min_images is not None:
        readable = without_small(readable, found.labels, found.names, min_images, notices)
    if score_on == "valid":
        readable, told = without_test(found, readable, fractions, split=split, seed=split_seed)
        notices += told
        if folds is not None:
            readable = {"train": pooled(readable)}
    train = class_names(readable["train"], found.labels, found.names)
    if len(train) < 2:
        raise DataError(
            f"Expected images of two or more classes in {found.place}, found "
            f"{f'only {named(sorted(train))}' if train else 'none'}. {found.advice.one_class}"
        )
    if folds is not None:
        index = _index(found, verdicts, {"test": readable["train"]}, notices, window, "test")
        shared_out, told = make_folds(
            index.splits["test"],
            index.classes,
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
    readable, told = completed(found, readable, fractions, split=split, seed=split_seed)
    parts = {name: readable[name] for name in SPLITS if name != "test" or score_on != "nothing"}
    index = _index(found, verdicts, parts, [*notices, *told], window, "train")
    if score_on == "nothing":
        none = np.empty(0, dtype=np.int64)
        index.splits["test"] = Split("test", index.images, none, none)
    return index


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
        found = replace(found, parts={split: found.parts["train"]})
    elif not len(found.parts.get(split, ())):
        there = " and ".join(sorted(name for name, rows in found.parts.items() if len(rows)))
        raise DataError(
            f"{found.place} has {there} images, but none for {split}. {found.advice.no_split}"
        )
    found = found.only(split)
    verdicts = check_files(found, cache_folder, workers, notify)
    readable, notices = readable_images(found, verdicts)
    return _index(found, verdicts, readable, notices, None, None)


def _index(
    found: Listing,
    verdicts: Verdicts,
    parts: Parts,
    notices: list[str],
    window: Window | None,
    learned: str | None,
) -> DataIndex:
    """Make the index of listed, checked and assigned images.

    Args:
        found: the images.
        verdicts: on all files.
        parts: split -> rows.
        notices: sentences for the user; extended.
        window: that the user chose for grey values deeper than 8 bits.
        learned: the split that classes and windows are learned from; None: the images are only
            scored, each by its own range.
    """
    source = parts[learned or next(iter(parts))]
    classes = tuple(sorted(class_names(source, found.labels, found.names)))
    drawn = {
        name: of_classes(name, rows, found.labels, found.names, classes, notices, found.advice)
        for name, rows in parts.items()
    }
    used = np.sort(np.concatenate([rows for rows, _ in drawn.values()]))
    images = found.table(verdicts, used)
    splits = {
        name: Split(name, images, np.searchsorted(used, rows), labels)
        for name, (rows, labels) in drawn.items()
    }
    if len(splits) > 1:
        notices += copies_across(splits)
    notices += torn_groups(splits)
    values = {row: verdicts.values[row] for row in used[images.deep].tolist()}
    own = set() if learned is None else values.keys() & set(drawn[learned][0].tolist())
    windows = replace(OWN_WINDOWS, channels=found.channels)
    if learned is not None:
        windows = GreyWindows.of([values[row] for row in own], window, found.channels)
    notices += grey_notices(
        [values[row] for row in own],
        [one for row, one in values.items() if row not in own],
        windows,
        len(used),
        chosen=window is not None,
    )
    grey, coloured, several = verdicts.flags[used].sum(axis=0).tolist()
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
    if several:
        notices.append(
            f"{counted(several, 'image')} of several frames, pages or slices: the first is used."
        )
    width, height = map(_spread, verdicts.sizes[used].T)
    identity = fingerprint(splits, classes, windows if values or windows.channels else None)
    formats = _formats(splits)
    if len(used) > _BLOCK:  # what listing and checking took would stay
        pa.default_memory_pool().release_unused()
        return_memory()
    return DataIndex(
        reader=found.reader,
        classes=classes,
        images=images,
        splits=splits,
        skipped={shown(kind): count for kind, count in sorted(found.skipped.items())},
        unreadable=tuple(
            (shown(found.paths[row]), error) for row, error in sorted(verdicts.errors.items())
        ),
        notices=tuple(map(shown, notices)),
        fingerprint=identity,
        statistics={
            "width": width,
            "height": height,
            "greyscale": grey,
            "formats": formats,
        },
        windows=windows,
        unreadable_in={
            shown(found.paths[row]): (
                split if found.is_split else "",
                found.names[found.labels[row]],
            )
            for split, rows in found.parts.items()
            for row in rows[np.isin(rows, [*verdicts.errors])].tolist()
        },
    )


def _spread(values: npt.NDArray[np.int32]) -> list[int]:
    return [int(values.min()), int(np.median(values)), int(values.max())]


def _formats(splits: Mapping[str, Split]) -> dict[str, int]:
    """Number of images by the ending of their names, the most frequent first."""
    found: Counter[str] = Counter()
    for split in splits.values():
        for first in range(0, len(split), _BLOCK):
            names = split.paths.arrow(slice(first, first + _BLOCK)).cast(pa.large_string())
            # as in pathlib, a name has no ending if it begins with its only dot
            ends = pc.struct_field(pc.extract_regex(names, r"[^/](?P<end>\.[^./]+)$"), "end")
            for one in pc.value_counts(ends.fill_null("")):
                found[one["values"].as_py().lower()] += one["counts"].as_py()
    return dict(found.most_common())

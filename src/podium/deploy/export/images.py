"""The real images that an export is checked on, and those that int8 is calibrated with."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from podium.data.folder import FolderSource
from podium.data.grey import OWN_WINDOWS, GreyWindows
from podium.data.images import decode_picture
from podium.data.listing import list_images, named_source
from podium.data.recorded import study_source
from podium.data.source import Reader, Source
from podium.data.transforms import eval_transform
from podium.data.walk import walk_images
from podium.errors import ConfigError, DataError, RunFolderError
from podium.runs.folder import RunFolder
from podium.runs.predictions import Predictions
from podium.runtime.threads import in_order

Pixels = npt.NDArray[np.uint8]
Item = TypeVar("Item")

CHECKED = 500
"""The most images used for a check."""

CALIBRATION = (100, 300)
"""Calibration uses two images per class, within these limits if that many exist."""


@dataclass(frozen=True)
class Sample:
    """Images for a check.

    Attributes:
        pixels: uint8 of shape (n, S, S, channels).
        labels: shape (n,), indices of the model's classes; -1: class not known.
        recorded: predictions recorded by the study; None: other images.
        told: description of the images.
    """

    pixels: Pixels
    labels: npt.NDArray[np.int64]
    recorded: Predictions | None
    told: str


def source_of(run: RunFolder, given: str | Path | None, channels: int | None) -> Source | None:
    """The images of the run's study, or those given instead; None: the study's are missing.

    Args:
        run: the run.
        given: instead of the study's, as `study_source` takes them; None: those.
        channels: of the images; None: RGB.
    """
    try:
        return study_source(run.study, given)
    except RunFolderError:  # a run that was copied out of its study
        return None if given is None else named_source(given, channels)
    except DataError:
        if given is None:
            return None
        if not Path(given).is_dir():
            raise
        return FolderSource(Path(given), channels=channels)  # images in any layout


def check_images(
    run: RunFolder,
    class_names: Sequence[str],
    image_size: int,
    data: str | Path | None,
    *,
    windows: GreyWindows = OWN_WINDOWS,
) -> Sample:
    """The run's validation images, or those of another source; evenly spaced, at most `CHECKED`.

    Args:
        run: the run to export.
        class_names: names of the model's classes.
        image_size: side of the model's input, pixels.
        data: the images, as `study_source` takes them; None: the study's. If they include the
            validation images under their own paths, those are used; otherwise all, and those of
            a folder in any layout are labelled by the names of their folders.
        windows: the model's windows for grey values deeper than 8 bit.

    Raises:
        DataError: there are no images there.
        ConfigError: the study's images are missing, and no others are given.
    """
    source = source_of(run, data, windows.channels)
    if source is None:
        raise ConfigError(
            f"The images that {run.path} was validated on are missing. An export is "
            "checked on real images before it is kept: give a folder of images with --data DIR."
        )
    known = _all_images(source)
    reader = Reader(source)
    with contextlib.suppress(RunFolderError):
        valid = run.read_predictions("valid")
        if list(valid.class_names) == list(class_names):
            found = _recorded(reader, known, valid, image_size, windows)
            if found is not None:
                return found
    numbers = {name: number for number, name in enumerate(class_names)}
    paths = spread([*known], CHECKED)
    labels = [numbers.get(known[path], -1) for path in paths]
    return Sample(
        _pixels(reader, paths, image_size, windows),
        np.asarray(labels, dtype=np.int64),
        None,
        f"images of {Path(source.place).name or source.place}",
    )


def calibration_images(
    run: RunFolder,
    image_size: int,
    folder: str | Path | None,
    data: str | Path | None,
    *,
    windows: GreyWindows = OWN_WINDOWS,
) -> Pixels:
    """Training images, balanced over the classes; the same ones every time.

    Args:
        run: the run to export.
        image_size: side of the model's input, pixels.
        folder: images to take them from; None: the training images in `data`, or the study's.
        data: the study's images, as `study_source` takes them; None: their last location.
        windows: the model's windows for grey values deeper than 8 bit.

    Returns:
        uint8 of shape (n, S, S, channels).

    Raises:
        DataError: there are no images there.
        ConfigError: the study's images are missing, and no others are given.
    """
    source = source_of(run, folder or data, windows.channels)
    if source is None:
        raise ConfigError(
            "--int8 needs training images for calibration, and those of the study are "
            "missing: give a folder of images with --calibration DIR."
        )
    held_out: set[str] = set()
    for split in ("valid", "test"):
        with contextlib.suppress(RunFolderError):
            held_out |= set(run.read_predictions(split).paths)
    by_class: dict[str, list[str]] = {}
    if folder is data is None:  # as the study split them, whatever the source
        by_class = run.study.read_training_images()
    if not by_class:
        with contextlib.suppress(DataError):
            by_class = list_images(source).splits.get("train", {})
    groups = [
        [path for path in sorted(paths) if path not in held_out]
        for _, paths in sorted(by_class.items())
    ]
    groups = [group for group in groups if group] or [[*_all_images(source)]]
    least, most = CALIBRATION
    wanted = min(most, max(least, 2 * len(groups)))
    return _pixels(Reader(source), _balanced(groups, wanted), image_size, windows)


def _recorded(
    reader: Reader,
    known: Collection[str],
    valid: Predictions,
    image_size: int,
    windows: GreyWindows,
) -> Sample | None:
    """The available validation images, with the logits that the study recorded of them."""
    there = [at for at, path in enumerate(valid.paths) if path in known]
    if not there:
        return None
    kept = np.asarray(spread(there, CHECKED))
    return Sample(
        _pixels(reader, [valid.paths[at] for at in kept], image_size, windows),
        valid.labels[kept],
        valid.take(kept),
        "the study's validation images",
    )


def _all_images(source: Source) -> dict[str, str]:
    """Path -> label of the images of a source; of a folder, by the folder that holds each."""
    if isinstance(source, FolderSource):
        root = source.root
        walked = walk_images(root, Counter(), suffixes=source.suffixes)
        paths = [(place / name).relative_to(root) for place, names in walked for name in names]
        found = {path.as_posix(): path.parent.name for path in paths}
    else:
        splits = list_images(source).splits.values()
        found = {
            path: label for classes in splits for label, few in classes.items() for path in few
        }
    if not found:
        raise DataError(f"There are no images in {source.place}.")
    return dict(sorted(found.items()))


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """Evenly spaced items, always the same ones.

    Args:
        items: in their order.
        most: how many at most.
    """
    if len(items) <= most:
        return list(items)
    return [items[int(at)] for at in np.linspace(0, len(items) - 1, most)]


def _balanced(groups: list[list[str]], wanted: int) -> list[str]:
    """Images of each group in turn, in a fixed random order."""
    random = np.random.default_rng(0)
    shuffled = [[group[at] for at in random.permutation(len(group))] for group in groups]
    rounds = range(max(map(len, shuffled)))
    every = [group[at] for at in rounds for group in shuffled if at < len(group)]
    return every[:wanted]


def _pixels(reader: Reader, paths: Sequence[str], image_size: int, windows: GreyWindows) -> Pixels:
    transform = eval_transform(image_size)

    def look(path: str) -> Pixels:
        return transform.source(decode_picture(reader.read(path), path, windows))

    return np.stack(list(in_order(look, paths)))

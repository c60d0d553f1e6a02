"""The real images that an export is checked on, and those that int8 is calibrated with."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from podium.data.grey import OWN_WINDOWS, GreyWindows
from podium.data.images import load_rgb
from podium.data.layout import find_images
from podium.data.listing import source_name
from podium.data.transforms import eval_transform
from podium.data.walk import walk_images
from podium.errors import ConfigError, DataError, PodiumError, RunFolderError
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
        pixels: uint8 of shape (n, S, S, 3).
        labels: shape (n,), indices of the model's classes; -1: class not known.
        recorded: logits recorded by the study, shape (n, classes); None: other images.
        told: description of the images.
    """

    pixels: Pixels
    labels: npt.NDArray[np.int64]
    recorded: npt.NDArray[np.float32] | None
    told: str


def study_data(run: RunFolder) -> Path | None:
    """The folder of images that the run's study used; None: it is missing, or none was used."""
    with contextlib.suppress(RunFolderError, KeyError, TypeError, ValueError):
        root, is_folder = Path(run.study.read_data()["root"]), True
        with contextlib.suppress(PodiumError):
            is_folder = source_name(run.study.read_spec().data) in ("folder", "table")
        if root.is_dir() and is_folder:
            return root
    return None


def check_images(
    run: RunFolder,
    class_names: Sequence[str],
    image_size: int,
    data: Path | None,
    *,
    windows: GreyWindows = OWN_WINDOWS,
) -> Sample:
    """The run's validation images, or those of another folder; evenly spaced, at most `CHECKED`.

    Args:
        run: the run to export.
        class_names: names of the model's classes.
        image_size: side of the model's input, pixels.
        data: folder of the images; None: the study's. If it holds the validation images under
            their own paths, those are used; otherwise all its images, labelled by the names of
            their folders.
        windows: the model's windows for grey values deeper than 8 bit.

    Raises:
        DataError: there are no images there.
        ConfigError: the study's images are missing, and no others are given.
    """
    root = data or study_data(run)
    if root is None:
        raise ConfigError(
            f"The images that {run.path} was validated on are missing. An export is "
            "checked on real images before it is kept: give a folder of images with --data DIR."
        )
    if not root.is_dir():
        raise DataError(f"--data {root} is not a folder: expected a folder of images.")
    with contextlib.suppress(RunFolderError):
        valid = run.read_predictions("valid")
        if list(valid.class_names) == list(class_names):
            found = _recorded(root, valid, image_size, windows)
            if found is not None:
                return found
    numbers = {name: number for number, name in enumerate(class_names)}
    paths = _spread(_all_images(root), CHECKED)
    labels = [numbers.get(path.parent.name, -1) for path in paths]
    return Sample(
        _pixels(paths, image_size, windows),
        np.asarray(labels, dtype=np.int64),
        None,
        f"images of {root.name or root}",
    )


def calibration_images(
    run: RunFolder,
    image_size: int,
    folder: Path | None,
    data: Path | None,
    *,
    windows: GreyWindows = OWN_WINDOWS,
) -> Pixels:
    """Training images, balanced over the classes; the same ones every time.

    Args:
        run: the run to export.
        image_size: side of the model's input, pixels.
        folder: folder to take them from; None: the training images in `data`, or the study's.
        data: folder of the study's images; None: their location when the study was run.
        windows: the model's windows for grey values deeper than 8 bit.

    Returns:
        uint8 of shape (n, S, S, 3).

    Raises:
        DataError: there are no images there.
        ConfigError: the study's images are missing, and no others are given.
    """
    root = folder or data or study_data(run)
    if root is None:
        raise ConfigError(
            "--int8 needs training images for calibration, and those of the study are "
            "missing: give a folder of images with --calibration DIR."
        )
    if not root.is_dir():
        raise DataError(f"{root} is not a folder: expected a folder of images for calibration.")
    held_out: set[str] = set()
    for split in ("valid", "test"):
        with contextlib.suppress(RunFolderError):
            held_out |= set(run.read_predictions(split).paths)
    top, by_class = root, {}
    if folder is data is None:  # as the study split them, whatever the source
        by_class = run.study.read_training_images()
    if not by_class:
        with contextlib.suppress(DataError):
            found = find_images(root)
            top, by_class = found.root, found.splits.get("train", {})
    groups = [
        [top / path for path in sorted(paths) if path not in held_out]
        for _, paths in sorted(by_class.items())
    ]
    groups = [group for group in groups if group] or [_all_images(root)]
    least, most = CALIBRATION
    wanted = min(most, max(least, 2 * len(groups)))
    return _pixels(_balanced(groups, wanted), image_size, windows)


def _recorded(
    root: Path, valid: Predictions, image_size: int, windows: GreyWindows
) -> Sample | None:
    """The available validation images, with the logits that the study recorded of them."""
    there = [at for at, path in enumerate(valid.paths) if (root / path).is_file()]
    if not there:
        return None
    kept = np.asarray(_spread(there, CHECKED))
    return Sample(
        _pixels([root / valid.paths[at] for at in kept], image_size, windows),
        valid.labels[kept],
        valid.logits[kept],
        "the study's validation images",
    )


def _all_images(root: Path) -> list[Path]:
    found = sorted(place / name for place, names in walk_images(root, Counter()) for name in names)
    if not found:
        raise DataError(f"There are no images in {root}.")
    return found


def _spread(items: Sequence[Item], most: int) -> list[Item]:
    if len(items) <= most:
        return list(items)
    return [items[int(at)] for at in np.linspace(0, len(items) - 1, most)]


def _balanced(groups: list[list[Path]], wanted: int) -> list[Path]:
    """Images of each group in turn, in a fixed random order."""
    random = np.random.default_rng(0)
    shuffled = [[group[at] for at in random.permutation(len(group))] for group in groups]
    rounds = range(max(map(len, shuffled)))
    every = [group[at] for at in rounds for group in shuffled if at < len(group)]
    return every[:wanted]


def _pixels(paths: Sequence[Path], image_size: int, windows: GreyWindows) -> Pixels:
    transform = eval_transform(image_size)

    def look(path: Path) -> Pixels:
        return transform.source(load_rgb(path, windows=windows))

    return np.stack(list(in_order(look, paths)))

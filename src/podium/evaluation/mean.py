"""Trained models of different contenders, joined into one that averages their probabilities."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import median_low
from typing import Any

import numpy as np
import torch

from podium.config.text import listed
from podium.data.bands import Picture
from podium.data.images import squeeze
from podium.data.index import DataIndex
from podium.errors import RunFolderError
from podium.evaluation.description import ModelDescription, Part, read_description
from podium.evaluation.ensemble import Ensemble, Prepared, resized
from podium.evaluation.trained import load_run
from podium.runs.folder import RunFolder

_LONGEST = 200  # characters of the name in `model.json`
_SAMPLE = 64  # training images that the common size is chosen on


def common_size(index: DataIndex, sizes: Collection[int]) -> int:
    """The size at which images best come to a model whose parts resize them to their own.

    An image that is resized twice is not quite what a part saw in training, where the file was
    resized once, and the right size depends on the files: at their own size nothing is lost, and
    large ones need room to be made smaller again without blur. So each part's size, twice the
    largest and the usual width and height of the files are tried on some training images.

    Args:
        index: the images that were trained on.
        sizes: sides of the images that the parts take, pixels.

    Returns:
        The side, in pixels, with the smallest squared error of all parts' pixels.

    Raises:
        UnreadableImageError: an image can no longer be read.
    """
    if len(set(sizes)) == 1:
        return next(iter(sizes))
    paths = index.splits["train"].paths
    pictures = [index.load(path) for path in paths[:: -(-len(paths) // _SAMPLE)]]
    most = 2 * max(sizes)
    usual = [median_low(picture.size[axis] for picture in pictures) for axis in (0, 1)]
    candidates = {*sizes, most, *(min(most, max(min(sizes), side)) for side in usual)}
    errors = dict.fromkeys(sorted(candidates), 0.0)
    for picture in pictures:
        seen = {size: _tensor(picture, size) for size in {*sizes, *candidates}}
        for candidate in errors:
            for size in sizes:
                error = resized(seen[candidate], size) - seen[size]
                errors[candidate] += float(error.square().mean())
    return min(errors, key=lambda candidate: errors[candidate])


def join(members: Sequence[RunFolder], image_size: int) -> tuple[Ensemble, dict[str, Any]]:
    """Join the models of several runs, each calibrated by its own temperature.

    Where a run's model averages those of its folds, their models are the members: of equally many
    folds, the mean of the means is the mean of all.

    Args:
        members: runs with weights, of one study: its images, classes and folds.
        image_size: side of the images that the whole takes, pixels; see `common_size`.

    Returns:
        `(module, description)`: the module, on the CPU; and what `model.json` says of it, without
        a temperature, which is 1 until it is fitted.

    Raises:
        RunFolderError: the weights of a run are missing or damaged, or its classes or images are
            not those of the first.
    """
    found = [read_description(run.model) for run in members]
    for run, one in zip(members, found, strict=True):
        if _kind(one) != _kind(found[0]):
            raise RunFolderError(
                f"{run.path} and {members[0].path} cannot be averaged: expected models of the same "
                "classes and kind of images, from one study."
            )
    networks: list[Prepared] = []
    temperatures: list[float] = []
    flips: list[bool] = []
    for run, described in zip(members, found, strict=True):
        model = load_run(run)
        folds = model.module if isinstance(model.module, Ensemble) else None
        own = [model.module] if folds is None else list(folds.members)
        networks += [
            Prepared(network, image_size, described.image_size, described.normalization)
            for network in own
        ]
        temperatures += [model.temperature] if folds is None else folds.temperatures.tolist()
        flips += [described.flip_test] * len(own)
    names = f"mean of {listed([run.contender for run in members], most=8)}"
    description = {
        "model": names[:_LONGEST],
        "trained_by": "mean",
        "members": len(networks),
        "parts": [one.model_dump(mode="json", include={*Part.model_fields}) for one in found],
        "class_names": found[0].class_names,
        "image_size": image_size,
        "resize": "bilinear, antialiased, both sides to image_size; then by each part to its own",
        "mean": None,
        "std": None,
        "grey_windows": found[0].grey_windows.to_json(),
    }
    return Ensemble(networks, temperatures, flips), description


def _tensor(picture: Picture, size: int) -> torch.Tensor:
    """An image as a part sees it: float of shape (1, channels, size, size), 0 to 255."""
    pixels = np.asarray(squeeze(picture, size), np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def _kind(model: ModelDescription) -> object:
    return model.class_names, model.grey_windows, model.members

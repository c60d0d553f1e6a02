"""Trained models of different contenders, joined into one that averages their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from podium.config.text import listed
from podium.errors import RunFolderError
from podium.evaluation.description import ModelDescription, Part, read_description
from podium.evaluation.ensemble import Ensemble, Prepared
from podium.evaluation.trained import load_run
from podium.runs.folder import RunFolder

_LONGEST = 200  # characters of the name in `model.json`


def join(members: Sequence[RunFolder]) -> tuple[Ensemble, dict[str, Any]]:
    """Join the models of several runs, each calibrated by its own temperature.

    Where a run's model averages those of its folds, their models are the members: of equally many
    folds, the mean of the means is the mean of all.

    Args:
        members: runs with weights, of one study: its images, classes and folds.

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
    networks, temperatures, flips = [], [], []
    for run, described in zip(members, found, strict=True):
        model = load_run(run)
        folds = model.module if isinstance(model.module, Ensemble) else None
        own = [model.module] if folds is None else list(folds.members)
        networks += [
            Prepared(network, described.image_size, described.normalization) for network in own
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
        "image_size": max(one.image_size for one in found),
        "resize": "bilinear, antialiased, both sides to image_size; then bicubic, by each part",
        "mean": None,
        "std": None,
        "grey_windows": found[0].grey_windows.to_json(),
    }
    return Ensemble(networks, temperatures, flips), description


def _kind(model: ModelDescription) -> object:
    return model.class_names, model.grey_windows, model.members

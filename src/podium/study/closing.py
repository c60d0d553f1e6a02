"""The end of a cross-validated run: its folds are pooled, and the model to use is made.

No image is left to estimate that model's accuracy on. The estimate is that of the folds: every
image is tested once per repeat, by a model that had not seen it. It is of the recipe, trained on
fewer images than the final model.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, median_high
from typing import Any, Literal

import numpy as np
import torch

from podium.__about__ import __version__
from podium.data.parts import refit_index, share_index
from podium.evaluation.description import read_description
from podium.evaluation.ensemble import Ensemble
from podium.evaluation.mean import join
from podium.evaluation.trained import load_run
from podium.runs.folder import RunFolder
from podium.runs.predictions import Predictions, SplitName
from podium.runtime.events import Message, Notify, StopRequest, TrainingStarted, of_run
from podium.runtime.files import read_json, utc_now, write_json
from podium.statistics.calibration import fit_temperature
from podium.statistics.metrics import scores
from podium.statistics.scoring import Metric, find_metric
from podium.study.averaging import of_members
from podium.study.contender import Assignment, job_of, write_down
from podium.training.checkpoint import read_checkpoint, write_best
from podium.training.fit import fit
from podium.training.refit import refit_after
from podium.training.schedule import best_epoch

FinalModel = Literal["refit", "ensemble"]


@dataclass(frozen=True)
class Closing:
    """A run whose folds are done."""

    given: Assignment
    """The run as a whole; its index is the study's."""
    folds: Sequence[RunFolder]
    """The folds of all repeats."""
    final_model: FinalModel
    whole_groups: bool = True
    """Whether a share of the training images is drawn in whole groups, if images have groups."""


def close_run(closing: Closing, notify: Notify, stop: StopRequest) -> dict[str, float]:
    """Pool the folds of a run, make the model that is used afterwards, and write `done.json` last.

    The temperature is fitted on the pooled validation predictions. Where an image was held out for
    validation in several folds, the prediction of the first of them is kept.

    Args:
        closing: the run, with its folds.
        notify: called with an event for every batch and epoch of a refit.
        stop: checked after every step.

    Returns:
        `valid_accuracy` and `test_accuracy` of the pooled predictions of the first repeat, 0 to 1;
        for another metric of the study also its values.

    Raises:
        KeyboardInterrupt: `stop` was set; the state is saved.
        RunFolderError: a file of a fold is missing or damaged.
        TrainingError: the refit cannot continue.
        DataError: an image cannot be read any more.
    """
    given, run = closing.given, closing.given.run
    notify = of_run(notify, run.contender, run.seed)
    index, metric = given.index, find_metric(given.metric)
    assert index.folds is not None
    count, repeats = index.folds.count, len(index.folds.numbers)
    order = index.splits["test"].paths
    valid = pool(closing.folds[:count], "valid", order)
    tests = [
        pool(closing.folds[count * repeat :][:count], "test", order) for repeat in range(repeats)
    ]
    temperature = fit_temperature(valid)
    if given.members:
        made = _mean(closing, temperature, notify)
    elif closing.final_model == "refit":
        made = _refit(closing, temperature, metric, notify, stop)
    else:
        made = _ensemble(closing, notify)
    scored_at = utc_now()
    found = {"valid_accuracy": scores(valid).accuracy, "test_accuracy": scores(tests[0]).accuracy}
    write_down(given, len(tests[0]), scored_at, found["test_accuracy"])
    if not given.members:
        run.write_history(mean_history([fold.read_history() for fold in closing.folds]))
    valid.for_file(temperature).write(run.predictions("valid"))
    for repeat, test in enumerate(tests):
        test.for_file(temperature).write(run.predictions("test", repeat))
    values = {
        split: metric.score(pooled.logits, pooled.labels)
        for split, pooled in (("valid", valid), ("test", tests[0]))
    }
    write_json(
        run.done,
        {
            **_as_the_folds(closing, metric),
            **made,
            "podium_version": __version__,
            "torch_version": torch.__version__,
            "finished_at": utc_now(),
            "test_scored_at": scored_at,
            "metric": {**metric.described(), **values},
            "temperature": temperature,
            **found,
        },
    )
    return {**found, **{f"{split}_{metric.name}": value for split, value in values.items()}}


def pool(folds: Sequence[RunFolder], split: SplitName, order: Sequence[str]) -> Predictions:
    """The predictions of several folds as those of one set of images, each image once.

    Args:
        folds: the folds, of one repeat.
        split: `test`, where each image is in one fold, or `valid`, where the first one counts.
        order: paths of all images of the study.

    Returns:
        The predictions, in the order of `order`; images that no fold predicted are left out.
    """
    parts = [fold.read_predictions(split) for fold in folds]
    at: dict[str, tuple[int, int]] = {}
    for number, part in enumerate(parts):
        for row, path in enumerate(part.paths):
            at.setdefault(path, (number, row))
    kept = [path for path in order if path in at]
    return Predictions(
        parts[0].class_names,
        tuple(kept),
        np.asarray([parts[n].labels[row] for n, row in map(at.__getitem__, kept)], np.int64),
        np.stack([parts[n].logits[row] for n, row in map(at.__getitem__, kept)]),
    )


def mean_history(histories: Sequence[Sequence[dict[str, float]]]) -> list[dict[str, float]]:
    """The mean of the folds' histories, up to the last epoch that all of them have.

    Later epochs would be means over fewer folds, those that were still improving.

    Args:
        histories: the history of each fold.
    """
    return [
        {column: mean(row[column] for row in rows) for column in rows[0]}
        for rows in zip(*histories, strict=False)
    ]


def _refit(
    closing: Closing, temperature: float, metric: Metric, notify: Notify, stop: StopRequest
) -> dict[str, Any]:
    """Train on all images, as the folds chose; returns what `done.json` says about it."""
    given, run = closing.given, closing.given.run
    histories = [fold.read_history() for fold in closing.folds]
    penalties = [_penalty(fold) for fold in closing.folds] if given.recipe.linear_probe else []
    recipe, refit = refit_after(given.recipe, histories, penalties, metric)
    every = refit_index(given.index)
    if recipe.train_share < 1:
        every = share_index(every, recipe.train_share, run.seed, whole_groups=closing.whole_groups)
    all_of = "all " if recipe.train_share == 1 else ""
    said = f"trained on {all_of}{len(every.splits['train']):,} images for {refit.epochs} epoch"
    said += f"{'s' * (refit.epochs > 1)}, the median of the folds"
    notify(Message(said if not penalties else f"{said}; penalty {refit.penalty:.1e}"))
    whole = replace(given, recipe=recipe, index=every)
    job, _, _ = job_of(whole, notify, stop, refit)
    fit(job, notify, stop)
    description = read_json(run.model)
    write_json(run.model, {**description, "trained_by": "refit", "temperature": temperature})
    chose = {"epochs": refit.epochs, "penalty": refit.penalty, "lr_drop": recipe.lr_drop}
    spent = read_checkpoint(run.last)["total_seconds"]
    return {
        "best_epoch": refit.epochs,
        "seconds": round(spent + sum(fold.read_done()["seconds"] for fold in closing.folds), 3),
        "final_model": {"kind": "refit", **chose},
    }


def _ensemble(closing: Closing, notify: Notify) -> dict[str, Any]:
    """Join the folds' models; returns what `done.json` says about it."""
    run, folds = closing.given.run, closing.folds
    notify(TrainingStarted((), contender=run.contender, seed=run.seed))
    models = [load_run(fold) for fold in folds]
    module = Ensemble([one.module for one in models], [one.temperature for one in models])
    stored = read_json(folds[0].model)
    kept = {key: value for key, value in stored.items() if key not in _OF_A_FOLD}
    # its members are calibrated already
    write_best(
        run,
        module,
        {**kept, "trained_by": "ensemble", "members": len(folds), "temperature": 1.0},
    )
    done = [fold.read_done() for fold in folds]
    return {
        "parameters": sum(p.numel() for p in module.parameters()),
        "latency_ms": round(sum(one["latency_ms"] for one in done), 3),  # one after the other
        "seconds": round(sum(one["seconds"] for one in done), 3),
        "final_model": {"kind": "ensemble", "members": len(folds)},
    }


def _mean(closing: Closing, temperature: float, notify: Notify) -> dict[str, Any]:
    """Join the final models of the members; returns what `done.json` says about it."""
    run, members = closing.given.run, closing.given.members
    notify(TrainingStarted((), contender=run.contender, seed=run.seed))
    size = read_description(closing.folds[0].model).image_size
    module, description = join(members, size)
    write_best(run, module, {**description, "temperature": temperature})
    return {
        "parameters": sum(p.numel() for p in module.parameters()),
        **of_members(members),
        "final_model": {"kind": "mean", "members": len(members)},
    }


_OF_A_FOLD = {"format", "podium", "contender", "seed", "best_epoch", "temperature"}


def _as_the_folds(closing: Closing, metric: Metric) -> dict[str, Any]:
    """What `done.json` takes from the folds: facts that they share, and a summary of the others."""
    done = [fold.read_done() for fold in closing.folds]
    index = closing.given.index
    assert index.folds is not None
    found = {
        **{key: value for key, value in done[0].items() if key not in ("metric", "seconds")},
        "folds": index.folds.count,
        "repeats": len(index.folds.numbers),
        "fold_accuracies": [one["test_accuracy"] for one in done],
    }
    if closing.given.members:  # nothing was trained
        return found
    histories = [fold.read_history() for fold in closing.folds]
    best = [best_epoch(history, metric) for history in histories]
    return {
        **found,
        "epochs": len(mean_history(histories)),
        "best_epoch": median_high(best),
        "images_per_second": round(mean(one["images_per_second"] for one in done), 2),
        "fold_epochs": best,
    }


def _penalty(fold: RunFolder) -> float:
    """The penalty that a fold's probe chose."""
    with open(fold.probe, encoding="utf-8", newline="") as file:
        return next(
            float(row["penalty"]) for row in csv.DictReader(file) if row["chosen"] == "True"
        )

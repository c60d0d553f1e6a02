"""One run from its recipe to its final record: trained, then scored once."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from podium.__about__ import __version__
from podium.config.machine import Machine
from podium.config.registry import AUGMENTATIONS
from podium.config.settings import RunSpec
from podium.config.shortcuts import FILE_MODEL
from podium.data.cache import cache_pixels
from podium.data.file_cards import with_cards
from podium.data.index import DataIndex
from podium.data.pixels import CachedPixels
from podium.data.transforms import source_size
from podium.evaluation.latency import latency
from podium.evaluation.trained import TrainedModel, load_run, predict_split
from podium.features.frozen import Features, compute_features, features_are_fixed, views_of
from podium.models import BuiltModel, about_model, build_model
from podium.runs.folder import RunFolder
from podium.runs.ledger import record
from podium.runs.predictions import Predictions, SplitName
from podium.runtime.attempt import Attempt
from podium.runtime.device import (
    Device,
    choose_device,
    choose_precision,
    choose_workers,
    has_fast_bf16,
)
from podium.runtime.events import Message, Notify, StopRequest, WarningMessage, of_run, silent
from podium.runtime.files import read_json, utc_now, write_json
from podium.statistics.calibration import fit_temperature
from podium.statistics.metrics import scores
from podium.statistics.scoring import find_metric
from podium.study.arithmetic import Arithmetic
from podium.training.checkpoint import read_checkpoint
from podium.training.faults import despite_lost_workers
from podium.training.fit import fit
from podium.training.job import Job
from podium.training.refit import Refit
from podium.training.schedule import best_epoch

Choose = Callable[[int], tuple[str, str]]  # threads -> precision and the reason for it
Settle = Callable[[Device, Choose, Notify], Arithmetic]
Look = Callable[[SplitName], Predictions]


@dataclass(frozen=True)
class Assignment:
    """One run to train and score."""

    run: RunFolder
    """Folder of the run; a state found there is resumed."""
    index: DataIndex
    recipe: RunSpec
    """What to train, with the model that is actually used."""
    wanted_model: str
    """The model that the study asks for; differs from the recipe's if that replaces it."""
    machine: Machine
    metric: str = "accuracy"
    """The study's metric."""
    settle: Settle | None = None
    """Settles threads and precision with the study's other cells; None: chosen for this run."""
    attempt: Attempt | None = None
    """Asked before anything is written, and for leave to use the test images; None: no other
    process may train this run."""
    members: tuple[RunFolder, ...] = ()
    """The runs that are averaged; empty: this one is trained."""
    floor: tuple[float, ...] = ()
    """Of a trial: see `podium.training.job.Job`."""
    tuned: Mapping[str, Any] | None = None
    """How the recipe's settings were chosen; None: they are the study's own."""


def train_and_score(given: Assignment, notify: Notify, stop: StopRequest) -> dict[str, float]:
    """Train a run to its end, predict validation and test images, write `done.json` last.

    The temperature that calibrates the model is fitted on the validation images and added to
    `model.json`; the prediction files keep the model's raw logits, or the largest of many classes.

    Args:
        given: what to train, on which images, and where to keep it.
        notify: called with an event for every batch and epoch.
        stop: checked after every step.

    Returns:
        `valid_accuracy` and `test_accuracy` of the best epoch, 0 to 1; for another metric of the
        study also its values on both splits.

    Raises:
        KeyboardInterrupt: `stop` was set; the state is saved.
        TrainingError: the training cannot continue, such as with a loss that is not finite.
        DataError: an image cannot be read any more.
    """
    run = given.run
    notify = of_run(notify, run.contender, run.seed, run.fold)
    job, reason, built = job_of(given, notify, stop)
    fit(job, notify, stop)
    model = load_run(run, job.device.torch)
    kept = _kept_features(model, built, job, notify, stop)

    def look(split: SplitName) -> Predictions:
        return _look(model, split, job, notify, stop, kept, built.classifier)

    return score_once(given, look, lambda at: _known_at_the_end(given, job, model, reason, at))


def score_once(
    given: Assignment, look: Look, known: Callable[[str], Mapping[str, Any]]
) -> dict[str, float]:
    """Calibrate a model on the validation images, score it once on test, write `done.json` last.

    Args:
        given: the run, whose weights and description are written.
        look: predicts the images of a split.
        known: from the time at which the test images were scored, what `done.json` says of the
            model and of how it was made.

    Returns:
        `valid_accuracy` and `test_accuracy`, 0 to 1; for another metric of the study also its
        values on both splits.
    """
    run = given.run
    valid = look("valid")
    # fitted before any test image is used, and shipped with the model
    temperature = fit_temperature(valid)

    def write(found: Predictions, split: SplitName) -> None:
        # a fold's file keeps every logit: the temperature of all folds is fitted on them
        kept = found if run.fold is not None else found.for_file(temperature)
        kept.write(run.predictions(split))

    write(valid, "valid")
    write_json(run.model, {**read_json(run.model), "temperature": temperature})
    # The test images are used here and nowhere else: once, with the best epoch. Leave is recorded
    # before the use, and the use before its result, so that a kill in between cannot hide it.
    if given.attempt is not None:
        given.attempt.grant()
    test, scored_at = look("test"), utc_now()
    closing = {"valid_accuracy": scores(valid).accuracy, "test_accuracy": scores(test).accuracy}
    write_down(given, len(test), scored_at, closing["test_accuracy"])
    write(test, "test")
    metric = find_metric(given.metric)
    values = {
        split: metric.score(found.logits, found.labels)
        for split, found in (("valid", valid), ("test", test))
    }
    scored = {"metric": {**metric.described(), **values}, "temperature": temperature}
    write_json(run.done, {**known(scored_at), **scored, **closing})
    return {**closing, **{f"{split}_{metric.name}": value for split, value in values.items()}}


def job_of(
    given: Assignment, notify: Notify, stop: StopRequest, refit: Refit | None = None
) -> tuple[Job, str, BuiltModel]:
    """Prepare a training.

    Args:
        given: what to train, on which images, and where to keep it.
        notify: receives the progress of decoding.
        stop: checked regularly.
        refit: what to train without validation images; None: there are some.

    Returns:
        `(job, reason, built)`: the job, the reason for its precision, and the untrained model.
    """
    recipe, machine, index = given.recipe, given.machine, given.index
    if recipe.model == FILE_MODEL:
        index = with_cards(index)
    device = choose_device(machine)
    built = build_model(
        recipe.model,
        len(index.classes),
        pooling=recipe.pooling,
        channels=index.windows.inputs,
        seed=given.run.seed,
    )
    size = recipe.image_size or built.image_size

    def choose(threads: int) -> tuple[str, str]:
        torch.set_num_threads(threads)  # the check of bf16 runs the kernels of this number
        return choose_precision(machine, device, built.module, size, built.channels)

    how = settled(given, device, choose, notify)
    cached: dict[str, CachedPixels] = {}
    sizes: dict[str, int] = {}
    if not features_are_fixed(recipe, device.count):  # else each image is decoded only once
        sizes = {"train": source_size(recipe.augmentation, size)}
        sizes |= {} if refit else {"valid": size}
        cached = cache_pixels(index, sizes, limit=machine.cache_limit, notify=notify, stop=stop)
    decoding = not cached or cached.keys() != sizes.keys()
    decoding = decoding or not all(one.complete for one in cached.values())
    workers = choose_workers(machine, device, decoding=decoding)
    job = Job(recipe, index, given.run, machine, device, how.precision, workers, cached)
    job = replace(job, threads=how.threads, attempt=given.attempt)
    job = replace(job, metric=given.metric, refit=refit, floor=given.floor)
    return job, how.reason, built


def settled(given: Assignment, device: Device, choose: Choose, notify: Notify) -> Arithmetic:
    """Settle how a run computes, tell it, and set the number of threads.

    Args:
        given: the run.
        device: that it computes on.
        choose: chooses the precision where nothing else decides it.
        notify: told of the device and the precision.
    """
    if given.settle is not None:
        how = given.settle(device, choose, notify)
    else:
        threads = given.machine.cpus or torch.get_num_threads()
        how = Arithmetic(threads, *choose(threads))
    torch.set_num_threads(how.threads)
    notify(Message(f"{device.describe()}, {how.precision} ({how.reason})"))
    followed = given.machine.precision == "auto" and how.precision == "bf16"
    if followed and not has_fast_bf16(device.kind):
        notify(
            WarningMessage(
                f"The study was begun in bf16 on another machine. {device.describe()} on "
                f"{platform.node()} only emulates it, many times slower: use nodes of one kind."
            )
        )
    return how


def _kept_features(
    model: TrainedModel, built: BuiltModel, job: Job, notify: Notify, stop: StopRequest
) -> dict[str, Features]:
    """The classifier's inputs, where the images of a fold need no second look; else empty."""
    if job.index.part_of is None or not features_are_fixed(job.recipe, job.device.count):
        return {}
    return compute_features(
        replace(built, module=model.module),
        job.index,
        size=model.image_size,
        normalization=model.normalization,
        device=job.device.torch,
        precision=job.precision,
        views=views_of(job.recipe),
        splits=("valid", "test"),
        notify=silent,
        stop=stop,
    )


def _look(
    model: TrainedModel,
    split: SplitName,
    job: Job,
    notify: Notify,
    stop: StopRequest,
    kept: dict[str, Features],
    classifier: str,
) -> Predictions:
    """Predictions of the best epoch for each image of a split."""
    if kept:
        part = job.index.splits[split]
        logits = kept[split].logits(model.module.get_submodule(classifier))
        return Predictions(model.class_names, tuple(part.paths), part.labels, logits)
    return despite_lost_workers(
        lambda workers: predict_split(
            model,
            job.index,
            split,
            device=job.device.torch,
            batch_size=job.recipe.batch_size,
            workers=workers,
            notify=notify,
            stop=stop,
        ),
        choose_workers(job.machine, job.device),
        job.recipe,
        notify,
    )


def write_down(given: Assignment, images: int, at: str, accuracy: float) -> None:
    """Write one line to the ledger: these test images were used.

    Args:
        given: the run that was scored, and its images.
        images: number of test images.
        at: time of the scoring, ISO 8601 in UTC.
        accuracy: test accuracy, 0..1.
    """
    write: Callable[[RunFolder], None] = partial(
        record,
        images=given.index.split_fingerprint("test"),
        n=images,
        accuracy=accuracy,
        at=at,
        recipe=given.recipe.model_dump(mode="json"),
        by="run",
    )
    if given.attempt is None:
        write(given.run)
    else:
        given.attempt.at_study(write, given.run)


def _known_at_the_end(
    given: Assignment, job: Job, model: TrainedModel, reason: str, scored_at: str
) -> dict[str, Any]:
    """The part of `done.json` that is known once the best epoch is scored."""
    run, recipe = given.run, given.recipe
    rows, state = run.read_history(), read_checkpoint(run.last)
    about = about_model(recipe.model)
    threads = job.threads or torch.get_num_threads()
    return {
        **known_of(model, job.device, Arithmetic(threads, job.precision, reason), scored_at),
        "model": recipe.model,
        **({"about_model": about} if about else {}),
        "augmentation": AUGMENTATIONS[recipe.augmentation].title,
        "stood_in_for": given.wanted_model if given.wanted_model != recipe.model else None,
        "pretrained_source": read_json(run.model).get("pretrained_source"),
        "latency_ms": round(latency(model), 3),
        "trainable_parameters": state["trainable_parameters"],
        "epochs": len(rows),
        "best_epoch": best_epoch(rows, find_metric(given.metric)),
        "seconds": round(state["total_seconds"], 3),
        "images_per_second": round(sum(row["images_per_second"] for row in rows) / len(rows), 2),
        "augmented_on": state.get("augmented_on", "cpu"),
        **({"tuned": dict(given.tuned)} if given.tuned else {}),
    }


def known_of(
    model: TrainedModel, device: Device, how: Arithmetic, scored_at: str
) -> dict[str, Any]:
    """The part of `done.json` about a model as it is used, however it was made.

    Args:
        model: that was scored.
        device: that it is on.
        how: it was computed with.
        scored_at: when the test images were scored, ISO 8601 in UTC.
    """
    return {
        "podium_version": __version__,
        "torch_version": torch.__version__,
        "finished_at": utc_now(),
        "test_scored_at": scored_at,
        "image_size": model.image_size,
        "parameters": sum(p.numel() for p in model.module.parameters()),
        "precision": how.precision,
        "precision_reason": how.reason,
        "device": device.describe(),
        "devices": device.count,
        "threads": how.threads,
    }

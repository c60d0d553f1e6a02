"""The state of a training in one process: prepared, saved, and resumed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from podium.config.settings import RunSpec
from podium.data.transforms import Normalization
from podium.evaluation.inference import input_normalization
from podium.features.frozen import Features
from podium.models import BuiltModel, batch_norms, build_model, freeze_backbone
from podium.runtime.device import has_fast_bf16
from podium.runtime.events import Notify, StopRequest, WarningMessage
from podium.runtime.files import atomic_write
from podium.statistics.scoring import Metric, find_metric
from podium.training.checkpoint import (
    CHECKPOINT_FORMAT,
    Progress,
    read_checkpoint,
    refuse_another,
    write_best,
)
from podium.training.job import Job, Loaders, make_loaders
from podium.training.losses import BoundLoss, bind_loss
from podium.training.optimizers import average_of, load_optimizer, make_optimizer
from podium.training.passes import CudaGraphs, Passes, can_record
from podium.training.processes import all_sum, refuse_infinite
from podium.training.schedule import falls_behind, is_finished


@dataclass
class State:
    """Everything that one process of a training uses, from its first step to its last."""

    fabric: Fabric
    job: Job
    notify: Notify
    stop: StopRequest | None
    built: BuiltModel
    frozen: tuple[str, ...]
    """Names of the parts that stay in evaluation mode."""
    size: int
    """Side of the model's input, pixels."""
    normalization: Normalization
    model: Any
    """The part that is trained, wrapped by Fabric: `module`, or its classifier."""
    optimizer: Any
    average: torch.optim.swa_utils.AveragedModel | None
    loss: BoundLoss
    passes: Passes
    metric: Metric
    loaders: Loaders
    features: dict[str, Features] = field(default_factory=dict)
    """Features by split, if the backbone is frozen and its input never varies."""
    at: Progress = field(default_factory=Progress)
    saved: float = field(default_factory=time.perf_counter)
    """When the state was last saved."""

    @property
    def recipe(self) -> RunSpec:
        return self.job.recipe

    @property
    def module(self) -> nn.Module:
        """The whole model."""
        return self.built.module

    @property
    def kept(self) -> nn.Module:
        """The module that is validated and saved as the best: the model, or its moving average."""
        if self.average is None or not self.average.n_averaged:  # as after the probe's epoch
            return self.module
        return self.average.module

    @property
    def cell(self) -> Any:
        """The fields that identify the run in every event."""
        folder = self.job.folder
        return {"contender": folder.contender, "seed": folder.seed, "fold": folder.fold}

    @property
    def most_epochs(self) -> int:
        """The most epochs that the training can have."""
        return self.job.refit.epochs if self.job.refit else self.recipe.most_epochs

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done, early stopping ends it, or a trial falls behind."""
        if self.job.refit:
            return len(self.at.rows) >= self.job.refit.epochs
        if falls_behind(self.at.rows, self.job.floor, self.metric):
            return True
        return is_finished(self.recipe, self.at.rows, self.metric)


def prepare(fabric: Fabric, job: Job, notify: Notify, stop: StopRequest | None = None) -> State:
    """Build the model, optimizer, loss and loaders of this process.

    Args:
        fabric: launched; has the device and the process's rank.
        job: the recipe, the images, and the run's folder.
        notify: called with an `Event` at every batch and epoch.
        stop: checked after every step.
    """
    recipe, seed, classes = job.recipe, job.folder.seed, len(job.index.classes)
    built = build_model(
        recipe.model,
        classes,
        pretrained=recipe.pretrained,
        weights=recipe.weights,
        pooling=recipe.pooling,
        channels=job.index.windows.inputs,
        seed=seed,
    )
    frozen = freeze_backbone(built) if recipe.freeze == "backbone" else ()
    if recipe.linear_probe:  # its classifier was fitted to features with these statistics
        frozen += batch_norms(built.module)
    built.module.to(memory_format=torch.channels_last)
    fused, bf16 = fabric.device.type == "cuda", has_fast_bf16(job.device.kind)
    model, optimizer = fabric.setup(
        built.module, make_optimizer(recipe, built, fused=fused, bf16=bf16)
    )
    size = recipe.image_size or built.image_size
    loss = bind_loss(recipe, job.index.splits["train"].labels, job.index.classes, fabric.device)
    recorded = can_record(recipe, job.precision, fabric.device, fabric.world_size)
    return State(
        fabric=fabric,
        job=job,
        notify=notify,
        stop=stop,
        built=built,
        frozen=frozen,
        size=size,
        normalization=input_normalization(recipe, built),
        model=model,
        optimizer=optimizer,
        average=average_of(built.module, recipe.ema) if recipe.ema else None,
        loss=loss,
        passes=Passes(
            loss,
            fabric.backward,
            record=CudaGraphs() if recorded else None,
            batch_size=recipe.batch_size,
            name=job.folder.contender,
            notify=notify,
        ),
        metric=find_metric(job.metric),
        loaders=make_loaders(
            job, size, fabric.device, rank=fabric.global_rank, world=fabric.world_size
        ),
    )


def resume(state: State) -> None:
    """Load the state from `last.ckpt`, if there is one.

    Args:
        state: changed in place.

    Raises:
        RunFolderError: the file is damaged, or of another recipe, metric or other images.
    """
    job, path = state.job, state.job.folder.last
    if not path.is_file():
        return
    before = read_checkpoint(path)
    refuse_another(path, before, job.recipe, job.index.fingerprint, job.metric)
    if before["precision"] != job.precision:
        state.notify(
            WarningMessage(
                f"{job.folder.contender} was started in {before['precision']} and is resumed in "
                f"{job.precision}; its result differs from that of either precision alone.",
            )
        )
    threads, now = before.get("threads"), state.job.threads
    if threads is not None and now is not None and threads != now:
        state.notify(
            WarningMessage(
                f"{job.folder.contender} was started with {threads} threads and is resumed with "
                f"{now}; its result differs by rounding from that of either number alone.",
            )
        )
    state.module.load_state_dict(before["model"])
    load_optimizer(state.optimizer, before["optimizer"])
    if state.average is not None:
        state.average.load_state_dict(before["average"])
    if before["scaler"]:  # only fp16 has one; a run started without gets a new one
        state.fabric.strategy.precision.load_state_dict(before["scaler"])
    step, loss, correct, seen, seconds = before["epoch_under_way"]
    if not state.fabric.is_global_zero:  # the saved sums are those of all processes together
        loss = correct = seen = 0.0
    state.at = Progress(
        before["rows"], int(step), loss, correct, seen, seconds, before["total_seconds"]
    )


def save_last(state: State) -> None:
    """Write everything that resuming needs to `last.ckpt`, atomically.

    Args:
        state: of the training.

    Raises:
        TrainingError: a weight is no longer finite; the file is not changed.
        StorageError: it cannot be written.
    """
    at, state.saved = state.at, time.perf_counter()
    loss, correct, seen = all_sum(state.fabric, [at.loss, at.correct, at.seen])
    if not state.fabric.is_global_zero:
        return
    # a finite loss may still give weights that are not finite: such a state is not worth saving
    largest = [float(p.detach().abs().max()) for p in state.module.parameters() if p.numel()]
    where = f"epoch {len(at.rows) + 1}, step {at.step}"
    rate = state.optimizer.param_groups[0]["lr"]
    refuse_infinite(state.job, sum(largest), "sum of the largest weights", where, rate)
    kept = {
        "format": CHECKPOINT_FORMAT,
        "recipe": state.recipe.model_dump(mode="json"),
        "fingerprint": state.job.index.fingerprint,
        "metric": state.job.metric,
        "precision": state.job.precision,
        "threads": state.job.threads,
        "rows": at.rows,
        "epoch_under_way": [at.step, loss, correct, seen, at.seconds],
        "total_seconds": at.total_seconds,
        "trainable_parameters": sum(
            p.numel() for p in state.module.parameters() if p.requires_grad
        ),
        "model": state.module.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "average": None if state.average is None else state.average.state_dict(),
        "scaler": state.fabric.strategy.precision.state_dict(),
        "augmented_on": "cpu" if state.loaders.kept is None else state.fabric.device.type,
    }
    atomic_write(state.job.folder.last, lambda file: torch.save(kept, file))


def save_best(state: State, epoch: int) -> None:
    """Write the weights, and everything needed to use them without Podium's other files.

    Args:
        state: of the training.
        epoch: the best epoch, from 1.
    """
    if not state.fabric.is_global_zero:
        return
    job, mean_std = state.job, state.normalization
    description = {
        "model": job.recipe.model,
        "pooling": job.recipe.pooling,
        "class_names": list(job.index.classes),
        "image_size": state.size,
        "resize": "bilinear, antialiased, both sides to image_size",
        "mean": None if mean_std is None else list(mean_std[0]),
        "std": None if mean_std is None else list(mean_std[1]),
        "flip_test": job.recipe.flip_test,
        "grey_windows": job.index.windows.to_json(),
        "pretrained_source": state.built.pretrained_source,
        "best_epoch": epoch,
    }
    write_best(job.folder, state.kept, description)

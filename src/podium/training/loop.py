"""The epoch loop: one process of a training, resuming from the state in the run's folder.

Order, augmentation and dropout depend only on (seed, epoch, sample or step), so a run that was
interrupted and one that was not end with the same weights.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import nn

from podium.data.loader import Batch, batches
from podium.data.transforms import mix_batch
from podium.evaluation.inference import predict
from podium.features.frozen import Features, compute_features, features_are_fixed, views_of
from podium.models import set_train_mode
from podium.runtime.events import BatchDone, EpochDone, EpochStarted, TrainingStarted
from podium.runtime.random import sample_seed
from podium.runtime.threads import a_core_each
from podium.training.checkpoint import Progress
from podium.training.optimizers import set_rates
from podium.training.probe import probe_epoch
from podium.training.processes import all_sum, precise, refuse_infinite, share_buffers
from podium.training.schedule import best_epoch, epoch_rates, training_size
from podium.training.state import State, resume, save_best, save_last
from podium.training.validation import metric_column, without_validation


def train(state: State) -> None:
    """Train to the end, epoch by epoch, and keep the best one.

    Args:
        state: from `prepare`; it is resumed from the run's folder.

    Raises:
        KeyboardInterrupt: a stop was requested; the state is saved.
        TrainingError: a loss or a weight is no longer finite.
    """
    resume(state)
    recipe, folder = state.recipe, state.job.folder
    state.notify(TrainingStarted(tuple(state.at.rows), **state.cell))
    if not state.is_finished:
        _keep_features(state)
    elif state.fabric.is_global_zero:  # a kill may have hit between writing state and history
        folder.write_history(state.at.rows)
    while not state.is_finished:
        epoch = len(state.at.rows) + 1
        is_probe = recipe.linear_probe and epoch == 1
        row = _fit_probe(state) if is_probe else _run_epoch(state, epoch)
        rows = [*state.at.rows, row]
        if state.job.refit is not None or best_epoch(rows, state.metric) == epoch:
            save_best(state, epoch)
        state.at = Progress(rows, total_seconds=state.at.total_seconds + row["seconds"])
        save_last(state)
        if state.fabric.is_global_zero:
            folder.write_history(rows)
        state.notify(EpochDone(state.most_epochs, row, **state.cell))


def _run_epoch(state: State, epoch: int) -> dict[str, float]:
    """Train an epoch to its end and validate; return its row of the history."""
    rate = train_epoch(state, epoch)
    train_seconds, began = state.at.seconds, time.perf_counter()
    train_loss, train_accuracy, images = _means(state, state.at)
    valid = without_validation(state.metric) if state.job.refit else _validated(state, epoch, rate)
    return {
        "epoch": epoch,
        "lr": rate,
        "train_loss": train_loss,
        "train_accuracy": train_accuracy,
        **valid,
        "seconds": round(train_seconds + time.perf_counter() - began, 3),
        "images_per_second": round(images / train_seconds, 2),
    }


def _validated(state: State, epoch: int, rate: float) -> dict[str, float]:
    """The validation columns of an epoch's row."""
    logits, labels = validate(state)
    loss, accuracy, _ = _means(state, _sums_of(logits, labels))
    refuse_infinite(state.job, loss, "validation loss", f"after epoch {epoch}", rate)
    total = len(state.job.index.splits["valid"])
    return {
        "valid_loss": loss,
        "valid_accuracy": accuracy,
        **metric_column(state.fabric, state.metric, logits, labels, total),
    }


def train_epoch(state: State, epoch: int) -> float:
    """Take the remaining steps of an epoch; updates `state.at`.

    Args:
        state: of the training.
        epoch: from 1.

    Returns:
        The learning rate of the last step.
    """
    recipe, at, sampler, device = state.recipe, state.at, state.loaders.sampler, state.fabric.device
    size = training_size(recipe, epoch, state.size)
    sampler.set_epoch(epoch, start_batch=at.step, size=size)
    set_train_mode(state.module, state.frozen)
    steps, rates = sampler.steps, epoch_rates(recipe, at.rows, sampler.steps, state.metric)
    sums = torch.tensor([at.loss, at.correct, at.seen], dtype=precise(device), device=device)
    base, began = at.seconds, time.perf_counter()
    state.notify(EpochStarted(epoch, at.step, steps, **state.cell))
    source = _guarded(state, _train_batches(state), sums)
    with a_core_each():
        for inputs, labels, _ in source:
            rate = rates[at.step]
            loss, logits = take_step(state, epoch, inputs, labels, rate)
            sums[0] += loss
            sums[1] += (logits.argmax(1) == labels).sum()
            sums[2] += len(labels)
            at.step += 1
            reporting = device.type == "cpu" or at.step % 20 == 0 or at.step == steps
            stopping, due = _stop_or_save(state)
            if reporting or stopping or due:
                _read(sums, at)
                where = f"epoch {epoch}, step {at.step}"
                refuse_infinite(state.job, at.loss, "training loss", where, rate)
            # after reading the sums, which waits for the GPU's queued steps
            at.seconds = base + time.perf_counter() - began
            if reporting:
                mean = at.loss / max(at.seen, 1)
                state.notify(BatchDone(epoch, at.step, steps, mean, **state.cell))
            if stopping or due:
                save_last(state)
            if stopping:
                raise KeyboardInterrupt
    _read(sums, at)
    return rates[-1]


def take_step(
    state: State, epoch: int, inputs: torch.Tensor, labels: torch.Tensor, rate: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of the optimizer on one batch.

    Args:
        state: of the training, after `state.at.step` steps of the epoch.
        epoch: from 1.
        inputs: float32 of shape (n, channels, size, size).
        labels: int64 of shape (n,).
        rate: the learning rate.

    Returns:
        `(loss, logits)`, detached: the sum over the batch, and shape (n, classes); valid until the
        next step.
    """
    fabric, recipe, seed = state.fabric, state.recipe, state.job.folder.seed
    step = state.at.step + 1
    # the seed of dropout and mixing depends only on the position in the run
    torch.manual_seed(sample_seed(seed, epoch, step * fabric.world_size + fabric.global_rank))
    targets = labels
    if recipe.mixup or recipe.cutmix:
        classes, draw = len(state.job.index.classes), sample_seed(seed, epoch, -step)
        inputs, targets = mix_batch(inputs, labels, classes, recipe.mixup, recipe.cutmix, draw)
    set_rates(state.optimizer, rate)
    state.optimizer.zero_grad(set_to_none=True)
    share = state.loss.share(fabric, targets, state.loaders.sampler.global_batch(state.at.step))
    loss, logits = state.passes(state.model, inputs, targets, share)
    state.optimizer.step()
    if state.average is not None:
        state.average.update_parameters(state.module)
    return loss, logits


def validate(state: State) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute logits and labels of this process's validation images, in fp32 as in the report.

    Args:
        state: of the training.
    """
    if state.features:
        kept = state.features["valid"]
        head = state.module.get_submodule(state.built.classifier).eval()
        with torch.inference_mode():
            return head(kept.values.to(state.fabric.device)).float().cpu(), kept.labels
    alone = state.fabric.world_size == 1
    share_buffers(state.fabric, state.kept)
    try:
        logits, labels = predict(
            state.kept,
            state.loaders.valid,
            state.fabric.device,
            state.normalization,
            flip=state.recipe.flip_test,
            stop=state.stop if alone else None,
        )
    except BaseException:
        if alone:  # the epoch's steps are complete, and need not be repeated
            save_last(state)
        raise
    return torch.from_numpy(logits), torch.from_numpy(labels)


def _sums_of(logits: torch.Tensor, labels: torch.Tensor) -> Progress:
    loss = nn.functional.cross_entropy(logits.double(), labels, reduction="sum")
    correct = (logits.argmax(1) == labels).sum()
    return Progress(loss=float(loss), correct=float(correct), seen=float(len(labels)))


def _means(state: State, part: Progress) -> tuple[float, float, float]:
    """Compute mean loss, accuracy and number of images, over all processes."""
    loss, correct, seen = all_sum(state.fabric, [part.loss, part.correct, part.seen])
    return loss / seen, correct / seen, seen


def _read(sums: torch.Tensor, at: Progress) -> None:
    """Copy the sums from the device; it synchronises a GPU, so call it only occasionally."""
    at.loss, at.correct, at.seen = sums.tolist()


def _train_batches(state: State) -> Iterator[Batch]:
    if state.features:
        return state.features["train"].in_batches(state.loaders.sampler, state.fabric.device)
    own = state.loaders
    return batches(own.train, state.fabric.device, state.normalization, own.kept)


def _guarded(state: State, source: Iterator[Batch], sums: torch.Tensor) -> Iterator[Batch]:
    """Yield the same batches; if the source fails, save the state before raising."""
    while True:
        try:
            batch = next(source)
        except StopIteration:
            return
        except Exception:
            # The previous steps are complete. With several processes the others are in the next
            # step and cannot take part in saving.
            if state.fabric.world_size == 1 and state.at.step:
                _read(sums, state.at)
                save_last(state)
            raise
        yield batch


def _stop_or_save(state: State) -> tuple[bool, bool]:
    """Whether any process was asked to stop, and whether the state is due to be saved.

    The result is the same in all processes.
    """
    stop = state.stop is not None and state.stop.is_set()
    due = time.perf_counter() - state.saved >= state.job.machine.checkpoint_every
    stops, dues = all_sum(state.fabric, [float(stop), float(due)])
    return stops > 0, dues > 0


def _fit_probe(state: State) -> dict[str, float]:
    return probe_epoch(
        state.fabric,
        state.built,
        state.job.folder,
        lambda: _features(state),
        state.notify,
        state.stop,
        state.metric,
        state.loss.weights,
        state.job.refit.penalty if state.job.refit else None,
        state.recipe.probe_kind,
    )


def _keep_features(state: State) -> None:
    """Compute the features once if the backbone is frozen and its input never varies."""
    recipe, fabric = state.recipe, state.fabric
    if recipe.linear_probe or not features_are_fixed(recipe, fabric.world_size):
        return
    began = time.perf_counter()
    state.features = _features(state)
    if not state.features:
        return
    state.at.total_seconds += time.perf_counter() - began
    # the parameters stay the same objects, so that the whole model is saved as usual
    state.model = fabric.setup_module(state.module.get_submodule(state.built.classifier))


def _features(state: State) -> dict[str, Features]:
    return compute_features(
        state.built,
        state.job.index,
        size=state.size,
        normalization=state.normalization,
        device=state.fabric.device,
        precision=state.job.precision,
        views=views_of(state.recipe),
        notify=state.notify,
        stop=state.stop,
    )

"""The epoch loop: what one process does of a training, from where its folder left off.

Order, augmentation and dropout depend on (seed, epoch, sample or step) alone, so a run that was
interrupted and one that was not end with the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from podium.data.loader import Batch, batches
from podium.data.transforms import mix_batch
from podium.errors import TrainingError
from podium.evaluation.inference import input_normalization, predict
from podium.features.frozen import Features, compute_features, features_are_fixed
from podium.models import batch_norms, build_model, freeze_backbone, set_train_mode
from podium.runtime.device import has_fast_bf16
from podium.runtime.events import (
    BatchDone,
    EpochDone,
    EpochStarted,
    Notify,
    StopRequest,
    TrainingStarted,
    WarningMessage,
)
from podium.runtime.files import atomic_write
from podium.runtime.random import sample_seed
from podium.statistics.scoring import find_metric
from podium.training.checkpoint import (
    CHECKPOINT_FORMAT,
    Progress,
    read_checkpoint,
    refuse_another,
    write_best,
)
from podium.training.job import Job, make_loaders
from podium.training.losses import bind_loss
from podium.training.optimizers import average_of, make_optimizer, set_rates
from podium.training.probe import probe_epoch
from podium.training.schedule import best_epoch, epoch_rates, is_finished, training_size
from podium.training.validation import metric_column


class Trainer:
    """One process's part of a training; on a single device, all of it."""

    def __init__(self, fabric: Fabric, job: Job, notify: Notify, stop: StopRequest | None) -> None:
        self.fabric, self.job, self.notify, self.stop = fabric, job, notify, stop
        recipe, seed = job.recipe, job.folder.seed
        self.metric = find_metric(job.metric)
        self.cell: Any = {"contender": job.folder.contender, "seed": seed}
        built = build_model(
            recipe.model,
            len(job.index.classes),
            pretrained=recipe.pretrained,
            weights=recipe.weights,
            pooling=recipe.pooling,
            seed=seed,
        )
        self.frozen = freeze_backbone(built) if recipe.freeze == "backbone" else ()
        if recipe.linear_probe:  # its classifier fits features with these very statistics
            self.frozen += batch_norms(built.module)
        self.built = built
        self.size = recipe.image_size or built.image_size
        self.normalization = input_normalization(recipe, built)
        self.module = built.module.to(memory_format=torch.channels_last)
        self.features: dict[str, Features] = {}
        optimizer = make_optimizer(
            recipe, built, fused=fabric.device.type == "cuda", bf16=has_fast_bf16(job.device.kind)
        )
        self.model, self.optimizer = fabric.setup(self.module, optimizer)
        self.average = average_of(self.module, recipe.ema) if recipe.ema else None
        labels, classes = job.index.splits["train"].labels, len(job.index.classes)
        self.loss = bind_loss(recipe, labels, classes, fabric.device)
        self.sampler, self.train_loader, self.valid_loader = make_loaders(
            job, self.size, fabric.device, rank=fabric.global_rank, world=fabric.world_size
        )
        self.at = Progress()
        self.saved = time.perf_counter()

    def run(self) -> None:
        self.resume()
        recipe = self.job.recipe
        self.notify(TrainingStarted(tuple(self.at.rows), **self.cell))
        if not is_finished(recipe, self.at.rows, self.metric):
            self.keep_features()
        elif self.fabric.is_global_zero:  # a kill may have come between state and history
            self.job.folder.write_history(self.at.rows)
        while not is_finished(recipe, self.at.rows, self.metric):
            epoch = len(self.at.rows) + 1
            row = self.probe() if recipe.linear_probe and epoch == 1 else self.epoch(epoch)
            rows = [*self.at.rows, row]
            if best_epoch(rows, self.metric) == epoch:
                self.save_best(epoch)
            self.at = Progress(rows, total_seconds=self.at.total_seconds + row["seconds"])
            self.save_last()
            if self.fabric.is_global_zero:
                self.job.folder.write_history(rows)
            self.notify(EpochDone(recipe.most_epochs, row, **self.cell))

    def epoch(self, epoch: int) -> dict[str, float]:
        """Train an epoch to its end and validate; returns its row of the history."""
        rate = self.train_epoch(epoch)
        train_seconds, began = self.at.seconds, time.perf_counter()
        train_loss, train_accuracy, images = self.mean_over_processes(self.at)
        valid_loss, valid_accuracy, logits, labels = self.validate()
        self.refuse_infinite(valid_loss, "validation loss", f"after epoch {epoch}")
        total = len(self.job.index.splits["valid"])
        return {
            "epoch": epoch,
            "lr": rate,
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            "valid_loss": valid_loss,
            "valid_accuracy": valid_accuracy,
            **metric_column(self.fabric, self.metric, logits, labels, total),
            "seconds": round(train_seconds + time.perf_counter() - began, 3),
            "images_per_second": round(images / train_seconds, 2),
        }

    def compute_features(self) -> dict[str, Features]:
        recipe = self.job.recipe
        return compute_features(
            self.built,
            self.job.index,
            size=self.size,
            normalization=self.normalization,
            device=self.fabric.device,
            precision=self.job.precision,
            # a probe is linear: averaged features give averaged logits
            views=("plain", "mirrored") if recipe.flip_test and recipe.linear_probe else ("plain",),
            notify=self.notify,
            stop=self.stop,
        )

    def probe(self) -> dict[str, float]:
        work = (self.fabric, self.built, self.job.folder, self.compute_features)
        return probe_epoch(*work, self.notify, self.stop, self.metric)

    def keep_features(self) -> None:
        """Where the backbone is frozen and its input never varies, run it once and for all."""
        recipe = self.job.recipe
        if recipe.linear_probe or not features_are_fixed(recipe, self.fabric.world_size):
            return
        began = time.perf_counter()
        self.features = self.compute_features()
        if not self.features:
            return
        self.at.total_seconds += time.perf_counter() - began
        # the parameters stay the same objects, so that the whole model is saved as ever
        self.model = self.fabric.setup_module(self.module.get_submodule(self.built.classifier))

    def train_batches(self) -> Iterator[Batch]:
        device = self.fabric.device
        if self.features:
            return self.features["train"].in_batches(self.sampler, device)
        return batches(self.train_loader, device, self.normalization)

    def train_epoch(self, epoch: int) -> float:
        """All steps of one epoch that are not done yet; adds to `self.at`.

        Returns:
            The learning rate of the last step.
        """
        fabric, recipe, at = self.fabric, self.job.recipe, self.at
        seed, classes = self.job.folder.seed, len(self.job.index.classes)
        size = training_size(recipe, epoch, self.size)
        self.sampler.set_epoch(epoch, start_batch=at.step, size=size)
        set_train_mode(self.module, self.frozen)
        steps = self.sampler.steps
        rates = epoch_rates(recipe, at.rows, steps, self.metric)
        # double precision, so that the mean loss does not depend on how many images there are
        precise = torch.float32 if fabric.device.type == "mps" else torch.float64
        sums = torch.tensor([at.loss, at.correct, at.seen], dtype=precise, device=fabric.device)

        def read_sums() -> None:  # makes a GPU wait, so only now and then
            at.loss, at.correct, at.seen = sums.tolist()

        base, began = at.seconds, time.perf_counter()
        self.notify(EpochStarted(epoch, at.step, steps, **self.cell))
        for inputs, labels, _ in self.guarded(self.train_batches(), read_sums):
            step = at.step + 1
            # dropout and mixing draw from a generator that knows only where the run is
            torch.manual_seed(
                sample_seed(seed, epoch, step * fabric.world_size + fabric.global_rank)
            )
            targets: torch.Tensor = labels
            if recipe.mixup or recipe.cutmix:
                inputs, targets = mix_batch(
                    inputs,
                    labels,
                    classes,
                    recipe.mixup,
                    recipe.cutmix,
                    sample_seed(seed, epoch, -step),
                )
            set_rates(self.optimizer, rates[at.step])
            self.optimizer.zero_grad(set_to_none=True)
            logits = self.model(inputs)
            loss = self.loss(logits, targets)
            share = self.loss.share(fabric, targets, self.sampler.global_batch(at.step))
            fabric.backward(loss / share)
            self.optimizer.step()
            if self.average is not None:
                self.average.update_parameters(self.module)

            sums[0] += loss.detach()
            sums[1] += (logits.detach().argmax(1) == labels).sum()
            sums[2] += len(labels)
            at.step = step
            told = fabric.device.type == "cpu" or step % 20 == 0 or step == steps
            stopping, due = self.asked()
            if told or stopping or due:
                read_sums()
                self.refuse_infinite(at.loss, "training loss", f"epoch {epoch}, step {step}")
            # after the sums: a GPU's queue of steps is only then worked off
            at.seconds = base + time.perf_counter() - began
            if told:
                mean = at.loss / max(at.seen, 1)
                self.notify(BatchDone(epoch, step, steps, mean, **self.cell))
            if stopping or due:
                self.save_last()
            if stopping:
                raise KeyboardInterrupt
        read_sums()
        return rates[-1]

    def guarded(self, source: Iterator[Batch], read_sums: Callable[[], None]) -> Iterator[Batch]:
        """The same batches; where none can be had, what was trained so far is saved first."""
        while True:
            try:
                batch = next(source)
            except StopIteration:
                return
            except Exception:
                # The steps before are whole. With several processes the others are within the
                # next one and take no part in saving.
                if self.fabric.world_size == 1 and self.at.step:
                    read_sums()
                    self.save_last()
                raise
            yield batch

    @property
    def kept(self) -> nn.Module:
        """What is validated and saved as the best: the model, or its moving average."""
        if self.average is None or not self.average.n_averaged:  # as after the probe's epoch
            return self.module
        return self.average.module

    def validate(self) -> tuple[float, float, torch.Tensor, torch.Tensor]:
        """Mean loss and accuracy on the validation images, in fp32 as in the report.

        Then the logits and labels of this process's part of them.
        """
        if self.features:
            kept = self.features["valid"]
            head = self.module.get_submodule(self.built.classifier).eval()
            with torch.inference_mode():
                scores = head(kept.values.to(self.fabric.device)).float().cpu()
            target = kept.labels
        else:
            alone = self.fabric.world_size == 1
            try:
                logits, labels = predict(
                    self.kept,
                    self.valid_loader,
                    self.fabric.device,
                    self.normalization,
                    flip=self.job.recipe.flip_test,
                    stop=self.stop if alone else None,
                )
            except BaseException:
                if alone:  # the epoch's steps are whole, and need not be taken again
                    self.save_last()
                raise
            scores, target = torch.from_numpy(logits), torch.from_numpy(labels)
        part = Progress(
            loss=float(nn.functional.cross_entropy(scores.double(), target, reduction="sum")),
            correct=float((scores.argmax(1) == target).sum()),
            seen=float(len(target)),
        )
        loss, accuracy, _ = self.mean_over_processes(part)
        return loss, accuracy, scores, target

    def all_sum(self, values: list[float]) -> list[float]:
        """Each value summed over all processes; every process must take part."""
        if self.fabric.world_size == 1:
            return values
        precise = torch.float32 if self.fabric.device.type == "mps" else torch.float64
        sums = torch.tensor(values, dtype=precise, device=self.fabric.device)
        total = self.fabric.all_reduce(sums, reduce_op="sum")
        assert isinstance(total, torch.Tensor)
        return [float(value) for value in total]

    def mean_over_processes(self, part: Progress) -> tuple[float, float, float]:
        loss, correct, seen = self.all_sum([part.loss, part.correct, part.seen])
        return loss / seen, correct / seen, seen

    def asked(self) -> tuple[bool, bool]:
        """Whether any process was asked to stop, and whether the state is due to be saved.

        All processes get the same answer.
        """
        stop = self.stop is not None and self.stop.is_set()
        due = time.perf_counter() - self.saved >= self.job.machine.checkpoint_every
        stops, dues = self.all_sum([float(stop), float(due)])
        return stops > 0, dues > 0

    def refuse_infinite(self, value: float, what: str, where: str) -> None:
        if not math.isfinite(value):
            last = self.job.folder.last
            kept = "the last good state" if last.is_file() else "nothing, as none was good"
            raise TrainingError(
                f"The {what} of {self.job.folder.contender} is no longer finite: {where}, learning "
                f"rate {self.optimizer.param_groups[0]['lr']:g}, {self.job.precision}. "
                f"{last.name} keeps {kept}. Try a smaller lr under another --name, or "
                "--precision fp32."
            )

    def refuse_infinite_weights(self) -> None:
        """A finite loss may have led to a step that is not: such a state is not worth keeping."""
        largest = [float(p.detach().abs().max()) for p in self.module.parameters() if p.numel()]
        where = f"epoch {len(self.at.rows) + 1}, step {self.at.step}"
        self.refuse_infinite(sum(largest), "sum of the largest weights", where)

    def save_best(self, epoch: int) -> None:
        """Weights, and all that is needed to use them without Podium's other files."""
        if not self.fabric.is_global_zero:
            return
        job, mean_std = self.job, self.normalization
        description = {
            "model": job.recipe.model,
            "pooling": job.recipe.pooling,
            "class_names": list(job.index.classes),
            "image_size": self.size,
            "resize": "bilinear, antialiased, both sides to image_size",
            "mean": None if mean_std is None else list(mean_std[0]),
            "std": None if mean_std is None else list(mean_std[1]),
            "flip_test": job.recipe.flip_test,
            "grey_windows": job.index.windows.to_json(),
            "pretrained_source": self.built.pretrained_source,
            "best_epoch": epoch,
        }
        write_best(job.folder, self.kept, description)

    def save_last(self) -> None:
        """Everything that resuming needs, in one file that is replaced whole."""
        at, self.saved = self.at, time.perf_counter()
        loss, correct, seen = self.all_sum([at.loss, at.correct, at.seen])
        if not self.fabric.is_global_zero:
            return
        self.refuse_infinite_weights()
        state = {
            "format": CHECKPOINT_FORMAT,
            "recipe": self.job.recipe.model_dump(mode="json"),
            "fingerprint": self.job.index.fingerprint,
            "metric": self.job.metric,
            "precision": self.job.precision,
            "rows": at.rows,
            "epoch_under_way": [at.step, loss, correct, seen, at.seconds],
            "total_seconds": at.total_seconds,
            "trainable_parameters": sum(
                p.numel() for p in self.module.parameters() if p.requires_grad
            ),
            "model": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "scaler": self.fabric.strategy.precision.state_dict(),
        }
        atomic_write(self.job.folder.last, lambda file: torch.save(state, file))

    def resume(self) -> None:
        """Take up the state of `last.ckpt`, if there is one."""
        path = self.job.folder.last
        if not path.is_file():
            return
        state = read_checkpoint(path)
        images = self.job.index.fingerprint
        refuse_another(path, state, self.job.recipe, images, self.job.metric)
        if state["precision"] != self.job.precision:
            self.notify(
                WarningMessage(
                    f"{self.job.folder.contender} began in {state['precision']} and goes on in "
                    f"{self.job.precision}; its result is not that of either alone.",
                )
            )
        self.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if state["scaler"]:  # fp16 has one; a run that began without begins with a new one
            self.fabric.strategy.precision.load_state_dict(state["scaler"])
        step, loss, correct, seen, seconds = state["epoch_under_way"]
        if not self.fabric.is_global_zero:  # the saved sums are those of all processes together
            loss = correct = seen = 0.0
        self.at = Progress(
            state["rows"], int(step), loss, correct, seen, seconds, state["total_seconds"]
        )

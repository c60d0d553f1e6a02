"""The epoch loop: true means, exact resume, frozen parts, several processes, faults."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.special import softmax
from sklearn.metrics import log_loss

from podium.config.machine import Machine
from podium.config.settings import RunSpec
from podium.data.cache import cache_pixels
from podium.data.index import DataIndex
from podium.data.indexing import build_index
from podium.data.transforms import source_size
from podium.errors import RunFolderError, TrainingError, UnreadableImageError
from podium.evaluation.trained import load_run, predict_split
from podium.models import build_model
from podium.runs.folder import RunFolder
from podium.runtime.device import choose_device
from podium.runtime.events import BatchDone, Event, Message, silent
from podium.training.checkpoint import read_checkpoint
from podium.training.fit import fit
from podium.training.job import Job, make_loaders
from tests.conftest import StopAfter, device

RECIPE = {
    "model": "simple_resnet",
    "epochs": 2,
    "batch_size": 16,
    "image_size": 32,
    "lr": 1e-3,
    "augmentation": "trivialaugment",
}


@pytest.fixture(scope="module")
def index(pictures: Path) -> DataIndex:
    return build_index(pictures)


def job(
    folder: Path,
    index: DataIndex,
    *,
    workers: int = 0,
    devices: int = 1,
    precision: str = "fp32",
    **settings: Any,
) -> Job:
    # several processes are tested on CPUs: machines with several GPUs are rare
    machine = Machine(device=device() if devices == 1 else "cpu", devices=devices)
    recipe = RunSpec.model_validate({**RECIPE, **settings})
    run = RunFolder(folder, "contender", 0)
    folder.mkdir(exist_ok=True)
    return Job(recipe, index, run, machine, choose_device(machine), precision, workers)


def often(made: Job) -> Job:
    """The same job, its state saved after every step."""
    machine = Machine(device="cpu", devices=made.device.count, checkpoint_every=0)
    return Job(**{**made.__dict__, "machine": machine})


def weights(job: Job) -> dict[str, bytes]:
    state = read_checkpoint(job.folder.last)["model"]
    return {name: value.numpy().tobytes() for name, value in state.items()}


@pytest.fixture(scope="module")
def straight(index: DataIndex, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A run without interruption, on no workers."""
    done = job(tmp_path_factory.mktemp("straight"), index)
    fit(done, silent)
    return done


def test_a_run_leaves_what_the_house_promises(straight: Job, index: DataIndex) -> None:
    rows = straight.folder.read_history()
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all(row["lr"] == 1e-3 for row in rows)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert sorted(p.name for p in straight.folder.path.iterdir()) == [
        "best.safetensors",
        "history.csv",
        "last.ckpt",
        "model.json",
    ]


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device has memory for the training images, as a GPU has."""
    monkeypatch.setattr("podium.data.device_images.memory_for_images", lambda device: 1 << 30)


def cached_job(folder: Path, index: DataIndex, **settings: Any) -> Job:
    made = job(folder, index, **settings)
    size = source_size(made.recipe.augmentation, 32)
    return replace(made, cached=cache_pixels(index, {"train": size, "valid": 32}, limit=1))


@pytest.mark.parametrize("workers", [0, 2])
def test_images_on_the_device_train_to_the_same_bits(
    straight: Job, index: DataIndex, roomy: None, tmp_path: Path, workers: int
) -> None:
    there = cached_job(tmp_path / "run", index, workers=workers)
    assert make_loaders(there, 32, there.device.torch).kept is not None
    fit(there, silent)
    assert weights(there) == weights(straight)
    assert read_checkpoint(there.folder.last)["augmented_on"] == device()
    assert read_checkpoint(straight.folder.last)["augmented_on"] == "cpu"


def test_images_on_the_device_resume_to_the_same_bits(
    straight: Job, index: DataIndex, roomy: None, tmp_path: Path
) -> None:
    cut = cached_job(tmp_path / "run", index)
    with pytest.raises(KeyboardInterrupt):
        fit(cut, silent, StopAfter(7))
    fit(cut, silent)
    assert weights(cut) == weights(straight)


@pytest.mark.parametrize("settings", [{"augmentation": "crop_flip"}, {"sampler": "balanced"}])
def test_resized_images_on_the_device_train_alike(
    index: DataIndex, roomy: None, tmp_path: Path, settings: dict[str, Any]
) -> None:
    here = job(tmp_path / "here", index, **settings)
    there = cached_job(tmp_path / "there", index, **settings)
    fit(here, silent)
    fit(there, silent)
    rows = [one.folder.read_history()[0]["train_loss"] for one in (here, there)]
    # crops of the two differ by at most 2 of 255; other crops would differ by tens of percent
    assert rows[0] == pytest.approx(rows[1], rel=0.02 if "augmentation" in settings else 1e-6)


@pytest.mark.parametrize(
    ("settings", "memory"), [({"augmentation": "augmix"}, 1 << 30), ({}, 72 * 3 * 32 * 32 - 1)]
)
def test_images_stay_where_the_device_cannot_augment_or_hold_them(
    index: DataIndex,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    memory: int,
) -> None:
    monkeypatch.setattr("podium.data.device_images.memory_for_images", lambda device: memory)
    kept = make_loaders(
        cached_job(tmp_path / "run", index, **settings), 32, torch.device("cpu")
    ).kept
    assert kept is None


def test_a_step_of_slurm_is_not_taken_for_the_training(
    straight: Job, index: DataIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the second of two tasks, on a machine that has `srun`."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{srun.parent}{os.pathsep}{os.environ['PATH']}")
    fit(job(tmp_path / "outside", index, epochs=1), silent)
    step = {"NTASKS": 2, "PROCID": 1, "LOCALID": 1, "NODEID": 0, "JOB_ID": 7, "JOB_NAME": "podium"}
    for name, value in step.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    inside = job(tmp_path / "inside", index)
    fit(inside, silent)
    assert weights(inside) == weights(straight)


def test_history_is_the_true_mean_over_validation_images(straight: Job, index: DataIndex) -> None:
    """The oracle: the weights of the best epoch, predicted anew, scored with PyTorch."""
    found = predict_split(load_run(straight.folder), index, "valid", batch_size=5)
    loss = torch.nn.functional.cross_entropy(
        torch.from_numpy(found.logits), torch.from_numpy(found.labels)
    )
    rows = straight.folder.read_history()
    best = max(rows, key=lambda row: (row["valid_accuracy"], -row["epoch"]))
    assert best["valid_accuracy"] == np.mean(found.predicted == found.labels)
    assert best["valid_loss"] == pytest.approx(float(loss), rel=1e-4)


def test_train_loss_of_the_first_epoch_is_a_mean_not_a_mean_of_means(
    index: DataIndex, tmp_path: Path
) -> None:
    """With a learning rate of next to nothing the loss is that of the initial weights."""
    still = job(tmp_path / "run", index, lr=1e-12, epochs=1, augmentation="none", batch_size=71)
    fit(still, silent)
    model = build_model("simple_resnet", 3, seed=0).module.train()
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    # 72 images in one batch (71 + 1 joined): batch norm sees what it saw in training
    row = still.folder.read_history()[0]
    assert row["images_per_second"] > 0
    from podium.data.dataset import ImageDataset
    from podium.data.transforms import eval_transform, prepare

    dataset = ImageDataset(index, "train", eval_transform(32), None)
    images = torch.stack([dataset[i][0] for i in range(len(dataset))])
    labels = torch.tensor([dataset[i][1] for i in range(len(dataset))])
    loss = torch.nn.functional.cross_entropy(model(prepare(images)), labels)
    # dropout of 0.3 before the last layer moves it a little; a sum over 32, as in the paper, a lot
    assert row["train_loss"] == pytest.approx(float(loss.detach()), rel=0.25)


# 5 steps and 2 batches of validation images an epoch
@pytest.mark.parametrize("stop_at", [1, 3, 5, 6, 7, 9, 13])
def test_an_interrupted_run_ends_bit_for_bit_like_one_that_was_not(
    straight: Job, index: DataIndex, tmp_path: Path, stop_at: int
) -> None:
    broken = job(tmp_path / "run", index)
    with pytest.raises(KeyboardInterrupt):
        fit(broken, silent, StopAfter(stop_at))
    fit(broken, silent)
    assert weights(broken) == weights(straight)
    timing = {"seconds", "images_per_second"}
    for mine, theirs in zip(
        broken.folder.read_history(), straight.folder.read_history(), strict=True
    ):
        assert {k: v for k, v in mine.items() if k not in timing} == {
            k: v for k, v in theirs.items() if k not in timing
        }
    assert load_file(broken.folder.best).keys() == load_file(straight.folder.best).keys()
    assert broken.folder.best.read_bytes() == straight.folder.best.read_bytes()


def test_workers_change_nothing(straight: Job, index: DataIndex, tmp_path: Path) -> None:
    two = job(tmp_path / "run", index, workers=2)
    fit(two, silent)
    assert weights(two) == weights(straight)


def test_another_seed_is_another_run(straight: Job, index: DataIndex, tmp_path: Path) -> None:
    other = job(tmp_path / "run", index)
    other = Job(**{**other.__dict__, "folder": RunFolder(tmp_path / "run", "contender", 1)})
    fit(other, silent)
    assert weights(other) != weights(straight)


WEIGHED: dict[str, Any] = {"loss": "focal", "class_weights": "balanced"}


@pytest.fixture(scope="module")
def shared(index: DataIndex, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, list[Event]]:
    """A run by two processes with a loss that weighs images, and what it told."""
    events: list[Event] = []
    both = job(tmp_path_factory.mktemp("shared"), index, devices=2, **WEIGHED)
    fit(both, events.append)
    return both, events


def test_two_processes_train_on_every_image_once(
    shared: tuple[Job, list[Event]], index: DataIndex
) -> None:
    both, events = shared
    rows = both.folder.read_history()
    assert len(rows) == 2
    # the same number of steps as one process: the batch is shared, not doubled
    steps = {event.steps for event in events if isinstance(event, BatchDone)}
    assert steps == {5}
    # the accuracy of the history is that of all images, not of one process's part
    found = predict_split(load_run(both.folder), index, "valid")
    best = max(row["valid_accuracy"] for row in rows)
    assert best == pytest.approx(np.mean(found.predicted == found.labels))
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_two_processes_validate_the_network_that_is_saved(
    shared: tuple[Job, list[Event]], index: DataIndex
) -> None:
    """Batch norms see a part of each batch; one process's statistics are kept, and validated."""
    both, _ = shared
    row = max(both.folder.read_history(), key=lambda row: row["valid_accuracy"])
    found = predict_split(load_run(both.folder), index, "valid")
    oracle = log_loss(found.labels, softmax(found.logits.astype(float), axis=1), labels=range(3))
    assert row["valid_loss"] == pytest.approx(oracle, rel=1e-5)


def test_two_processes_save_within_an_epoch_and_go_on_with_the_same_bits(
    shared: tuple[Job, list[Event]], index: DataIndex, tmp_path: Path
) -> None:
    part = often(job(tmp_path / "part", index, devices=2, **WEIGHED))
    with pytest.raises(KeyboardInterrupt):
        fit(part, silent, _At(part, step=2))
    assert read_checkpoint(part.folder.last)["epoch_under_way"][0] >= 2
    fit(part, silent)
    assert weights(part) == weights(shared[0])


class _At:
    """A stop request that is set once the saved state has come so far."""

    def __init__(self, made: Job, step: int) -> None:
        self.last, self.step = made.folder.last, step

    def is_set(self) -> bool:
        return self.last.is_file() and read_checkpoint(self.last)["epoch_under_way"][0] >= self.step


def test_a_frozen_backbone_stays_as_it_was(index: DataIndex, tmp_path: Path) -> None:
    frozen = job(
        tmp_path / "run",
        index,
        model="efficientnet_lite0",
        pretrained=True,
        freeze="backbone",
        lr=1e-2,
        epochs=1,
    )
    fit(frozen, silent)
    before = build_model("efficientnet_lite0", 3, pretrained=True, seed=0).module.state_dict()
    after = read_checkpoint(frozen.folder.last)["model"]
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("settings", [{"mixup": 0.2}, {"cutmix": 1.0, "mixup": 0.2}])
def test_mixing_trains(index: DataIndex, tmp_path: Path, settings: dict[str, Any]) -> None:
    mixed = job(tmp_path / "run", index, epochs=1, label_smoothing=0.1, **settings)
    fit(mixed, silent)
    assert mixed.folder.read_history()[0]["train_loss"] > 0


def test_early_stopping_ends_a_run(index: DataIndex, tmp_path: Path) -> None:
    still = job(tmp_path / "run", index, lr=1e-12, epochs=50, early_stop=1)
    fit(still, silent)
    rows = still.folder.read_history()
    best = max(rows, key=lambda row: (row["valid_accuracy"], -row["epoch"]))
    assert len(rows) == best["epoch"] + 1


def test_an_infinite_loss_stops_and_keeps_the_last_epoch(index: DataIndex, tmp_path: Path) -> None:
    good = job(tmp_path / "run", index, epochs=1)
    fit(good, silent)
    before = good.folder.last.read_bytes()
    state = load_file(good.folder.best)
    state["9.3.weight"][0, 0] = float("inf")
    save_file(state, tmp_path / "broken.safetensors")
    wild = job(tmp_path / "wild", index, weights=tmp_path / "broken.safetensors")
    with pytest.raises(TrainingError, match=r"epoch 1, step 1, learning rate 0.001") as caught:
        fit(wild, silent)
    assert not wild.folder.best.exists()
    assert good.folder.last.read_bytes() == before
    assert "last.ckpt" in str(caught.value)


def test_an_image_that_vanishes_is_named(pictures: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(pictures, copy)
    index = build_index(copy)
    (copy / "train" / "circle" / "3.png").write_bytes(b"gone")
    for workers in (0, 1):
        with pytest.raises(UnreadableImageError, match=r"train/circle/3\.png"):
            fit(job(tmp_path / f"run{workers}", index, workers=workers), silent)


def test_a_checkpoint_of_another_recipe_or_kind_is_refused(
    straight: Job, index: DataIndex, tmp_path: Path
) -> None:
    other = job(tmp_path / "run", index, lr=1e-2)
    shutil.copy(straight.folder.last, other.folder.last)
    with pytest.raises(RunFolderError, match="another recipe"):
        fit(other, silent)
    other.folder.last.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(RunFolderError, match="cannot be read as a checkpoint"):
        fit(other, silent)
    torch.save({"format": 99}, other.folder.last)
    with pytest.raises(RunFolderError, match="format 99"):
        fit(other, silent)


def test_bf16_trains_and_resumes(index: DataIndex, tmp_path: Path) -> None:
    whole = job(tmp_path / "whole", index, precision="bf16")
    fit(whole, silent)
    broken = job(tmp_path / "broken", index, precision="bf16")
    with pytest.raises(KeyboardInterrupt):
        fit(broken, silent, StopAfter(2))
    fit(broken, silent)
    assert weights(broken) == weights(whole)


def test_kept_features_change_nothing_but_the_time(
    index: DataIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle: the same recipe with the whole model run in every step."""
    settings: dict[str, Any] = {
        "model": "efficientnet_lite0",
        "pretrained": True,
        "freeze": "backbone",
        "augmentation": "none",
        "epochs": 3,
    }
    told: list[Event] = []
    kept = job(tmp_path / "kept", index, **settings)
    fit(kept, told.append)
    assert any("features of 99 images" in one.text for one in told if isinstance(one, Message))
    monkeypatch.setattr("podium.training.loop.features_are_fixed", lambda *_: False)
    whole = job(tmp_path / "whole", index, **settings)
    fit(whole, silent)
    for mine, theirs in zip(kept.folder.read_history(), whole.folder.read_history(), strict=True):
        for column in ("train_loss", "valid_loss", "train_accuracy", "valid_accuracy"):
            assert mine[column] == pytest.approx(theirs[column], rel=1e-4, abs=1e-6), column
    found = predict_split(load_run(kept.folder), index, "valid")
    best = max(row["valid_accuracy"] for row in kept.folder.read_history())
    assert best == np.mean(found.predicted == found.labels)


def test_features_that_may_vary_are_not_kept() -> None:
    from podium.features.frozen import features_are_fixed, head_follows_backbone

    def spec(**settings: Any) -> RunSpec:
        values = {"model": "efficientnet_lite0", "pretrained": True, "epochs": 1, **settings}
        return RunSpec.model_validate(values)

    assert features_are_fixed(spec(freeze="backbone"), 1)
    assert not features_are_fixed(spec(freeze="backbone"), 2)
    assert not features_are_fixed(spec(freeze="backbone", augmentation="crop_flip"), 1)
    assert not features_are_fixed(spec(freeze="backbone", mixup=0.1), 1)
    assert not features_are_fixed(spec(), 1)

    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = 2 * self.fc(x)
            return y

    assert not head_follows_backbone(Twice(), "fc", torch.rand(4, 3), 10)
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 2))
    assert head_follows_backbone(plain, "1", torch.rand(4, 3), 10)
    assert not head_follows_backbone(plain, "1", torch.rand(4, 3), 2**31)

"""What the `fast` preset adds to training: rates, sizes, optimizers, averages, mirror images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from podium.config.settings import RunSpec
from podium.data.dataset import ImageDataset
from podium.data.index import DataIndex
from podium.data.indexing import build_index
from podium.data.transforms import eval_transform, prepare
from podium.evaluation.trained import load_run, predict_split
from podium.models import build_model, freeze_backbone
from podium.runtime.events import silent
from podium.runtime.files import read_json
from podium.training.checkpoint import read_checkpoint
from podium.training.fit import fit
from podium.training.job import Job
from podium.training.optimizers import average_of, make_optimizer, set_rates
from podium.training.schedule import epoch_rates, learning_rate, training_size
from tests.conftest import StopAfter
from tests.training.test_training import job, weights

FAST: dict[str, Any] = {
    "optimizer": "muon",
    "weight_decay": 0.05,
    "decay_norm_bias": False,
    "lr_schedule": "one_cycle",
    "augmentation": "crop_flip",
    "flip": "alternate",
    "progressive_sizes": [32, 48],
    "image_size": 64,
    "ema": 0.9,
    "flip_test": True,
    "label_smoothing": 0.1,
}


@pytest.fixture(scope="module")
def index(pictures: Path) -> DataIndex:
    return build_index(pictures)


def recipe(**settings: Any) -> RunSpec:
    return RunSpec.model_validate({"model": "simple_resnet", "epochs": 4, **settings})


@pytest.mark.parametrize(("epochs", "steps", "warmup"), [(4, 25, 0.2), (3, 7, 0.5), (1, 40, 0.3)])
def test_one_cycle_is_that_of_pytorch(epochs: int, steps: int, warmup: float) -> None:
    spec = recipe(lr=0.3, lr_schedule="one_cycle", epochs=epochs, warmup=warmup)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    oracle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.3, total_steps=epochs * steps, pct_start=warmup, cycle_momentum=False
    )
    for at in range(epochs * steps):
        rows = [{"valid_accuracy": 0.5, "valid_loss": 1.0}] * (at // steps)
        assert learning_rate(spec, rows, at % steps, steps) == pytest.approx(
            oracle.get_last_lr()[0], rel=1e-9
        )
        optimizer.step()
        if at + 1 < epochs * steps:
            oracle.step()


@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (2, 1), (1, 2), (5, 1)])
def test_one_cycle_of_a_few_steps_has_a_rate_for_each(epochs: int, steps: int) -> None:
    spec = recipe(lr=0.3, lr_schedule="one_cycle", epochs=epochs)
    rows = [{"valid_accuracy": 0.5, "valid_loss": 1.0}] * (epochs - 1)
    assert 0 < learning_rate(spec, rows, steps - 1, steps) <= 0.3


def test_a_probe_takes_no_part_in_one_cycle_and_progressive_sizes() -> None:
    settings = {"lr": 0.3, "lr_schedule": "one_cycle", "progressive_sizes": [64, 96]}
    plain = recipe(epochs=4, **settings)
    after = recipe(epochs=5, pretrained=True, linear_probe=True, **settings)
    row = {"valid_accuracy": 0.5, "valid_loss": 1.0}
    for epoch in range(1, 5):
        rows = [row] * (epoch - 1)
        assert epoch_rates(after, [row, *rows], 7) == epoch_rates(plain, rows, 7)
        assert training_size(after, epoch + 1, 128) == training_size(plain, epoch, 128)


def test_progressive_sizes_share_the_epochs() -> None:
    spec = recipe(epochs=7, progressive_sizes=[64, 96, 128])
    sizes = [training_size(spec, epoch, 128) for epoch in range(1, 8)]
    assert sizes == [64, 64, 64, 96, 96, 128, 128]
    assert training_size(recipe(), 3, 224) == 224
    assert recipe(epochs=2, progressive_sizes=[64, 96, 128]).notices()


@pytest.mark.parametrize("name", ["simple_resnet", "inception_resnet", "resnet18"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "muon"])
def test_every_parameter_is_in_one_group_and_decays_as_told(name: str, optimizer: str) -> None:
    built = build_model(name, 5)
    spec = recipe(model=name, optimizer=optimizer, weight_decay=0.1, decay_norm_bias=False)
    groups = make_optimizer(spec, built).param_groups
    placed = {id(p): group for group in groups for p in group["params"]}
    parameters = list(built.module.named_parameters())
    assert len(placed) == len(parameters) == sum(len(group["params"]) for group in groups)
    first, *_ = [p for _, p in parameters]
    for name_of, parameter in parameters:
        group = placed[id(parameter)]
        assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0)
        if optimizer == "muon":
            inner = parameter.ndim == 4 and parameter is not first
            assert group["use_fallback"] == (not inner), name_of


def test_decay_of_everything_stays_the_default_and_frozen_parts_are_left_out() -> None:
    built = build_model("simple_resnet", 5)
    assert {g["weight_decay"] for g in make_optimizer(recipe(weight_decay=0.1), built).param_groups}
    assert len(make_optimizer(recipe(weight_decay=0.1), built).param_groups) == 1
    freeze_backbone(built)
    (group,) = make_optimizer(recipe(optimizer="muon"), built).param_groups
    assert [p.shape for p in group["params"]] == [(5, 512), (5,)]


def test_muon_moves_convolutions_as_pytorchs_muon_moves_the_flattened_matrices() -> None:
    built = build_model("simple_resnet", 5, seed=1)
    spec = recipe(optimizer="muon", lr=0.02, weight_decay=0.1)
    kernel = built.module.get_parameter("3.body.0.weight")
    flat = torch.nn.Parameter(kernel.detach().reshape(64, -1).clone())
    oracle = torch.optim.Muon(
        [flat], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw", nesterov=True
    )
    optimizer = make_optimizer(spec, built)
    for step in range(3):
        gradient = torch.randn(kernel.shape, generator=torch.Generator().manual_seed(step))
        kernel.grad, flat.grad = gradient.clone(), gradient.reshape(64, -1).clone()
        optimizer.step()
        oracle.step()
    moved = kernel.detach().reshape(64, -1)
    assert float((moved - flat.detach()).norm() / flat.detach().norm()) < 2e-3  # bf16 inside


class _DtypesSeen(TorchDispatchMode):
    """Which types the results of all operations have."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        self.seen |= {one.dtype for one in tree_leaves(result) if isinstance(one, torch.Tensor)}
        return result


@pytest.mark.parametrize("bf16", [True, False])
def test_muon_computes_in_bf16_only_where_the_device_does(bf16: bool) -> None:
    """Emulated, a single step of SimpleResNet takes longer than an epoch of everything else."""
    built = build_model("simple_resnet", 5, seed=1)
    optimizer = make_optimizer(recipe(optimizer="muon", lr=0.02), built, bf16=bf16)
    kernel = built.module.get_parameter("1.body.0.weight")
    before = kernel.detach().clone()
    kernel.grad = torch.randn(kernel.shape, generator=torch.Generator().manual_seed(0))
    with _DtypesSeen() as dtypes:
        optimizer.step()
    assert (torch.bfloat16 in dtypes.seen) == bf16
    # an orthogonalised update, whichever arithmetic made it: all singular values near 1
    moved = (before - kernel.detach()).reshape(len(kernel), -1)
    values = torch.linalg.svdvals(moved / moved.norm()) * len(kernel) ** 0.5
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.4


def test_rates_keep_the_groups_scales() -> None:
    groups: list[dict[str, Any]] = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr_scale": 0.1},
        {"params": [torch.nn.Parameter(torch.zeros(1))]},
    ]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    set_rates(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(0.05), 0.5]


def test_the_average_forgets_its_beginning_and_then_decays_evenly() -> None:
    linear, norm = torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)
    average = average_of(torch.nn.Sequential(linear, norm), decay=0.6)
    expected = np.zeros(0)
    for step in range(12):
        with torch.no_grad():
            linear.weight.add_(torch.randn(2, 2, generator=torch.Generator().manual_seed(step)))
            norm.get_buffer("running_mean").add_(1.0)
            norm.get_buffer("num_batches_tracked").add_(1)
        average.update_parameters(torch.nn.Sequential(linear, norm))
        now = linear.weight.detach().numpy().astype(np.float64)
        decay = min(0.6, (1 + step) / (10 + step))
        expected = now if step == 0 else decay * expected + (1 - decay) * now
    np.testing.assert_allclose(
        average.get_parameter("module.0.weight").detach().numpy(), expected, rtol=1e-5, atol=1e-7
    )
    assert int(average.get_buffer("module.1.num_batches_tracked")) == 12
    assert 0 < float(average.get_buffer("module.1.running_mean")[0]) < 12


@pytest.fixture(scope="module")
def straight(index: DataIndex, tmp_path_factory: pytest.TempPathFactory) -> Job:
    done = job(tmp_path_factory.mktemp("straight"), index, **FAST)
    fit(done, silent)
    return done


def test_the_best_is_the_average_and_scored_with_its_mirror_image(
    straight: Job, index: DataIndex
) -> None:
    rows = straight.folder.read_history()
    best = max(rows, key=lambda row: (row["valid_accuracy"], -row["epoch"]))
    found = predict_split(load_run(straight.folder), index, "valid", batch_size=5)
    assert best["valid_accuracy"] == np.mean(found.predicted == found.labels)
    assert read_json(straight.folder.model)["flip_test"] is True

    model = load_run(straight.folder)
    dataset = ImageDataset(index, "valid", eval_transform(64), None)
    images = prepare(torch.stack([dataset[number][0] for number in range(len(dataset))]))
    with torch.inference_mode():
        both = (model.module(images) + model.module(images.flip(-1))) / 2
    np.testing.assert_allclose(found.logits, both.numpy(), atol=1e-4)

    state = read_checkpoint(straight.folder.last)
    saved = load_file(straight.folder.best)
    if best["epoch"] == rows[-1]["epoch"]:
        for name, value in saved.items():
            assert torch.equal(value, state["average"][f"module.{name}"])
    assert any(not torch.equal(saved[name], state["model"][name]) for name in saved)


def test_the_history_holds_the_rate_of_each_epochs_last_step(straight: Job) -> None:
    spec, rows = straight.recipe, straight.folder.read_history()
    steps = -(-72 // spec.batch_size)
    expected = [learning_rate(spec, rows[:at], steps - 1, steps) for at in range(len(rows))]
    assert [row["lr"] for row in rows] == pytest.approx(expected, rel=1e-6)
    assert expected[-1] < spec.lr / 1000


@pytest.mark.parametrize("stop_at", [1, 4, 7])
def test_a_fast_run_resumes_bit_for_bit(
    straight: Job, index: DataIndex, tmp_path: Path, stop_at: int
) -> None:
    broken = job(tmp_path / "run", index, **FAST)
    with pytest.raises(KeyboardInterrupt):
        fit(broken, silent, StopAfter(stop_at))
    fit(broken, silent)
    assert weights(broken) == weights(straight)
    assert broken.folder.best.read_bytes() == straight.folder.best.read_bytes()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"lr_schedule": "one_cycle", "lr_drop": 2}, "one_cycle decays on its own"),
        ({"flip": "alternate"}, "flip needs augmentation: crop_flip"),
        ({"crop_scale": 0.5, "augmentation": "autoaugment"}, "crop_scale needs"),
        ({"pretrained": True, "freeze": "backbone", "ema": 0.9}, "exclude each other"),
        ({"progressive_sizes": [8]}, "greater than or equal to 32"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        recipe(**settings)

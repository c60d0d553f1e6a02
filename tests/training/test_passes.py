"""Recorded passes: the same weights to the bit, and nothing recorded that may change."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from podium.config.settings import RunSpec
from podium.data.index import DataIndex
from podium.data.indexing import build_index
from podium.runtime.events import Event, WarningMessage, silent
from podium.training import passes, state
from podium.training.fit import fit
from podium.training.losses import bind_loss
from podium.training.optimizers import load_optimizer
from podium.training.passes import Passes, can_record
from tests.conftest import StopAfter, device
from tests.training.test_training import job, weights

Work = Callable[[], None]


class Repeats:
    """Stands in for CUDA graphs where there is no GPU: what it recorded, it does again.

    As a graph, it runs nothing while it records, and a replay writes to the recorded memory.
    """

    made: list[Repeats]

    def __init__(self) -> None:
        self.replays = 0
        self.made.append(self)

    def __call__(self, work: Work) -> Work | None:
        held = inspect.getclosurevars(work).nonlocals
        model, found = held["model"], held["found"]
        parameters = list(model.parameters())
        before = copy.deepcopy(model.state_dict())
        with torch.random.fork_rng(devices=[]):
            work()
        model.load_state_dict(before)
        own = [parameter.grad for parameter in parameters]

        def replay() -> None:
            self.replays += 1
            for parameter in parameters:
                parameter.grad = None
            work()
            new = [*found.pop(), *(parameter.grad for parameter in parameters)]
            for old, value in zip([*found[0], *own], new, strict=True):
                old.copy_(value)

        return replay


class Refuses(Repeats):
    def __call__(self, work: Work) -> None:
        super().__call__(work)  # as far as it comes, it leaves gradients behind
        raise RuntimeError("operation not permitted\nwhen stream is capturing")


class Declines(Repeats):
    def __call__(self, work: Work) -> None:
        return None


def use(monkeypatch: pytest.MonkeyPatch, kind: type[Repeats]) -> type[Repeats]:
    """Let trainings record with `kind`, on any device."""
    monkeypatch.setattr(Repeats, "made", [], raising=False)
    monkeypatch.setattr(state, "CudaGraphs", kind)
    monkeypatch.setattr(state, "can_record", lambda *_: True)
    return kind


@pytest.fixture(scope="module")
def index(pictures: Path) -> DataIndex:
    """72 images in batches of 16: the last batch of an epoch is smaller."""
    return build_index(pictures)


SETTINGS: list[dict[str, Any]] = [
    {"augmentation": "none"},
    {"cutmix": 1.0, "ema": 0.9},
    {"class_weights": "balanced", "optimizer": "muon"},
    {"progressive_sizes": [32, 40], "loss": "focal"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda one: ",".join(one))
def test_replayed_passes_train_to_the_same_bits(
    index: DataIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    settings = {"epochs": 2, **settings}
    monkeypatch.setattr(state, "can_record", lambda *_: False)
    plain = job(tmp_path / "plain", index, **settings)
    fit(plain, silent)
    monkeypatch.undo()
    cut = job(tmp_path / "cut", index, **settings)
    if device() != "cuda":
        use(monkeypatch, Repeats)
    monkeypatch.setattr(passes, "_BEFORE", 1)
    with pytest.raises(KeyboardInterrupt):
        fit(cut, silent, StopAfter(3))  # after a replay; the rest begins without one
    fit(cut, silent)
    assert weights(cut) == weights(plain)
    if device() != "cuda":
        assert all(one.replays > 0 for one in Repeats.made)
        assert len(Repeats.made) == 2


@pytest.mark.parametrize("kind", [Refuses, Declines])
def test_what_cannot_be_recorded_trains_on_without(
    index: DataIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Repeats]
) -> None:
    plain, other = (job(tmp_path / name, index, epochs=2) for name in ("plain", "other"))
    monkeypatch.setattr(state, "can_record", lambda *_: False)
    fit(plain, silent)
    use(monkeypatch, kind)
    told: list[Event] = []
    fit(other, told.append)
    assert weights(other) == weights(plain)
    warnings = [one.text for one in told if isinstance(one, WarningMessage)]
    assert len(warnings) == (kind is Refuses)
    if warnings:  # once, with the reason, on one line
        assert "operation not permitted when stream is capturing" in warnings[0]
        assert "contender" in warnings[0]


def test_a_pass_reads_the_new_batch_at_every_replay() -> None:
    """Against gradients by hand: of a mean of squares, and of a batch of another size."""
    linear = nn.Linear(3, 2, bias=False)
    recipe = RunSpec(model="simple_resnet", epochs=1)
    loss = bind_loss(recipe, torch.tensor([0, 1]).numpy(), ["a", "b"], torch.device("cpu"))
    Repeats.made = []
    recorder = Repeats()
    run = Passes(
        loss,
        lambda mean: mean.backward(),
        record=recorder,
        batch_size=4,
        name="x",
        notify=silent,
    )
    generator = torch.Generator().manual_seed(0)
    for size in (4, 4, 4, 4, 4, 3, 4):
        inputs = torch.rand(size, 3, generator=generator)
        targets = torch.randint(0, 2, (size,), generator=generator)
        linear.weight.grad = None
        summed, logits = run(linear, inputs, targets, float(size))
        error = (inputs @ linear.weight.T).softmax(1) - nn.functional.one_hot(targets, 2)
        assert linear.weight.grad is not None
        torch.testing.assert_close(linear.weight.grad, (error.T @ inputs / size).detach())
        torch.testing.assert_close(logits, (inputs @ linear.weight.T).detach())
        expected = nn.functional.cross_entropy(logits, targets, reduction="sum")
        torch.testing.assert_close(summed, expected)
    assert recorder.replays == 3


def test_only_podiums_and_timms_code_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, ours = torch.device("cuda"), RunSpec(model="simple_resnet", epochs=1)
    assert can_record(ours, "bf16", gpu, 1)
    assert can_record(RunSpec(model="resnet10t", epochs=1), "fp32", gpu, 1)
    assert not can_record(ours, "bf16", torch.device("cpu"), 1)
    assert not can_record(ours, "fp16", gpu, 1)
    assert not can_record(ours, "bf16", gpu, 2)
    yours = ours.model_copy(update={"model": "tests.extending:network"})
    assert not can_record(yours, "bf16", gpu, 1)
    yours = ours.model_copy(update={"loss": "tests.extending:squared"})
    assert not can_record(yours, "bf16", gpu, 1)


@pytest.mark.parametrize("fused", [False, True])
def test_updates_are_computed_in_this_machines_way(fused: bool) -> None:
    """A state from a processor goes on on a card, and the other way round."""
    weights = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    there, here = (
        torch.optim.AdamW([one], fused=way)
        for one, way in zip(weights, (not fused, fused), strict=True)
    )
    weights[0].grad = torch.ones(3)
    there.step()
    load_optimizer(here, there.state_dict())
    assert here.param_groups[0]["fused"] is fused
    weights[1].grad = torch.ones(3)
    here.step()
    assert here.state_dict()["state"][0]["step"] == 2

"""How long a model takes for one image."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from podium.evaluation import latency as timed
from podium.evaluation.latency import ROUNDS, WARM_UP, latency
from podium.evaluation.trained import TrainedModel


class Slow(nn.Module):
    """Takes a while for each image; the first few are slower, as real ones are."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seconds = seconds
        self.calls = 0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        assert pixels.shape == (1, 3, 8, 8)
        assert not self.training
        assert not torch.is_grad_enabled()
        self.calls += 1
        time.sleep(self.seconds * (10 if self.calls <= WARM_UP else 1))
        return pixels.mean((2, 3)) + self.weight


def model(module: nn.Module, *, flip_test: bool = False) -> TrainedModel:
    return TrainedModel(module, ("a", "b", "c"), 8, None, flip_test=flip_test)


def test_it_is_the_median_after_warming_up() -> None:
    slow = Slow(0.004).train()
    assert 4 <= latency(model(slow)) < 12
    assert slow.calls == WARM_UP + ROUNDS


def test_an_image_and_its_mirror_image_take_twice_as_long() -> None:
    slow = Slow(0.002)
    latency(model(slow, flip_test=True))
    assert slow.calls == 2 * (WARM_UP + ROUNDS)


def test_a_slow_model_is_timed_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed, "LONGEST", 0.01)
    slow = Slow(0.005)
    assert latency(model(slow)) >= 5
    assert slow.calls == WARM_UP + 1

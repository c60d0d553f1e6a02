"""The learning rate, the best epoch and the end, as functions of the history."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from podium.config.settings import RunSpec
from podium.config.studyfile import load_study
from podium.training.schedule import best_epoch, is_finished, learning_rate


def rows_of(accuracies: list[float], losses: list[float] | None = None) -> list[dict[str, float]]:
    falling = losses or [1.0 / (at + 1) for at in range(len(accuracies))]
    return [
        {"valid_accuracy": accuracy, "valid_loss": loss}
        for accuracy, loss in zip(accuracies, falling, strict=True)
    ]


def recipe(**settings: object) -> RunSpec:
    return RunSpec.model_validate({"model": "simple_resnet", "epochs": 100, **settings})


def test_the_papers_rates_epoch_by_epoch() -> None:
    spec = load_study("sports100").contenders["simple_resnet"]
    rates = [learning_rate(spec, rows_of([0.5] * done)) for done in range(spec.epochs)]
    assert rates == pytest.approx([1e-4] * 30 + [1e-5] * 2)


def test_plateau_drops_once_and_stays() -> None:
    spec = recipe(lr_drop="plateau", plateau_patience=2, lr=1.0)
    accuracies = [0.1, 0.2, 0.2, 0.2, 0.3, 0.4]
    losses = [3.0, 2.0, 2.0, 2.1, 1.0, 0.9]
    rows = rows_of(accuracies, losses)
    rates = [learning_rate(spec, rows[:done]) for done in range(len(rows) + 1)]
    # better until epoch 2; epochs 3 and 4 are flat; from epoch 5 on the rate stays low
    assert rates == pytest.approx([1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1])


def test_a_falling_loss_alone_is_no_plateau() -> None:
    spec = recipe(lr_drop="plateau", plateau_patience=2, lr=1.0)
    assert learning_rate(spec, rows_of([0.5] * 20)) == 1.0
    assert learning_rate(spec, rows_of([0.5] * 3, [1.0, 1.0, 1.0])) == pytest.approx(0.1)


@given(st.lists(st.integers(0, 10), min_size=1, max_size=30))
def test_best_is_the_first_of_the_highest(tenths: list[int]) -> None:
    accuracies = [value / 10 for value in tenths]
    best = best_epoch(rows_of(accuracies))
    assert best == accuracies.index(max(accuracies)) + 1


def test_the_end() -> None:
    assert not is_finished(recipe(epochs=3), [])
    assert is_finished(recipe(epochs=3), rows_of([0.1] * 3))
    early = recipe(early_stop=2)
    assert not is_finished(early, rows_of([0.1, 0.3, 0.2]))
    assert is_finished(early, rows_of([0.1, 0.3, 0.2, 0.3]))

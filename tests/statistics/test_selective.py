"""Accuracy over the images that a model answers: plain sorting as oracle, ties, as a metric."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from podium.runs.predictions import TopPredictions
from podium.statistics.calibration import calibrated_probabilities
from podium.statistics.scoring import ANSWERED_90, find_metric
from podium.statistics.selective import (
    accuracy_answered,
    answered_values,
    answered_weights,
    certainty,
    log_odds,
    risk_curve,
)
from tests.statistics.metric_studies import METRIC_SETTINGS, counted_by_metric
from tests.statistics.test_calibration import drawn


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_certainty_is_the_log_odds_of_the_probability(temperature: float) -> None:
    made = drawn(1, 300, classes=250)
    best = calibrated_probabilities(made, temperature).max(axis=1)
    found = certainty(made, temperature)
    assert expit(found) == pytest.approx(best)
    assert certainty(TopPredictions.of(made, temperature), temperature) == pytest.approx(found)
    # where probabilities round to 1, it still tells which is the more certain
    sure = np.array([[60.0, 0.0], [50.0, 0.0]], np.float32)
    assert log_odds(sure).tolist() == [60.0, 50.0]
    assert logit(0.9) == pytest.approx(log_odds(np.log([[0.9, 0.06, 0.04]]).astype(np.float32))[0])
    assert log_odds(np.ones((3, 1), np.float32)).tolist() == [0, 0, 0]


def test_the_most_certain_are_answered() -> None:
    random = np.random.default_rng(0)
    certain = random.permutation(500).astype(np.float64)
    right = (random.random(500) < 0.8).astype(np.float64)
    order = np.argsort(-certain)
    for share, many in ((0.9, 450), (0.5, 250), (0.001, 1), (1.0, 500), (0.901, 451)):
        weights = answered_weights(certain, share)
        assert weights.sum() == many
        assert accuracy_answered(certain, right, share) == pytest.approx(right[order[:many]].mean())
        assert answered_values(certain, right, share).mean() == pytest.approx(
            right[order[:many]].mean()
        )
    errors = risk_curve(certain, right)
    assert errors[449] == pytest.approx(1 - accuracy_answered(certain, right, 0.9))
    assert errors[-1] == pytest.approx(1 - right.mean())


def test_ties_do_not_depend_on_the_order_of_files() -> None:
    certain, right = np.array([3.0, 1, 1, 1, 1]), np.array([1.0, 1, 0, 0, 1])
    assert answered_weights(certain, 0.6).tolist() == [1, 0.5, 0.5, 0.5, 0.5]
    assert accuracy_answered(certain, right, 0.6) == pytest.approx((1 + 2 * 0.5) / 3)
    for turned in (np.arange(5), np.array([4, 2, 0, 3, 1])):
        assert risk_curve(certain[turned], right[turned]) == pytest.approx(
            [0, 0.25, 1 / 3, 0.375, 0.4]
        )
        assert answered_values(certain[turned], right[turned], 0.6).mean() == pytest.approx(2 / 3)


def test_the_values_vary_as_the_accuracy_does() -> None:
    """Their variance is that of the accuracy over further test sets, whose cut moves as well."""
    random, n = np.random.default_rng(3), 400
    measured, expected = [], []
    for _ in range(1500):
        certain = random.normal(1.5, 1.5, n)
        right = (random.random(n) < expit(certain)) * 1.0
        measured.append(accuracy_answered(certain, right, 0.8))
        expected.append(answered_values(certain, right, 0.8).var() / n)
    assert np.mean(expected) == pytest.approx(np.var(measured), rel=0.12)
    plain = np.mean(measured) * (1 - np.mean(measured)) / (0.8 * n)
    assert abs(plain / np.var(measured) - 1) > 0.05  # as if the cut had been given


def test_it_is_a_metric_that_studies_can_name() -> None:
    assert find_metric("accuracy_at_90") is ANSWERED_90
    made = drawn(4, 200)
    order = np.argsort(-certainty(made))[:180]
    expected = (made.predicted == made.labels)[order].mean()
    assert ANSWERED_90.score(made.logits, made.labels) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["answered-500-10", "answered-500-5-groups"])
def test_verdicts_on_it_keep_their_promises(name: str) -> None:
    """docs/single-pictures.md has 2,000 studies of each setting."""
    claimed, held, alone = counted_by_metric(METRIC_SETTINGS[f"metric-{name}"], 200)
    assert claimed <= 8.1
    assert held >= 91.9
    assert alone >= 91.9

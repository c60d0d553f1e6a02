"""Sets of classes: against crepes, in simulation, and at the edges of what can be promised."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from crepes import ConformalClassifier
from crepes.extras import hinge
from hypothesis import given, settings, strategies as st

from podium.errors import ConfigError, DataError
from podium.runs.predictions import Predictions, TopPredictions
from podium.statistics.calibration import calibrated_probabilities
from podium.statistics.conformal import (
    ConformityScores,
    SetRule,
    fewest,
    label_probabilities,
    measure_coverage,
)
from podium.statistics.metrics import wilson_interval
from tests.statistics.sets_simulated import DRAWS, coverages, fold_coverages, simulated
from tests.statistics.test_calibration import drawn, predictions


def crepes_sets(
    valid: Predictions, shares: npt.NDArray[np.float64], coverage: float, by_class: bool
) -> npt.NDArray[np.bool_]:
    """The sets by another library's p-values: 1 - p as score, no random ties."""
    own = hinge(valid.probabilities, np.arange(len(valid.class_names)), valid.labels)
    oracle = ConformalClassifier()
    further = hinge(shares)
    if not by_class:
        oracle.fit(own)
        found = oracle.predict_p(further, smoothing=False)
    else:
        oracle.fit(own, bins=valid.labels)
        columns = [
            oracle.predict_p(further[:, [at]], np.full(len(shares), at), smoothing=False)
            for at in range(shares.shape[1])
        ]
        found = np.concatenate(columns, axis=1)
    return np.asarray(found > 1 - coverage + 1e-9)


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("n", [199, 200, 500])
def test_sets_are_those_of_crepes_and_the_best_class(
    coverage: float, n: int, by_class: bool
) -> None:
    valid, further = drawn(1, n, classes=4), drawn(2, 300, classes=4)
    rule = ConformityScores.of(valid).rule(coverage, by_class=by_class)
    shares = further.probabilities
    best = shares >= shares.max(axis=1, keepdims=True)
    oracle = crepes_sets(valid, shares, coverage, by_class)
    assert (rule.members(shares) == (oracle | best)).all()
    assert 1 < oracle.sum(axis=1).mean() < 4
    assert len(set(rule.least)) == (4 if by_class else 1)


@pytest.mark.parametrize("name", ["n-50", "n-500", "epochs-20-500", "by-class", "groups-half"])
def test_the_promise_holds_in_draws(name: str) -> None:
    """docs/single-pictures.md has 2,000 draws of each: 94 to 96.5 % where 95 are promised."""
    found = coverages(DRAWS[name], 200)
    error = found.std() / np.sqrt(len(found))
    assert 0.94 - 3 * error < found.mean() < 0.965 + 3 * error
    assert error < 0.005


def test_the_promise_holds_after_folds() -> None:
    for found in fold_coverages(40).values():
        assert 0.94 < found.mean() < 0.98


def test_without_the_correction_for_n_the_promise_would_break() -> None:
    """What the draws can see: the plain 5 % quantile of few images covers less."""
    random, lost = np.random.default_rng(0), []
    for _ in range(400):
        valid, further = simulated(DRAWS["n-19"], random)
        plain = np.quantile(label_probabilities(valid), 0.05, method="higher")
        lost.append(measure_coverage(further, 1.0, SetRule(0.95, np.full(10, plain), 19)))
    assert np.mean([one.covered.value for one in lost]) < 0.93


@given(n=st.integers(1, 400), level=st.integers(50, 99))
@settings(max_examples=60, deadline=None)
def test_a_threshold_leaves_out_as_many_images_as_the_promise_allows(n: int, level: int) -> None:
    coverage = level / 100
    shares = np.random.default_rng(n).permutation(np.linspace(0.001, 0.999, n))
    scores = ConformityScores(shares, np.zeros(n, np.int64), 2)
    left_out = int(np.floor((n + 1) * (100 - level) / 100 + 1e-9))  # of n + 1, in whole numbers
    if left_out == 0:
        assert n < fewest(coverage)
        with pytest.raises(ConfigError, match=rf"needs {fewest(coverage)} validation images"):
            scores.rule(coverage)
        return
    assert n >= fewest(coverage)
    rule = scores.rule(coverage)
    assert int((shares < rule.least[0]).sum()) == left_out - 1


def test_too_few_images_are_never_a_threshold() -> None:
    few = drawn(3, 12, classes=3)
    with pytest.raises(ConfigError, match=r"this run has 12: they can promise 92\.3 % at most"):
        ConformityScores.of(few).rule(0.95)
    assert ConformityScores.of(few).rule(0.9).least.all()
    with pytest.raises(ConfigError, match=r"or more of each class, and no class has more than 7"):
        ConformityScores(np.full(12, 0.5), np.arange(12) % 2 * (np.arange(12) > 1), 2).rule(
            0.95, by_class=True
        )
    for wrong in (95, 1.0, 0.3, 0):
        with pytest.raises(ConfigError, match=r"from 0\.5 to below 1, got"):
            ConformityScores.of(few).rule(wrong)


def test_a_class_with_too_few_images_is_in_every_set() -> None:
    """That keeps its promise; a threshold from other classes would not."""
    labels = np.array([0] * 60 + [1] * 60 + [2] * 5)
    scores = ConformityScores(np.tile(np.linspace(0.3, 0.9, 125), 1), labels, 4)
    rule = scores.rule(0.95, by_class=True)
    assert rule.unlimited.tolist() == [2, 3]
    inside = rule.members(np.array([[0.97, 0.01, 0.01, 0.01], [0.01, 0.97, 0.01, 0.01]]))
    assert inside.tolist() == [[True, False, True, True], [False, True, True, True]]


def test_the_best_class_is_in_every_set() -> None:
    sure = ConformityScores(np.linspace(0.99, 1, 100), np.zeros(100, np.int64), 3).rule(0.5)
    unsure = np.array([[0.4, 0.35, 0.25], [0.4, 0.4, 0.2]])
    assert sure.members(unsure).tolist() == [[True, False, False], [True, True, False]]


def test_coverage_is_counted_on_the_sets_themselves() -> None:
    valid, test = drawn(4, 300), drawn(5, 400)
    rule = ConformityScores.of(valid, 1.3).rule(0.9)
    found = measure_coverage(test, 1.3, rule)
    inside = rule.members(calibrated_probabilities(test, 1.3))
    hit = inside[np.arange(400), test.labels]
    assert found.covered.value == hit.mean()
    assert (found.covered.low, found.covered.high) == wilson_interval(int(hit.sum()), 400)
    assert found.size == inside.sum(axis=1).mean()
    assert found.single == (inside.sum(axis=1) == 1).mean()
    groups = np.arange(400) // 20
    grouped = measure_coverage(test, 1.3, rule, groups).covered
    assert grouped.value == found.covered.value
    assert grouped.high - grouped.low > found.covered.high - found.covered.low


def test_many_classes_are_counted_from_their_largest_logits() -> None:
    whole, further = drawn(6, 300, classes=250), drawn(7, 200, classes=250)
    top = TopPredictions.of(whole, 0.7)
    assert label_probabilities(top, 0.7) == pytest.approx(label_probabilities(whole, 0.7))
    rule = ConformityScores.of(top, 0.7).rule(0.8)
    found = measure_coverage(TopPredictions.of(further, 0.7), 0.7, rule)
    expected = measure_coverage(further, 0.7, rule)
    assert found.covered == expected.covered
    inside = rule.members(calibrated_probabilities(further, 0.7)).sum(axis=1)
    assert found.size == pytest.approx(np.minimum(inside, 20).mean())
    with pytest.raises(DataError, match="needs every logit"):
        label_probabilities(top, 1.9)


def test_damaged_logits_are_refused() -> None:
    logits = np.zeros((30, 3))
    logits[4] = np.nan
    with pytest.raises(DataError, match="NaN or infinite ones for 1 of 30"):
        ConformityScores.of(predictions(np.zeros(30, np.int64), logits))

"""The expected best of k trials against every order of them, and its band against the truth."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from podium.statistics.best_of_k import best_so_far, expected_best


@pytest.mark.parametrize(
    ("first", "drawn"),
    [
        (0.5, [0.4, 0.9, 0.7, 0.7]),
        (0.1, [0.3, 0.2, 0.8, 0.5, 0.4]),
        (0.9, [0.3, 0.2]),
        (-2.0, [-1.5, -1.5, -1.5]),
    ],
)
def test_it_is_the_mean_over_every_order(first: float, drawn: list[float]) -> None:
    orders = [np.maximum.accumulate([first, *order]) for order in itertools.permutations(drawn)]
    np.testing.assert_allclose(expected_best(first, drawn).value, np.mean(orders, axis=0))


def test_it_is_unbiased_and_its_band_holds() -> None:
    """For uniform scores, the best of m draws is m / (m + 1) on average."""
    rng, n, searches = np.random.default_rng(5), 11, 400
    truth = np.arange(n + 1) / np.arange(1, n + 2)
    values, inside = [], 0
    for _ in range(searches):
        found = expected_best(0.0, rng.random(n).tolist(), most=1.0)
        assert found.low is not None
        assert found.high is not None
        assert np.all(found.low <= found.value + 1e-12)
        assert np.all(found.value <= found.high + 1e-12)
        values.append(found.value)
        inside += bool(np.all((found.low <= truth + 1e-9) & (truth <= found.high + 1e-9)))
    np.testing.assert_allclose(np.mean(values, axis=0), truth, atol=0.02)
    assert inside >= 0.95 * searches


def test_what_limits_a_band() -> None:
    found = expected_best(0.5, [0.6, 0.7])
    assert found.high is not None
    assert found.high[0] == 0.5  # its own settings were tried
    assert all(map(math.isinf, found.high[1:]))  # a metric without an end
    alone = expected_best(0.5, [])
    assert (alone.value.tolist(), alone.low) == ([0.5], None)
    many = expected_best(0.0, np.linspace(0, 1, 999).tolist(), most=1.0)
    assert many.value[-1] == 1.0
    assert np.all(np.diff(many.value) > 0)


def test_dependent_trials_have_their_own_order_alone() -> None:
    found = best_so_far([0.5, 0.4, 0.7, 0.6])
    assert found.value.tolist() == [0.5, 0.5, 0.7, 0.7]
    assert found.low is None

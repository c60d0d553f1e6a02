"""Agreement between contenders, against scikit-learn."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from podium.statistics.agreement import agreement
from podium.statistics.table import ContenderPredictions, PredictionTable

RANDOM = np.random.default_rng(3)
LABELS = RANDOM.integers(0, 4, 200)


def contender(name: str, seeds: int, skill: float) -> ContenderPredictions:
    guesses = RANDOM.integers(0, 4, (seeds, len(LABELS)))
    said = np.where(RANDOM.random(guesses.shape) < skill, LABELS, guesses)
    return ContenderPredictions(name, name.upper(), tuple(range(seeds)), said)


def test_shares_are_those_of_scikit_learn() -> None:
    every = (contender("a", 3, 0.5), contender("b", 2, 0.7), contender("c", 1, 0.9))
    paths = tuple(map(str, range(len(LABELS))))
    found = agreement(PredictionTable(tuple("wxyz"), paths, LABELS, every))
    for (i, one), (j, other) in product(enumerate(every), repeat=2):
        pairs = product(one.predicted, other.predicted)
        if i == j:
            pairs = combinations(one.predicted, 2)  # type: ignore[assignment]
        shares = [accuracy_score(first, second) for first, second in pairs]
        wanted = np.mean(shares) if shares else np.nan
        assert found.same[i, j] == pytest.approx(wanted, nan_ok=True)
    right = [[int(a == b) for a, b in zip(row, LABELS, strict=True)]
             for one in every for row in one.predicted]  # fmt: skip
    totals = [sum(column) for column in zip(*right, strict=True)]
    assert found.all_right == pytest.approx(totals.count(6) / 200)
    assert found.none_right == pytest.approx(totals.count(0) / 200)

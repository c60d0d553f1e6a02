"""Groups by features: independent draws of any shape give no hint, and planted groups do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import kstest
from sklearn.neighbors import NearestNeighbors

from podium.auditing.closeness import (
    _close,
    _neighbours,
    _neighbours_by_class,
    hint_from_features,
)
from podium.auditing.record import GroupHint
from podium.runtime import large_array

Floats = npt.NDArray[np.float32]
Draw = Callable[[np.random.Generator, int], npt.NDArray[np.float64]]


def told(features: Floats, labels: npt.NDArray[np.int64], splits: list[str]) -> GroupHint | None:
    names = [f"{label}/{n}.jpg" for n, label in enumerate(labels)]
    return hint_from_features(features, labels, names, splits)


def halves(n: int) -> npt.NDArray[np.int64]:
    return (np.arange(n) % 2).astype(np.int64)


INDEPENDENT: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=(n, 12)),
    "uniform": lambda rng, n: rng.uniform(size=(n, 6)),
    "heavy tails": lambda rng, n: rng.standard_t(3, size=(n, 8)),
    "four kinds within a class": lambda rng, n: (
        rng.normal(size=(n, 12)) + 20 * rng.integers(0, 4, size=(n, 1))
    ),
    "two densities": lambda rng, n: (
        rng.normal(size=(n, 10)) * np.where(rng.random((n, 1)) < 0.5, 1.0, 0.2)
    ),
    "a surface in many dimensions": lambda rng, n: (
        rng.normal(size=(n, 5)) @ rng.normal(size=(5, 64)) + 0.05 * rng.normal(size=(n, 64))
    ),
}


@pytest.mark.parametrize("shape", INDEPENDENT)
def test_independent_images_give_no_hint(shape: str) -> None:
    features = INDEPENDENT[shape](np.random.default_rng(3), 1000).astype(np.float32)
    assert told(features, halves(1000), ["all"] * 1000) is None


@pytest.mark.parametrize("each", [2, 5, 12, 40])
def test_planted_groups_are_found_with_their_order_of_magnitude(each: int) -> None:
    rng = np.random.default_rng(5)
    scenes = rng.normal(size=(1600 // each, 12)).repeat(each, axis=0)
    features = (scenes + 0.2 * rng.normal(size=scenes.shape)).astype(np.float32)
    labels = (np.arange(len(features)) // each % 2).astype(np.int64)
    found = told(features, labels, ["all"] * len(features))
    assert found is not None
    assert (found.kind, found.rule) == ("features", "duplicates")
    assert 1 / 3 < found.groups / (len(features) / each) < 3
    one, other = (int(path.split("/")[1].split(".")[0]) for path in found.examples)
    assert one // each == other // each
    assert one != other


def test_a_split_that_keeps_groups_together_gives_no_hint() -> None:
    rng = np.random.default_rng(6)
    scenes = rng.normal(size=(150, 12)).repeat(8, axis=0)
    features = (scenes + 0.2 * rng.normal(size=scenes.shape)).astype(np.float32)
    labels = (np.arange(len(features)) // 8 % 2).astype(np.int64)
    whole = ["test" if n // 8 % 5 == 0 else "train" for n in range(len(features))]
    torn = ["test" if rng.random() < 0.2 else "train" for _ in features]
    assert told(features, labels, whole) is None
    assert told(features, labels, torn) is not None


def test_few_images_say_nothing() -> None:
    features = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    assert told(np.repeat(features, 2, axis=0), halves(40), ["all"] * 40) is None


def test_neighbours_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_array, "PART", 40)  # the last of four parts has 30 images
    features = np.random.default_rng(1).normal(size=(300, 20)).astype(np.float32)
    own = np.arange(0, 300, 2)
    query = own[:50]
    found = _neighbours(features, query, own, 16)
    oracle = NearestNeighbors(n_neighbors=17).fit(features[own].astype(np.float64))
    distances, places = oracle.kneighbors(features[query].astype(np.float64))
    np.testing.assert_allclose(found.apart, distances[:, 1:], rtol=1e-4)
    np.testing.assert_array_equal(found.nearest, own[places[:, 1]])


def test_the_chance_is_uniform_where_the_density_is() -> None:
    """The derivation, on points of a torus that has no edge."""
    rng = np.random.default_rng(2)
    angles = rng.uniform(0, 2 * np.pi, size=(8000, 2))
    circles = np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    asked = np.sort(rng.permutation(8000)[:500]).astype(np.int64)
    (found,) = _neighbours_by_class(circles, np.zeros(8000, dtype=np.int64), asked)
    assert found.apart.shape == (500, 128)
    chance = _close(found, 32)[3]
    assert kstest(chance, "uniform").pvalue > 0.01

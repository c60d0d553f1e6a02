"""Contenders on corrupted images: scores, paired differences and changes of these."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import norm

from podium.runs.stress import Condition
from podium.statistics.stress import EVERY, Stressed, compare_stressed

CONDITIONS: tuple[Condition, ...] = (
    ("clean", 0, 0.0),
    *((name, strength, float(strength)) for name in ("fog", "rain") for strength in range(1, 6)),
)


def compared(
    seed: int,
    n: int,
    shares: dict[str, tuple[float, float]],
    seeds: int = 1,
    size: int = 1,
) -> tuple[Stressed, dict[str, npt.NDArray[np.float64]]]:
    """Contenders with these accuracies, unchanged and corrupted; images differ in difficulty."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 5, n)
    groups = np.arange(n) // size
    luck = norm.cdf(random.normal(0, 0.7, n) + random.normal(0, 0.7, int(groups.max()) + 1)[groups])
    right = {}
    for name, (clean, stressed) in shares.items():
        share = np.array([clean] + [stressed] * 10)[None, :, None]
        own = random.random((seeds, len(CONDITIONS), n))
        right[name] = np.where(own < 0.8, luck, random.random((seeds, len(CONDITIONS), n))) < share
    found = compare_stressed(
        {
            name: (name.title(), {at: np.where(one, labels, (labels + 1) % 5)
                                  for at, one in enumerate(hits)})
            for name, hits in right.items()
        },
        labels,
        CONDITIONS,
        None if size == 1 else groups,
    )  # fmt: skip
    return found, {name: one.astype(float) for name, one in right.items()}


@pytest.mark.parametrize("seeds", [1, 3])
def test_scores_and_differences(seeds: int) -> None:
    found, right = compared(0, 300, {"a": (0.9, 0.6), "b": (0.85, 0.7)}, seeds=seeds)
    assert found.corruptions == ["fog", "rain"]
    for name, one in right.items():
        assert [curve.value for curve in found.curves[name]] == pytest.approx(one.mean((0, 2)))
        assert found.means[name] == pytest.approx(one[:, 1:].mean())
    assert [pair.corruption for pair in found.pairs] == [EVERY, "fog", "rain"]
    pair = found.pairs[1]
    fog = right["a"][:, 1:6].mean() - right["b"][:, 1:6].mean()
    clean = right["a"][:, 0].mean() - right["b"][:, 0].mean()
    assert pair.stressed.interval.value == pytest.approx(fog)
    assert pair.clean == pytest.approx(clean)
    assert pair.change.interval.value == pytest.approx(fog - clean)


def test_an_order_that_turns() -> None:
    found, _ = compared(1, 600, {"a": (0.9, 0.5), "b": (0.8, 0.7)})
    assert found.pairs[0].turns
    assert found.changed[0].corruption == EVERY


def test_groups_make_it_less_certain() -> None:
    shares = {"a": (0.9, 0.6), "b": (0.85, 0.7)}
    alone, _ = compared(2, 400, shares)
    grouped, _ = compared(2, 400, shares, size=8)
    assert grouped.groups == 50

    def width(found: Stressed) -> float:
        return found.curves["a"][1].high - found.curves["a"][1].low

    assert width(grouped) > 1.3 * width(alone)


def test_a_single_contender_has_curves() -> None:
    found, _ = compared(3, 100, {"a": (0.9, 0.6)})
    assert found.pairs == ()
    assert len(found.curves["a"]) == len(CONDITIONS)


def test_changes_are_claimed_falsely_in_5_percent_of_studies_at_most() -> None:
    same = {"a": (0.9, 0.6), "b": (0.9, 0.6), "c": (0.9, 0.6)}
    false = sum(bool(compared(seed, 150, same)[0].changed) for seed in range(200))
    # two families, each at 5 %
    assert false / 200 <= 0.1 + 2 * (0.1 * 0.9 / 200) ** 0.5

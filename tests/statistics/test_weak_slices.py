"""Weak slices: found on one half of the images and confirmed on the other, or not at all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import fisher_exact

from podium.statistics.slicing import Slice, Slicing
from podium.statistics.table import PredictionTable
from podium.statistics.weak_slices import WeakSlices, weak_slices
from tests.statistics.test_within import table

Flags = npt.NDArray[np.bool_]


def columns(seed: int, n: int, count: int = 6) -> Slicing:
    """Columns of three values each, drawn at random."""
    random = np.random.default_rng(seed)
    of = random.integers(0, 3, (count, n))
    return Slicing(
        tuple(Slice(f"c{at}", str(v), row == v) for at, row in enumerate(of) for v in range(3))
    )


def study(
    seed: int, n: int, weak: Flags | None = None, size: int = 1, seeds: int = 1
) -> PredictionTable:
    random = np.random.default_rng([seed, 1])
    units = np.arange(n) // size
    luck = np.where(random.random(n) < 0.5, random.random(n)[units], random.random(n))
    right = luck[None] < np.where(np.zeros(n, bool) if weak is None else weak, 0.5, 0.85)
    right = right & (random.random((seeds, n)) < 0.98)
    other = random.random((1, n)) < 0.8
    return table({"a": right, "b": other}, groups=None if size == 1 else units.tolist())


def inside(found: WeakSlices) -> list[tuple[str, list[str]]]:
    return [
        (one.contender, [f"{part.column}={part.value}" for part in one.slices])
        for one in found.confirmed
    ]


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_weak_slice_is_found_and_confirmed_with_figures_of_the_second_half(seeds: int) -> None:
    slicing = columns(0, 1200)
    weak = slicing.slices[4].inside
    sheet = study(0, 1200, weak, seeds=seeds)
    found = weak_slices(sheet, slicing)
    assert ("a", ["c1=1"]) in inside(found)
    one = found.confirmed[0]
    right = (sheet.contenders[0].predicted == sheet.labels).mean(axis=0)
    assert sum(found.halves) == 1200
    assert one.n < weak.sum()
    # the halves together give the figures of all images
    count = int(weak.sum())
    whole = one.n * one.accuracy.value + (count - one.n) * one.found_at
    assert whole == pytest.approx(right[weak].sum())
    assert one.accuracy.low < one.accuracy.value < one.accuracy.high < one.elsewhere


def test_without_groups_p_is_fishers() -> None:
    slicing = Slicing((Slice("c", "x", np.arange(400) % 3 == 0),))
    weak = slicing.slices[0].inside
    one = weak_slices(study(1, 400, weak), slicing).found[0]
    right = round(one.accuracy.value * one.n)
    others = weak_slices(study(1, 400, weak), slicing).halves[1] - one.n
    elsewhere = round(one.elsewhere * others)
    table = [[right, one.n - right], [elsewhere, others - elsewhere]]
    assert one.p == pytest.approx(fisher_exact(table, alternative="less").pvalue)


def test_an_intersection_of_two_is_found() -> None:
    slicing = columns(2, 3000, count=3)
    weak = slicing.slices[0].inside & slicing.slices[3].inside
    found = weak_slices(study(2, 3000, weak), slicing)
    assert inside(found)[0] == ("a", ["c0=0", "c1=0"])


def test_groups_stay_whole() -> None:
    slicing = columns(3, 600)
    sheet = study(3, 600, slicing.slices[0].inside, size=5)
    found = weak_slices(sheet, slicing)
    assert all(size % 5 == 0 for size in found.halves)
    assert abs(found.halves[0] - 300) <= 5


def test_another_seed_draws_other_halves() -> None:
    slicing = columns(0, 1200)
    sheet = study(0, 1200, slicing.slices[4].inside)
    one, other, again = (weak_slices(sheet, slicing, seed) for seed in (0, 1, 0))
    assert one.found[0].found_at != other.found[0].found_at
    assert one == again


@pytest.mark.parametrize("size", [1, 4])
def test_nothing_weak_is_confirmed_falsely_in_more_than_5_percent_of_studies(size: int) -> None:
    false = sum(
        bool(weak_slices(study(seed, 400, size=size), columns(seed, 400)).confirmed)
        for seed in range(200)
    )
    assert false / 200 <= 0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5


def test_no_slice_is_searched_in_few_images() -> None:
    found = weak_slices(study(4, 30), columns(4, 30))
    assert (found.searched, found.found) == (0, ())

"""Contenders within slices: against the tests of the slice's images alone, and in simulation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from podium.runs.predictions import Predictions
from podium.statistics.comparison import compare_table
from podium.statistics.families import holm
from podium.statistics.scoring import ACCURACY, Metric, find_metric
from podium.statistics.slicing import Slice, Slicing
from podium.statistics.table import PredictionTable, table_of
from podium.statistics.within import Within, compare_within

CLASSES = ("cat", "dog", "eel")


def table(
    right: dict[str, npt.NDArray[np.bool_]],
    metric: Metric = ACCURACY,
    groups: Sequence[int] | None = None,
    folds: npt.NDArray[np.int64] | None = None,
) -> PredictionTable:
    """Contenders with these correct predictions, each of shape (seeds, images)."""
    n = next(iter(right.values())).shape[1]
    paths, labels = tuple(f"{at}.jpg" for at in range(n)), np.arange(n) % 3
    members = []
    for number, (name, hits) in enumerate(right.items()):
        random, by_seed = np.random.default_rng(number), {}
        for seed, row in enumerate(hits):
            logits = random.normal(0, 0.3, (n, 3)).astype(np.float32)
            logits[np.arange(n), np.where(row, labels, (labels + 1) % 3)] += 4
            by_seed[seed] = Predictions(CLASSES, paths, labels, logits)
        members.append((name, name.title(), None, None, by_seed))
    of = None if groups is None else {path: str(g) for path, g in zip(paths, groups, strict=True)}
    in_folds = None
    if folds is not None:
        in_folds = {
            (name, seed): dict(zip(paths, row.tolist(), strict=True))
            for name in right
            for seed, row in enumerate(folds)
        }
    return table_of(members, metric, of, in_folds)


def slicing(*inside: npt.NDArray[np.bool_]) -> Slicing:
    return Slicing(tuple(Slice(f"c{at}", "x", one) for at, one in enumerate(inside)))


def drawn(seed: int, n: int, *shares: float, seeds: int = 1) -> dict[str, npt.NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    return {f"m{at}": random.random((seeds, n)) < share for at, share in enumerate(shares)}


INSIDE = np.arange(300) < 90


@pytest.mark.parametrize("groups", [None, [at // 4 for at in range(300)]])
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "log_loss", "balanced_accuracy"])
def test_a_slice_is_judged_like_a_test_set_of_its_images(
    metric: str, seeds: int, groups: list[int] | None
) -> None:
    sheet = table(drawn(3, 300, 0.9, 0.8, 0.6, seeds=seeds), find_metric(metric), groups)
    found = compare_within(sheet, slicing(INSIDE, ~INSIDE))
    for one in found.slices:
        alone = compare_table(sheet.take(one.slice.inside), resamples=0)
        by_name = {each.name: each for each in alone.standings}
        for contender, score in zip(sheet.contenders, one.scores, strict=True):
            assert score == by_name[contender.name].judged
        for pair in one.pairs:
            same = alone.pair(pair.first, pair.second)
            assert pair.difference.p == pytest.approx(same.p)
            assert pair.difference.interval.value == pytest.approx(same.judged.value)
            # adjusted for the other slice as well
            assert pair.difference.interval.low <= same.joint.low + 1e-9
            assert pair.difference.p_adjusted >= same.p
    p_values = [pair.difference.p for one in found.slices for pair in one.pairs]
    adjusted = [pair.difference.p_adjusted for one in found.slices for pair in one.pairs]
    assert adjusted == holm(p_values)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "log_loss"])
def test_a_change_is_the_difference_of_two_differences(metric: str) -> None:
    sheet = table(drawn(5, 300, 0.9, 0.7), find_metric(metric))
    pair = compare_within(sheet, slicing(INSIDE)).slices[0].pairs[0]
    here, there = (
        compare_table(sheet.take(part), resamples=0).pair("m0", "m1").judged.value
        for part in (INSIDE, ~INSIDE)
    )
    assert pair.difference.interval.value == pytest.approx(here)
    assert pair.elsewhere == pytest.approx(there)
    assert pair.change.interval.value == pytest.approx(here - there)


def test_the_interval_of_a_change_is_that_of_two_independent_means() -> None:
    right = drawn(7, 600, 0.9, 0.7)
    inside = np.arange(600) % 3 == 0
    pair = compare_within(table(right), slicing(inside)).slices[0].pairs[0]
    apart = right["m0"][0].astype(float) - right["m1"][0]
    variance = sum(
        apart[part].var() / part.sum() + 2 / part.sum() ** 2 for part in (inside, ~inside)
    )
    half = 1.959964 * variance**0.5
    assert pair.change.interval.high - pair.change.interval.value == pytest.approx(half, rel=0.01)


@pytest.mark.parametrize("seeds", [1, 3])
def test_two_halves_of_the_images_ask_one_question(seeds: int) -> None:
    sheet = table(drawn(9, 300, 0.9, 0.7, 0.8, seeds=seeds))
    both = compare_within(sheet, slicing(INSIDE, ~INSIDE)).slices
    alone = compare_within(sheet, slicing(INSIDE)).slices
    for one, other, single in zip(*(each.pairs for each in both), alone[0].pairs, strict=True):
        assert one.change == single.change
        assert other.change.p_adjusted == one.change.p_adjusted
        assert other.change.interval.value == -one.change.interval.value
        assert other.change.interval.low == -one.change.interval.high


def test_the_winner_turns_in_a_slice() -> None:
    random = np.random.default_rng(0)
    inside = np.arange(600) < 200
    right = {
        "large": random.random((1, 600)) < np.where(inside, 0.6, 0.9),
        "small": random.random((1, 600)) < np.where(inside, 0.9, 0.7),
    }
    found = compare_within(table(right), slicing(inside))
    ((_, pair),) = found.changed
    assert pair.turns
    assert pair.difference.is_significant
    assert pair.change.interval.high < 0 < pair.elsewhere


def test_groups_within_and_across_slices_make_changes_less_certain() -> None:
    random = np.random.default_rng(1)
    of = np.repeat(np.arange(40), 10)
    luck = random.random(40)[of]  # images of a group are all right or all wrong
    right = {"a": (luck < 0.9)[None], "b": (random.random(40)[of] < 0.6)[None]}
    inside = of % 2 == 0
    alone = compare_within(table(right), slicing(inside)).slices[0].pairs[0].change
    grouped = compare_within(table(right, groups=of.tolist()), slicing(inside))
    change = grouped.slices[0].pairs[0].change
    assert grouped.slices[0].groups == 20
    assert change.p > alone.p
    width = (change.interval.high - change.interval.low) / (
        alone.interval.high - alone.interval.low
    )
    assert 2.5 < width < 4.5  # ten images count as one


def test_folds_are_compared_as_recipes() -> None:
    folds = np.stack([np.arange(300) % 5, (np.arange(300) // 7) % 5])
    right = drawn(11, 300, 0.9, 0.7, seeds=2)
    sheet = table(right, folds=folds)
    found = compare_within(sheet, slicing(INSIDE))
    pair = found.slices[0].pairs[0]
    alone = compare_table(sheet.take(INSIDE), resamples=0).pair("m0", "m1")
    assert pair.difference.p == alone.p
    here, there = (
        (right["m0"][:, part].mean() - right["m1"][:, part].mean()) for part in (INSIDE, ~INSIDE)
    )
    assert pair.change.interval.value == pytest.approx(here - there)
    assert pair.change.interval.low < pair.change.interval.value < pair.change.interval.high


def test_a_slice_of_one_fold_is_named() -> None:
    folds = (np.arange(300) // 60)[None]
    sheet = table(drawn(2, 300, 0.9, 0.7), folds=folds)
    found = compare_within(sheet, slicing(folds[0] == 2, INSIDE))
    assert [one.column for one in found.uncompared] == ["c0"]
    assert [one.slice.column for one in found.slices] == ["c1"]


def test_a_metric_without_a_value_in_a_slice_gives_way_to_accuracy() -> None:
    sheet = table(drawn(2, 300, 0.9, 0.7), find_metric("auroc"))
    one_class = np.arange(300) % 3 == 0
    assert compare_within(sheet, slicing(one_class)).metric == ACCURACY
    assert compare_within(sheet, slicing(INSIDE)).metric.name == "auroc"


def test_one_contender_has_scores_and_no_pairs() -> None:
    found = compare_within(table(drawn(2, 300, 0.9)), slicing(INSIDE))
    assert found.slices[0].pairs == ()
    assert found.changed == found.decided == []


def study(seed: int, n: int, share: float, size: int) -> Within:
    """Three contenders whose differences are the same in a slice that is much harder: they have
    right alone, or together with others, the same shares of the images everywhere."""
    random = np.random.default_rng(seed)
    units = np.arange(n) // size  # groups of so many images

    def alike() -> npt.NDArray[np.float64]:
        own, shared = random.random(n), random.random(n)[units]
        return np.where(random.random(n) < 0.5, own, shared) if size > 1 else own

    inside = random.random(n)[units] < share
    kind = np.searchsorted([0.12, 0.14, 0.20], alike())
    together = alike() < np.where(inside, 0.4, 0.9)
    right = {
        name: np.choose(kind, [*only, together])[None].astype(bool)
        for name, only in {"a": (1, 0, 1), "b": (0, 1, 1), "c": (0, 0, 0)}.items()
    }
    sheet = table(right, groups=None if size == 1 else units.tolist())
    return compare_within(sheet, slicing(inside, random.random(n) < 0.3))


@pytest.mark.parametrize(("n", "share", "size"), [(120, 0.25, 1), (400, 0.1, 1), (400, 0.3, 4)])
def test_changes_are_claimed_falsely_in_5_percent_of_studies_at_most(
    n: int, share: float, size: int
) -> None:
    false = sum(bool(study(seed, n, share, size).changed) for seed in range(300))
    assert false / 300 <= 0.05 + 2 * (0.05 * 0.95 / 300) ** 0.5

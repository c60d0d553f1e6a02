"""Verdicts on made sheets: pairs, places and ties."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import fisher_exact, norm

from podium.comparison import Answers, Sheet, judge
from podium.comparison.classes import told_apart
from podium.comparison.paired import mcnemar_exact, paired_interval, seed_effect
from podium.comparison.resample import macro_f1, resampled_macro_f1
from podium.errors import DataError
from podium.metrics import ClassScores, wilson_interval
from tests.studies_simulated import right_answers, sheet_from, skill_for

Z = float(norm.ppf(0.975))


def drawn(seed: int, accuracies: list[float], n: int = 500, *, seeds: int = 1) -> Sheet:
    random = np.random.default_rng(seed)
    skills = [skill_for(one) for one in accuracies]
    return sheet_from(right_answers(random, skills, n, seeds=seeds), random=random)


def renamed(sheet: Sheet, name: str, seeds: tuple[int, ...]) -> Sheet:
    return replace(
        sheet,
        contenders=tuple(
            replace(one, seeds=seeds) if one.name == name else one for one in sheet.contenders
        ),
    )


def test_one_seed_is_two_models_on_the_same_images() -> None:
    sheet = drawn(1, [0.9, 0.8], 300)
    first, second = (one.predicted[0] == sheet.labels for one in sheet.contenders)
    verdicts = judge(sheet, resamples=300)
    (pair,) = verdicts.pairs
    alone = int((first & ~second).sum()), int((second & ~first).sum())
    assert (pair.only_first, pair.only_second) == alone
    assert pair.claim == "models"
    assert (pair.n, pair.seeds) == (300, ((0, 0),))
    assert pair.p == pair.p_holm == mcnemar_exact(*alone)
    assert (pair.accuracy.low, pair.accuracy.high) == paired_interval(*alone, 300)
    assert pair.accuracy.value == pytest.approx(first.mean() - second.mean())
    assert pair.winner == "c0"
    assert pair.macro_f1 is not None
    scores = [macro_f1(sheet.labels, one.predicted[0], 10) for one in sheet.contenders]
    assert pair.macro_f1.value == pytest.approx(scores[0] - scores[1])
    predicted = np.concatenate([one.predicted for one in sheet.contenders])
    spread = np.subtract(*resampled_macro_f1(sheet.labels, predicted, 10, resamples=300)).std(
        ddof=1
    )
    assert pair.macro_f1.high - pair.macro_f1.low == pytest.approx(2 * Z * spread)
    winner = verdicts.standings[0]
    assert (winner.best, winner.worst, winner.seeds, winner.tied) == (1, 1, 1, ())
    assert (winner.accuracy.low, winner.accuracy.high) == wilson_interval(int(first.sum()), 300)
    assert winner.macro_f1 == pytest.approx(scores[0])
    assert verdicts.standings[1].best == verdicts.standings[1].worst == 2
    assert [one.name for one in verdicts.leaders] == ["c0"]


def test_three_seeds_are_two_recipes() -> None:
    sheet = drawn(2, [0.9, 0.8], 300, seeds=3)
    first, second = (one.predicted == sheet.labels for one in sheet.contenders)
    (pair,) = judge(sheet, resamples=50).pairs
    effect = seed_effect(first.astype(float) - second)
    assert pair.claim == "methods"
    assert pair.seeds == ((0, 0), (1, 1), (2, 2))
    assert (pair.accuracy.low, pair.accuracy.high) == pytest.approx(effect.interval())
    assert pair.p == pytest.approx(effect.p_value(effect.seed_square, 2))
    assert pair.only_first == pytest.approx((first & ~second).sum() / 3)
    assert pair.winner == "c0"


def test_contenders_lend_each_other_their_seeds_variance() -> None:
    sheet = drawn(3, [0.86, 0.85, 0.84], 200, seeds=3)
    right = [(one.predicted == sheet.labels).astype(float) for one in sheet.contenders]
    effects = {
        (f"c{i}", f"c{j}"): seed_effect(right[i] - right[j]) for i, j in combinations(range(3), 2)
    }
    pooled = float(np.mean([effect.seed_square for effect in effects.values()]))
    for pair in judge(sheet, resamples=0).pairs:
        expected = effects[pair.first, pair.second].p_value(pooled, 3)
        assert pair.p == pytest.approx(expected)
        assert pair.macro_f1 is None


def test_seeds_in_common_are_set_against_each_other_else_in_their_order() -> None:
    sheet = drawn(4, [0.9, 0.8], 200, seeds=3)
    some = judge(renamed(sheet, "c1", (2, 7, 1)), resamples=0).pairs[0]
    assert some.seeds == ((1, 1), (2, 2))
    right = [one.predicted == sheet.labels for one in sheet.contenders]
    expected = right[0][[1, 2]].mean() - right[1][[2, 0]].mean()
    assert some.accuracy.value == pytest.approx(expected)
    none = judge(renamed(sheet, "c1", (5, 6, 7)), resamples=0).pairs[0]
    assert none.seeds == ((0, 5), (1, 6), (2, 7))
    one = judge(renamed(sheet, "c1", (9, 2, 8)), resamples=0).pairs[0]
    assert one.seeds == ((2, 2),)
    assert one.claim == "models"


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("right", [True, False])
def test_contenders_that_never_differ_are_tied(seeds: int, right: bool) -> None:
    sheet = sheet_from(np.full((3, seeds, 80), right))
    verdicts = judge(sheet, resamples=100)
    for pair in verdicts.pairs:
        assert (pair.p, pair.p_holm, pair.winner) == (1.0, 1.0, None)
        assert pair.accuracy.low <= 0 == pair.accuracy.value <= pair.accuracy.high
        assert pair.macro_f1 is not None
        assert pair.macro_f1.value == 0
    for standing in verdicts.standings:
        assert (standing.best, standing.worst, len(standing.tied)) == (1, 3, 2)
        assert standing.accuracy.value == standing.macro_f1 == float(right)
    assert len(verdicts.leaders) == 3


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_same_answers_under_two_names_are_tied(seeds: int) -> None:
    sheet = drawn(5, [0.8, 0.8], seeds=seeds)
    twin = replace(sheet.contenders[0], name="twin")
    (pair,) = judge(replace(sheet, contenders=(sheet.contenders[0], twin)), resamples=50).pairs
    assert (pair.accuracy.value, pair.p, pair.winner) == (0, 1.0, None)
    assert (pair.only_first, pair.only_second) == (0, 0)


def test_all_right_against_all_wrong() -> None:
    right = np.stack([np.ones((1, 50), bool), np.zeros((1, 50), bool)])
    (pair,) = judge(sheet_from(right), resamples=50).pairs
    assert pair.winner == "c0"
    assert pair.accuracy.value == pair.accuracy.high == 1
    assert pair.p == pytest.approx(2 * 0.5**50)


def test_one_contender_and_one_image() -> None:
    verdicts = judge(drawn(6, [0.8]), resamples=50)
    assert verdicts.pairs == ()
    assert (verdicts.standings[0].best, verdicts.standings[0].worst) == (1, 1)
    for seeds in (1, 2):
        right = np.stack([np.ones((seeds, 1), bool), np.zeros((seeds, 1), bool)])
        small = judge(sheet_from(right, classes=2), resamples=20)
        assert small.n == 1
        if seeds == 1:
            assert (small.pairs[0].p, small.pairs[0].winner) == (1.0, None)


def test_no_image_is_refused() -> None:
    empty = np.empty(0, np.int64)
    sheet = Sheet(("a",), (), empty, (Answers("m", "M", (0,), empty[None]),))
    with pytest.raises(DataError, match="one image or more, got none"):
        judge(sheet)


def test_ties_are_not_transitive_and_places_say_so() -> None:
    # five images lost from one to the next: only the ends can be told apart
    right = np.zeros((3, 1, 400), bool)
    right[0, 0, :300] = True
    right[1, 0, 5:300] = True
    right[2, 0, 10:300] = True
    verdicts = judge(sheet_from(right), resamples=0)
    places = {one.name: (one.best, one.worst) for one in verdicts.standings}
    assert places == {"c0": (1, 2), "c1": (1, 3), "c2": (2, 3)}
    assert [one.tied for one in verdicts.standings] == [("c1",), ("c0", "c2"), ("c1",)]
    assert verdicts.pair("c0", "c2").p_holm == pytest.approx(3 * 2 * 0.5**10)
    assert [one.name for one in verdicts.leaders] == ["c0", "c1"]


def test_a_pair_is_seen_from_either_side() -> None:
    verdicts = judge(renamed(drawn(7, [0.9, 0.8], seeds=2), "c1", (4, 5)), resamples=100)
    one, other = verdicts.pair("c0", "c1"), verdicts.pair("c1", "c0")
    assert one is verdicts.pairs[0]
    assert other.first == "c1"
    assert other.accuracy.value == -one.accuracy.value
    assert (other.accuracy.low, other.accuracy.high) == (-one.accuracy.high, -one.accuracy.low)
    assert one.macro_f1 is not None
    assert other.macro_f1 is not None
    assert other.macro_f1.low == -one.macro_f1.high
    assert (other.only_first, other.only_second) == (one.only_second, one.only_first)
    assert other.seeds == ((4, 0), (5, 1))
    assert (other.p, other.p_holm, other.winner) == (one.p, one.p_holm, one.winner)
    with pytest.raises(KeyError, match="c0 and c9 were not compared"):
        verdicts.pair("c0", "c9")


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_order_of_contenders_changes_nothing(seeds: int) -> None:
    sheet = drawn(8, [0.88, 0.86, 0.84, 0.8], seeds=seeds)
    one = judge(sheet, resamples=50)
    other = judge(replace(sheet, contenders=sheet.contenders[::-1]), resamples=50)
    for first, second in combinations([c.name for c in sheet.contenders], 2):
        a, b = one.pair(first, second), other.pair(first, second)
        assert a.p_holm >= a.p
        assert (b.p, b.p_holm) == pytest.approx((a.p, a.p_holm))
        assert b.accuracy.low == pytest.approx(a.accuracy.low)
        assert a.macro_f1 is not None
        assert b.macro_f1 is not None
        assert b.macro_f1.low == pytest.approx(a.macro_f1.low)
    places = {s.name: (s.best, s.worst, set(s.tied)) for s in one.standings}
    assert places == {s.name: (s.best, s.worst, set(s.tied)) for s in other.standings}
    values = [s.accuracy.value for s in one.standings]
    assert values == sorted(values, reverse=True)


def of_recall(right: int, support: int) -> ClassScores:
    return ClassScores("c", 1.0, right / support if support else 0.0, 1.0, support, support)


def test_a_class_is_told_apart_by_fishers_test_and_holm_over_the_classes() -> None:
    classes = [of_recall(45, 50) for _ in range(9)] + [of_recall(35, 50)]
    p = fisher_exact([[35, 15], [405, 45]]).pvalue
    assert 10 * p < 0.05
    assert told_apart(classes) == [False] * 9 + [True]
    assert told_apart(classes, level=9.99 * p) == [False] * 10


def test_of_classes_with_five_images_few_are_told_apart() -> None:
    classes = [of_recall(5, 5) for _ in range(60)] + [of_recall(4, 5) for _ in range(39)]
    assert told_apart([*classes, of_recall(3, 5)]) == [False] * 100
    assert told_apart([*classes, of_recall(0, 5)]) == [False] * 99 + [True]
    assert told_apart([of_recall(0, 0), of_recall(3, 3)]) == [False, False]
    assert told_apart([]) == []

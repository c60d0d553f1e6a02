"""Verdicts on made sheets: pairs, places and ties."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import binomtest, fisher_exact, norm
from sklearn.metrics import balanced_accuracy_score

from podium.errors import DataError
from podium.reporting.words.design_words import groups_sentence
from podium.reporting.words.labels import labels
from podium.statistics.classes import significant_classes
from podium.statistics.contributions import by_class
from podium.statistics.metrics import ClassScores, wilson_interval
from podium.statistics.paired import (
    mcnemar,
    paired_interval,
    seed_effect,
    sign_flip,
    unpaired_effect,
)
from podium.statistics.resample import macro_f1, resampled_macro_f1
from podium.statistics.table import ContenderPredictions, PredictionTable
from podium.statistics.verdicts import compare_contenders
from tests.statistics.studies_simulated import right_answers, sheet_from, skill_for

Z = float(norm.ppf(0.975))


def drawn(seed: int, accuracies: list[float], n: int = 500, *, seeds: int = 1) -> PredictionTable:
    random = np.random.default_rng(seed)
    skills = [skill_for(one) for one in accuracies]
    return sheet_from(right_answers(random, skills, n, seeds=seeds), random=random)


def renamed(sheet: PredictionTable, name: str, seeds: tuple[int, ...]) -> PredictionTable:
    return replace(
        sheet,
        contenders=tuple(
            replace(one, seeds=seeds) if one.name == name else one for one in sheet.contenders
        ),
    )


def test_one_seed_is_two_models_on_the_same_images() -> None:
    sheet = drawn(1, [0.9, 0.8], 300)
    first, second = (one.predicted[0] == sheet.labels for one in sheet.contenders)
    verdicts = compare_contenders(sheet, resamples=300)
    (pair,) = verdicts.pairs
    alone = int((first & ~second).sum()), int((second & ~first).sum())
    assert (pair.only_first, pair.only_second) == alone
    assert pair.claim == "models"
    assert (pair.n, pair.seeds) == (300, ((0, 0),))
    assert pair.p == pair.p_adjusted == mcnemar(*alone)
    assert pair.joint == pair.judged  # there is no other pair
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
    # two images more, of balanced classes
    variance = spread**2 + 2 / 300**2
    assert pair.macro_f1.high - pair.macro_f1.low == pytest.approx(2 * Z * variance**0.5)
    winner = verdicts.standings[0]
    assert (winner.best, winner.worst, winner.seeds, winner.tied) == (1, 1, 1, ())
    assert (winner.accuracy.low, winner.accuracy.high) == wilson_interval(int(first.sum()), 300)
    assert winner.macro_f1 == pytest.approx(scores[0])
    assert verdicts.standings[1].best == verdicts.standings[1].worst == 2
    assert [one.name for one in verdicts.leaders] == ["c0"]


def test_three_seeds_are_two_recipes() -> None:
    sheet = drawn(2, [0.9, 0.8], 300, seeds=3)
    first, second = (one.predicted == sheet.labels for one in sheet.contenders)
    (pair,) = compare_contenders(sheet, resamples=50).pairs
    effect = seed_effect(first.astype(float) - second)
    assert pair.claim == "methods"
    assert pair.seeds == ((0, 0), (1, 1), (2, 2))
    assert (pair.accuracy.low, pair.accuracy.high) == pytest.approx(
        effect.interval(least_variance=2 / 300**2)
    )
    totals = (first.astype(int) - second).sum(axis=0)
    assert pair.p == pytest.approx(
        max(effect.p_value(effect.seed_square, 2), sign_flip(totals, mid=True))
    )
    assert pair.only_first == pytest.approx((first & ~second).sum() / 3)
    assert pair.winner == "c0"


def test_p_of_recipes_is_the_largest_of_three() -> None:
    deciding = set()
    for start in range(3, 9):
        sheet = drawn(start, [0.86, 0.85, 0.84], 200, seeds=3)
        right = [(one.predicted == sheet.labels).astype(float) for one in sheet.contenders]
        alone = [seed_effect(one) for one in right]
        effects = {at: seed_effect(right[at[0]] - right[at[1]]) for at in combinations(range(3), 2)}
        pooled = float(np.mean([effect.seed_square for effect in effects.values()]))
        for (i, j), pair in zip(effects, compare_contenders(sheet, resamples=0).pairs, strict=True):
            assert (pair.first, pair.second, pair.macro_f1) == (f"c{i}", f"c{j}", None)
            difference = right[i] - right[j]
            fixed = seed_effect(difference.mean(axis=0, keepdims=True))
            three = {
                "lent by the others": effects[i, j].p_value(pooled, 4),
                "its own": unpaired_effect(alone[i], alone[j], fixed).p_value(),
                "the seeds as fixed": sign_flip(difference.sum(axis=0).astype(int), mid=True),
            }
            assert pair.p == pytest.approx(max(three.values()))
            deciding.add(max(three, key=lambda name: three[name]))
    assert len(deciding) == 3


def wrong_on(n: int, *mistakes: dict[int, range]) -> PredictionTable:
    """Contenders that are right but on these images of each seed."""
    right = np.ones((len(mistakes), 3, n), bool)
    for contender, by_seed in enumerate(mistakes):
        for seed, images in by_seed.items():
            right[contender, seed, list(images)] = False
    return sheet_from(right)


def test_nothing_is_certain_where_every_seed_shows_the_same_difference() -> None:
    # 5 against 6 mistakes with each seed, never on the same images: both variances are 0
    one = {seed: range(100 + 10 * seed, 105 + 10 * seed) for seed in range(3)}
    other = {seed: range(10 * seed, 6 + 10 * seed) for seed in range(3)}
    for sheet in (
        wrong_on(500, one, other),
        wrong_on(1000, {}, {seed: range(seed, seed + 1) for seed in range(3)}),
    ):
        (pair,) = compare_contenders(sheet, resamples=0).pairs
        assert pair.p > 0.12
        assert pair.winner is None
        assert pair.accuracy.low < 0 < pair.accuracy.high


def test_seeds_that_change_nothing_give_the_verdict_of_one() -> None:
    # as of a head that is solved at once: three seeds are no more than one
    one = drawn(9, [0.99, 0.97], 300)
    three = replace(
        one,
        contenders=tuple(
            replace(c, seeds=(0, 1, 2), predicted=np.repeat(c.predicted, 3, axis=0))
            for c in one.contenders
        ),
    )
    alone, together = (
        compare_contenders(one, resamples=0).pairs[0],
        compare_contenders(three, resamples=0).pairs[0],
    )
    assert together.p == pytest.approx(alone.p)
    assert (together.only_first, together.only_second) == (alone.only_first, alone.only_second)
    assert together.accuracy.low == pytest.approx(alone.accuracy.low, abs=0.003)
    assert together.accuracy.high == pytest.approx(alone.accuracy.high, abs=0.003)


def test_the_same_seeds_are_set_against_each_other_else_each_against_each() -> None:
    sheet = drawn(4, [0.9, 0.8], 200, seeds=3)
    same = compare_contenders(renamed(sheet, "c1", (2, 0, 1)), resamples=0).pairs[0]
    assert same.seeds == ((0, 0), (1, 1), (2, 2))
    assert same.seed_counts == (3, 3)
    right = [one.predicted == sheet.labels for one in sheet.contenders]
    assert same.only_first == pytest.approx((right[0] & ~right[1][[1, 2, 0]]).sum() / 3)
    other = compare_contenders(renamed(sheet, "c1", (2, 7, 1)), resamples=0).pairs[0]
    assert other.seeds == tuple((i, j) for i in range(3) for j in (2, 7, 1))
    assert other.seed_counts == (3, 3)
    assert other.claim == "methods"
    pairs = [(right[0][i] & ~right[1][j]).sum() for i in range(3) for j in range(3)]
    assert other.only_first == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("kept", [1, 2])
def test_standings_and_pairs_rest_on_the_same_seeds(kept: int) -> None:
    # A's first seeds are its worst: B is ahead of these, and behind all of A
    a = np.stack([np.arange(120) < known for known in (70, 72, 116, 118)])
    b = np.stack([np.arange(120) < known for known in (90, 92)])[:kept]
    verdicts = compare_contenders(sheet_from([a, b]), resamples=100)
    (pair,) = verdicts.pairs
    by_name = {one.name: one for one in verdicts.standings}
    gap = by_name["c0"].accuracy.value - by_name["c1"].accuracy.value
    assert pair.accuracy.value == pytest.approx(gap)
    assert pair.macro_f1 is not None
    assert pair.macro_f1.value == pytest.approx(by_name["c0"].macro_f1 - by_name["c1"].macro_f1)
    assert pair.seed_counts == (4, kept)
    assert pair.claim == ("models" if kept == 1 else "methods")
    places = [(one.best, one.worst) for one in verdicts.standings]
    assert places == sorted(places)  # nobody is ahead of one with a better place


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.integers(0, 1000))
def test_any_numbers_of_seeds_give_places_in_the_order_of_accuracy(
    seeds: list[int], start: int
) -> None:
    random = np.random.default_rng(start)
    shares = random.uniform(0.3, 0.99, len(seeds))
    right = [random.random((k, 60)) < p for k, p in zip(seeds, shares, strict=True)]
    verdicts = compare_contenders(sheet_from(right), resamples=20)
    values = {one.name: one.accuracy.value for one in verdicts.standings}
    for one in verdicts.standings:
        assert 0 <= one.accuracy.low <= one.accuracy.value <= one.accuracy.high <= 1
        assert one.accuracy.high - one.accuracy.low > 0.01
    for pair in verdicts.pairs:
        gap = values[pair.first] - values[pair.second]
        assert pair.accuracy.value == pytest.approx(gap)
        assert pair.only_first - pair.only_second == pytest.approx(60 * gap)
        assert -1 <= pair.accuracy.low <= gap + 1e-9
        assert gap - 1e-9 <= pair.accuracy.high <= 1
        assert pair.accuracy.high - pair.accuracy.low > 0.01
        assert pair.macro_f1 is not None
        assert pair.macro_f1.high - pair.macro_f1.low > 0.01
        if pair.winner is not None:
            assert values[pair.winner] == max(values[pair.first], values[pair.second])


def test_frames_are_not_patients() -> None:
    # a hundred patients, then each of them five times over: nothing more is known
    right = np.ones((2, 1, 100), bool)
    right[1, 0, :8] = False
    right[0, 0, 8:11] = False
    plain = compare_contenders(sheet_from(right, classes=2), resamples=200)
    frames = sheet_from(np.repeat(right, 5, axis=2), classes=2)
    patients = replace(frames, labels=np.repeat(np.arange(100) % 2, 5),
                       groups=np.repeat(np.arange(100), 5))  # fmt: skip
    answered = np.where(np.repeat(right, 5, axis=2), patients.labels, 1 - patients.labels)
    patients = replace(
        patients,
        contenders=tuple(
            replace(c, predicted=one) for c, one in zip(frames.contenders, answered, strict=True)
        ),
    )
    grouped = compare_contenders(patients, resamples=200)
    before, after = plain.pairs[0], grouped.pairs[0]
    assert before.p == mcnemar(8, 3)
    assert after.p == pytest.approx(binomtest(3, 11).pvalue)  # of groups, all outcomes count whole
    assert compare_contenders(replace(patients, groups=None), resamples=0).pairs[0].p < 0.01
    assert after.only_first == 5 * before.only_first
    for one, other in ((before.accuracy, after.accuracy), (before.macro_f1, after.macro_f1)):
        assert one is not None
        assert other is not None
        assert other.value == pytest.approx(one.value)
        assert other.high - other.low == pytest.approx(one.high - one.low, rel=0.25)
    width = np.ptp([plain.standings[0].accuracy.low, plain.standings[0].accuracy.high])
    same = np.ptp([grouped.standings[0].accuracy.low, grouped.standings[0].accuracy.high])
    assert same == pytest.approx(width, rel=0.25)
    assert grouped.grouping is not None
    assert (grouped.grouping.images, grouped.grouping.groups) == (500, 100)
    assert grouped.grouping.design_effect == pytest.approx(5, rel=0.05)
    assert "are worth 1" in groups_sentence(grouped, labels("en"))


def test_few_groups_cannot_have_a_winner_and_say_so() -> None:
    right = np.stack([np.ones((1, 50), bool), np.zeros((1, 50), bool)])
    groups = np.arange(50) % 5
    verdicts = compare_contenders(sheet_from(right, groups=groups), resamples=0)
    assert verdicts.pairs[0].p == pytest.approx(2 * 0.5**5)
    assert verdicts.pairs[0].winner is None
    assert "p is at least 0.06, so there can be no winner" in groups_sentence(
        verdicts, labels("en")
    )
    six = compare_contenders(sheet_from(right, groups=np.arange(50) % 6), resamples=0)
    assert six.pairs[0].winner == "c0"
    assert "hardly anything can be claimed" in groups_sentence(six, labels("en"))
    assert "quase nada" in groups_sentence(six, labels("pt"))


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("right", [True, False])
def test_contenders_that_never_differ_are_tied(seeds: int, right: bool) -> None:
    sheet = sheet_from(np.full((3, seeds, 80), right))
    verdicts = compare_contenders(sheet, resamples=100)
    for pair in verdicts.pairs:
        assert (pair.p, pair.p_adjusted, pair.winner) == (1.0, 1.0, None)
        assert pair.accuracy.low <= 0 == pair.accuracy.value <= pair.accuracy.high
        assert pair.macro_f1 is not None
        assert pair.macro_f1.value == 0
        # that they are equal is not known for certain
        for interval in (pair.accuracy, pair.macro_f1):
            assert 0.01 < interval.high - interval.low < 0.1
    for standing in verdicts.standings:
        assert (standing.best, standing.worst, len(standing.tied)) == (1, 3, 2)
        assert standing.accuracy.value == standing.macro_f1 == float(right)
        # nor that it is always so: 80 of 80 leave 95.4 % possible (Wilson)
        assert 0.03 < standing.accuracy.high - standing.accuracy.low < 0.07
    assert len(verdicts.leaders) == 3


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_same_answers_under_two_names_are_tied(seeds: int) -> None:
    sheet = drawn(5, [0.8, 0.8], seeds=seeds)
    twin = replace(sheet.contenders[0], name="twin")
    (pair,) = compare_contenders(
        replace(sheet, contenders=(sheet.contenders[0], twin)), resamples=50
    ).pairs
    assert (pair.accuracy.value, pair.p, pair.winner) == (0, 1.0, None)
    assert (pair.only_first, pair.only_second) == (0, 0)


def test_all_right_against_all_wrong() -> None:
    right = np.stack([np.ones((1, 50), bool), np.zeros((1, 50), bool)])
    (pair,) = compare_contenders(sheet_from(right), resamples=50).pairs
    assert pair.winner == "c0"
    assert pair.accuracy.value == pair.accuracy.high == 1
    assert pair.p == pytest.approx(2 * 0.5**50)


def test_one_contender_and_one_image() -> None:
    verdicts = compare_contenders(drawn(6, [0.8]), resamples=50)
    assert verdicts.pairs == ()
    assert (verdicts.standings[0].best, verdicts.standings[0].worst) == (1, 1)
    for seeds in (1, 2):
        right = np.stack([np.ones((seeds, 1), bool), np.zeros((seeds, 1), bool)])
        small = compare_contenders(sheet_from(right, classes=2), resamples=20)
        assert small.n == 1
        if seeds == 1:
            assert (small.pairs[0].p, small.pairs[0].winner) == (0.5, None)


def test_no_image_is_refused() -> None:
    empty = np.empty(0, np.int64)
    sheet = PredictionTable(("a",), (), empty, (ContenderPredictions("m", "M", (0,), empty[None]),))
    with pytest.raises(DataError, match="at least one image, got none"):
        compare_contenders(sheet)


def test_ties_are_not_transitive_and_places_say_so() -> None:
    # four images lost from one to the next: only the ends can be told apart
    right = np.zeros((3, 1, 400), bool)
    right[0, 0, :300] = True
    right[1, 0, 4:300] = True
    right[2, 0, 8:300] = True
    verdicts = compare_contenders(sheet_from(right), resamples=0)
    places = {one.name: (one.best, one.worst) for one in verdicts.standings}
    assert places == {"c0": (1, 2), "c1": (1, 3), "c2": (2, 3)}
    assert [one.tied for one in verdicts.standings] == [("c1",), ("c0", "c2"), ("c1",)]
    assert mcnemar(8, 0) < verdicts.pair("c0", "c2").p_adjusted < 3 * mcnemar(8, 0)
    assert [one.name for one in verdicts.leaders] == ["c0", "c1"]


def test_a_pair_is_seen_from_either_side() -> None:
    verdicts = compare_contenders(
        renamed(drawn(7, [0.9, 0.8], seeds=2), "c1", (1, 4)), resamples=100
    )
    one, other = verdicts.pair("c0", "c1"), verdicts.pair("c1", "c0")
    assert one is verdicts.pairs[0]
    assert other.first == "c1"
    assert other.accuracy.value == -one.accuracy.value
    assert (other.accuracy.low, other.accuracy.high) == (-one.accuracy.high, -one.accuracy.low)
    assert one.macro_f1 is not None
    assert other.macro_f1 is not None
    assert other.macro_f1.low == -one.macro_f1.high
    assert (other.joint.low, other.joint.high) == (-one.joint.high, -one.joint.low)
    assert (other.only_first, other.only_second) == (one.only_second, one.only_first)
    assert other.seeds == ((1, 0), (4, 0), (1, 1), (4, 1))
    assert (other.p, other.p_adjusted, other.winner) == (one.p, one.p_adjusted, one.winner)
    with pytest.raises(KeyError, match="c0 and c9 were not compared"):
        verdicts.pair("c0", "c9")


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_order_of_contenders_changes_nothing(seeds: int) -> None:
    sheet = drawn(8, [0.88, 0.86, 0.84, 0.8], seeds=seeds)
    one = compare_contenders(sheet, resamples=50)
    other = compare_contenders(replace(sheet, contenders=sheet.contenders[::-1]), resamples=50)
    for first, second in combinations([c.name for c in sheet.contenders], 2):
        a, b = one.pair(first, second), other.pair(first, second)
        assert a.p_adjusted >= a.p
        assert (b.p, b.p_adjusted) == pytest.approx((a.p, a.p_adjusted))
        assert b.accuracy.low == pytest.approx(a.accuracy.low)
        assert b.joint.low == pytest.approx(a.joint.low)
        assert a.macro_f1 is not None
        assert b.macro_f1 is not None
        assert b.macro_f1.low == pytest.approx(a.macro_f1.low)
    places = {s.name: (s.best, s.worst, set(s.tied)) for s in one.standings}
    assert places == {s.name: (s.best, s.worst, set(s.tied)) for s in other.standings}
    assert {s.name for s in one.leaders} == {s.name for s in other.leaders}
    values = [s.accuracy.value for s in one.standings]
    assert values == sorted(values, reverse=True)


def of_recall(right: int, support: int) -> ClassScores:
    return ClassScores("c", 1.0, right / support if support else 0.0, 1.0, support, support)


def test_a_class_is_told_apart_by_fishers_test_and_holm_over_the_classes() -> None:
    classes = [of_recall(45, 50) for _ in range(9)] + [of_recall(35, 50)]
    p = fisher_exact([[35, 15], [405, 45]]).pvalue
    assert 10 * p < 0.05
    assert significant_classes(classes) == [False] * 9 + [True]
    assert significant_classes(classes, level=9.99 * p) == [False] * 10


def test_of_classes_with_five_images_few_are_told_apart() -> None:
    classes = [of_recall(5, 5) for _ in range(60)] + [of_recall(4, 5) for _ in range(39)]
    assert significant_classes([*classes, of_recall(3, 5)]) == [False] * 100
    assert significant_classes([*classes, of_recall(0, 5)]) == [False] * 99 + [True]
    assert significant_classes([of_recall(0, 0), of_recall(3, 3)]) == [False, False]
    assert significant_classes([]) == []


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_difference_in_mean_recall_is_scikit_learns(seeds: int) -> None:
    random = np.random.default_rng(seeds)
    labels = np.repeat(np.arange(4), [120, 40, 9, 1])
    answers = [
        np.where(random.random((seeds, 170)) < right, labels, random.integers(0, 4, (seeds, 170)))
        for right in (0.9, 0.6)
    ]
    sheet = replace(
        sheet_from([one == labels for one in answers], classes=4),
        labels=labels,
        contenders=tuple(
            ContenderPredictions(name, name, tuple(range(seeds)), one)
            for name, one in zip("ab", answers, strict=True)
        ),
    )
    verdicts = compare_contenders(sheet, resamples=0)
    a, b = (np.mean([balanced_accuracy_score(labels, seed) for seed in one]) for one in answers)
    found = verdicts.pair("a", "b").macro_recall
    assert found.value == pytest.approx(a - b)
    assert found.low < found.value < found.high
    back = verdicts.pair("b", "a").macro_recall
    assert (back.value, back.low, back.high) == (-found.value, -found.high, -found.low)


def test_the_mean_recall_varies_as_the_mean_of_its_classes() -> None:
    random = np.random.default_rng(0)
    sizes = [400, 90, 30, 5]
    labels = np.repeat(np.arange(4), sizes)
    values = random.normal(labels, 1 + labels)[None]
    found = by_class(values, labels)
    means = [values[0, labels == k].mean() for k in range(4)]
    squares = [values[0, labels == k].var(ddof=1) / n for k, n in enumerate(sizes)]
    assert found.mean() == pytest.approx(np.mean(means))
    assert found.var(ddof=0) / len(labels) == pytest.approx(np.sum(squares) / 16)

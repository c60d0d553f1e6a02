"""Do the verdicts keep their promises? Whole studies drawn from a known truth.

A bound of 5 % on false claims, or of 94 to 96.5 % on the coverage of intervals, is only worth
something where the simulation's own error is smaller; each test says how many studies it takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit, logit
from scipy.stats import binom

from podium.reporting.words.labels import labels
from podium.reporting.words.verdict_words import claim_sentence
from podium.statistics.assumptions import Assumptions
from podium.statistics.metrics import wilson_interval
from podium.statistics.paired import mcnemar, paired_interval, seed_effect
from podium.statistics.power import plan
from podium.statistics.resample import macro_f1
from podium.statistics.table import ContenderPredictions, PredictionTable
from podium.statistics.verdicts import Verdicts
from tests.statistics.studies_simulated import (
    Setting,
    accuracy_at,
    judged,
    right_answers,
    sheet_from,
    sheets,
    skill_for,
)

Indices = npt.NDArray[np.int64]

SEED_SD = 0.05  # of the skill; at 85 % accuracy 1.0 points of accuracy
LARGE_SEED_SD = 0.3  # 5.6 points
# 5 and 95 % as 500 studies may count them: two standard deviations. docs/statistics.md has more
CHANCE, COVER = 0.07, 0.93


def studies(count: int, accuracies: Sequence[float], n: int, **settings: Any) -> Iterator[Verdicts]:
    """Studies of contenders with these mean accuracies; for `settings` see `Setting`."""
    for sheet in sheets(Setting(tuple(accuracies), n, **settings), count):
        yield judged(sheet)


def falsely_claimed(
    count: int, contenders: int, n: int = 500, *, accuracy: float = 0.85, **settings: Any
) -> float:
    """Share of studies of equal contenders in which any verdict names a winner."""
    made = studies(count, [accuracy] * contenders, n, **settings)
    return sum(any(pair.winner for pair in verdicts.pairs) for verdicts in made) / count


def held(count: int, accuracies: tuple[float, float], n: int, **settings: Any) -> tuple[float, ...]:
    """Share of studies whose intervals hold the true difference, and the first's true accuracy."""
    truth = accuracies[0] - accuracies[1]
    hits = np.zeros(2)
    for verdicts in studies(count, accuracies, n, **settings):
        pair = verdicts.pair("c0", "c1").accuracy
        own = next(one.accuracy for one in verdicts.standings if one.name == "c0")
        hits += pair.low <= truth <= pair.high, own.low <= accuracies[0] <= own.high
    return tuple(hits / count)


@pytest.mark.parametrize("n", [20, 50, 100, 500])
def test_two_equal_models_are_told_apart_in_at_most_5_percent(n: int) -> None:
    # no simulation: the sum over all outcomes
    discordant = np.arange(n + 1)
    size = np.zeros(n + 1)
    for m in discordant[1:]:
        fewer = np.arange((m + 1) // 2)
        claimed = np.array([mcnemar(int(k), int(m - k)) < 0.05 for k in fewer])
        size[m] = 2 * binom.pmf(fewer, m, 0.5)[claimed].sum()
    for share in np.arange(0.01, 0.7, 0.01):
        assert (binom.pmf(discordant, n, share) * size).sum() <= 0.05


@pytest.mark.parametrize("seed_sd", [SEED_SD, LARGE_SEED_SD])
@pytest.mark.parametrize(("contenders", "count"), [(2, 1000), (5, 400)])
def test_equal_recipes_over_three_seeds_are_in_at_most_5_percent(
    contenders: int, count: int, seed_sd: float
) -> None:
    assert falsely_claimed(count, contenders, seeds=3, seed_sd=seed_sd) <= 0.05


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("accuracy", [0.99, 0.995])
def test_near_perfection_nothing_is_claimed_from_nothing(accuracy: float, seeds: int) -> None:
    # mistakes so rare that both variances are often 0: it was up to 7 % with two seeds
    found = falsely_claimed(500, 2, accuracy=accuracy, seeds=seeds, seed_sd=SEED_SD)
    assert found <= 0.04


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("varying", [1, 2])
def test_seeds_that_vary_unequally_do_not_make_others_look_sure(varying: int, seeds: int) -> None:
    # ten times as much as the rest of five: it was 5 to 8 %
    spreads = (LARGE_SEED_SD,) * varying + (LARGE_SEED_SD / 10,) * (5 - varying)
    assert falsely_claimed(300, 5, seeds=seeds, seed_sd=spreads) <= 0.05


@pytest.mark.parametrize("seeds", [(5, 2), (3, 1), (3, 3, 2)])
def test_unequal_numbers_of_seeds_claim_and_cover_as_promised(seeds: tuple[int, ...]) -> None:
    sd = 0.0 if 1 in seeds else SEED_SD  # a single seed speaks of trained models alone
    assert falsely_claimed(500, len(seeds), seeds=seeds, seed_sd=sd) <= CHANCE
    if len(seeds) == 2:
        assert min(held(500, (0.88, 0.85), 500, seeds=seeds, seed_sd=sd)) >= COVER


def test_where_one_recipe_fails_now_and_then_the_promise_is_broken_as_documented() -> None:
    found = falsely_claimed(300, 2, seeds=5, seed_sd=(LARGE_SEED_SD, 0.03), luck="failing")
    assert 0.2 < found < 0.4
    (verdicts,) = studies(1, [0.85, 0.85], 500, seeds=5, seed_sd=SEED_SD)
    said = claim_sentence(verdicts, labels("en"))
    assert "one training in ten of a single recipe fails" in said
    assert "27 %" in said


@pytest.mark.parametrize(
    ("count", "size", "alike"), [(30, 10, 0.0), (30, 10, 0.5), (30, 10, 0.9), (100, 5, 0.5)]
)
def test_groups_of_images_claim_and_cover_as_promised(count: int, size: int, alike: float) -> None:
    n = count * size
    assert falsely_claimed(500, 2, n, groups=count, alike=alike) <= CHANCE
    assert min(held(500, (0.95, 0.85), n, groups=count, alike=alike)) >= COVER


def test_without_its_groups_a_test_set_promises_too_much() -> None:
    # what the column is for: the same images, taken one by one
    groups, claims, count = np.repeat(np.arange(30), 10), 0, 300
    random, skills = np.random.default_rng(1), [skill_for(0.85)] * 2
    for _ in range(count):
        right = right_answers(random, skills, 300, groups=groups, alike=0.9)
        claims += judged(sheet_from(right)).pairs[0].winner is not None
    assert claims / count > 0.2


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("accuracies", "n"), [((0.99, 0.97), 500), ((0.995, 0.99), 100)])
def test_near_perfection_intervals_over_seeds_hold_the_truth(
    accuracies: tuple[float, float], n: int, seeds: int
) -> None:
    assert min(held(500, accuracies, n, seeds=seeds, seed_sd=SEED_SD)) >= COVER


def held_by_the_interval(
    count: int, better: float, n: int, seeds: int = 1, seed_sd: float = 0.0
) -> float:
    """Share of studies whose interval holds the true difference to a contender of 85 %.

    `judge` takes its intervals from these two functions (see test_verdicts.py); without the
    rest of its work, ten times as many studies fit into the same time.
    """
    skills = [skill_for(better, seed_sd), skill_for(0.85, seed_sd)]
    truth = accuracy_at(skills[0], seed_sd) - accuracy_at(skills[1], seed_sd)
    assert truth == pytest.approx(better - 0.85)
    random, held = np.random.default_rng(1), 0
    for _ in range(count):
        first, second = right_answers(random, skills, n, seeds=seeds, seed_sd=seed_sd)
        if seeds == 1:
            alone = int((first & ~second).sum()), int((second & ~first).sum())
            low, high = paired_interval(*alone, n)
        else:
            effect = seed_effect(first.astype(np.float64) - second)
            low, high = effect.interval(least_variance=2 / n**2)
        held += low <= truth <= high
    return held / count


@pytest.mark.parametrize("better", [0.85, 0.88, 0.95])
@pytest.mark.parametrize("n", [100, 500])
def test_the_interval_between_two_models_holds_the_truth_in_95_percent(
    n: int, better: float
) -> None:
    assert 0.94 <= held_by_the_interval(20_000, better, n) <= 0.965


@pytest.mark.parametrize("better", [0.85, 0.88, 0.95])
@pytest.mark.parametrize(
    ("seeds", "seed_sd"), [(3, SEED_SD), (3, 0.1), (3, LARGE_SEED_SD), (5, SEED_SD)]
)
def test_the_interval_between_two_recipes_holds_the_truth_in_95_percent(
    seeds: int, seed_sd: float, better: float
) -> None:
    assert 0.94 <= held_by_the_interval(8_000, better, 500, seeds, seed_sd) <= 0.985


class ManyClasses:
    """Two models on classes of unlike difficulty, each of which is mostly taken for two others."""

    def __init__(self, classes: int, accuracies: tuple[float, float]) -> None:
        self.classes = classes
        self.random = random = np.random.default_rng(classes)
        difficulty = random.normal(0, 0.8, classes)
        self.right = [
            expit(logit(one) + difficulty + random.normal(0, 0.4, classes)) for one in accuracies
        ]
        self.mistaken = (
            np.arange(classes)[:, None] + random.integers(1, classes, (2, classes, 2))
        ) % classes

    def answers(self, labels: Indices) -> Indices:
        """What both models say of images of these classes, shape (2, images)."""
        n, random = len(labels), self.random
        hard = random.random(n)  # images that are hard for one are often hard for both
        found = np.empty((2, n), np.int64)
        for model in range(2):
            chance = np.where(random.random(n) < 0.6, hard, random.random(n))
            often = self.mistaken[model][labels, random.integers(0, 2, n)]
            other = (labels + random.integers(1, self.classes, n)) % self.classes
            wrong = np.where(random.random(n) < 0.6, often, other)
            found[model] = np.where(chance < self.right[model][labels], labels, wrong)
        return found

    def sheet(self, labels: Indices) -> PredictionTable:
        return PredictionTable(
            class_names=tuple(map(str, range(self.classes))),
            paths=tuple(map(str, range(len(labels)))),
            labels=labels,
            contenders=tuple(
                ContenderPredictions(f"c{at}", f"c{at}", (0,), one[None])
                for at, one in enumerate(self.answers(labels))
            ),
        )


def recall_held(count: int, each: Sequence[int], accuracies: tuple[float, float]) -> float:
    """`f1_held` for the difference in mean recall."""
    models, labels = ManyClasses(len(each), accuracies), np.repeat(np.arange(len(each)), each)
    truth = float((models.right[0] - models.right[1]).mean())
    found = [judged(models.sheet(labels)).pairs[0].macro_recall for _ in range(count)]
    return float(np.mean([one.low <= truth <= one.high for one in found]))


def f1_held(count: int, each: Sequence[int], accuracies: tuple[float, float]) -> float:
    """Share of studies whose interval holds the true difference; `each`: images of each class."""
    classes = len(each)
    models = ManyClasses(classes, accuracies)
    many = np.repeat(np.arange(classes), np.asarray(each) * (2_000_000 // sum(each)))
    scores = [macro_f1(many, one, classes) for one in models.answers(many)]
    truth = scores[0] - scores[1]
    labels, hits = np.repeat(np.arange(classes), each), 0
    for study in range(count):
        pair = judged(models.sheet(labels), resamples=200, seed=study).pairs[0]
        assert pair.macro_f1 is not None
        assert pair.macro_f1.high > pair.macro_f1.low
        hits += pair.macro_f1.low <= truth <= pair.macro_f1.high
    return hits / count


@pytest.mark.parametrize("each", [[50] * 10, [5] * 100])
def test_the_interval_of_the_macro_f1_difference_holds_the_truth_in_95_percent(
    each: list[int],
) -> None:
    # 95 %, less two standard deviations of 400 studies; a little more is no fault
    assert 0.93 <= f1_held(400, each, (0.87, 0.84)) <= 0.98


TAIL = [40, 17, 11, 8, 6, 5, 4, 3, 3, 3, 2, 2, 2, 2, 2, *[1] * 15]


@pytest.mark.parametrize("accuracies", [(0.87, 0.84), (0.97, 0.95), (0.995, 0.995)])
@pytest.mark.parametrize("each", [[1] * 100, TAIL, [10] * 10], ids=["1 each", "tail", "10 each"])
def test_few_images_a_class_or_few_mistakes_do_not_make_macro_f1_sure(
    each: list[int], accuracies: tuple[float, float]
) -> None:
    # it was 80 to 88 % with one image a class, and 25 to 90 % near perfection
    assert f1_held(200, each, accuracies) >= 0.905  # 94 %, less two standard deviations
    assert recall_held(200, each, accuracies) >= 0.905


@pytest.mark.parametrize("each", [[50] * 10, [5] * 100, [200, 100, 50, 25, 12, 6]])
def test_the_interval_of_the_recall_difference_holds_the_truth_in_95_percent(
    each: list[int],
) -> None:
    # 95 %, less two standard deviations of 400 studies; a little more is no fault
    assert 0.93 <= recall_held(400, each, (0.87, 0.84)) <= 0.98


def test_wilsons_interval_holds_the_truth_in_95_percent_on_average() -> None:
    # no simulation: the sum over all outcomes
    correct = np.arange(501)
    bounds = np.array([wilson_interval(int(one), 500) for one in correct])
    truths = np.arange(0.5, 0.9701, 0.005)
    covered = [
        binom.pmf(correct, 500, p)[(bounds[:, 0] <= p) & (p <= bounds[:, 1])].sum() for p in truths
    ]
    assert 0.945 <= np.mean(covered) <= 0.955
    assert min(covered) > 0.92


@pytest.mark.parametrize(("n", "count"), [(500, 1250), (2000, 600)])
def test_a_real_difference_is_found_as_often_as_planned(n: int, count: int) -> None:
    skills = [skill_for(0.874), skill_for(0.846)]
    large = right_answers(np.random.default_rng(0), skills, 2_000_000)[:, 0]
    disagreement = float((large[0] != large[1]).mean())
    made = studies(count, (0.874, 0.846), n)
    won = sum(verdicts.pairs[0].winner == "c0" for verdicts in made)
    planned = plan(n, 0.028, given=Assumptions(disagreement=disagreement)).power
    error = math.sqrt(planned * (1 - planned) / count)
    assert error < 0.0143
    assert won / count == pytest.approx(planned, abs=0.0286)  # two standard deviations

"""Do the verdicts keep their promises? Whole studies drawn from a known truth, through `judge`.

A bound of 5 % on false claims, or of 94 to 96.5 % on the coverage of intervals, is only worth
something where the simulation's own error is smaller; each test says how many studies it takes.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit, logit
from scipy.stats import binom

from podium.comparison import Answers, Assumptions, Sheet, Verdicts, judge, plan
from podium.comparison.paired import paired_interval, seed_effect
from podium.comparison.resample import macro_f1
from podium.metrics import wilson_interval
from tests.studies_simulated import accuracy_at, right_answers, sheet_from, skill_for

Indices = npt.NDArray[np.int64]

SEED_SD = 0.05  # of the skill; at 85 % accuracy 1.0 points of accuracy
LARGE_SEED_SD = 0.3  # 5.6 points


@pytest.fixture(autouse=True, scope="module")
def _no_garbage() -> Iterator[None]:
    """Statsmodels collects garbage at every Holm adjustment, which takes longer than the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "collect", lambda generation=2: 0)
        yield


def studies(
    count: int, skills: list[float], n: int, *, seeds: int = 1, seed_sd: float = 0.0, start: int = 1
) -> Iterator[Verdicts]:
    random = np.random.default_rng(start)
    for _ in range(count):
        right = right_answers(random, skills, n, seeds=seeds, seed_sd=seed_sd)
        yield judge(sheet_from(right), resamples=0)


def falsely_claimed(
    count: int, contenders: int, n: int = 500, *, seeds: int = 1, seed_sd: float = 0.0
) -> float:
    """Share of studies of equal contenders in which any verdict names a winner."""
    equal = [skill_for(0.85, seed_sd)] * contenders
    made = studies(count, equal, n, seeds=seeds, seed_sd=seed_sd)
    return sum(any(pair.winner for pair in verdicts.pairs) for verdicts in made) / count


def test_two_equal_models_are_told_apart_in_at_most_5_percent() -> None:
    assert falsely_claimed(2000, 2) <= 0.05


def test_among_five_equal_models_any_is_in_at_most_5_percent() -> None:
    assert falsely_claimed(2000, 5) <= 0.05


@pytest.mark.parametrize("seed_sd", [SEED_SD, LARGE_SEED_SD])
@pytest.mark.parametrize(("contenders", "count"), [(2, 1000), (5, 1000)])
def test_equal_recipes_over_three_seeds_are_in_at_most_5_percent(
    contenders: int, count: int, seed_sd: float
) -> None:
    assert falsely_claimed(count, contenders, seeds=3, seed_sd=seed_sd) <= 0.05


def held_by_the_interval(
    count: int, better: float, n: int, seeds: int = 1, seed_sd: float = 0.0
) -> float:
    """Share of studies whose interval holds the true difference to a contender of 85 %.

    `judge` takes its intervals from these two functions (tests/test_verdicts.py); without the
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
            low, high = seed_effect(first.astype(np.float64) - second).interval()
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
    assert 0.94 <= held_by_the_interval(8_000, better, 500, seeds, seed_sd) <= 0.965


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

    def sheet(self, labels: Indices) -> Sheet:
        return Sheet(
            class_names=tuple(map(str, range(self.classes))),
            paths=tuple(map(str, range(len(labels)))),
            labels=labels,
            contenders=tuple(
                Answers(f"c{at}", f"c{at}", (0,), one[None])
                for at, one in enumerate(self.answers(labels))
            ),
        )


@pytest.mark.parametrize(("classes", "each"), [(10, 50), (100, 5)])
def test_the_interval_of_the_macro_f1_difference_holds_the_truth_in_95_percent(
    classes: int, each: int
) -> None:
    models = ManyClasses(classes, (0.87, 0.84))
    many = np.repeat(np.arange(classes), 2_000_000 // classes)
    scores = [macro_f1(many, one, classes) for one in models.answers(many)]
    truth = scores[0] - scores[1]
    labels = np.repeat(np.arange(classes), each)
    count, held = 800, 0
    for study in range(count):
        pair = judge(models.sheet(labels), resamples=200, seed=study).pairs[0]
        assert pair.macro_f1 is not None
        held += pair.macro_f1.low <= truth <= pair.macro_f1.high
    assert 0.94 <= held / count <= 0.965


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


@pytest.mark.parametrize(("n", "count"), [(500, 2500), (2000, 1200)])
def test_a_real_difference_is_found_as_often_as_planned(n: int, count: int) -> None:
    skills = [skill_for(0.874), skill_for(0.846)]
    large = right_answers(np.random.default_rng(0), skills, 2_000_000)[:, 0]
    disagreement = float((large[0] != large[1]).mean())
    won = sum(verdicts.pairs[0].winner == "c0" for verdicts in studies(count, skills, n))
    planned = plan(n, 0.028, given=Assumptions(disagreement=disagreement)).power
    error = math.sqrt(planned * (1 - planned) / count)
    assert error < 0.0101
    assert won / count == pytest.approx(planned, abs=0.02)

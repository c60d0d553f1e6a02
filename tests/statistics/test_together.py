"""What is said of all contenders together: against tables, other packages and definitions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import multivariate_normal, norm, studentized_range, t as student, tukey_hsd

from podium.statistics.families import holm
from podium.statistics.table import PredictionTable
from podium.statistics.together import MOST_PARTITIONED, Together
from podium.statistics.verdicts import compare_contenders
from tests.statistics.studies_simulated import (
    Setting,
    judged,
    judged_by,
    right_answers,
    sheet_from,
    sheets,
    skill_for,
)

Numbers = npt.NDArray[np.float64]


def named(count: int) -> list[str]:
    return [f"c{number:02}" for number in range(count)]


def correlated(count: int, seed: int) -> Numbers:
    factors = np.random.default_rng(seed).normal(size=(count, count + 2))
    return np.asarray(factors @ factors.T)


def two_sided(covariance: Numbers, means: Numbers) -> list[float]:
    """p of every pair of means with a known covariance."""
    return [
        float(2 * norm.sf(abs(means[i] - means[j]) / math.sqrt(
            covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]
        )))
        for i, j in combinations(range(len(means)), 2)
    ]  # fmt: skip


@pytest.mark.parametrize("count", [3, 5, 10, 30])
def test_of_independent_contenders_the_level_is_that_of_tukeys_range(count: int) -> None:
    level = Together(np.eye(count), named(count)).level()
    tukey = 2 * norm.sf(studentized_range.ppf(0.95, count, np.inf) / math.sqrt(2))
    assert level == pytest.approx(tukey, rel=0.02)
    # the same where all are equally correlated, since only differences count
    shifted = Together(3 * np.eye(count) + 5, named(count)).level()
    assert shifted == pytest.approx(level, rel=0.03)


def test_the_first_step_is_scipys_honest_significant_difference() -> None:
    random = np.random.default_rng(4)
    samples = random.normal([0, 0.1, 0.25], 1, (4_000, 3)).T  # so many that t is normal
    oracle = tukey_hsd(*samples)
    means = samples.mean(axis=1)
    covariance = np.eye(3) * samples.var(axis=1, ddof=1).mean() / 4_000
    p = two_sided(covariance, means)
    adjusted = Together(covariance, named(3)).adjusted(p)
    smallest = int(np.argmin(p))
    i, j = list(combinations(range(3), 2))[smallest]
    assert adjusted[smallest] == pytest.approx(oracle.pvalue[i, j], abs=0.001)
    # all others are left with a single pair that can still be equal
    assert adjusted == pytest.approx([max(one, adjusted[smallest]) for one in p])


@pytest.mark.parametrize("allowed", [0.05, 0.10])
@pytest.mark.parametrize("seed", range(4))
def test_the_extremes_are_those_of_the_multivariate_normal_distribution(
    seed: int, allowed: float
) -> None:
    covariance = correlated(3, seed)
    differences = np.array([[1, -1, 0], [1, 0, -1], [0, 1, -1]])
    joint = differences @ covariance @ differences.T
    scale = np.sqrt(np.diag(joint))
    # the third difference follows from the others: so integrate over two of them
    together = Together(covariance, named(3))
    critical = float(-norm.ppf(together.level(allowed) / 2))
    grid = np.linspace(-critical, critical, 2_001)
    first, second = np.meshgrid(grid, grid)
    density = multivariate_normal.pdf(
        np.stack([first, second], axis=-1), cov=(joint / np.outer(scale, scale))[:2, :2]
    )
    third = np.abs(second * scale[1] - first * scale[0]) / scale[2]
    inside = float((density * (third <= critical)).sum() * (grid[1] - grid[0]) ** 2)
    assert inside == pytest.approx(1 - allowed, abs=0.003)


def partitions(left: tuple[int, ...]) -> Iterator[list[tuple[int, ...]]]:
    if not left:
        yield []
        return
    first, rest = left[0], left[1:]
    for size in range(len(rest) + 1):
        for more in combinations(rest, size):
            others = tuple(one for one in rest if one not in more)
            for parts in partitions(others):
                yield [(first, *more), *parts]


@pytest.mark.parametrize("count", [3, 4, 5])
@pytest.mark.parametrize("seed", range(3))
def test_step_down_is_the_closed_test_over_all_partitions(count: int, seed: int) -> None:
    """The definition: a pair differs if every hypothesis that contains it is rejected, these being
    the partitions of the contenders into equal ones."""
    covariance = correlated(count, seed)
    random = np.random.default_rng(seed)
    means = random.multivariate_normal(random.normal(0, 4, count), covariance)
    p = two_sided(covariance, means)
    adjusted = Together(covariance, named(count)).adjusted(p)
    pairs = list(combinations(range(count), 2))
    drawn = random.multivariate_normal(np.zeros(count), covariance, 100_000)
    p_drawn = np.stack([
        2 * norm.sf(np.abs(drawn[:, i] - drawn[:, j]) / math.sqrt(
            covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]
        )) for i, j in pairs
    ])  # fmt: skip
    expected = np.zeros(len(pairs))
    for parts in partitions(tuple(range(count))):
        inside = [
            at for at, (i, j) in enumerate(pairs) if any(i in one and j in one for one in parts)
        ]
        if inside:
            chance = (p_drawn[inside].min(axis=0) <= min(p[at] for at in inside)).mean()
            expected[inside] = np.maximum(expected[inside], chance)
    for one, other in zip(adjusted, expected, strict=True):
        if one < 0.3:  # where it matters; the sum over parts is a bound
            assert other - 0.003 <= one <= 1.15 * other + 0.003


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 6), st.integers(0, 1000))
def test_adjusted_p_lie_between_p_and_holms(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    covariance = correlated(count, seed)
    p = two_sided(covariance, random.multivariate_normal(random.normal(0, 4, count), covariance))
    together = Together(covariance, named(count))
    adjusted = together.adjusted(p)
    assert all(one <= other <= 1 for one, other in zip(p, adjusted, strict=True))
    assert all(one <= 1.05 * other + 1e-3 for one, other in zip(adjusted, holm(p), strict=True))
    order = np.argsort(p, kind="stable")
    assert np.all(np.diff(np.asarray(adjusted)[order]) >= 0)
    assert Together(covariance[::-1, ::-1], named(count)[::-1]).level() == pytest.approx(
        together.level(), rel=1e-4
    )


def test_many_contenders_are_adjusted_for_all_pairs_that_are_left() -> None:
    count = MOST_PARTITIONED + 1
    means = np.zeros(count)
    means[0] = 6.0
    p = two_sided(np.eye(count), means)
    adjusted = Together(np.eye(count), named(count)).adjusted(p)
    range_ = studentized_range.sf(6.0, count, np.inf)
    assert adjusted[:10] == pytest.approx([range_] * 10, abs=0.002)
    assert adjusted[10:] == pytest.approx([1.0] * 45)


def test_steps_are_those_of_a_published_example(monkeypatch: pytest.MonkeyPatch) -> None:
    # R's warpbreaks by multcomp's simtest: Tukey's contrasts of three tensions, 50 degrees of
    # freedom, a standard error of 3.87 each; p of 0.000 and 0.013, adjusted 0.001 and 0.024
    p = [2 * float(student.sf(gap / 3.87, 50)) for gap in (10.00, 14.72, 4.72)]
    together = Together(np.eye(3), named(3))
    with monkeypatch.context() as patch:
        patch.setattr("podium.statistics.together.MOST_PARTITIONED", 0)
        assert together.adjusted(p) == pytest.approx([0.024, 0.001, p[2]], abs=5e-4)
    # if low differs from high tension, medium cannot equal both
    assert together.adjusted(p) == pytest.approx([0.013, 0.001, p[2]], abs=5e-4)


def test_contenders_that_never_differ_take_nothing_from_the_others() -> None:
    # the second and third are the same: there is one comparison, not three
    covariance = np.array([[1.0, 0.2, 0.2], [0.2, 1.0, 1.0], [0.2, 1.0, 1.0]])
    together = Together(covariance, named(3))
    assert together.level() == pytest.approx(0.05, rel=0.02)
    assert together.adjusted([0.03, 0.03, 1.0]) == pytest.approx([0.03, 0.03, 1.0], abs=1e-3)
    nothing = Together(np.zeros((3, 3)), named(3))
    assert nothing.adjusted([1.0, 1.0, 1.0]) == [1.0, 1.0, 1.0]
    assert nothing.possibly_best([1.0, 1.0, 1.0], np.zeros(3)) == [True, True, True]


def test_of_two_contenders_everything_is_that_of_their_pair() -> None:
    together = Together(np.eye(2), named(2))
    assert together.level() == 0.05
    assert together.level(0.1) == 0.1
    assert together.adjusted([0.04]) == [0.04]
    assert together.possibly_best([0.04], np.array([0.0, 1.0])) == [False, True]
    assert together.possibly_best([0.06], np.array([0.0, 1.0])) == [True, True]
    assert Together(np.eye(1), named(1)).adjusted([]) == []


def eliminated(covariance: Numbers, means: Numbers) -> list[int]:
    """Hansen's set by its definition: the worst goes as long as the equality of all that are left
    is rejected, by the largest difference."""
    kept = list(range(len(means)))
    random = np.random.default_rng(0)
    drawn = random.multivariate_normal(np.zeros(len(means)), covariance, 100_000)
    while len(kept) > 1:
        scale = {
            (i, j): math.sqrt(covariance[i, i] + covariance[j, j] - 2 * covariance[i, j])
            for i, j in combinations(kept, 2)
        }
        reached = {(i, j): abs(means[i] - means[j]) / one for (i, j), one in scale.items()}
        largest = np.max([np.abs(drawn[:, i] - drawn[:, j]) / s for (i, j), s in scale.items()], 0)
        (i, j), most = max(reached.items(), key=lambda item: item[1])
        if (largest >= most).mean() >= 0.05:
            break
        kept.remove(i if means[i] < means[j] else j)
    return kept


@pytest.mark.parametrize("seed", range(12))
def test_those_that_may_be_best_are_hansens_set(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = 3 + seed % 4
    # as of models on common images: about equal variances, so that the worst is also the one that
    # the largest difference shows to be worse
    covariance = np.eye(count) * random.uniform(0.8, 1.2, count)
    means = random.multivariate_normal(random.normal(0, 2.5, count), covariance)
    found = Together(covariance, named(count)).possibly_best(two_sided(covariance, means), means)
    assert [at for at in range(count) if found[at]] == eliminated(covariance, means)


def studies(count: int) -> Iterator[PredictionTable]:
    """Of every kind: seeds, unequal seeds, groups, metrics, two to twelve contenders."""
    random = np.random.default_rng(0)
    for study in range(count):
        k = int(random.integers(2, 13 if study % 10 == 0 else 7))
        accuracies = tuple(
            random.choice([0.6, 0.8, 0.85, 0.9, 0.99], k) - random.uniform(0, 0.04, k)
        )
        seeds = ((1,) * k, (2,) * k, tuple(random.integers(1, 4, k).tolist()))[study % 3]
        n = int(random.integers(40, 250))
        groups = int(random.integers(4, 20)) if random.random() < 0.3 else 0
        metric = "macro_f1" if k < 5 and n < 80 else "accuracy"
        classes = int(random.integers(2, 9))
        setting = Setting(
            accuracies, n, seeds, 0.1, groups=groups, alike=0.5, classes=classes, metric=metric
        )
        yield next(sheets(setting, 1, study))


def test_places_pairs_and_the_best_never_contradict_each_other() -> None:
    fewer = 0
    for sheet in studies(150):
        verdicts = judged(sheet)
        kept = {one.name for one in verdicts.leaders}
        assert verdicts.standings[0].name in kept  # with the best score
        for standing in verdicts.standings:
            assert standing.best == 1 or standing.name not in kept  # none of them was beaten
            # none that is ruled out has a score as good as one that may be the best
            if standing.name not in kept:
                assert standing.judged.value < verdicts.standings[0].judged.value
        fewer += len(kept) < sum(one.best == 1 for one in verdicts.standings)
        for pair in verdicts.pairs:
            assert pair.p_adjusted >= pair.p
            joint, alone = pair.joint, pair.judged
            assert joint.value == alone.value
            assert joint.low <= alone.low + 1e-9 <= alone.high <= joint.high + 1e-9
        if len(verdicts.standings) == 2:
            (pair,) = verdicts.pairs
            assert pair.joint == pair.judged
            assert (len(kept) == 1) == (pair.winner is not None)
    assert fewer  # which is possible, or this would be tested of nothing


def test_a_winner_can_be_found_that_no_pair_shows() -> None:
    random = np.random.default_rng(7)
    skills = [skill_for(one) for one in (0.87, 0.84, 0.84, 0.84, 0.84)]
    for _ in range(200):
        verdicts = judged(sheet_from(right_answers(random, skills, 500)))
        if len(verdicts.leaders) == 1 and sum(one.best == 1 for one in verdicts.standings) > 1:
            break
    else:
        pytest.fail("expected such a study among 200")
    assert verdicts.leaders == verdicts.standings[:1]


def test_the_joint_interval_of_recipes_holds_what_their_test_does_not_reject() -> None:
    setting = Setting((0.92, 0.88, 0.85, 0.8), 300, seeds=3, seed_sd=0.1)
    rejected = 0
    for sheet in sheets(setting, 30):
        verdicts = judged(sheet)
        for pair in verdicts.pairs:
            excludes = pair.joint.low > 0 or pair.joint.high < 0
            if excludes:  # narrower tests follow in later steps, so not the other way round
                assert pair.winner is not None
            rejected += excludes
    assert rejected > 20


def test_a_metric_as_accuracy_is_gives_the_joint_intervals_of_accuracy() -> None:
    (sheet,) = sheets(Setting((0.9, 0.85, 0.8), 400, classes=3, metric="balanced_accuracy"), 1)
    verdicts = compare_contenders(sheet, resamples=0)
    plain = compare_contenders(judged_by("accuracy", sheet), resamples=0)
    for pair in verdicts.pairs:  # classes of equal size: nearly the same
        other = plain.pair(pair.first, pair.second).joint
        assert pair.joint.value == pytest.approx(other.value, abs=0.002)
        width = pair.joint.high - pair.joint.low
        assert width == pytest.approx(other.high - other.low, rel=0.1)

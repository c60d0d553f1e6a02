"""Groups of images: every interval, test and power figure counts them, against statsmodels."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import statsmodels.api as sm
from scipy.stats import fisher_exact, t as student

import podium
from podium.errors import ConfigError
from podium.statistics.assumptions import Assumptions, observed
from podium.statistics.calibration import calibration
from podium.statistics.classes import (
    class_p_by_groups,
    per_class_by_groups,
    significant_class_names,
)
from podium.statistics.families import holm
from podium.statistics.intervals import share_interval
from podium.statistics.losses import brier, nll
from podium.statistics.metrics import per_class, wilson_interval
from podium.statistics.paired import design_effect, seed_effect
from podium.statistics.power import plan, power_groups, power_models
from podium.statistics.verdicts import compare_contenders
from tests.statistics.studies_simulated import judged, right_answers, sheet_from, skill_for

Indices = npt.NDArray[np.int64]


def unequal_groups(random: np.random.Generator, n: int = 300, count: int = 25) -> Indices:
    return np.concatenate([np.arange(count), random.integers(0, count, n - count)])


def predicted(right: npt.NDArray[np.bool_], labels: Indices, sharp: float) -> podium.Predictions:
    """Predictions of three classes, the more certain the larger `sharp`."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(len(labels), 3))
    logits[np.arange(len(labels)), np.where(right, labels, (labels + 1) % 3)] += 4
    paths = tuple(f"{number}.jpg" for number in range(len(labels)))
    return podium.Predictions(("a", "b", "c"), paths, labels, (sharp * logits).astype(np.float32))


@pytest.mark.parametrize("start", range(3))
def test_the_interval_of_a_difference_is_statsmodels_cluster_robust_one(start: int) -> None:
    random = np.random.default_rng(start)
    groups = unequal_groups(random)
    difference = random.integers(-1, 2, 300) + np.round(random.normal(size=25))[groups]
    fitted = sm.OLS(difference, np.ones(300)).fit(
        cov_type="cluster", cov_kwds={"groups": groups}, use_t=True
    )
    # statsmodels' (n - 1) / (n - k) is 1 with a constant alone
    low, high = seed_effect(difference[None], groups).interval()
    half = student.ppf(0.975, 24) * fitted.bse[0]
    assert (low, high) == pytest.approx((fitted.params[0] - half, fitted.params[0] + half))


def test_a_share_without_groups_is_wilsons_and_with_singles_about_as_wide() -> None:
    right = np.arange(200) >= 30
    assert share_interval(right) == wilson_interval(170, 200)
    singles = share_interval(right, np.arange(200))
    assert singles == pytest.approx(share_interval(right), abs=0.005)
    five_times = share_interval(np.repeat(right, 5), np.repeat(np.arange(200), 5))
    assert five_times == pytest.approx(singles, abs=0.003)
    assert share_interval(np.ones(6, bool), np.zeros(6, np.int64)) == (0.0, 1.0)  # one patient


def test_recall_counts_the_groups_of_its_class() -> None:
    random = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), 100)
    right = random.random(300) < 0.8
    groups = np.arange(300) // 10
    made = predicted(right, labels, 1.0)
    assert per_class_by_groups(made, None) == per_class(made)
    for number, (plain, one) in enumerate(
        zip(per_class(made), per_class_by_groups(made, groups), strict=True)
    ):
        own = labels == number
        hits = (made.predicted == labels)[own]
        assert one.interval == share_interval(hits, groups[own])
        assert plain.interval == wilson_interval(int(hits.sum()), 100)
        assert (one.recall, one.support) == (plain.recall, plain.support)


def test_a_class_without_images_has_neither_interval_nor_p() -> None:
    labels = np.repeat(np.array([0, 2]), 20)
    made = predicted(np.ones(40, bool), labels, 1.0)
    groups = np.arange(40) // 4
    assert per_class_by_groups(made, groups)[1].by_groups is None
    p = class_p_by_groups(labels, np.ones(40, bool), groups, 3)
    assert p[1] == 1.0
    assert class_p_by_groups(np.zeros(40, np.int64), np.ones(40, bool), groups, 1) == [1.0]


def test_a_class_is_judged_by_fishers_test_on_effective_numbers() -> None:
    labels = np.repeat(np.arange(4), 50)
    right = np.ones(200, bool)
    right[:20] = False
    right[60:63] = False
    singles = class_p_by_groups(labels, right, np.arange(200), 4)
    assert singles[0] == fisher_exact([[30, 20], [147, 3]]).pvalue
    # every image five times over: no more is known
    again = class_p_by_groups(
        np.repeat(labels, 5), np.repeat(right, 5), np.repeat(np.arange(200), 5), 4
    )
    assert again == pytest.approx(singles, rel=0.5)
    made = predicted(np.repeat(right, 5), np.repeat(labels, 5) % 3, 1.0)
    groups = np.repeat(np.arange(20), 50)  # its mistakes are those of few groups
    assert significant_class_names(per_class(made), made, groups) <= significant_class_names(
        per_class(made)
    )


def test_classes_of_one_recall_are_told_apart_in_at_most_5_percent() -> None:
    random, groups = np.random.default_rng(2), np.repeat(np.arange(30), 10)
    skill, claims, count = [skill_for(0.8)], 0, 400
    for _ in range(count):
        labels = random.permutation(np.arange(30) % 5)[groups]  # a patient has one disease
        right = right_answers(random, skill, 300, groups=groups, alike=0.5)[0, 0]
        claims += min(holm(class_p_by_groups(labels, right, groups, 5))) < 0.05
    assert claims / count <= 0.05


def test_losses_of_images_that_are_alike_count_as_one() -> None:
    random = np.random.default_rng(3)
    right, labels = random.random(400) < 0.85, random.integers(0, 3, 400)
    plain = predicted(right, labels, 1.3)
    often = podium.Predictions(
        plain.class_names,
        tuple(map(str, range(2000))),
        np.repeat(labels, 5),
        np.repeat(plain.logits, 5, axis=0),
    )
    groups = np.repeat(np.arange(400), 5)
    for measure in (nll, brier):
        one, five, wrong = measure(plain), measure(often, groups=groups), measure(often)
        assert five.value == pytest.approx(one.value)
        assert five.high - five.low == pytest.approx(one.high - one.low, rel=0.05)
        assert wrong.high - wrong.low < 0.5 * (five.high - five.low)
        singles = measure(plain, groups=np.arange(400))
        assert (singles.low, singles.high) == pytest.approx((one.low, one.high), rel=0.01)
    counted, wrong_, once = (
        calibration(often, groups=groups), calibration(often), calibration(plain)
    )  # fmt: skip
    for name in ("ece", "expected_if_perfect"):
        widths = [np.ptp(getattr(one, name)[1:]) for one in (counted, wrong_, once)]
        assert widths[0] > 1.3 * widths[1]
        assert widths[0] == pytest.approx(widths[2], rel=0.35)
    assert counted.bins[0].high - counted.bins[0].low > wrong_.bins[0].high - wrong_.bins[0].low


def test_losses_that_never_vary_are_not_certain() -> None:
    labels = np.zeros(60, np.int64)
    logits = np.tile(np.array([3, 0], np.float32), (60, 1))
    made = podium.Predictions(("a", "b"), tuple(map(str, range(60))), labels, logits)
    found = nll(made, groups=np.arange(60) // 6)
    assert found.low < found.value < found.high
    assert found.high - found.low > nll(made).high - nll(made).low


def test_with_few_groups_pseudo_images_widen_the_interval_of_a_loss() -> None:
    random, groups = np.random.default_rng(6), np.repeat(np.arange(10), 50)
    labels = random.integers(0, 3, 500)
    logits = random.normal(size=(500, 3))
    logits[np.arange(500), labels] += 2 + random.normal(size=10)[groups]
    made = podium.Predictions(
        ("a", "b", "c"), tuple(map(str, range(500))), labels, logits.astype(np.float32)
    )
    each = -np.log(made.probabilities[np.arange(500), labels])
    of_groups = each.reshape(10, 50).mean(axis=1)
    plain = 2 * student.ppf(0.975, 9) * of_groups.std(ddof=1) / 10**0.5
    found = nll(made, groups=groups)
    assert plain < found.high - found.low < 2 * plain


def test_standings_count_groups_and_say_what_they_are_worth() -> None:
    random, groups = np.random.default_rng(4), np.repeat(np.arange(50), 10)
    right = right_answers(random, [skill_for(0.85)] * 2, 500, groups=groups, alike=0.9)
    found = compare_contenders(sheet_from(right, groups=groups), resamples=0)
    assert found.grouping is not None
    effects = [design_effect(one[0].astype(float), groups) for one in right]
    assert found.grouping.design_effect == pytest.approx(np.mean(effects))
    assert found.grouping.effective == pytest.approx(500 / np.mean(effects))
    assert 3 < found.grouping.design_effect <= 10
    by_name = {one.name: one.accuracy for one in found.standings}
    assert (by_name["c0"].low, by_name["c0"].high) == share_interval(right[0, 0], groups)
    assert compare_contenders(sheet_from(right), resamples=0).grouping is None


@pytest.mark.parametrize(("count", "size", "alike"), [(25, 20, 0.5), (100, 5, 0.5), (12, 20, 0.2)])
def test_power_with_groups_is_that_of_simulated_studies(
    count: int, size: int, alike: float
) -> None:
    groups = np.repeat(np.arange(count), size)
    n, skills = len(groups), [skill_for(0.90), skill_for(0.82)]
    random, won, effects, apart, studies = np.random.default_rng(5), 0, [], [], 400
    for _ in range(studies):
        right = right_answers(random, skills, n, groups=groups, alike=alike)
        (pair,) = judged(sheet_from(right, groups=groups)).pairs
        won += pair.winner == "c0"
        difference = right[0, 0].astype(float) - right[1, 0]
        totals = np.bincount(groups, difference - difference.mean())
        effects.append((totals**2).sum() / ((difference - difference.mean()) ** 2).sum())
        apart.append(np.abs(difference).mean())
    power = power_groups(
        n, count, 0.08, float(np.mean(apart)), alike=float(np.mean(effects)) * count / (count - 1)
    )
    assert won / studies == pytest.approx(power, abs=0.075)  # three standard deviations


def test_groups_of_single_images_have_the_power_of_images() -> None:
    one = power_groups(2000, 2000, 0.03, 0.15, alike=1.0)
    assert one == pytest.approx(power_models(2000, 0.03, 0.15), abs=0.02)
    assert power_groups(500, 5, 0.5, 0.5, alike=1.0) == 0.0  # p is at least 0.0625
    assert power_groups(500, 6, 0.5, 0.5, alike=1.0) > 0.9
    assert power_groups(500, 6, 1.0, 1.0, alike=1.0) == 1.0
    assert power_groups(500, 50, 0.05, 0.15, alike=4.0) < power_groups(
        500, 50, 0.05, 0.15, alike=1.0
    )


def test_a_plan_keeps_the_size_of_groups_and_learns_how_alike_they_are() -> None:
    random, groups = np.random.default_rng(6), np.repeat(np.arange(100), 5)
    right = right_answers(random, [skill_for(0.85)] * 2, 500, groups=groups, alike=0.8)
    seen = observed(sheet_from(right, groups=groups))
    assert seen.group_size == 5
    assert seen.design_effect == pytest.approx(
        design_effect(right[0, 0].astype(float) - right[1, 0], groups)
    )
    given = seen.in_groups(500, 50)  # ten images each: more of them count as one
    alike = (seen.design_effect - 1) / 4
    assert given.design_effect == pytest.approx(1 + 9 * alike)
    found = plan(500, 0.05, given=given)
    assert found.groups == 50
    assert found.effective == pytest.approx(500 / given.design_effect)
    independent = podium.power(500, 0.05, disagreement=given.disagreement)
    assert found.images is not None
    assert independent.images is not None
    assert found.images > independent.images
    more = plan(found.images, 0.05, given=given)
    assert more.power >= 0.8
    assert more.groups == pytest.approx(found.images / 10, abs=1)
    recipes = plan(500, 0.05, seeds=3, given=given)
    assert recipes.power <= podium.power(500, 0.05, seeds=3, disagreement=given.disagreement).power


@pytest.mark.parametrize(
    ("groups", "effect", "said"),
    [
        (1, 1.0, "groups: expected 2 to 500"),
        (501, 1.0, "groups: expected 2 to 500"),
        (50, 11.0, r"expected 1 \(images of a group are independent\) to 10"),
        (50, 0.5, "design_effect: expected 1"),
        (None, 2.0, "give groups"),
    ],
)
def test_groups_that_cannot_be_are_refused(groups: int | None, effect: float, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        podium.power(500, 0.05, groups=groups, design_effect=effect)
    with pytest.raises(ConfigError, match="--design-effect"):
        Assumptions().in_groups(500, 50)
    assert math.isclose(podium.power(500, 0.05, groups=50, design_effect=2.0).effective, 250)

"""Equivalence within a margin: against published and independent tests, and in simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.stats.weightstats import ttost_paired

import podium
from podium.errors import ConfigError
from podium.statistics.intervals import Interval
from podium.statistics.margins import (
    EQUIVALENCE,
    NO_MARGIN,
    Margin,
    behind_the_best,
    bound_of,
    judge_margin,
    margin_of,
)
from podium.statistics.paired import paired_interval, seed_effect
from podium.statistics.scoring import ACCURACY, find_metric
from podium.statistics.verdicts import compare_contenders
from tests.statistics.studies_simulated import judged, right_answers, sheet_from, skill_for


def tango_z(only_first: int, only_second: int, n: int, difference: float) -> float:
    """Tango's (1998) score statistic of a difference, with his closed-form estimate."""
    b, c = only_first, only_second
    a2 = 2 * n
    b2 = -b - c + (2 * n - b + c) * difference
    c2 = -c * difference * (1 - difference)
    share = (math.sqrt(b2 * b2 - 4 * a2 * c2) - b2) / (2 * a2)
    spread = math.sqrt(n * (2 * share + difference * (1 - difference)))
    return (b - c - n * difference) / spread


def tangos(only_first: int, only_second: int, n: int) -> Callable[[float], Interval]:
    def interval(confidence: float) -> Interval:
        low, high = paired_interval(only_first, only_second, n, confidence)
        return Interval((only_first - only_second) / n, low, high)

    return interval


def test_tangos_published_example_is_met() -> None:
    # Tango (1998), two disinfection systems for soft contact lenses: 43 right with both, 0 and 1
    # with one alone, 0 with neither of 44; the published 90 % interval begins at -0.096
    assert paired_interval(0, 1, 44, 0.90)[0] == pytest.approx(-0.096, abs=5e-4)
    # z of non-inferiority by 0.1 is 1.709, p = 0.044: within 0.1, by little
    assert tango_z(0, 1, 44, -0.1) == pytest.approx(1.709, abs=5e-4)
    assert norm.sf(tango_z(0, 1, 44, -0.1)) == pytest.approx(0.044, abs=5e-4)
    bound = bound_of(tangos(0, 1, 44)(1 - EQUIVALENCE))
    assert bound == pytest.approx(0.096, abs=5e-4)
    assert Margin(0.1, True).contains(bound)


@pytest.mark.parametrize(
    ("first", "second", "n"), [(10, 12, 300), (30, 12, 500), (4, 4, 100), (0, 9, 80)]
)
def test_the_bound_is_where_two_one_sided_score_tests_reach_5_percent(
    first: int, second: int, n: int
) -> None:
    bound = bound_of(tangos(first, second, n)(1 - EQUIVALENCE))
    at_the_bound = (
        norm.sf(tango_z(first, second, n, -bound)),
        norm.cdf(tango_z(first, second, n, bound)),
    )
    assert max(at_the_bound) == pytest.approx(0.05, rel=1e-4)


def test_with_groups_it_is_statsmodels_paired_tost_of_their_means() -> None:
    random, groups = np.random.default_rng(1), np.repeat(np.arange(40), 5)
    difference = random.normal(0.01, 0.1, 200) + random.normal(0, 0.1, 40)[groups]
    effect = seed_effect(difference[None], groups)
    means = difference.reshape(40, 5).mean(axis=1)
    bound = bound_of(Interval(effect.mean, *effect.interval(1 - EQUIVALENCE)))
    at_the_bound, _, _ = ttost_paired(means, np.zeros(40), -bound, bound)
    assert at_the_bound == pytest.approx(0.05, rel=1e-4)


def test_of_several_pairs_the_bounds_hold_together() -> None:
    """The level of all pairs is between that of a single one and Bonferroni's."""
    right = right_answers(np.random.default_rng(5), [skill_for(0.85)] * 4, 1000)
    found = compare_contenders(sheet_from(right), resamples=0)
    counts = [(int(pair.only_first), int(pair.only_second), 1000) for pair in found.pairs]
    for pair, own in zip(found.pairs, counts, strict=True):
        alone = bound_of(tangos(*own)(1 - EQUIVALENCE))
        bonferroni = bound_of(tangos(*own)(1 - EQUIVALENCE / len(counts)))
        assert alone < pair.within < bonferroni
        # so the 95 % interval beside it, which holds together too, can reach farther
        assert pair.within < bound_of(pair.joint)
        assert pair.equivalent == (pair.within < found.margin.size)
        turned = found.pair(pair.second, pair.first)
        assert (turned.within, turned.verdict) == (pair.within, pair.verdict)


def test_a_pair_is_better_equivalent_or_undecided() -> None:
    n = 2000
    right = np.ones((4, 1, n), bool)
    right[1, 0, :20] = False
    right[0, 0, 20:40] = False  # equal to the second
    right[2, 0, :250] = False
    right[3, 0, 300:330] = False
    found = compare_contenders(sheet_from(right), resamples=0, margin=0.02)
    assert found.pair("c0", "c1").verdict == "equivalent"
    assert found.pair("c0", "c2").verdict == "better"
    assert found.pair("c0", "c2").winner == "c0"
    assert found.pair("c1", "c0").verdict == "equivalent"  # from either side
    strict = compare_contenders(sheet_from(right), resamples=0, margin=0.005)
    assert strict.pair("c0", "c3").verdict == "undecided"
    assert strict.margin.chosen
    # behind the best: whichever that is
    behind = {one.name: one.behind for one in found.standings}
    assert 0 < behind["c0"] < 0.02
    assert behind["c2"] > 0.115
    assert behind["c3"] > behind["c0"]


def test_the_margin_that_is_assumed_is_what_the_images_can_show() -> None:
    intervals = [Interval(0.0, -0.01, 0.01), Interval(0.0, -0.02, 0.02), Interval(0.1, 0.0, 0.1)]
    assert margin_of(None, intervals, ACCURACY).size == pytest.approx(0.03)  # 0.75 x 0.04
    assert margin_of(None, intervals[:1], ACCURACY).size == pytest.approx(0.015)
    assert margin_of(0.01, intervals, ACCURACY).size == 0.01
    loss = find_metric("log_loss")
    assert margin_of(None, [Interval(0.0, -0.03, 0.0234)], loss).size == pytest.approx(0.05)
    assert margin_of(None, [Interval(0.0, -math.inf, math.inf)], loss) == NO_MARGIN
    assert not NO_MARGIN.chosen
    endless = Interval(0.0, -math.inf, 1.0)
    nothing = judge_margin(None, {("a", "b"): lambda _: endless}, [endless], "ab", loss)
    assert nothing.equivalent == [False]
    assert not NO_MARGIN.contains(0.01)  # nothing to be within


def test_of_two_equal_contenders_the_assumed_margin_finds_four_in_five() -> None:
    random, skills, found = np.random.default_rng(2), [skill_for(0.85)] * 2, 0
    for _ in range(300):
        sheet = sheet_from(right_answers(random, skills, 500))
        found += judged(sheet).pairs[0].verdict == "equivalent"
    assert found / 300 == pytest.approx(0.8, abs=0.1)


def test_where_lower_is_better_the_bound_turns_round() -> None:
    loss = find_metric("log_loss")

    def interval(confidence: float) -> Interval:
        return Interval(0.5, 0.5 - confidence, 0.5 + confidence)

    pair = {("a", "b"): interval}
    assert behind_the_best(pair, ["a", "b"], ACCURACY) == pytest.approx({"a": 0.4, "b": 1.4})
    assert behind_the_best(pair, ["a", "b"], loss) == pytest.approx({"a": 1.4, "b": 0.4})
    assert behind_the_best({}, ["a"], ACCURACY) == {"a": 0.0}


@pytest.mark.parametrize("accuracies", [(0.86, 0.84), (0.98, 0.96)])
def test_at_the_margin_equivalence_is_claimed_in_at_most_5_percent(
    accuracies: tuple[float, float],
) -> None:
    random, skills, claims = np.random.default_rng(3), [skill_for(one) for one in accuracies], 0
    studies = 400
    for _ in range(studies):
        sheet = sheet_from(right_answers(random, skills, 2000))
        claims += judged(sheet, margin=0.02).pairs[0].equivalent
    assert claims / studies <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / studies)


@pytest.mark.parametrize("margin", [0.0, -1.0, 100.0])
def test_a_margin_that_cannot_be_is_refused(margin: float) -> None:
    with pytest.raises(ConfigError, match="points above 0 and below 100 of accuracy"):
        ACCURACY.in_units(margin)
    assert ACCURACY.in_units(1.5) == 0.015
    assert find_metric("log_loss").in_units(200.0) == 200.0
    assert find_metric("log_loss").in_units(None) is None


def test_a_study_takes_a_margin_above_0() -> None:
    spec = podium.load_study("demo")
    assert spec.margin is None
    with pytest.raises(ValueError, match="margin"):
        type(spec).model_validate({**spec.model_dump(mode="json"), "margin": 0})

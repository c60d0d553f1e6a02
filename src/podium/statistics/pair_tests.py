"""p and interval of every pair, which for recipes depend on the other pairs of the study."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from podium.statistics.intervals import CONFIDENCE, LEVEL, Interval, bounded
from podium.statistics.paired import (
    SeedEffect,
    by_group,
    design_effect,
    flipped_at_random,
    mcnemar,
    paired_interval,
    seed_effect,
    sign_flip,
    unpaired_effect,
)
from podium.statistics.table import PredictionTable, matched_seeds

Values = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64] | None
Seeds = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class PairTest:
    """What p and the interval of a pair are computed from."""

    names: tuple[str, str]
    rows: tuple[list[int], list[int]]
    """For each of the two, the rows of the seeds that are compared."""
    seeds: Seeds
    """The same as seeds, in pairs."""
    fixed_p: float
    """With the seeds treated as fixed."""
    fixed: SeedEffect
    """The difference, with the seeds treated as fixed."""
    paired: SeedEffect | None
    """The difference over seeds; None where the two have different seeds, or one has a single."""
    unpaired: SeedEffect | None
    """The same, from each contender's own seeds; None where one of the two has a single seed."""
    alike: float
    """Design effect: how many images of a group count as one."""
    least_variance: float
    """Added to the variance over images in intervals."""
    most: float
    """The largest possible difference."""
    only: tuple[int, int, int] | None
    """Images that only the first, and only the second, gets right, and all; None where the interval
    is not from these."""

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """The confidence interval of this pair by itself.

        Args:
            confidence: confidence level, 0..1.
        """
        if self.only is not None:
            return Interval(self.fixed.mean, *paired_interval(*self.only, confidence))
        effect = self.paired or self.unpaired or self.fixed
        return bounded(effect, self.least_variance, self.most, confidence)


class Judged(NamedTuple):
    """The images' values that contenders are compared by, and their possible range."""

    values: Sequence[Values]
    """Of each contender, shape (seeds, images); their mean is its score."""
    groups: Groups
    """Index of each image's group, from 0, shape (images,); None: images are independent."""
    least: float
    """Variance of a difference that remains where nothing differs."""
    most: float = 1.0
    """The largest possible difference."""
    counted: bool = False
    """Whether the values are 1 for correct and 0 for wrong."""
    freedom: float = math.inf
    """Degrees of freedom of variances over images."""
    swapped: Sequence[Values] | None = None
    """What sign flips swap between two contenders, shape as `values`; None: the values."""
    seed_level: float = 1.0
    """The part of any level that the seeds get: see `podium.statistics.looks`."""

    def effect(self, values: Values) -> SeedEffect:
        """The mean of some values over seeds and images, with the variance from each.

        Args:
            values: shape (seeds, images).
        """
        return seed_effect(values, self.groups, self.freedom, self.seed_level)


def pair_tests(table: PredictionTable, judged: Judged) -> tuple[list[PairTest], Values]:
    """The tests of every two contenders, and the covariance of the contenders' means.

    Args:
        table: the predictions of all contenders.
        judged: their images' values.

    Returns:
        The tests, in the order of `itertools.combinations`, and the covariance, shape (contenders,
        contenders).
    """
    alone = [judged.effect(one) for one in judged.values]
    tests = [
        _pair_test(table, judged, (i, j), (alone[i], alone[j]))
        for i, j in combinations(range(len(alone)), 2)
    ]
    return tests, _covariance(judged, alone)


def _pair_test(
    table: PredictionTable,
    judged: Judged,
    at: tuple[int, int],
    alone: tuple[SeedEffect, SeedEffect],
) -> PairTest:
    first, second = (table.contenders[number] for number in at)
    rows = matched_seeds(first, second)
    a, b = (judged.values[number][own] for number, own in zip(at, rows, strict=True))
    swapped = judged.values if judged.swapped is None else judged.swapped
    flipped = np.subtract(*(swapped[number][own] for number, own in zip(at, rows, strict=True)))
    several = min(len(first.seeds), len(second.seeds)) > 1
    same = several and len(a) == len(first.seeds)
    together = (a - b).mean(axis=0)
    fixed = judged.effect(together[None])
    alike = design_effect(together, table.groups)
    only = None
    if judged.counted and len(a) == 1 and judged.groups is None:
        only = int((a > b).sum()), int((b > a).sum()), len(table)
    return PairTest(
        names=(first.name, second.name),
        rows=rows,
        seeds=tuple((first.seeds[i], second.seeds[j]) for i, j in zip(*rows, strict=True)),
        fixed_p=mcnemar(*only[:2]) if only else _flips(flipped.sum(axis=0), judged.groups),
        fixed=fixed,
        paired=judged.effect(a - b) if same else None,
        unpaired=unpaired_effect(*alone, fixed) if several else None,
        alike=alike,
        least_variance=alike**2 * judged.least,
        most=judged.most,
        only=only,
    )


def _flips(totals: Values, groups: Groups) -> float:
    if groups is not None:
        totals = np.bincount(groups, totals).astype(np.float64)
    if (totals == np.rint(totals)).all():  # exact where possible, as for top-k accuracy
        return sign_flip(np.rint(totals).astype(np.int64), mid=groups is None)
    return flipped_at_random(totals)


def _covariance(judged: Judged, alone: Sequence[SeedEffect]) -> Values:
    """Covariance of the contenders' means over images and, where all have several, over seeds."""
    means = np.stack(
        [by_group(one.mean(axis=0, keepdims=True), judged.groups)[0] for one in judged.values]
    )
    covariance = np.atleast_2d(np.cov(means, ddof=0)) / means.shape[1]
    if min(one.seeds for one in alone) > 1:
        # the mean of their variances: of few seeds, a contender's own could be anything
        covariance += np.eye(len(alone)) * np.mean([one.seed_square / one.count for one in alone])
    return np.asarray(covariance)


class OverSeeds(NamedTuple):
    """A test over seeds and images, as arguments of `SeedEffect.p_value`."""

    effect: SeedEffect
    pooled: float = 0.0
    freedom: float | None = None


def p_values(tests: Sequence[PairTest]) -> list[float]:
    """p of each pair; for two recipes, the largest of three.

    - seeds fixed: a claim about recipes is never more certain than one about their models;
    - seed variance pooled over all pairs with the same seeds;
    - each contender's own seed variance, where it was pooled: the pairs of a contender that varies
      far more than the others would otherwise look too certain.

    Args:
        tests: of all pairs of the study.
    """
    return [
        max([one.fixed_p, *(other.effect.p_value(other.pooled, other.freedom) for other in over)])
        for one, over in zip(tests, over_seeds(tests), strict=True)
    ]


def joint_intervals(
    tests: Sequence[PairTest], level: float, allowed: float = LEVEL
) -> list[Interval]:
    """Intervals of all pairs that hold together, each of the values that its test does not reject.

    Args:
        tests: of all pairs of the study.
        level: significance level of a single pair at which all pairs together keep what is allowed,
            0..1.
        allowed: probability that any of the intervals misses its difference, 0..1.

    Returns:
        In the order of `tests`, none narrower than that of the pair by itself.
    """
    if level >= allowed:
        return [one.interval(1 - allowed) for one in tests]
    return [
        _joint(one, over, level, allowed)
        for one, over in zip(tests, over_seeds(tests), strict=True)
    ]


def _joint(test: PairTest, over: Sequence[OverSeeds], level: float, allowed: float) -> Interval:
    if not over:
        return test.interval(1 - level)
    alone = test.interval(1 - allowed)
    half = max(
        one.effect.margin(level, one.pooled, one.freedom, test.least_variance) for one in over
    )
    low, high = min(alone.low, alone.value - half), max(alone.high, alone.value + half)
    return Interval(alone.value, max(-test.most, low), min(test.most, high))


def over_seeds(tests: Sequence[PairTest]) -> list[list[OverSeeds]]:
    """The tests over seeds of each pair; none where one of the two has a single seed.

    Args:
        tests: of all pairs of the study.
    """
    by_seeds: dict[Seeds, list[PairTest]] = {}
    for one in tests:
        by_seeds.setdefault(tuple(sorted(one.seeds)), []).append(one)
    found = []
    for one in tests:
        alike, over = by_seeds[tuple(sorted(one.seeds))], []
        if one.paired is not None:
            names = {name for other in alike for name in other.names}
            squares = [other.paired.seed_square for other in alike if other.paired is not None]
            freedom = (len(names) - 1) * (one.paired.seeds - 1)
            over.append(OverSeeds(one.paired, sum(squares) / len(squares), freedom))
        if one.unpaired is not None and (one.paired is None or len(alike) > 1):
            over.append(OverSeeds(one.unpaired))
        found.append(over)
    return found

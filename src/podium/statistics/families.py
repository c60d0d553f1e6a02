"""Families of tests of pairs, such as those within slices, adjusted together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy  # its parts load when they are first used

from podium.statistics.intervals import LEVEL, Interval
from podium.statistics.paired import LEAST_P, SeedEffect


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Holm, 1979), which controls the family-wise error rate.

    Args:
        p_values: of all comparisons in the family.

    Returns:
        Adjusted p, in the same order, 0..1.
    """
    # not statsmodels: it runs the garbage collector on every call, which takes far longer
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order]))
    return [float(one) for one in adjusted]


class Tests(NamedTuple):
    """Tests of all pairs, before the adjustment."""

    p: list[float]
    intervals: Callable[[float], list[Interval]]
    """Takes the level at which each interval may miss, 0..1."""


@dataclass(frozen=True)
class Tested:
    """A difference or a change, adjusted for all slices and pairs."""

    interval: Interval
    """All intervals of its family hold together, in 95 % of studies."""
    p: float
    p_adjusted: float
    """Holm's."""

    def turned(self) -> Tested:
        """The same of the opposite difference."""
        value, low, high = self.interval.value, self.interval.low, self.interval.high
        return replace(self, interval=Interval(-value, -high, -low))

    @property
    def is_significant(self) -> bool:
        """Whether it is not 0, at 5 % over its family."""
        return self.p_adjusted < LEVEL and self.interval.value != 0


def adjusted_together(tests: Sequence[Tests]) -> list[list[Tested]]:
    """Adjust all tests of a family by Holm's method, which takes no assumption on how they depend.

    Args:
        tests: in any number of parts.

    Returns:
        The parts, in the same order.
    """
    count = sum(len(one.p) for one in tests)
    p_adjusted = iter(holm([p for one in tests for p in one.p]))
    return [
        [
            Tested(interval, p, next(p_adjusted))
            for interval, p in zip(one.intervals(LEVEL / max(1, count)), one.p, strict=True)
        ]
        for one in tests
    ]


def p_of(effect: SeedEffect, least_variance: float) -> float:
    """Two-sided p of "the mean is 0", with the variance over images that intervals have.

    Args:
        effect: of a single seed, or a mean over seeds.
        least_variance: added to the variance of the mean over images.
    """
    variance = effect.image_square / effect.count + least_variance
    if variance <= 0:
        return 1.0 if effect.mean == 0 else LEAST_P
    reached = -abs(effect.mean) / math.sqrt(variance)
    if math.isinf(effect.image_freedom):
        return max(LEAST_P, 2 * float(scipy.special.ndtr(reached)))
    return max(LEAST_P, 2 * float(scipy.special.stdtr(effect.image_freedom, reached)))

"""Two or more models on the same images: what their right and wrong answers can tell apart.

Every function here takes shares and differences in 0..1 (-1..1), never percentages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = [
    "FEW_SEEDS",
    "SeedEffect",
    "holm",
    "mcnemar_exact",
    "paired_interval",
    "quantiles",
    "seed_effect",
]

FEW_SEEDS = 3
"""From this many seeds on the interval over seeds has the coverage that it promises."""


@lru_cache(maxsize=65_536)
def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Exact McNemar test (McNemar, 1947): two-sided p of "both are right equally often".

    Only images that one model has right and the other wrong say anything: under the hypothesis
    each of them falls to either side like a coin.

    Args:
        only_first: images that the first model alone has right.
        only_second: images that the second model alone has right.

    Returns:
        p in 0..1; 1 where the models never differ.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    if only_first + only_second == 0:
        return 1.0
    table = [[0, only_first], [only_second, 0]]  # the agreeing corners do not enter
    return min(1.0, float(mcnemar(table, exact=True).pvalue))


@lru_cache(maxsize=65_536)
def paired_interval(
    only_first: int, only_second: int, n: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Tango's score interval of the difference of two accuracies on the same images.

    It inverts the score test of every possible difference (Tango, 1998, Statistics in Medicine
    17, 891-908), and so holds its level where Wald's interval does not: near 0 and 1, and where
    the models seldom differ.

    Args:
        only_first: images that the first model alone has right.
        only_second: images that the second model alone has right.
        n: all images.
        confidence: 0..1.

    Returns:
        Bounds of (accuracy of the first - accuracy of the second), in -1..1.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = float(norm.ppf((1 + confidence) / 2))
    observed = (only_first - only_second) / n

    def excess(difference: float) -> float:
        # the largest likelihood's share of "only the second" given the difference
        a = 2 * n
        b = (2 * n - only_first + only_second) * difference - only_first - only_second
        c = -only_second * difference * (1 - difference)
        share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        variance = n * (2 * share + difference * (1 - difference))
        return (only_first - only_second - n * difference) / math.sqrt(max(variance, 1e-300))

    edge = 1 - 1e-12
    low = -1.0 if excess(-edge) <= z else brentq(lambda d: excess(d) - z, -edge, observed)
    high = 1.0 if excess(edge) >= -z else brentq(lambda d: excess(d) + z, observed, edge)
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Holm, 1979): keeps the chance of even one false claim.

    Args:
        p_values: of all comparisons that could have been claimed.

    Returns:
        Adjusted p, in the same order, 0..1.
    """
    from statsmodels.stats.multitest import multipletests

    if not p_values:
        return []
    return [float(p) for p in multipletests(list(p_values), method="holm")[1]]


@dataclass(frozen=True)
class SeedEffect:
    """A mean over seeds and images, with the mean squares of the two-way layout.

    The seeds and the images are both drawn from many, and neither is repeated: so the layout
    tells apart what other seeds and what other images would have changed.
    """

    mean: float
    seed_square: float
    """Between seeds: images x variance of the seeds' effect, plus the rest."""
    image_square: float
    """Between images: seeds x variance of the images' effect, plus the rest."""
    rest_square: float
    """What neither explains."""
    seeds: int
    count: int
    """Seeds x images."""

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Bounds around `mean`.

        From 3 seeds on they cover what they promise: in simulation (3, 5 and 10 seeds, 200 and
        500 images, seeds that differ by 0 to 6 points of accuracy) 94.3 to 96.0 % at 95 %. Two
        seeds are too few to tell their share from the rest; nothing is subtracted then, and the
        bounds are wider than they promise.
        """
        seeds, images = parts(self.seed_square, self.image_square, self.rest_square, self.seeds)
        t, z = quantiles(self.seeds - 1, 1 - confidence)
        half = math.sqrt((t * t * seeds + z * z * images) / self.count)
        return self.mean - half, self.mean + half

    def p_value(self, pooled: float = 0.0, contenders: int = 2) -> float:
        """Two-sided p of "the true mean is 0", safe at the small levels that Holm asks for.

        Nothing is subtracted from the seeds' square here: an estimate that chance has put near
        0 would make any difference look certain (with five contenders and three seeds it made
        12 % false claims in place of 5). So p is a little larger than the interval suggests.

        Args:
            pooled: the mean of `seed_square` over all pairs of the study. Two degrees of freedom
                see little; taken together, the contenders lend each other theirs, as in any
                analysis of variance. The pair's own square counts where it is larger.
            contenders: that the pooled square comes from.
        """
        from scipy.optimize import brentq

        freedom = (contenders - 1) * (self.seeds - 1)
        seeds = max(self.seed_square, pooled)
        images = max(self.image_square - self.rest_square, 0.0)
        squared = self.mean * self.mean * self.count

        def reach(log_p: float) -> float:
            t, z = quantiles(freedom, math.exp(log_p))
            return t * t * seeds + z * z * images - squared

        least = math.log(1e-12)
        if reach(-1e-9) >= 0:
            return 1.0
        return 1e-12 if reach(least) <= 0 else math.exp(brentq(reach, least, -1e-9))


def seed_effect(values: npt.NDArray[np.float64]) -> SeedEffect:
    """Mean over seeds and images, with the variance that comes from either.

    The variance is what a bootstrap over seeds and images tends to, without its bias: three
    seeds drawn from three vary by a third too little, and the rest is counted twice. In
    simulation such a bootstrap's percentiles covered 77 to 98 % with 3 seeds.

    Args:
        values: shape (seeds, images), two seeds or more; for instance 1 where only the first
            model was right, -1 where only the second was, else 0.
    """
    seeds, n = values.shape
    mean = float(values.mean())
    by_seed = values.mean(axis=1)
    by_image = values.mean(axis=0)
    seed_square = n * float(((by_seed - mean) ** 2).sum()) / (seeds - 1)
    image_square = seeds * float(((by_image - mean) ** 2).sum()) / max(1, n - 1)
    rest = values - by_seed[:, None] - by_image[None, :] + mean
    rest_square = float((rest**2).sum()) / ((seeds - 1) * max(1, n - 1))
    return SeedEffect(mean, seed_square, image_square, rest_square, seeds, seeds * n)


def parts(
    seed_square: float, image_square: float, rest_square: float, seeds: int
) -> tuple[float, float]:
    """Mean squares -> what the seeds and what the images put into the variance of a total.

    Each part then has the quantile of its own distribution, and they add as squares (the idea of
    Cochran, 1964, and Banerjee, 1961, for variances of different freedom): one normal quantile
    for all would take three seeds for many.
    """
    if seeds < FEW_SEEDS:
        return max(seed_square, rest_square), max(image_square - rest_square, 0.0)
    # the rest is in either square and would count twice. Half of it is taken from each: taken from
    # the seeds' alone, three seeds that differ a lot covered less (93.6 to 96.7 % in simulation)
    half = rest_square / 2
    return max(seed_square - half, 0.0), max(image_square - half, 0.0)


@lru_cache(maxsize=65_536)
def quantiles(freedom: int, p: float) -> tuple[float, float]:
    """Two-sided quantiles at level `p`: Student's t for the seeds, normal for the images."""
    from scipy.special import ndtri, stdtrit  # a hundred times as fast as scipy.stats

    return -float(stdtrit(freedom, p / 2)), -float(ndtri(p / 2))

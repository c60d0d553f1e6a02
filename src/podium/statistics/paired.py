"""Paired comparison of models on the same images, from their correct and wrong predictions.

Every function here takes shares in 0..1 and differences in -1..1, never percentages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

FEW_SEEDS = 3
"""The fewest seeds with which the interval over seeds has its nominal coverage."""
LEAST_P = 1e-12  # smaller p are returned as this


@lru_cache(maxsize=65_536)
def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's test (1947) with mid-p (Lancaster, 1961): two-sided p of equal accuracy.

    Only discordant images are informative: under the null hypothesis, either model is equally
    likely to be the correct one. Of the outcomes that are exactly as uneven as the observed one,
    half count: if all do, the false claim rate stays needlessly far below the level.

    Args:
        only_first: number of images that only the first model gets right.
        only_second: number of images that only the second model gets right.

    Returns:
        p in 0..1; 1 where both numbers are equal.
    """
    from scipy.special import bdtr

    fewer, discordant = min(only_first, only_second), only_first + only_second
    if only_first == only_second:
        return 1.0
    below = bdtr(fewer - 1, discordant, 0.5) if fewer else 0.0
    return max(LEAST_P, float(below + bdtr(fewer, discordant, 0.5)))


@lru_cache(maxsize=65_536)
def paired_interval(
    only_first: int, only_second: int, n: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Tango's score interval of the difference of two accuracies on the same images.

    It inverts the score test of every possible difference (Tango, 1998, Statistics in Medicine
    17, 891-908), so its coverage holds where the Wald interval's does not: near 0 and 1, and where
    the models rarely differ.

    Args:
        only_first: number of images that only the first model gets right.
        only_second: number of images that only the second model gets right.
        n: number of images.
        confidence: confidence level, 0..1.

    Returns:
        Bounds of (accuracy of the first - accuracy of the second), in -1..1.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = float(norm.ppf((1 + confidence) / 2))
    observed = (only_first - only_second) / n

    def excess(difference: float) -> float:
        # maximum likelihood estimate of the share of "only the second", given the difference
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


MOST_WORK = 10_000_000  # numbers convolved by the exact sign-flip test: a second or two
FLIPS = 20_000


def sign_flip(totals: npt.NDArray[np.int64], *, mid: bool = False) -> float:
    """Sign-flip test: two-sided p of "each total is equally likely to have the opposite sign".

    Fisher's randomisation test of paired differences, with the sum as statistic. For totals of
    -1, 0 and 1 it is McNemar's test; it extends that to images with several seeds and to groups of
    images.

    Args:
        totals: shape (units,), an integer per image or group of images, such as how often only the
            first model was correct on it minus how often only the second was.
        mid: count half of the outcomes that are exactly as extreme as the observed one, as
            `mcnemar` does; not with few units, where those are many.

    Returns:
        p in 0..1: exact, by enumeration; where that is too expensive (groups of very many sizes),
        from 20,000 random flips with a fixed seed.
    """
    shared = int(np.gcd.reduce(totals)) if len(totals) else 0
    if shared == 0:
        return 1.0
    sizes, counts = np.unique(np.abs(totals[totals != 0]) // shared, return_counts=True)
    reached, most = abs(int(totals.sum())) // shared, int(sizes @ counts)
    # How many totals of a size keep their sign: counts more than 9 standard deviations from half of
    # them have probability 0 in double precision (Hoeffding's bound).
    ends = [
        (max(0, math.floor(count / 2 - reach)), min(count, math.ceil(count / 2 + reach)))
        for count, reach in ((int(count), 4.5 * math.sqrt(count)) for count in counts)
    ]
    if most * len(sizes) > MOST_WORK:
        return flipped_at_random(totals)
    chances = np.ones(1)  # of the sum in favour of the first; the statistic is twice that - `most`
    for size, count, (low, high) in zip(sizes.tolist(), counts.tolist(), ends, strict=True):
        flips = np.zeros(size * count + 1)
        flips[low * size : high * size + 1 : size] = _coin(count, low, high)
        if min(len(chances), len(flips)) < 500:
            chances = np.convolve(chances, flips)
        else:
            from scipy.signal import fftconvolve  # slow to import

            chances = fftconvolve(chances, flips)
    ties = (most - reached) // 2
    p = 2 * float(chances[: ties + 1].sum()) - (float(chances[ties]) if mid else 0.0)
    return min(1.0, max(LEAST_P, p))


@lru_cache(maxsize=4_096)
def _coin(count: int, low: int, high: int) -> list[float]:
    """Probabilities of `low` to `high` heads in `count` tosses."""
    from scipy.stats import binom

    return [float(chance) for chance in binom.pmf(np.arange(low, high + 1), count, 0.5)]


def flipped_at_random(totals: npt.NDArray[np.int64] | npt.NDArray[np.float64]) -> float:
    """Sign-flip test from 20,000 random flips with a fixed seed.

    Args:
        totals: shape (units,), one number per image or group of images, not necessarily an
            integer.

    Returns:
        p in 0..1.
    """
    random = np.random.default_rng(0)
    sizes = np.sort(np.abs(totals[totals != 0])).astype(np.float64)  # same flips in any order
    if not len(sizes):
        return 1.0
    reached = abs(float(totals.sum())) - 1e-9 * float(sizes.sum())  # tolerate rounding
    found = 1  # the observed outcome is one of the flips
    step = max(1, 10_000_000 // len(sizes))
    for begin in range(0, FLIPS, step):
        bits = random.integers(0, 256, (min(step, FLIPS - begin), -(-len(sizes) // 8)), np.uint8)
        kept = np.unpackbits(bits, axis=1, count=len(sizes)) @ sizes
        found += int((np.abs(2 * kept - sizes.sum()) >= reached).sum())
    return found / (FLIPS + 1)


@dataclass(frozen=True)
class SeedEffect:
    """A mean over seeds and images, with the mean squares of the two-way layout.

    Seeds and images are both random samples, crossed without replication, so the layout separates
    the variance from seeds and the variance from images.
    """

    mean: float
    seed_square: float
    """Between seeds: images x variance of the seed effect, plus the residual."""
    image_square: float
    """Between images: seeds x variance of the image effect, plus the residual."""
    rest_square: float
    """Residual."""
    seeds: int
    """Number of seeds; 1: the seed is fixed, and nothing is claimed about other seeds."""
    count: int
    """Seeds x images."""
    freedom: float
    """Degrees of freedom of `seed_square`."""
    image_freedom: float = math.inf
    """Degrees of freedom of `image_square`: finite with groups of images or rare classes."""
    seed_level: float = 1.0
    """The part of any level that the seeds get: see `podium.statistics.looks`."""

    def interval(
        self, confidence: float = 0.95, *, least_variance: float = 0.0
    ) -> tuple[float, float]:
        """Confidence interval of `mean`.

        With 3 seeds or more it has its nominal coverage (`docs/statistics.md`). With two, the seed
        variance cannot be separated from the residual: nothing is subtracted, and the interval is
        wider than nominal.

        Args:
            confidence: confidence level, 0..1.
            least_variance: added to the variance of the mean over images: the uncertainty that
                remains where all images are alike.

        Returns:
            Lower and upper bound.
        """
        # at one of many looks nothing is subtracted, as for the p of each
        apart = self.seeds if self.seed_level == 1 else 1
        seeds, images = parts(self.seed_square, self.image_square, self.rest_square, apart)
        t, z = self._quantiles(self.freedom, 1 - confidence)
        # never narrower than with fixed seeds
        squared = max(t * t * seeds + z * z * images, z * z * self.image_square) / self.count
        half = math.sqrt(squared + z * z * least_variance)
        return self.mean - half, self.mean + half

    def p_value(self, pooled: float = 0.0, freedom: float | None = None) -> float:
        """Two-sided p of "the true mean is 0", valid at the small levels that Holm requires.

        Nothing is subtracted from the seeds' mean square here: an estimate close to 0 by chance
        would make any difference look certain (with five contenders and three seeds it gave 12 %
        false claims instead of 5). So p is slightly larger than the interval suggests. It is also
        never smaller than with fixed seeds: where every seed shows the same difference, each on
        other images, both variances can be 0 although nothing is certain.

        Args:
            pooled: mean of `seed_square` over all pairs of the study, which has more degrees of
                freedom, as in any analysis of variance. The pair's own value is used where it is
                larger.
            freedom: degrees of freedom of `pooled`; None: those of the pair's own.
        """
        from scipy.optimize import brentq

        def reach(log_p: float) -> float:
            return self.margin(math.exp(log_p), pooled, freedom) - abs(self.mean)

        least = math.log(LEAST_P)
        if reach(-1e-9) >= 0:
            return 1.0
        return LEAST_P if reach(least) <= 0 else math.exp(brentq(reach, least, -1e-9))

    def margin(
        self,
        level: float,
        pooled: float = 0.0,
        freedom: float | None = None,
        least_variance: float = 0.0,
    ) -> float:
        """How far from 0 the mean has to be for `p_value` to be `level`, 0..1.

        `pooled` and `freedom` are those of `p_value`, `least_variance` that of `interval`.
        """
        t, z = self._quantiles(self.freedom if freedom is None else freedom, level)
        seeds = max(self.seed_square, pooled)
        if self.seed_level < 1:  # at one of many looks, few seeds are the same by chance
            seeds = max(seeds, self.rest_square)
        images = max(self.image_square - self.rest_square, 0.0)
        squared = max(t * t * seeds + z * z * images, z * z * self.image_square)
        return math.sqrt(squared / self.count + z * z * least_variance)

    def _quantiles(self, freedom: float, p: float) -> tuple[float, float]:
        t, (_, z) = quantiles(freedom, self.seed_level * p)[0], quantiles(freedom, p)
        return t, z if math.isinf(self.image_freedom) else quantiles(self.image_freedom, p)[0]


def by_group(
    values: npt.NDArray[np.float64], groups: npt.NDArray[np.int64] | None
) -> npt.NDArray[np.float64]:
    """Aggregate image values into groups, which become the sampling units.

    Each row keeps its mean over the images. A group's value is the row mean plus the summed
    deviations of the group's images from it (the linearised ratio of survey statistics), so groups
    may differ in size.

    Args:
        values: shape (seeds, images).
        groups: shape (images,), group index of each image, from 0; None: values are unchanged.

    Returns:
        Shape (seeds, groups).
    """
    if groups is None:
        return values
    mean = values.mean(axis=1, keepdims=True)
    count = int(groups.max()) + 1
    apart = np.stack([np.bincount(groups, row, count) for row in values - mean])
    return np.asarray(mean + apart * count / len(groups))


def design_effect(values: npt.NDArray[np.float64], groups: npt.NDArray[np.int64] | None) -> float:
    """Design effect: how many images of a group count as one (Kish, 1965).

    The variance of the mean over groups divided by that over images, each with one pseudo-group of
    identical images: where nothing differs, nothing shows that images of a group are independent.

    Args:
        values: one per image, shape (images,).
        groups: shape (images,), group index of each image, from 0; None: images are independent.

    Returns:
        1 or more; 1 without groups.
    """
    if groups is None:
        return 1.0
    n, sizes = len(values), np.bincount(groups)
    apart = values - values.mean()
    by_images = float((apart**2).sum()) + n / len(sizes)
    by_groups = float((np.bincount(groups, apart) ** 2).sum()) + float((sizes**2).mean())
    return max(1.0, by_groups / by_images)


def seed_effect(
    values: npt.NDArray[np.float64],
    groups: npt.NDArray[np.int64] | None = None,
    freedom: float = math.inf,
    seed_level: float = 1.0,
) -> SeedEffect:
    """Mean over seeds and images, with the variance from each.

    The variance is the limit of a bootstrap over seeds and images without its bias: three seeds
    resampled from three vary a third too little, and the residual is counted twice. In simulation
    the percentiles of such a bootstrap covered 77 to 98 % with 3 seeds.

    Args:
        values: shape (seeds, images); for instance 1 where only the first model was correct, -1
            where only the second was, else 0. A single seed is fixed.
        groups: shape (images,), group index of each image, from 0; None: images are independent.
        freedom: degrees of freedom of the variance over images, of which groups may leave fewer.
        seed_level: the part of any level that the seeds get.
    """
    units = by_group(values, groups)
    seeds, n = units.shape
    mean = float(units.mean())
    by_seed, by_image = units.mean(axis=1), units.mean(axis=0)
    seed_square = n * float(((by_seed - mean) ** 2).sum()) / max(1, seeds - 1)
    image_square = seeds * float(((by_image - mean) ** 2).sum()) / max(1, n - 1)
    rest = units - by_seed[:, None] - by_image[None, :] + mean
    rest_square = float((rest**2).sum()) / (max(1, seeds - 1) * max(1, n - 1))
    image_freedom = freedom if groups is None else min(freedom, max(1, n - 1))
    squares = seed_square, image_square, rest_square
    return SeedEffect(
        mean, *squares, seeds, seeds * n, max(1, seeds - 1), image_freedom, seed_level
    )


def unpaired_effect(first: SeedEffect, second: SeedEffect, images: SeedEffect) -> SeedEffect:
    """The difference of two contenders with unpaired seeds, each with its own variance.

    Welch's (1947) approximation for unequal variances, applied only to the seeds; the images are
    paired.

    Args:
        first: the first contender's effect, over two seeds or more.
        second: the second contender's effect; its seeds may differ in number.
        images: the effect of the mean difference on each image, with fixed seeds.

    Returns:
        The difference; its squares are variances of the mean, so `count` is 1.
    """
    seeds = [one.seed_square / one.count for one in (first, second)]
    total = sum(seeds)
    certainty = seeds[0] ** 2 / first.freedom + seeds[1] ** 2 / second.freedom
    return SeedEffect(
        mean=images.mean,
        seed_square=total,
        image_square=images.image_square / images.count,
        rest_square=first.rest_square / first.count + second.rest_square / second.count,
        seeds=min(first.seeds, second.seeds),
        count=1,
        freedom=total * total / certainty if certainty > 0 else 1,
        image_freedom=images.image_freedom,
        seed_level=first.seed_level,
    )


def parts(
    seed_square: float, image_square: float, rest_square: float, seeds: int
) -> tuple[float, float]:
    """Split mean squares into the variance of a total from seeds and from images.

    Each part is then scaled by the quantile of its own distribution, and the parts add as squares
    (Cochran, 1964, and Banerjee, 1961, for variances with different degrees of freedom): a normal
    quantile for both would treat three seeds as many.

    Args:
        seed_square: mean square between seeds.
        image_square: mean square between images.
        rest_square: residual mean square.
        seeds: number of seeds.

    Returns:
        The seeds' part and the images' part.
    """
    if seeds < FEW_SEEDS:
        return max(seed_square, rest_square), max(image_square - rest_square, 0.0)
    # The residual is in both squares and would count twice, so half is subtracted from each:
    # subtracted only from the seeds' square, the coverage with three seeds that differ a lot was
    # lower (93.6 to 96.7 % in simulation).
    half = rest_square / 2
    return max(seed_square - half, 0.0), max(image_square - half, 0.0)


@lru_cache(maxsize=65_536)
def quantiles(freedom: float, p: float) -> tuple[float, float]:
    """Two-sided quantiles: Student's t for the seeds, normal for the images.

    Args:
        freedom: degrees of freedom of Student's t.
        p: level, 0..1.
    """
    from scipy.special import ndtri, stdtrit  # a hundred times as fast as scipy.stats

    return -float(stdtrit(freedom, p / 2)), -float(ndtri(p / 2))

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


LEAST_P = 1e-12  # what is less is given as this
MOST_WORK = 10_000_000  # numbers that the exact sign-flip test convolves: a second or two
FLIPS = 20_000


def sign_flip(totals: npt.NDArray[np.int64]) -> float:
    """Two-sided p of "each total is as likely to have the other sign", the sum as statistic.

    Fisher's randomisation test of paired differences. For totals of -1, 0 and 1 it is the exact
    McNemar test; it extends that to images with several seeds and to groups of images.

    Args:
        totals: shape (units,), a whole number for each image or group of images, such as how
            often the first model alone was right in it less how often the second was.

    Returns:
        p in 0..1: exact, by adding up all outcomes; where that is too much work (groups of very
        many sizes), from 20,000 random flips with a fixed seed.
    """
    shared = int(np.gcd.reduce(totals)) if len(totals) else 0
    if shared == 0:
        return 1.0
    sizes, counts = np.unique(np.abs(totals[totals != 0]) // shared, return_counts=True)
    reached, most = abs(int(totals.sum())) // shared, int(sizes @ counts)
    # How many totals of a size keep their sign: more than 9 standard deviations from the half of
    # them never do, to the precision of a double (Hoeffding's bound).
    ends = [
        (max(0, math.floor(count / 2 - reach)), min(count, math.ceil(count / 2 + reach)))
        for count, reach in ((int(count), 4.5 * math.sqrt(count)) for count in counts)
    ]
    if most * len(sizes) > MOST_WORK:
        return flipped_at_random(totals)
    chances = np.ones(1)  # of what falls to the first; the statistic is twice that, less `most`
    for size, count, (low, high) in zip(sizes.tolist(), counts.tolist(), ends, strict=True):
        flips = np.zeros(size * count + 1)
        flips[low * size : high * size + 1 : size] = _coin(count, low, high)
        if min(len(chances), len(flips)) < 500:
            chances = np.convolve(chances, flips)
        else:
            from scipy.signal import fftconvolve  # takes a while to load

            chances = fftconvolve(chances, flips)
    p = 2 * float(chances[: (most - reached) // 2 + 1].sum())
    return min(1.0, max(LEAST_P, p))


@lru_cache(maxsize=4_096)
def _coin(count: int, low: int, high: int) -> list[float]:
    """Chances of `low` to `high` heads of `count` throws."""
    from scipy.stats import binom

    return [float(chance) for chance in binom.pmf(np.arange(low, high + 1), count, 0.5)]


def flipped_at_random(totals: npt.NDArray[np.int64] | npt.NDArray[np.float64]) -> float:
    """As `sign_flip`, from 20,000 random flips; the totals need not be whole numbers."""
    random = np.random.default_rng(0)
    sizes = np.sort(np.abs(totals[totals != 0])).astype(np.float64)  # in any order the same flips
    if not len(sizes):
        return 1.0
    reached = abs(float(totals.sum())) - 1e-9 * float(sizes.sum())  # rounding is no difference
    found = 1  # the outcome itself is one of the flips
    step = max(1, 10_000_000 // len(sizes))
    for begin in range(0, FLIPS, step):
        bits = random.integers(0, 256, (min(step, FLIPS - begin), -(-len(sizes) // 8)), np.uint8)
        kept = np.unpackbits(bits, axis=1, count=len(sizes)) @ sizes
        found += int((np.abs(2 * kept - sizes.sum()) >= reached).sum())
    return found / (FLIPS + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Holm, 1979): keeps the chance of even one false claim.

    Args:
        p_values: of all comparisons that could have been claimed.

    Returns:
        Adjusted p, in the same order, 0..1.
    """
    # by hand: statsmodels collects all garbage at every call, which takes far longer
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order]))
    return [float(one) for one in adjusted]


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
    """1: taken as fixed; nothing is said of others."""
    count: int
    """Seeds x images."""
    freedom: float
    """Degrees of freedom of `seed_square`."""
    image_freedom: float = math.inf
    """Those of `image_square`: of groups of images; without groups the images are many."""

    def interval(
        self, confidence: float = 0.95, *, least_variance: float = 0.0
    ) -> tuple[float, float]:
        """Bounds around `mean`.

        From 3 seeds on they cover what they promise: in simulation (3 and 5 seeds, 500 images of
        85 to 95 %, seeds that differ by 1 to 6 points of accuracy) 94.5 to 97.1 % at 95 %; near
        100 % more. Two seeds are too few to tell their share from the rest; nothing is subtracted
        then, and the bounds are wider than they promise.

        Args:
            confidence: 0..1.
            least_variance: of the mean, added to that of the images: what images that are all
                alike leave open.
        """
        seeds, images = parts(self.seed_square, self.image_square, self.rest_square, self.seeds)
        t, z = self._quantiles(self.freedom, 1 - confidence)
        # never narrower than with the seeds taken as fixed
        squared = max(t * t * seeds + z * z * images, z * z * self.image_square) / self.count
        half = math.sqrt(squared + z * z * least_variance)
        return self.mean - half, self.mean + half

    def p_value(self, pooled: float = 0.0, freedom: float | None = None) -> float:
        """Two-sided p of "the true mean is 0", safe at the small levels that Holm asks for.

        Nothing is subtracted from the seeds' square here: an estimate that chance has put near
        0 would make any difference look certain (with five contenders and three seeds it made
        12 % false claims in place of 5). So p is a little larger than the interval suggests. Nor
        is it ever smaller than with the seeds taken as fixed: where every seed shows the same
        difference, on other images each, both variances can be 0, and nothing is certain.

        Args:
            pooled: the mean of `seed_square` over all pairs of the study. Two degrees of freedom
                see little; taken together, the contenders lend each other theirs, as in any
                analysis of variance. The pair's own square counts where it is larger.
            freedom: degrees of freedom of `pooled`; None: those of the pair's own.
        """
        from scipy.optimize import brentq

        freedom = self.freedom if freedom is None else freedom
        seeds = max(self.seed_square, pooled)
        images = max(self.image_square - self.rest_square, 0.0)
        squared = self.mean * self.mean * self.count

        def reach(log_p: float) -> float:
            t, z = self._quantiles(freedom, math.exp(log_p))
            return max(t * t * seeds + z * z * images, z * z * self.image_square) - squared

        least = math.log(LEAST_P)
        if reach(-1e-9) >= 0:
            return 1.0
        return LEAST_P if reach(least) <= 0 else math.exp(brentq(reach, least, -1e-9))

    def _quantiles(self, freedom: float, p: float) -> tuple[float, float]:
        t, z = quantiles(freedom, p)
        return t, z if math.isinf(self.image_freedom) else quantiles(self.image_freedom, p)[0]


def by_group(
    values: npt.NDArray[np.float64], groups: npt.NDArray[np.int64] | None
) -> npt.NDArray[np.float64]:
    """Values of images -> of groups of images, which take the images' place as what is drawn.

    Each row keeps its mean over the images. A group's value is the row's mean plus what the
    group's images depart from it, all together (the linearised ratio of survey statistics), so
    groups may have unequal sizes.

    Args:
        values: shape (seeds, images).
        groups: shape (images,), the number of each image's group, from 0; None: as they are.

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
    """How many images count as one, since those of a group are alike (Kish, 1965).

    The variance of a mean over groups by that over images, with one group more in either whose
    images are all alike: where nothing differs, nothing shows that they are not.

    Args:
        values: of each image, shape (images,).
        groups: of the images, as for `by_group`.

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
    values: npt.NDArray[np.float64], groups: npt.NDArray[np.int64] | None = None
) -> SeedEffect:
    """Mean over seeds and images, with the variance that comes from either.

    The variance is what a bootstrap over seeds and images tends to, without its bias: three
    seeds drawn from three vary by a third too little, and the rest is counted twice. In
    simulation such a bootstrap's percentiles covered 77 to 98 % with 3 seeds.

    Args:
        values: shape (seeds, images); for instance 1 where only the first model was right, -1
            where only the second was, else 0. Of one seed: it is taken as fixed.
        groups: of the images, as for `by_group`.
    """
    units = by_group(values, groups)
    seeds, n = units.shape
    mean = float(units.mean())
    by_seed = units.mean(axis=1)
    by_image = units.mean(axis=0)
    seed_square = n * float(((by_seed - mean) ** 2).sum()) / max(1, seeds - 1)
    image_square = seeds * float(((by_image - mean) ** 2).sum()) / max(1, n - 1)
    rest = units - by_seed[:, None] - by_image[None, :] + mean
    rest_square = float((rest**2).sum()) / (max(1, seeds - 1) * max(1, n - 1))
    image_freedom = math.inf if groups is None else max(1, n - 1)
    squares = seed_square, image_square, rest_square
    return SeedEffect(mean, *squares, seeds, seeds * n, max(1, seeds - 1), image_freedom)


def unpaired_effect(first: SeedEffect, second: SeedEffect, images: SeedEffect) -> SeedEffect:
    """The difference of two contenders whose seeds are their own, each with its own variance.

    Welch's (1947) way with two unequal variances, for the seeds alone; the images are the same.

    Args:
        first: of the first contender alone, over its two seeds or more.
        second: of the second alone; its seeds may be others, and more or fewer.
        images: of the mean difference of each image, the seeds taken as fixed.

    Returns:
        Its squares are variances of the mean: `count` is 1.
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
    )


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
def quantiles(freedom: float, p: float) -> tuple[float, float]:
    """Two-sided quantiles at level `p`: Student's t for the seeds, normal for the images."""
    from scipy.special import ndtri, stdtrit  # a hundred times as fast as scipy.stats

    return -float(stdtrit(freedom, p / 2)), -float(ndtri(p / 2))

"""Statistical power: detectable differences, and the images or seeds needed to detect one.

With one seed: the exact power of McNemar's test, summed over all outcomes. With several:
the power of the test over seeds and images, on random draws of its mean squares. The tests check
both against simulated studies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from podium.errors import ConfigError
from podium.statistics.assumptions import (
    MOST_IMAGES,
    Assumptions,
    check_assumptions,
    check_chance,
    check_count,
    check_share,
)
from podium.statistics.paired import quantiles

TAIL = 1e-10
MOST_SEEDS = 100
DRAWS = 40_000

_Numbers = npt.NDArray[np.float64]


def power_models(n: int, difference: float, disagreement: float, level: float = 0.05) -> float:
    """Power of McNemar's test (mid-p) between two trained models.

    Args:
        n: number of test images.
        difference: between the accuracies, -1..1.
        disagreement: share of images that exactly one model gets right, |difference|..1.
        level: significance level, 0..1.

    Raises:
        ConfigError: a value is out of range.
    """
    from scipy.stats import binom

    check_share(n, difference, disagreement)
    if disagreement == 0:
        return 0.0
    share = (disagreement + abs(difference)) / (2 * disagreement)
    low, high = binom.ppf((TAIL, 1 - TAIL), n, disagreement)
    discordant = np.arange(max(1, int(low)), int(high) + 1)
    # two-sided p = P(X <= k) + P(X < k): reject at k or fewer on either side
    critical = binom.ppf(level / 2, discordant, 0.5)
    below = binom.cdf(critical - 1, discordant, 0.5)
    critical -= below + binom.cdf(critical, discordant, 0.5) >= level
    reject = binom.cdf(critical, discordant, share)
    reject += binom.sf(discordant - critical - 1, discordant, share)
    reject[critical < 0] = 0.0
    return float((binom.pmf(discordant, n, disagreement) * reject).sum())


def power_groups(
    n: int,
    groups: int,
    difference: float,
    disagreement: float,
    *,
    alike: float,
    level: float = 0.05,
) -> float:
    """Power of the sign-flip test of groups of images between two trained models.

    The power of Student's t-test with groups - 1 degrees of freedom on the effective number of
    images, which that test matches; none where even a unanimous result would not suffice.

    Args:
        n: number of test images.
        groups: number of groups that they belong to, 2 or more.
        difference: between the accuracies, -1..1.
        disagreement: share of images that exactly one model gets right, |difference|..1.
        alike: design effect: how many images of a group count as one, 1 or more.
        level: significance level, 0..1.

    Raises:
        ConfigError: a value is out of range.
    """
    from scipy.special import nctdtr

    check_share(n, difference, disagreement)
    check_count("groups", groups, 2, "2 groups or more")
    variance = disagreement - difference**2
    if 0.5 ** (groups - 1) >= level or disagreement == 0:
        return 0.0
    if variance <= 0:
        return 1.0
    away = abs(difference) / math.sqrt(variance * alike / n)
    t, _ = quantiles(groups - 1, level)
    lost = float(nctdtr(groups - 1, away, t) - nctdtr(groups - 1, away, -t))
    return min(1.0, max(0.0, 1 - lost)) if math.isfinite(lost) else 1.0


def power_recipes(
    n: int,
    seeds: int,
    difference: float,
    disagreement: float,
    *,
    seed_sd: float,
    image_share: float,
    contenders: int = 2,
    level: float = 0.05,
    groups: int | None = None,
    alike: float = 1.0,
) -> float:
    """Power of the test over seeds and images, or groups of images, between two recipes.

    Args:
        n: number of test images.
        seeds: per recipe, 2 or more.
        difference: between the mean accuracies, -1..1.
        disagreement: share of images that exactly one of a pair of models gets right.
        seed_sd: standard deviation, over seeds, of the difference between two trained models' true
            accuracies, 0..1.
        image_share: share of the variance of an image's outcome that does not depend on the seed,
            0..1; the rest averages out over seeds.
        contenders: number of contenders in the study; the seed variance is pooled over them.
        level: significance level, 0..1.
        groups: number of groups that the images belong to; None: images are independent.
        alike: design effect: how many images of a group count as one, 1 or more.

    Raises:
        ConfigError: a value is out of range.
    """
    check_share(n, difference, disagreement)
    check_count("seeds", seeds, 2, "2 or more for a test over seeds")
    check_count("contenders", contenders, 2)
    check_chance(seed_sd, image_share)
    total = max(0.0, disagreement - difference**2)  # variance of an image's outcome
    image, rest, seed = image_share * total, (1 - image_share) * total, seed_sd**2
    size, units = n / alike, n if groups is None else groups
    count = seeds * size
    freedom = (contenders - 1) * (seeds - 1)
    drawn = _draws(contenders, seeds, units, level)
    own, pooled, by_own = ((size * seed + rest) / 2 * one for one in drawn.seeds)
    image_square = (seeds * image + rest) * drawn.image
    rest_square = rest * drawn.rest
    spread = math.sqrt(seed / seeds + image / size + rest / count)
    means = difference + spread * drawn.luck
    t, z = quantiles(freedom, level)
    z = z if groups is None else quantiles(groups - 1, level)[0]
    images = z * z * np.maximum(image_square - rest_square, 0)
    # like `podium.statistics.verdicts`, take the largest p: pooled, with fixed seeds...
    reach = np.maximum(t * t * np.maximum(own, pooled) + images, z * z * image_square)
    if contenders > 2:  # ... and from each contender's own seeds
        reach = np.maximum(reach, by_own + images)
    return float((means**2 * count > reach).mean())


class _Draws(NamedTuple):
    """Random parts of the mean squares of `power_recipes`, to be multiplied by their expectations.

    They do not depend on the difference, so the pairs of a study share them.
    """

    seeds: tuple[_Numbers, _Numbers, _Numbers]
    """Between the seeds of a pair, and pooled over all pairs; and what its mean has to exceed by
    each contender's own seeds, squared."""
    image: _Numbers
    rest: _Numbers
    luck: _Numbers
    """Of the mean difference: standard normal."""


@lru_cache(maxsize=1)  # 3 MB; pairs that are asked about one after the other share it
def _draws(contenders: int, seeds: int, units: int, level: float) -> _Draws:
    random = np.random.default_rng(0)

    def square(freedom: int) -> _Numbers:
        return np.asarray(random.chisquare(freedom, DRAWS) / freedom)

    own, each, pooled = _seed_squares(random, contenders, seeds)
    image, rest = square(units - 1), square((seeds - 1) * (units - 1))
    luck = random.standard_normal(DRAWS)
    by_own = own
    if contenders > 2:
        from scipy.special import stdtrit

        welch = each.sum(axis=1)
        freedom = (seeds - 1) * welch**2 / (each**2).sum(axis=1)
        by_own = stdtrit(freedom, level / 2) ** 2 * welch
    return _Draws((own, pooled, by_own), image, rest, luck)


def _seed_squares(
    random: np.random.Generator, contenders: int, seeds: int
) -> tuple[_Numbers, _Numbers, _Numbers]:
    """Draw mean squares between seeds without drawing the seeds.

    Lengths and angles of a few normal vectors of `seeds - 1` dimensions are enough, and Bartlett's
    decomposition gives them: memory does not grow with the number of contenders or seeds.

    Args:
        random: the random generator.
        contenders: number of contenders in the study.
        seeds: per contender.

    Returns:
        `(own, each, pooled)`, for a contender's effect with a variance of 1 over its seeds: the
        mean square of the pair's difference, shape (DRAWS,); of each of its two contenders, shape
        (DRAWS, 2); pooled over all pairs, shape (DRAWS,).
    """
    d, zero = seeds - 1, np.zeros(DRAWS)

    def length(dimensions: int) -> _Numbers:
        return np.sqrt(random.chisquare(dimensions, DRAWS)) if dimensions > 0 else zero

    def along(dimensions: int) -> _Numbers:
        return random.normal(size=DRAWS) if dimensions > 0 else zero

    first = np.stack([length(d), zero, zero])
    second = np.stack([along(d), length(d - 1), zero])
    own = np.square(first - second).sum(axis=0) / d
    each = np.stack([np.square(one).sum(axis=0) for one in (first, second)], axis=1) / d
    if contenders == 2:
        return own, each, own
    # the mean of the others versus that of the pair, and the others among themselves
    rest = contenders - 2
    others = np.stack([along(d), along(d - 1), length(d - 2)]) / np.sqrt(rest)
    apart = np.square((first + second) / 2 - others).sum(axis=0) / d
    among = np.square(length((rest - 1) * d)) / d
    squares = own / 2 + 2 * rest / contenders * apart + among
    return own, each, 2 * squares / (contenders - 1)


@dataclass(frozen=True)
class Plan:
    """The power of a test set, and what would suffice; shares in 0..1.

    Examples:
        >>> import podium
        >>> plan = podium.power(500, 0.03)
        >>> round(plan.power, 2)
        0.35
        >>> plan.images
        1552
    """

    n: int
    """Number of test images."""
    seeds: int
    """Per contender; 1: two trained models are compared."""
    difference: float
    """The difference between two accuracies to detect."""
    disagreement: float
    """Share of images that exactly one of the two gets right, as given or assumed."""
    groups: int | None
    """Groups that the images belong to; None: images are independent."""
    effective: float
    """Independent images that say as much as these."""
    level: float
    """Significance level of a single pair: all pairs together keep 0.05."""
    power: float
    """Probability that a study detects the difference."""
    smallest: float | None
    """The smallest difference that is detected with the target power; None: there is none."""
    images: int | None
    """Test images, in groups of the same size, that detect `difference` with the target power;
    None: more than 10 million."""
    images_90: int | None
    """Test images that detect `difference` with a power of 90 %; None: more than 10 million."""
    needed_seeds: int | None
    """Seeds per recipe that detect it on `n` images; None: more than 100."""


def plan(n: int, difference: float, seeds: int = 1, given: Assumptions | None = None) -> Plan:
    """The power of a study, and the images or seeds that would suffice.

    Args:
        n: number of test images.
        difference: between the accuracies to detect, above 0, up to 1.
        seeds: per recipe; 1: two trained models are compared.
        given: what else power depends on; None: the defaults of `Assumptions`.

    Raises:
        ConfigError: a value is out of range.
    """
    given = given or Assumptions()
    check_assumptions(given)
    if not 0 < difference <= 1:
        raise ConfigError(
            f"difference: expected more than 0 and at most 100 points, got {100 * difference:g}."
        )
    check_count("seeds", seeds, 1)
    check_share(n, difference, given.disagreement_at(difference))

    return Plan(
        n=n,
        seeds=seeds,
        difference=difference,
        disagreement=given.disagreement_at(difference),
        groups=None if given.group_size == 1 else round(n / given.group_size),
        effective=n / given.design_effect,
        level=given.level,
        power=power_at(n, difference, seeds, given),
        smallest=smallest_difference(n, seeds, given),
        images=images_needed(difference, seeds, given),
        images_90=images_needed(difference, seeds, replace(given, target=0.9)),
        needed_seeds=_smallest_whole(
            lambda count: power_at(n, difference, count, given) >= given.target, 2, MOST_SEEDS
        ),
    )


def smallest_difference(n: int, seeds: int, given: Assumptions) -> float | None:
    """The smallest difference between two accuracies that is detected with the target power.

    Args:
        n: number of test images.
        seeds: per recipe; 1: two trained models are compared.
        given: what else power depends on.

    Returns:
        A share in 0.0001..1, to 0.01 points; None: not even the largest is detected.

    Raises:
        ConfigError: a value is out of range.
    """
    check_assumptions(given)
    steps = _smallest_whole(
        lambda tenth: power_at(n, tenth / 10_000, seeds, given) >= given.target, 1, 10_000
    )
    return None if steps is None else steps / 10_000


def images_needed(difference: float, seeds: int, given: Assumptions) -> int | None:
    """The test images, in groups of the same size, that detect a difference with the target power.

    Args:
        difference: between the accuracies, above 0, up to 1.
        seeds: per recipe; 1: two trained models are compared.
        given: what else power depends on.

    Returns:
        Their number; None: more than 10 million.

    Raises:
        ConfigError: a value is out of range.
    """
    check_assumptions(given)
    return _smallest_whole(
        lambda images: power_at(images, difference, seeds, given) >= given.target, 2, MOST_IMAGES
    )


def power_at(images: int, difference: float, seeds: int, given: Assumptions) -> float:
    """The probability that a study detects a difference between two accuracies, 0..1.

    Args:
        images: number of test images.
        difference: between the accuracies, above 0, up to 1.
        seeds: per recipe; 1: two trained models are compared.
        given: what else power depends on.

    Raises:
        ConfigError: a value is out of range.
    """
    disagreement = given.disagreement_at(difference)
    alike, level = given.design_effect, given.level
    groups = None if given.group_size == 1 else max(2, round(images / given.group_size))
    if seeds == 1 and groups is None:
        return power_models(images, difference, disagreement, level)
    if seeds == 1 and groups is not None:
        return power_groups(images, groups, difference, disagreement, alike=alike, level=level)
    return power_recipes(
        images,
        seeds,
        difference,
        disagreement,
        seed_sd=given.seed_sd,
        image_share=given.image_share,
        contenders=given.contenders,
        level=level,
        groups=groups,
        alike=alike,
    )


def _smallest_whole(enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """The smallest sufficient integer, assuming that larger ones suffice too."""
    if enough(low):
        return low
    top = low
    while True:  # double first: large numbers are slow to test and rarely needed
        top = min(2 * top, high)
        if enough(top):
            break
        if top == high:
            return None
    low = top // 2
    while top - low > 1:
        middle = (low + top) // 2
        low, top = (low, middle) if enough(middle) else (middle, top)
    return top

"""Statistical power: detectable differences, and the images or seeds needed to detect one.

With one seed: the exact power of McNemar's test, summed over all outcomes. With several:
the power of the test over seeds and images, on random draws of its mean squares. The tests check
both against simulated studies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from numbers import Integral

import numpy as np
import numpy.typing as npt

from podium.errors import ConfigError
from podium.statistics.paired import quantiles, seed_effect
from podium.statistics.table import PredictionTable, matched_seeds

TAIL = 1e-10
MOST_IMAGES = 10_000_000
MOST_SEEDS = 100
DRAWS = 40_000
TYPICAL_SHARE = 0.7
"""Assumed disagreement of two models, relative to independent errors: models fail on the same hard
images, so they disagree less often. Networks of 37 to 88 % accuracy, trained by Podium on the same
images, disagreed 0.3 to 1.0 times as often; 0.7 is about the middle.
"""


def independent_disagreement(first: float, second: float) -> float:
    """Share of images that exactly one of two models gets right if their errors are independent.

    Args:
        first: accuracy of the first model, 0..1.
        second: accuracy of the second model, 0..1.
    """
    return first * (1 - second) + second * (1 - first)


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

    _check(n, difference, disagreement)
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
) -> float:
    """Power of the test over seeds and images between two recipes.

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

    Raises:
        ConfigError: a value is out of range.
    """
    _check(n, difference, disagreement)
    _check_count("seeds", seeds, 2, "2 or more for a test over seeds")
    _check_count("contenders", contenders, 2)
    _check_chance(seed_sd, image_share)
    total = max(0.0, disagreement - difference**2)  # variance of an image's outcome
    image, rest, seed = image_share * total, (1 - image_share) * total, seed_sd**2
    random = np.random.default_rng(0)
    count = seeds * n
    freedom = (contenders - 1) * (seeds - 1)

    def square(expected: float, freedom: int) -> npt.NDArray[np.float64]:
        return np.asarray(expected * random.chisquare(freedom, DRAWS) / freedom)

    own, each, pooled = _seed_squares(random, (n * seed + rest) / 2, contenders, seeds)
    image_square = square(seeds * image + rest, n - 1)
    rest_square = square(rest, (seeds - 1) * (n - 1))
    spread = np.sqrt(seed / seeds + image / n + rest / count)
    means = random.normal(difference, spread, DRAWS)
    t, z = quantiles(freedom, level)
    images = z * z * np.maximum(image_square - rest_square, 0)
    # like `podium.statistics.verdicts`, take the largest p: pooled, with fixed seeds...
    reach = np.maximum(t * t * np.maximum(own, pooled) + images, z * z * image_square)
    if contenders > 2:  # ... and from each contender's own seeds
        from scipy.special import stdtrit

        welch = each.sum(axis=1)
        t_welch = stdtrit((seeds - 1) * welch**2 / (each**2).sum(axis=1), level / 2)
        reach = np.maximum(reach, t_welch**2 * welch + images)
    return float((means**2 * count > reach).mean())


def _seed_squares(
    random: np.random.Generator, variance: float, contenders: int, seeds: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Draw mean squares between seeds without drawing the seeds.

    Lengths and angles of a few normal vectors of `seeds - 1` dimensions are enough, and Bartlett's
    decomposition gives them: memory does not grow with the number of contenders or seeds.

    Args:
        random: the random generator.
        variance: of a contender's effect over its seeds.
        contenders: number of contenders in the study.
        seeds: per contender.

    Returns:
        `(own, each, pooled)`: the mean square of the pair's difference, shape (DRAWS,); of each of
        its two contenders, shape (DRAWS, 2); pooled over all pairs, shape (DRAWS,).
    """
    d, zero = seeds - 1, np.zeros(DRAWS)

    def length(dimensions: int) -> npt.NDArray[np.float64]:
        return np.sqrt(random.chisquare(dimensions, DRAWS)) if dimensions > 0 else zero

    def along(dimensions: int) -> npt.NDArray[np.float64]:
        return random.normal(size=DRAWS) if dimensions > 0 else zero

    first = np.stack([length(d), zero, zero])
    second = np.stack([along(d), length(d - 1), zero])
    own = variance * np.square(first - second).sum(axis=0) / d
    each = variance * np.stack([np.square(one).sum(axis=0) for one in (first, second)], axis=1) / d
    if contenders == 2:
        return own, each, own
    # the mean of the others versus that of the pair, and the others among themselves
    rest = contenders - 2
    others = np.stack([along(d), along(d - 1), length(d - 2)]) / np.sqrt(rest)
    apart = variance * np.square((first + second) / 2 - others).sum(axis=0) / d
    among = variance * np.square(length((rest - 1) * d)) / d
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
    level: float
    """Significance level of a single pair: all pairs together keep 0.05."""
    power: float
    """Probability that a study detects the difference."""
    smallest: float | None
    """The smallest difference that is detected with the target power; None: there is none."""
    images: int | None
    """Test images that detect `difference` with the target power; None: more than 10 million."""
    images_90: int | None
    """Test images that detect `difference` with a power of 90 %; None: more than 10 million."""
    needed_seeds: int | None
    """Seeds per recipe that detect it on `n` images; None: more than 100."""


@dataclass(frozen=True)
class Assumptions:
    """What power depends on besides n and the difference; shares in 0..1."""

    disagreement: float | None = None
    """Share of images that exactly one of two models gets right; None: derived from the accuracy.
    """
    accuracy: float = 0.85
    """Mean accuracy of the two."""
    contenders: int = 2
    """All pairs of them are compared."""
    target: float = 0.8
    """The target power."""
    seed_sd: float = 0.01
    """Standard deviation over seeds of the difference between two trained models' accuracies."""
    image_share: float = 0.5
    """Share of an image's variance that does not depend on the seed."""

    @property
    def level(self) -> float:
        """Significance level of a single pair, the first to be declared of all.

        Tukey's range of so many equally accurate contenders (`podium.statistics.together` measures
        how similar the comparisons are; here nothing has been measured).
        """
        return 0.05 if self.contenders == 2 else _level_of_all(self.contenders)

    def disagreement_at(self, difference: float) -> float:
        """The share of images that exactly one of two models gets right.

        Args:
            difference: between their accuracies, -1..1.
        """
        if self.disagreement is not None:
            return max(self.disagreement, abs(difference))
        first = min(1.0, self.accuracy + abs(difference) / 2)
        second = max(0.0, first - abs(difference))
        share = TYPICAL_SHARE * independent_disagreement(first, second)
        return max(share, abs(difference))


@lru_cache(maxsize=64)
def _level_of_all(contenders: int) -> float:
    from scipy.special import ndtr
    from scipy.stats import studentized_range

    return float(2 * ndtr(-studentized_range.ppf(0.95, contenders, math.inf) / math.sqrt(2)))


def observed(table: PredictionTable) -> Assumptions:
    """Estimate what power depends on from the contenders of a table.

    The estimates are means over pairs; the variance over seeds is from pairs with the same seeds,
    two or more.

    Args:
        table: the predictions of all contenders.

    Raises:
        ConfigError: there are fewer than two contenders, or no images.
    """
    count = len(table.contenders)
    if count < 2 or not len(table):
        raise ConfigError(
            f"--like: expected runs of at least 2 contenders on the same images, got {count}."
        )
    right = [answers.predicted == table.labels for answers in table.contenders]
    apart, seed, image, rest = [], [], [], []
    for i, j in combinations(range(count), 2):
        rows = matched_seeds(table.contenders[i], table.contenders[j])
        a, b = right[i][rows[0]], right[j][rows[1]]
        apart.append(float((a != b).mean()))
        if 1 < len(a) == len(right[i]):  # the same seeds
            effect = seed_effect(a.astype(np.float64) - b)
            seed.append(max(0.0, effect.seed_square - effect.rest_square) / len(table))
            image.append(max(0.0, effect.image_square - effect.rest_square) / len(a))
            rest.append(effect.rest_square)
    accuracy = float(np.mean([one.mean() for one in right]))
    disagreement = max(float(np.mean(apart)), 1 / len(table))
    if not seed or not sum(image) + sum(rest):
        return Assumptions(disagreement, accuracy)
    return Assumptions(
        disagreement,
        accuracy,
        seed_sd=float(np.mean(seed)) ** 0.5,
        image_share=sum(image) / (sum(image) + sum(rest)),
    )


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
    _check_assumptions(given)
    if not 0 < difference <= 1:
        raise ConfigError(
            f"difference: expected more than 0 and at most 100 points, got {100 * difference:g}."
        )
    _check_count("seeds", seeds, 1)
    _check(n, difference, given.disagreement_at(difference))

    def power(images: int, wanted: float, count: int) -> float:
        disagreement = given.disagreement_at(wanted)
        if count == 1:
            return power_models(images, wanted, disagreement, given.level)
        return power_recipes(
            images,
            count,
            wanted,
            disagreement,
            seed_sd=given.seed_sd,
            image_share=given.image_share,
            contenders=given.contenders,
            level=given.level,
        )

    def images(target: float) -> int | None:
        return _smallest_whole(lambda m: power(m, difference, seeds) >= target, 2, MOST_IMAGES)

    return Plan(
        n=n,
        seeds=seeds,
        difference=difference,
        disagreement=given.disagreement_at(difference),
        level=given.level,
        power=power(n, difference, seeds),
        smallest=_smallest(lambda d: power(n, d, seeds) >= given.target),
        images=images(given.target),
        images_90=images(0.9),
        needed_seeds=_smallest_whole(
            lambda count: power(n, difference, count) >= given.target, 2, MOST_SEEDS
        ),
    )


def _smallest(enough: Callable[[float], bool]) -> float | None:
    """The smallest sufficient difference in 0.0001..1, to 0.01 points."""
    steps = _smallest_whole(lambda tenth: enough(tenth / 10_000), 1, 10_000)
    return None if steps is None else steps / 10_000


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


def _check_count(name: str, value: object, least: int, wanted: str = "", most: int = 0) -> None:
    """Require an integer from `least` to `most` (0: no upper limit)."""
    if not isinstance(value, Integral):
        raise ConfigError(f"{name}: expected a whole number, got {value!r}.")
    if int(value) < least or (most and int(value) > most):
        raise ConfigError(f"{name}: expected {wanted or f'{least} or more'}, got {value}.")


def _check(n: int, difference: float, disagreement: float) -> None:
    _check_count("n", n, 2, f"2 test images or more, at most {MOST_IMAGES:,}", MOST_IMAGES)
    if not abs(difference) <= disagreement <= 1:
        raise ConfigError(
            f"disagreement: expected {100 * abs(difference):g} to 100 % of the images (models that "
            f"differ by {100 * abs(difference):g} points disagree on at least as many), got "
            f"{100 * disagreement:g} %."
        )


def _check_assumptions(given: Assumptions) -> None:
    if not 0 < given.accuracy < 1:
        wanted = "expected more than 0 and less than 100 %"
        raise ConfigError(f"accuracy: {wanted}, got {100 * given.accuracy:g} %.")
    _check_count("contenders", given.contenders, 2)
    if not 0 < given.target < 1:
        raise ConfigError(f"power: expected more than 0 and less than 1, got {given.target:g}.")
    if given.disagreement is not None and not 0 < given.disagreement <= 1:
        raise ConfigError(
            f"disagreement: expected more than 0 and at most 100 %, got "
            f"{100 * given.disagreement:g} %."
        )
    _check_chance(given.seed_sd, given.image_share)


def _check_chance(seed_sd: float, image_share: float) -> None:
    if not 0 <= seed_sd <= 1 or not 0 <= image_share <= 1:
        raise ConfigError(
            f"Expected a seed_sd of 0 or more, up to 100 points, and an image_share of 0 to 1; got "
            f"{100 * seed_sd:g} points and {image_share:g}."
        )

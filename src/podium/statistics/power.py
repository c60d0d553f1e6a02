"""How much a test can see: power, the smallest difference, and the images or seeds it takes.

One seed: the exact power of the exact McNemar test, summed over all outcomes. Several seeds: the
test over seeds and images, on draws of its mean squares. Both are checked against simulated
studies in the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
"""Two models fail on the same hard images, so they disagree less often than if their errors were
independent. Networks trained on the same images by Podium, of 37 to 88 % accuracy, disagreed on
0.3 to 1.0 times as many; 0.7 is the middle of them.
"""


def independent_disagreement(first: float, second: float) -> float:
    """Share of images that exactly one of two models has right, if errors were independent.

    Args:
        first: accuracy of the first model, 0..1.
        second: of the second.
    """
    return first * (1 - second) + second * (1 - first)


def power_models(n: int, difference: float, disagreement: float, level: float = 0.05) -> float:
    """Chance that the exact McNemar test tells two trained models apart.

    Args:
        n: test images.
        difference: of the accuracies, -1..1.
        disagreement: share of images that exactly one model has right, |difference|..1.
        level: below which p must lie, 0..1.

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
    # two-sided p = 2 P(X <= k): reject at k or fewer on either side
    critical = binom.ppf(level / 2, discordant, 0.5)
    critical -= 2 * binom.cdf(critical, discordant, 0.5) >= level
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
    """Chance that the test over seeds and images tells two recipes apart.

    Args:
        n: test images.
        seeds: of each recipe, 2 or more.
        difference: of the mean accuracies, -1..1.
        disagreement: share of images that exactly one of a pair of models has right.
        seed_sd: standard deviation, over seeds, of the difference of two trained models' true
            accuracies, 0..1.
        image_share: share of the variance of an image's outcome that stays the same with other
            seeds, 0..1; the rest averages out over seeds.
        contenders: of the study; they share what they know of the seeds' variance.
        level: below which p must lie, 0..1.

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
    # as `podium.statistics.verdicts` takes the largest p: pooled, with the seeds taken as fixed...
    reach = np.maximum(t * t * np.maximum(own, pooled) + images, z * z * image_square)
    if contenders > 2:  # ... and each contender by its own seeds
        from scipy.special import stdtrit

        welch = each.sum(axis=1)
        t_welch = stdtrit((seeds - 1) * welch**2 / (each**2).sum(axis=1), level / 2)
        reach = np.maximum(reach, t_welch**2 * welch + images)
    return float((means**2 * count > reach).mean())


def _seed_squares(
    random: np.random.Generator, variance: float, contenders: int, seeds: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Draws of what a pair's seeds show of their variance, without drawing the seeds.

    Lengths and angles of a few normal vectors of `seeds - 1` dimensions are enough, and Bartlett's
    decomposition gives them: the memory grows with neither contenders nor seeds.

    Args:
        random: what draws.
        variance: of a contender's effect over its seeds.
        contenders: of the study.
        seeds: of each.

    Returns:
        `(own, each, pooled)`: the mean square of the pair's difference, shape (DRAWS,); of its two
        contenders, shape (DRAWS, 2); of all pairs together, shape (DRAWS,).
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
    # the mean of the others against that of the pair, and the others among themselves
    rest = contenders - 2
    others = np.stack([along(d), along(d - 1), length(d - 2)]) / np.sqrt(rest)
    apart = variance * np.square((first + second) / 2 - others).sum(axis=0) / d
    among = variance * np.square(length((rest - 1) * d)) / d
    squares = own / 2 + 2 * rest / contenders * apart + among
    return own, each, 2 * squares / (contenders - 1)


@dataclass(frozen=True)
class Plan:
    """What a test set can show; shares in 0..1."""

    n: int
    """Test images."""
    seeds: int
    """Of each contender; 1: two trained models are compared."""
    difference: float
    """Of two accuracies, that was asked about."""
    disagreement: float
    """Share of images that exactly one of the two has right, as given or assumed."""
    level: float
    """Below which p must lie: 0.05 over the number of pairs."""
    power: float
    """Chance that a study finds the difference."""
    smallest: float | None
    """The smallest difference that is found with the wanted chance; None: none is."""
    images: int | None
    """Test images that find `difference` with the wanted chance; None: more than 10 million."""
    images_90: int | None
    """The same, with a chance of 90 %."""
    needed_seeds: int | None
    """Seeds of each recipe that find it on `n` images; None: no count up to 100 does."""


@dataclass(frozen=True)
class Assumptions:
    """What power depends on beside n and the difference; shares in 0..1."""

    disagreement: float | None = None
    """Share of images that exactly one of two models has right; empty: from the accuracy."""
    accuracy: float = 0.85
    """Mean accuracy of the two."""
    contenders: int = 2
    """All pairs of them are compared; the level is that of Holm's first step."""
    target: float = 0.8
    """The power that is wanted."""
    seed_sd: float = 0.01
    """Standard deviation over seeds of the difference of two trained models' accuracies."""
    image_share: float = 0.5
    """Share of an image's variance that stays the same with other seeds."""

    @property
    def level(self) -> float:
        """Below which p must lie: 5 % over the number of pairs."""
        return 0.05 / (self.contenders * (self.contenders - 1) / 2)

    def disagreement_at(self, difference: float) -> float:
        """The share of images that exactly one model has right, if they differ by so much."""
        if self.disagreement is not None:
            return max(self.disagreement, abs(difference))
        first = min(1.0, self.accuracy + abs(difference) / 2)
        second = max(0.0, first - abs(difference))
        share = TYPICAL_SHARE * independent_disagreement(first, second)
        return max(share, abs(difference))


def observed(sheet: PredictionTable) -> Assumptions:
    """What the contenders of a sheet show of the things that power depends on.

    Means over their pairs; the variance over seeds from those with the same seeds, two or more.

    Raises:
        ConfigError: there is no pair.
    """
    count = len(sheet.contenders)
    if count < 2 or not len(sheet):
        raise ConfigError(
            f"--like: expected runs of 2 contenders or more on the same images, got {count}."
        )
    right = [answers.predicted == sheet.labels for answers in sheet.contenders]
    apart, seed, image, rest = [], [], [], []
    for i, j in combinations(range(count), 2):
        rows = matched_seeds(sheet.contenders[i], sheet.contenders[j])
        a, b = right[i][rows[0]], right[j][rows[1]]
        apart.append(float((a != b).mean()))
        if 1 < len(a) == len(right[i]):  # the same seeds
            effect = seed_effect(a.astype(np.float64) - b)
            seed.append(max(0.0, effect.seed_square - effect.rest_square) / len(sheet))
            image.append(max(0.0, effect.image_square - effect.rest_square) / len(a))
            rest.append(effect.rest_square)
    accuracy = float(np.mean([one.mean() for one in right]))
    disagreement = max(float(np.mean(apart)), 1 / len(sheet))
    if not seed or not sum(image) + sum(rest):
        return Assumptions(disagreement, accuracy)
    return Assumptions(
        disagreement,
        accuracy,
        seed_sd=float(np.mean(seed)) ** 0.5,
        image_share=sum(image) / (sum(image) + sum(rest)),
    )


def plan(n: int, difference: float, seeds: int = 1, given: Assumptions | None = None) -> Plan:
    """The power of a study, and what would be enough.

    Args:
        n: test images.
        difference: of the accuracies that one wants to find, above 0, up to 1.
        seeds: of each recipe; 1: two trained models are compared.
        given: what else it depends on.

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
    """The smallest difference of 0.0001..1 that is enough, to 0.01 points."""
    steps = _smallest_whole(lambda tenth: enough(tenth / 10_000), 1, 10_000)
    return None if steps is None else steps / 10_000


def _smallest_whole(enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """The smallest whole number that is enough, if more never is too little."""
    if enough(low):
        return low
    top = low
    while True:  # doubling first: tests of large numbers are slow, and seldom needed
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
    """Refuse what is not a whole number from `least` to `most` (0: without an end)."""
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

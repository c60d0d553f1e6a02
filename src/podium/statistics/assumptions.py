"""What the power of a study depends on, as given or as estimated from runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from numbers import Integral

import numpy as np

from podium.errors import ConfigError
from podium.statistics.paired import design_effect, seed_effect
from podium.statistics.table import PredictionTable, matched_seeds

MOST_IMAGES = 10_000_000
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
    group_size: float = 1.0
    """Images per group, on average; 1: images are independent."""
    design_effect: float = 1.0
    """How many images of a group count as one: 1 for independent images, up to the size of the
    groups."""

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

    def for_images(self, n: int) -> Assumptions:
        """The same for another number of images: in groups of the same size, if in groups.

        Args:
            n: number of test images.

        Raises:
            ConfigError: there are fewer than two images.
        """
        if self.group_size == 1:
            return self
        return self.in_groups(n, max(2, round(n / self.group_size)))

    def in_groups(self, n: int, groups: int, design_effect: float | None = None) -> Assumptions:
        """The same for images in groups.

        Args:
            n: number of test images.
            groups: number of groups that they belong to, 2 or more and at most `n`.
            design_effect: how many images of a group count as one; None: computed from the
                likeness of images observed so far, 1 + (images per group - 1) x intraclass
                correlation (Kish, 1965).

        Raises:
            ConfigError: there cannot be so many groups, or how alike their images are is unknown.
        """
        check_count("groups", groups, 2, f"2 to {n:,}, the number of images", n)
        size = n / groups
        if design_effect is None:
            if self.group_size == 1:
                raise ConfigError(
                    "groups: how alike the images of a group are decides what they can show. Give "
                    "--design-effect (how many images of a group count as one), or --like with "
                    "runs or a CSV on images in groups, to measure it."
                )
            alike = (self.design_effect - 1) / (self.group_size - 1)
            design_effect = min(size, 1 + (size - 1) * alike)
        return replace(self, group_size=size, design_effect=design_effect)


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
    apart, alike, seed, image, rest = [], [], [], [], []
    for i, j in combinations(range(count), 2):
        rows = matched_seeds(table.contenders[i], table.contenders[j])
        a, b = right[i][rows[0]], right[j][rows[1]]
        apart.append(float((a != b).mean()))
        alike.append(design_effect((a.astype(np.float64) - b).mean(axis=0), table.groups))
        if 1 < len(a) == len(right[i]):  # the same seeds
            effect = seed_effect(a.astype(np.float64) - b)
            seed.append(max(0.0, effect.seed_square - effect.rest_square) / len(table))
            image.append(max(0.0, effect.image_square - effect.rest_square) / len(a))
            rest.append(effect.rest_square)
    accuracy = float(np.mean([one.mean() for one in right]))
    disagreement = max(float(np.mean(apart)), 1 / len(table))
    size = 1.0 if table.groups is None else len(table) / (int(table.groups.max()) + 1)
    found = Assumptions(
        disagreement, accuracy, group_size=size, design_effect=min(size, float(np.mean(alike)))
    )
    if not seed or not sum(image) + sum(rest):
        return found
    return replace(
        found,
        seed_sd=float(np.mean(seed)) ** 0.5,
        image_share=sum(image) / (sum(image) + sum(rest)),
    )


def check_count(name: str, value: object, least: int, wanted: str = "", most: int = 0) -> None:
    """Require an integer from `least` to `most`.

    Args:
        name: of the value, for the message.
        value: to check.
        least: smallest allowed value.
        wanted: what the message says was expected; empty: `least` or more.
        most: largest allowed value; 0: no limit.

    Raises:
        ConfigError: it is not such a number.
    """
    if not isinstance(value, Integral):
        raise ConfigError(f"{name}: expected a whole number, got {value!r}.")
    if int(value) < least or (most and int(value) > most):
        raise ConfigError(f"{name}: expected {wanted or f'{least} or more'}, got {value}.")


def check_share(n: int, difference: float, disagreement: float) -> None:
    """Refuse test images or a disagreement that cannot be.

    Args:
        n: number of test images.
        difference: between the accuracies, -1..1.
        disagreement: share of images that exactly one of two models gets right.

    Raises:
        ConfigError: a value is out of range.
    """
    check_count("n", n, 2, f"2 test images or more, at most {MOST_IMAGES:,}", MOST_IMAGES)
    if not abs(difference) <= disagreement <= 1:
        raise ConfigError(
            f"disagreement: expected {100 * abs(difference):g} to 100 % of the images (models that "
            f"differ by {100 * abs(difference):g} points disagree on at least as many), got "
            f"{100 * disagreement:g} %."
        )


def check_assumptions(given: Assumptions) -> None:
    """Refuse assumptions that are out of range.

    Args:
        given: the assumptions.

    Raises:
        ConfigError: a value is out of range.
    """
    if not 0 < given.accuracy < 1:
        wanted = "expected more than 0 and less than 100 %"
        raise ConfigError(f"accuracy: {wanted}, got {100 * given.accuracy:g} %.")
    check_count("contenders", given.contenders, 2)
    if not 0 < given.target < 1:
        raise ConfigError(f"power: expected more than 0 and less than 1, got {given.target:g}.")
    if given.disagreement is not None and not 0 < given.disagreement <= 1:
        raise ConfigError(
            f"disagreement: expected more than 0 and at most 100 %, got "
            f"{100 * given.disagreement:g} %."
        )
    check_chance(given.seed_sd, given.image_share)
    if not 1 <= given.design_effect <= given.group_size:
        raise ConfigError(
            f"design_effect: expected 1 (images of a group are independent) to {given.group_size:g}"
            f" (images per group: they are all alike), got {given.design_effect:g}."
        )


def check_chance(seed_sd: float, image_share: float) -> None:
    """Refuse a variance over seeds, or a share of it, that cannot be.

    Args:
        seed_sd: standard deviation over seeds, 0..1.
        image_share: share of the image variance that persists across seeds, 0..1.

    Raises:
        ConfigError: a value is out of range.
    """
    if not 0 <= seed_sd <= 1 or not 0 <= image_share <= 1:
        raise ConfigError(
            f"Expected a seed_sd of 0 or more, up to 100 points, and an image_share of 0 to 1; got "
            f"{100 * seed_sd:g} points and {image_share:g}."
        )

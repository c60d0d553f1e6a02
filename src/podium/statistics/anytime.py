"""Verdicts that stay valid however often one looks: for test sets that grow, image by image.

A p-value holds for one look that was planned. An e-process holds at every time (Ramdas et al.,
2023; Grünwald et al., 2024): if two contenders are equally good, the chance that it ever reaches
1 / level is at most the level (Ville's inequality). Here it is the wealth of a bet on the paired
differences of the images, mixed over all bets (Waudby-Smith & Ramdas, 2024). On images that exactly
one of two models gets right, it is the Beta mixture of binomial likelihoods over that of a fair
coin. It depends on what the images show, not on the order in which they came.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from podium.errors import DataError
from podium.statistics.intervals import LEVEL
from podium.statistics.table import PredictionTable, matched_seeds

Numbers = npt.NDArray[np.float64]
Outcome = Literal["superior", "equivalent", "futile", "open"]

CHANCES = (np.arange(400) + 0.5) / 400
"""Of the image that one gets right alone being the first's: a grid of their Beta mixture."""

LEAST_CHANCE = 0.05
"""A study is futile when the chance that the planned images decide it is lower than this."""

DRAWS = 400


@dataclass(frozen=True)
class AnytimeVerdict:
    """Two contenders' trained models, judged on the images that there are so far."""

    first: str
    second: str
    outcome: Outcome
    """`superior`: one is, see `ahead`; `equivalent`: within the margin; `futile`: the planned
    images will hardly show either; `open`: go on."""
    ahead: str | None
    """The contender that is more accurate so far; None: neither."""
    e: float
    """Evidence against equal accuracy."""
    e_equivalent: float | None
    """Evidence against a difference of the margin or more; None: there is no margin."""
    needed: float
    """What either takes: the number of pairs / level."""
    chance: float | None
    """That the planned images decide it, if further ones are like these; None: nothing is planned
    or left."""


def anytime_verdicts(
    table: PredictionTable,
    *,
    margin: float | None = None,
    planned: int | None = None,
    level: float = LEVEL,
) -> list[AnytimeVerdict]:
    """Judge every pair of contenders so that one may look again with more images, at any time.

    The chance of any false claim, whenever one stops, is `level` at most over all pairs. The claims
    are about the trained models; of several seeds, about their mean.

    Args:
        table: the predictions, on the images so far; no cross-validation.
        margin: difference in accuracy below which two contenders are equivalent, 0..1, chosen
            before the first look; None: equivalence is not claimed.
        planned: number of images at which the study ends at the latest; None: nothing is futile.
        level: chance of a false claim.

    Raises:
        DataError: the contenders are cross-validated: an image tests several models.
    """
    if any(one.folds is not None for one in table.contenders):
        raise DataError(
            "--anytime: expected predictions of a test split, got folds. A cross-validation has "
            "all of its images at once: compare without --anytime."
        )
    pairs = list(combinations(table.contenders, 2))
    needed = len(pairs) / level
    found = []
    for first, second in pairs:
        at = matched_seeds(first, second)
        right = [
            one.predicted[rows] == table.labels
            for one, rows in zip((first, second), at, strict=True)
        ]
        apart = (right[0].astype(np.float64) - right[1]).mean(axis=0)
        found.append(
            _judged((first.name, second.name), apart, table.groups, margin, planned, needed)
        )
    return found


def _judged(
    names: tuple[str, str],
    apart: Numbers,
    groups: npt.NDArray[np.int64] | None,
    margin: float | None,
    planned: int | None,
    needed: float,
) -> AnytimeVerdict:
    mean, chance, outcome = float(apart.mean()), None, "open"
    equal, within = evidence(apart, groups, margin)
    if equal >= math.log(needed) and mean:
        outcome = "superior"
    elif within is not None and within >= math.log(needed):
        outcome = "equivalent"
    elif planned is not None and planned > len(apart):
        units = _Units.of(apart, groups)
        chance = _chance(units, planned / len(apart) - 1, margin, math.log(needed))
        outcome = "futile" if chance < LEAST_CHANCE else "open"
    return AnytimeVerdict(
        *names,
        cast(Outcome, outcome),
        None if mean == 0 else names[mean < 0],
        _exp(equal),
        None if within is None else _exp(within),
        needed,
        chance,
    )


def evidence(
    apart: Numbers, groups: npt.NDArray[np.int64] | None = None, margin: float | None = None
) -> tuple[float, float | None]:
    """Logarithms of the evidence against equal accuracy, and against a difference of the margin.

    Args:
        apart: whether the first is right minus whether the second is, by image; -1..1.
        groups: group index of each image, from 0; None: images are independent.
        margin: 0..1; None: the second is None.

    Examples:
        >>> import numpy as np
        >>> from podium.statistics.anytime import evidence
        >>> equal, within = evidence(np.repeat([1.0, -1.0, 0.0], [40, 10, 950]), margin=0.01)
        >>> round(float(np.exp(equal))), within < 0  # 20 are enough for 5 %
        (1751, True)
    """
    units = _Units.of(apart, groups)
    within = None if margin is None else _against_margin(units, units.counts, margin)
    return _against_equal(units, units.counts), within


@dataclass(frozen=True, eq=False)
class _Units:
    """The different units, images or groups of them: differences and images, and how many of each.

    Divided by the largest group's number of images, so that a difference is in -1..1.
    """

    apart: Numbers
    sizes: Numbers
    counts: Numbers

    @classmethod
    def of(cls, apart: Numbers, groups: npt.NDArray[np.int64] | None) -> _Units:
        sizes = np.ones_like(apart)
        if groups is not None:
            apart, sizes = (np.bincount(groups, one).astype(np.float64) for one in (apart, sizes))
        rows, counts = np.unique(np.stack([apart, sizes]), axis=1, return_counts=True)
        largest = rows[1].max()
        return cls(rows[0] / largest, rows[1] / largest, counts.astype(np.float64))


def _against_equal(units: _Units, counts: Numbers) -> float:
    """Log of the evidence against a mean difference of 0."""
    weights = 1 / np.sqrt(CHANCES * (1 - CHANCES))
    return _wealth(units.apart, counts, 2 * CHANCES - 1, weights)


def _against_margin(units: _Units, counts: Numbers, margin: float) -> float:
    """Log of the evidence against a mean difference of the margin or more, either way."""
    bets = np.geomspace(1e-4, 0.999, 200) / (1 - margin)
    weights = np.ones_like(bets)
    return min(
        _wealth(margin * units.sizes + sign * units.apart, counts, bets, weights)
        for sign in (-1, 1)
    )


def _wealth(values: Numbers, counts: Numbers, bets: Numbers, weights: Numbers) -> float:
    """Log of the mixture over bets of the product of 1 + bet x value."""
    logs = counts @ np.log1p(values[:, None] * bets)
    most = float(logs.max())
    return most + math.log(float(np.average(np.exp(logs - most), weights=weights)))


def _chance(units: _Units, more: float, margin: float | None, needed: float) -> float:
    """The share of futures in which the end decides the pair.

    The units to come are like those so far, weighted at random (Bayesian bootstrap; Rubin, 1981),
    with half a pseudo-unit for either contender: twenty images on which both agree do not show that
    they always will.
    """
    random = np.random.default_rng(0)
    total = units.counts.sum()
    size = float(np.average(units.sizes, weights=units.counts))
    units = _Units(
        np.append(units.apart, [size, -size]),
        np.append(units.sizes, [size, size]),
        np.append(units.counts, [0.0, 0.0]),
    )
    weights = units.counts.copy()
    weights[-2:] = 0.5
    decided = 0
    for shares in random.dirichlet(weights, DRAWS):
        counts = units.counts + random.multinomial(round(more * total), shares)
        decided += _against_equal(units, counts) >= needed or (
            margin is not None and _against_margin(units, counts, margin) >= needed
        )
    return decided / DRAWS


def _exp(log: float) -> float:
    return math.exp(min(log, 700.0))

"""Difference in macro F1 between contenders, with its variance over images, groups and seeds."""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt

from podium.statistics.paired import SeedEffect, unpaired_effect
from podium.statistics.resample import macro_f1, resampled_macro_f1
from podium.statistics.table import ContenderPredictions, PredictionTable

Shares = npt.NDArray[np.float64]


class SamplingUnits:
    """The units of sampling: images, or groups of images."""

    def __init__(
        self,
        labels: npt.NDArray[np.int64],
        groups: npt.NDArray[np.int64] | None,
        seed_level: float = 1.0,
    ) -> None:
        self.groups, self.seed_level = groups, seed_level
        count = len(labels) if groups is None else int(groups.max()) + 1
        self.freedom = math.inf if groups is None else max(1, count - 1)
        """Degrees of freedom of a variance over them; infinite for single images."""
        classes, at, support = np.unique(labels, return_inverse=True, return_counts=True)
        # Bonett & Price (2012): two pseudo-images, one that only the first model gets right and
        # one that only the second does. Without them, models that never differed would have no
        # variance
        self.least = 2 / len(labels) ** 2
        """Added to the variance of a difference in accuracy."""
        self.least_f1 = 2 * float(((1 / (len(classes) * support)) ** 2 @ support) / len(labels))
        """The same for macro F1, where an image of a rare class weighs more."""
        holders = at if groups is None else np.unique(np.stack([at, groups]), axis=1)[0]
        absent = (1 - np.bincount(holders) / count) ** count
        self.widening = len(classes) / (len(classes) - float(absent.sum()))
        """Number of classes over the mean number in a resample. A class that is not drawn is
        missing from the mean, so resamples vary too little by this factor: by a third with one
        image per class. Few groups resampled from as few vary too little, too.
        """
        if groups is not None and count > 1:
            self.widening *= count / (count - 1)


class MacroF1:
    """Macro F1 of each seed of a contender, on the images and on the resamples."""

    def __init__(
        self, table: PredictionTable, answers: ContenderPredictions, resamples: int, seed: int
    ) -> None:
        classes = len(table.class_names)
        self.plain = np.array([macro_f1(table.labels, one, classes) for one in answers.predicted])
        self.drawn = None
        if resamples:
            draw = functools.partial(resampled_macro_f1, resamples=resamples, seed=seed)
            self.drawn = draw(table.labels, answers.predicted, classes, groups=table.groups)


def f1_difference(
    f1: tuple[MacroF1, MacroF1],
    rows: tuple[list[int], list[int]],
    drawn: SamplingUnits,
    alike: float,
    *,
    same: bool,
    single: bool,
) -> tuple[SeedEffect, float] | None:
    """Difference in macro F1, with its variance over resampled images and over seeds.

    Args:
        f1: of the two contenders.
        rows: for each contender, the rows of the seeds to pair.
        drawn: the units that were resampled.
        alike: design effect: how many images of a group count as one.
        same: whether the two have the same seeds.
        single: whether one of the two has a single seed.

    Returns:
        The effect and the least variance of its interval; None without resamples.
    """
    first, second = f1
    if first.drawn is None or second.drawn is None:
        return None
    plain = first.plain[rows[0]] - second.plain[rows[1]]
    resampled = first.drawn[rows[0]] - second.drawn[rows[1]]
    if same:
        effect = _resampled(plain, resampled, drawn)
    else:
        effect = _resampled(plain.mean(keepdims=True), resampled.mean(0, keepdims=True), drawn)
        if not single:
            alone = [_resampled(one.plain, one.drawn, drawn) for one in f1]
            effect = unpaired_effect(alone[0], alone[1], effect)
    return effect, alike**2 * drawn.least_f1


def _resampled(plain: Shares, resampled: Shares | None, drawn: SamplingUnits) -> SeedEffect:
    """The mean squares of the two-way layout, from resamples instead of sums over images.

    Args:
        plain: macro F1 of each seed, or a difference of two; shape (seeds,).
        resampled: the same on each resample, shape (seeds, resamples).
        drawn: the units that were resampled.
    """
    assert resampled is not None
    seeds = len(plain)
    together = drawn.widening * float(resampled.mean(axis=0).var(ddof=1))
    between, rest = 0.0, 0.0
    if seeds > 1:
        between = float(plain.var(ddof=1))
        alone = drawn.widening * float(resampled.var(axis=1, ddof=1).mean())
        rest = max(0.0, (alone - together) * seeds / (seeds - 1))
    squares, freedom = (between, together * seeds, rest), (max(1, seeds - 1), drawn.freedom)
    return SeedEffect(float(plain.mean()), *squares, seeds, seeds, *freedom, drawn.seed_level)

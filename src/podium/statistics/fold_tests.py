"""Tests of cross-validated contenders, fold by fold; they are about recipes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from podium.errors import ConfigError
from podium.statistics.contributions import by_class
from podium.statistics.folds import Folds, common_folds, fold_effect
from podium.statistics.influence import MOST_UNITS, image_values, units_to_leave_out
from podium.statistics.intervals import (
    CONFIDENCE,
    Interval,
    accuracy_interval,
    bounded,
    score_interval,
)
from podium.statistics.paired import (
    SeedEffect,
    design_effect,
    flipped_at_random,
    seed_effect,
    sign_flip,
)
from podium.statistics.table import ContenderPredictions, PredictionTable

LEAST_UNITS = 20  # of a fold, for the variance of its score

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FoldDesign:
    """A cross-validation, as the words about verdicts need it."""

    folds: int
    """Folds of a repeat."""
    repeats: int
    training_images: int
    """Images that each model did not see as test images, on average; validation images included."""


@dataclass(frozen=True, eq=False)
class FoldTest:
    """Two contenders compared fold by fold; differences are first minus second."""

    at: tuple[int, int]
    """Their numbers."""
    accuracy: Interval
    effect: SeedEffect
    """The difference in the metric that is judged."""
    least_variance: float
    most: float
    """The largest possible difference."""
    by_metric: bool
    """Whether it is judged by another metric than accuracy."""
    macro_recall: Interval
    only_first: float
    only_second: float
    """Images that only one of them gets right: a mean over repeats and seeds."""
    p: float
    """Of the metric's difference: corrected resampled t-test, never below sign flips of images."""

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """The interval of the difference in the metric that is judged.

        Args:
            confidence: confidence level, 0..1.
        """
        return bounded(self.effect, self.least_variance, self.most, confidence)


def mean_effect(
    values: Numbers, folds: Folds, groups: npt.NDArray[np.int64] | None = None
) -> SeedEffect:
    """A mean over images of a cross-validation, with its variance as that of a recipe.

    A claim about recipes is never more certain than one about the very models: where all folds
    have the same score, their variance is 0.

    Args:
        values: of each image, a mean over seeds; shape (repeats, images).
        folds: of the cross-validation.
        groups: group index of each image, from 0; None: images are independent.
    """
    over_folds = fold_effect(folds.units(folds.means(values)), folds.overlap)
    fixed = seed_effect(values.mean(axis=0, keepdims=True), groups)
    variance = max(over_folds.image_square, fixed.image_square / fixed.count)
    return replace(over_folds, image_square=variance)


def recipe_interval(
    right: Numbers, folds: Folds, groups: npt.NDArray[np.int64] | None = None
) -> Interval:
    """The accuracy of a cross-validated recipe, with its 95 % interval.

    Args:
        right: 1 for correct and 0 for wrong predictions, a mean over seeds; shape (repeats,
            images).
        folds: of the cross-validation.
        groups: group index of each image, from 0; None: images are independent.
    """
    units = right.shape[1] / design_effect(right.mean(axis=0), groups)
    return accuracy_interval(mean_effect(right, folds, groups), units)


class FoldScores:
    """The contenders of a table on the folds of its cross-validation."""

    def __init__(self, table: PredictionTable) -> None:
        """Score every fold.

        Args:
            table: all contenders have folds, the same ones.

        Raises:
            DataError: they have not.
        """
        found = common_folds([one.folds for one in table.contenders])
        assert found is not None
        self.table = table
        self.folds, self.rows = found
        self.right = [
            _by_repeat((one.predicted == table.labels).astype(np.float64), rows)
            for one, rows in zip(table.contenders, self.rows, strict=True)
        ]
        """Of each contender: mean over seeds of correct (1) and wrong (0); shape (repeats, images).
        """
        self.why_accuracy = ""
        self.values: list[Numbers] | None = None
        """Of each contender, the images' contributions to the metric within their folds, shape
        (repeats, images): their mean over a fold is its score; None: judged by accuracy."""
        if not table.metric.is_accuracy:
            try:
                self.values = [
                    _valued(table, one, self.folds, rows)
                    for one, rows in zip(table.contenders, self.rows, strict=True)
                ]
            except ConfigError as error:  # a fold without images of a class, say
                self.why_accuracy = str(error)

    @property
    def design(self) -> FoldDesign:
        """Numbers of folds, repeats and training images."""
        images, per_repeat = len(self.table), self.folds.count / self.folds.repeats
        trained = round(images - images / per_repeat)
        return FoldDesign(round(per_repeat), self.folds.repeats, trained)

    @property
    def covariance(self) -> Numbers:
        """Covariance of the contenders' mean scores over folds, shape (contenders, contenders)."""
        units = np.stack(
            [self.folds.units(self.folds.means(one)) for one in self.values or self.right]
        )
        inflation = 1 / self.folds.count + self.folds.overlap
        return np.asarray(np.atleast_2d(np.cov(units)) * inflation)

    def accuracy(self, at: int) -> Interval:
        """A contender's accuracy as a recipe, with its interval.

        Args:
            at: number of the contender.
        """
        return recipe_interval(self.right[at], self.folds, self.table.groups)

    def score(self, at: int) -> Interval | None:
        """A contender's score in the table's metric, with its interval; None: it is accuracy.

        Args:
            at: number of the contender.
        """
        if self.values is None:
            return None
        effect = mean_effect(self.values[at], self.folds, self.table.groups)
        alike = design_effect(self.values[at].mean(axis=0), self.table.groups)
        return score_interval(self.table.metric, effect, self.table.labels, alike)

    def tests(self) -> list[FoldTest]:
        """Every pair of contenders, in the order of `itertools.combinations`."""
        return [self._test(i, j) for i, j in combinations(range(len(self.right)), 2)]

    def _test(self, i: int, j: int) -> FoldTest:
        a, b = self.right[i], self.right[j]
        groups, n = self.table.groups, len(self.table)
        alike = design_effect((a - b).mean(axis=0), groups)
        effect = mean_effect(a - b, self.folds, groups)
        recall = mean_effect(by_class(a - b, self.table.labels), self.folds, groups)
        least, most = 2 * alike**2 / n**2, 1.0
        accuracy, macro_recall = bounded(effect, least), bounded(recall, least)
        # as with seeds, p is never below that of the very models
        seeds = len(self.rows[i][0]) * len(self.rows[j][0])
        fixed = _flips(seeds * (a - b).sum(axis=0), groups)
        if self.values is not None:
            apart = self.values[i] - self.values[j]
            effect = mean_effect(apart, self.folds, groups)
            fixed = _flips(apart.sum(axis=0), groups)
            most = self.table.metric.bounds[1] - self.table.metric.bounds[0]
            least = least * most**2 if math.isfinite(most) else 0.0
        return FoldTest(
            (i, j),
            accuracy,
            effect,
            least,
            most,
            self.values is not None,
            macro_recall,
            float((a * (1 - b)).sum() / self.folds.repeats),
            float((b * (1 - a)).sum() / self.folds.repeats),
            max(effect.p_value(), fixed),
        )


def _by_repeat(values: Numbers, rows: Sequence[npt.NDArray[np.int64]]) -> Numbers:
    return np.stack([values[at].mean(axis=0) for at in rows])


def _valued(
    table: PredictionTable,
    contender: ContenderPredictions,
    folds: Folds,
    rows: Sequence[npt.NDArray[np.int64]],
) -> Numbers:
    """The images' contributions to the metric within their folds, shape (repeats, images).

    A mean over seeds; the mean over the images of a fold is the metric of that fold.
    """
    found = np.empty((folds.repeats, len(table)))
    for values, fold, at in zip(found, folds.number, rows, strict=True):
        count = int(fold.max()) + 1
        for number in range(count):
            inside = fold == number
            groups = None
            if table.groups is not None:
                groups = np.unique(table.groups[inside], return_inverse=True)[1].astype(np.int64)
            left_out = units_to_leave_out(
                table.metric, int(inside.sum()), groups, max(LEAST_UNITS, MOST_UNITS // count)
            )
            of_seeds = [
                image_values(
                    table.metric, contender.logits[one][inside], table.labels[inside], left_out
                )
                for one in at
            ]
            values[inside] = np.mean(of_seeds, axis=0)
    return found


def _flips(totals: Numbers, groups: npt.NDArray[np.int64] | None) -> float:
    if groups is not None:
        totals = np.bincount(groups, totals).astype(np.float64)
    if np.allclose(totals, np.rint(totals)):
        return sign_flip(np.rint(totals).astype(np.int64))
    return flipped_at_random(totals)

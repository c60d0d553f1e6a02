"""Tests of cross-validated contenders, fold by fold; they are about recipes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from podium.errors import ConfigError
from podium.statistics.contributions import by_class
from podium.statistics.folds import Folds, common_folds, fold_effect
from podium.statistics.intervals import CONFIDENCE, Interval, accuracy_interval, bounded
from podium.statistics.paired import (
    SeedEffect,
    design_effect,
    flipped_at_random,
    seed_effect,
    sign_flip,
)
from podium.statistics.scoring import Metric
from podium.statistics.table import ContenderPredictions, PredictionTable

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
        self.scores: list[Numbers] | None = None
        """Of each contender, the metric of each fold, shape (count,); None: judged by accuracy."""
        if not table.metric.is_accuracy:
            try:
                self.scores = [
                    _scored(table.metric, one, table.labels, self.folds, rows)
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
        scores = self.scores or [self.folds.means(one) for one in self.right]
        units = np.stack([self.folds.units(one) for one in scores])
        inflation = 1 / self.folds.count + self.folds.overlap
        return np.asarray(np.atleast_2d(np.cov(units)) * inflation)

    def effect(self, scores: Numbers) -> SeedEffect:
        """The mean of fold scores, or of their differences, with its variance.

        Args:
            scores: shape (count,).
        """
        return fold_effect(self.folds.units(scores), self.folds.overlap)

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
        if self.scores is None:
            return None
        effect = self.effect(self.scores[at])
        low, high = effect.interval()
        least, most = self.table.metric.bounds
        return Interval(effect.mean, max(least, low), min(most, high))

    def tests(self) -> list[FoldTest]:
        """Every pair of contenders, in the order of `itertools.combinations`."""
        return [self._test(i, j) for i, j in combinations(range(len(self.right)), 2)]

    def _test(self, i: int, j: int) -> FoldTest:
        a, b = self.right[i], self.right[j]
        repeats, n = self.folds.repeats, len(self.table)
        alike = design_effect((a - b).mean(axis=0), self.table.groups)
        effect = mean_effect(a - b, self.folds, self.table.groups)
        least, most = 2 * alike**2 / n**2, 1.0
        accuracy = bounded(effect, least)
        recall = mean_effect(by_class(a - b, self.table.labels), self.folds, self.table.groups)
        macro_recall = bounded(recall, least)
        if self.scores is not None:
            effect, least = self.effect(self.scores[i] - self.scores[j]), 0.0
            most = self.table.metric.bounds[1] - self.table.metric.bounds[0]
        # as with seeds, p is never below that of the very models
        seeds = len(self.rows[i][0]) * len(self.rows[j][0])
        fixed = _flips(seeds * (a - b).sum(axis=0), self.table.groups)
        return FoldTest(
            (i, j),
            accuracy,
            effect,
            least,
            most,
            self.scores is not None,
            macro_recall,
            float((a * (1 - b)).sum() / repeats),
            float((b * (1 - a)).sum() / repeats),
            max(effect.p_value(), fixed if self.scores is None else 0.0),
        )


def _by_repeat(values: Numbers, rows: Sequence[npt.NDArray[np.int64]]) -> Numbers:
    return np.stack([values[at].mean(axis=0) for at in rows])


def _scored(
    metric: Metric,
    contender: ContenderPredictions,
    labels: npt.NDArray[np.int64],
    folds: Folds,
    rows: Sequence[npt.NDArray[np.int64]],
) -> Numbers:
    """The metric of each fold, a mean over the seeds; shape (count,)."""
    if metric.per_image is not None:
        values = np.stack(
            [np.asarray(metric.per_image(one, labels), np.float64) for one in contender.logits]
        )
        return folds.means(_by_repeat(values, rows))
    found = []
    for fold, at in zip(folds.number, rows, strict=True):
        for number in range(int(fold.max()) + 1):
            inside = fold == number
            scores = [metric.score(contender.logits[one][inside], labels[inside]) for one in at]
            found.append(float(np.mean(scores)))
    return np.asarray(found)


def _flips(totals: Numbers, groups: npt.NDArray[np.int64] | None) -> float:
    if groups is not None:
        totals = np.bincount(groups, totals).astype(np.float64)
    if np.allclose(totals, np.rint(totals)):
        return sign_flip(np.rint(totals).astype(np.int64))
    return flipped_at_random(totals)

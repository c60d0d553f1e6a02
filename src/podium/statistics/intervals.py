"""Confidence intervals of a score and of a difference, over seeds and images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when they are first used

from podium.statistics.contributions import area_variance, effective_images
from podium.statistics.metrics import wilson_interval
from podium.statistics.paired import SeedEffect, design_effect, seed_effect
from podium.statistics.scoring import Metric

LEVEL = 0.05
CONFIDENCE = 1 - LEVEL


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % confidence interval."""

    value: float
    low: float
    high: float


def score_interval(
    metric: Metric, effect: SeedEffect, labels: npt.NDArray[np.int64], alike: float
) -> Interval:
    """A contender's score with its interval; one in a finite range is treated like accuracy.

    Args:
        metric: what the score is.
        effect: the score, with its variance.
        labels: class index of each image.
        alike: design effect: how many images of a group count as one.
    """
    if metric.contributions is not None:
        return _area_interval(effect, labels, alike)
    low, high = metric.bounds
    if not math.isfinite(high - low):
        below, above = effect.interval(CONFIDENCE)
        return Interval(effect.mean, max(low, below), min(high, above))
    of_classes = metric.per_image_of_class is not None
    n = effective_images(labels) if of_classes else len(labels)
    share = accuracy_interval(_moved(effect, -low, 1 / (high - low)), n / alike)
    width = high - low
    return Interval(effect.mean, low + width * share.low, low + width * share.high)


def _area_interval(effect: SeedEffect, labels: npt.NDArray[np.int64], alike: float) -> Interval:
    """AUROC with an interval of those areas that a score test would not reject.

    DeLong's variance is 0 where all images are ranked correctly, and uncertain where few are not.
    So it is divided by the variance that a model of ranks gives at the same area, each with one
    pseudo-image of each class more, ranked like a random guess; the interval has the variance of
    the model at its own bounds, times that ratio (as Wilson's interval for a share, and Newcombe's,
    2006, for an area).
    """
    support = np.unique(labels, return_counts=True)[1]
    low, high = effect.interval(CONFIDENCE)
    z = float(scipy.special.ndtri((1 + CONFIDENCE) / 2))
    mean = min(1.0, max(0.0, effect.mean))
    spare = (mean - 0.5) ** 2 * float((1 / (len(support) * support) ** 2).sum())
    measured = ((high - low) / 2 / z) ** 2 + alike * spare
    ratio = measured / (area_variance(mean, support) + spare)

    def excess(area: float) -> float:
        return (mean - area) ** 2 - z * z * ratio * area_variance(area, support)

    # at 0 and 1 the model has no variance either
    below = scipy.optimize.brentq(excess, 0.0, min(mean, 1 - 1e-9)) if mean > 0 else 0.0
    above = scipy.optimize.brentq(excess, max(mean, 1e-9), 1.0) if mean < 1 else 1.0
    return Interval(effect.mean, float(below), float(above))


def bounded(
    effect: SeedEffect, least_variance: float, most: float = 1.0, confidence: float = CONFIDENCE
) -> Interval:
    """The effect's confidence interval, clipped to its possible range.

    Args:
        effect: a difference.
        least_variance: added to the variance over images.
        most: largest possible difference; the range is -`most`..`most`.
        confidence: confidence level, 0..1.
    """
    low, high = effect.interval(confidence, least_variance=least_variance)
    return Interval(effect.mean, max(-most, low), min(most, high))


def accuracy_interval(effect: SeedEffect, units: float) -> Interval:
    """Accuracy with its confidence interval, over seeds or over groups of images.

    Adds four pseudo-images, two correct and two wrong (Agresti & Coull, 1998): with 50 images that
    are all or nearly all correct, the plain variance would suggest almost no uncertainty.

    Args:
        effect: mean and mean squares of correct (1) and wrong (0) predictions.
        units: effective number of images: fewer than there are where those of a group are alike.
    """
    middle = (units * effect.mean + 2) / (units + 4)
    share = units / (units + 4)
    moved = units * (effect.mean - middle) ** 2 + 2 * (1 - middle) ** 2 + 2 * middle**2
    shrunk = replace(_moved(effect, 0.0, share), mean=middle)
    low, high = shrunk.interval(CONFIDENCE, least_variance=moved / (units + 4) ** 2)
    return Interval(effect.mean, max(0.0, low), min(1.0, high))


def mean_accuracy(
    right: npt.NDArray[np.float64],
    groups: npt.NDArray[np.int64] | None = None,
    seed_level: float = 1.0,
) -> Interval:
    """The accuracy of a contender over its seeds and some images, with its 95 % interval.

    Args:
        right: 1 for correct and 0 for wrong predictions, shape (seeds, images).
        groups: group index of each image, from 0, shape (images,); None: images are independent.
        seed_level: the part of any level that the seeds get.
    """
    seeds, n = right.shape
    effect = seed_effect(right, groups, seed_level=seed_level)
    if seeds == 1 and groups is None:
        return Interval(effect.mean, *wilson_interval(int(right.sum()), n, CONFIDENCE))
    return accuracy_interval(effect, n / design_effect(right.mean(axis=0), groups))


def _moved(effect: SeedEffect, by: float, scale: float) -> SeedEffect:
    """The effect of values to which `by` is added and that are then scaled."""
    return replace(
        effect,
        mean=(effect.mean + by) * scale,
        seed_square=effect.seed_square * scale**2,
        image_square=effect.image_square * scale**2,
        rest_square=effect.rest_square * scale**2,
    )


def share_interval(
    right: npt.NDArray[np.bool_], groups: npt.NDArray[np.int64] | None = None
) -> tuple[float, float]:
    """95 % interval of a share of images, such as an accuracy or the recall of a class.

    Args:
        right: whether each image counts, shape (images,), one image or more.
        groups: group of each image, any numbers, shape (images,): the interval is cluster-robust;
            None: images are independent, and the interval is Wilson's.

    Returns:
        Lower and upper bound, 0..1.

    Examples:
        >>> import numpy as np
        >>> from podium.statistics.intervals import share_interval
        >>> right = np.arange(100) >= 10  # ten mistakes, all of them in the first of 20 groups
        >>> low, high = share_interval(right)
        >>> round(low, 3), round(high, 3)
        (0.826, 0.945)
        >>> low, high = share_interval(right, np.arange(100) // 5)
        >>> round(low, 3), round(high, 3)
        (0.672, 0.995)
    """
    n = len(right)
    if groups is None:
        return wilson_interval(int(right.sum()), n, CONFIDENCE)
    values = right.astype(np.float64)
    units = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    effect = seed_effect(values[None], units)
    found = accuracy_interval(effect, n / design_effect(values, units))
    return found.low, found.high

"""Difference in mean recall between contenders: every class counts the same, however rare."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from podium.statistics.f1_difference import SamplingUnits
from podium.statistics.intervals import Interval, bounded
from podium.statistics.paired import seed_effect, unpaired_effect

Shares = npt.NDArray[np.float64]


def recall_difference(
    right: tuple[Shares, Shares],
    rows: tuple[list[int], list[int]],
    labels: npt.NDArray[np.int64],
    drawn: SamplingUnits,
    alike: float,
    *,
    same: bool,
    single: bool,
) -> Interval:
    """Difference in mean recall (balanced accuracy) with its 95 % interval.

    Args:
        right: of the two contenders, 1 where a prediction is correct; shape (seeds, images).
        rows: for each contender, the rows of the seeds to pair.
        labels: class index of each image.
        drawn: the sampling units.
        alike: design effect: how many images of a group count as one.
        same: whether the two have the same seeds.
        single: whether one of the two has a single seed.
    """
    apart = by_class(right[0][rows[0]] - right[1][rows[1]], labels)
    if same:
        effect = seed_effect(apart, drawn.groups)
    else:
        effect = seed_effect(apart.mean(axis=0, keepdims=True), drawn.groups)
        if not single:
            alone = [seed_effect(by_class(one, labels), drawn.groups) for one in right]
            effect = unpaired_effect(alone[0], alone[1], effect)
    return bounded(effect, alike**2 * drawn.least_f1)


def by_class(values: Shares, labels: npt.NDArray[np.int64]) -> Shares:
    """Values whose plain mean is the mean over the classes of each class's mean.

    Args:
        values: of each image, shape (seeds, images).
        labels: class index of each image.

    Returns:
        Shape (seeds, images): the mean over classes, plus each image's deviation from the mean of
        its class, scaled so that the variance of the plain mean is that of the mean over classes.
        An image alone in its class deviates from the mean over classes instead.
    """
    _, at, support = np.unique(labels, return_inverse=True, return_counts=True)
    classes, n = len(support), len(labels)
    means = np.stack([np.bincount(at, one) / support for one in values])
    overall = means.mean(axis=1, keepdims=True)
    # without the root, a class of five images would vary a tenth too little
    scale = n / (classes * support) * np.sqrt(support / np.maximum(1, support - 1))
    apart = (values - np.where(support > 1, means, overall)[:, at]) * scale[at]
    found: Shares = overall + apart - apart.mean(axis=1, keepdims=True)
    return found

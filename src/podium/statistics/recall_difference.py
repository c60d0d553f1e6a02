"""Difference in mean recall between contenders: every class counts the same, however rare."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from podium.statistics.contributions import by_class, class_freedom
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
    units = drawn.groups, class_freedom(labels), drawn.seed_level
    if same:
        effect = seed_effect(apart, *units)
    else:
        effect = seed_effect(apart.mean(axis=0, keepdims=True), *units)
        if not single:
            alone = [seed_effect(by_class(one, labels), *units) for one in right]
            effect = unpaired_effect(alone[0], alone[1], effect)
    return bounded(effect, alike**2 * drawn.least_f1)

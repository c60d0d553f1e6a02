"""Each image's contribution to a metric, so that any metric can be tested like accuracy.

Accuracy is a mean over images, and its tests use the image values. Other metrics, such as macro
F1, are not means. The jackknife (Tukey, 1958) makes them so to first order: an image's pseudo-value
is the metric plus the weighted loss from leaving that image out. The mean of the pseudo-values is
the metric, and their variance gives that of the metric.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from podium.errors import ConfigError
from podium.statistics.contributions import by_class, class_freedom, class_weights
from podium.statistics.f1_difference import SamplingUnits
from podium.statistics.intervals import Interval, score_interval
from podium.statistics.pair_tests import Judged
from podium.statistics.paired import design_effect, seed_effect
from podium.statistics.scoring import Metric
from podium.statistics.table import PredictionTable

MOST_UNITS = 500  # evaluations of a metric per run; with more images, blocks are left out

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Influence:
    """The images' contributions to the metric of a table."""

    metric: Metric
    values: tuple[Values, ...]
    """One array per contender, shape (seeds, images); the mean of a row is that seed's score."""
    groups: Indices | None
    """The group or block of each image that was left out together; None: single images."""
    labels: Indices
    """Class index of each image."""
    freedom: float = math.inf
    """Degrees of freedom of variances over images: few for a mean over classes with a rare one."""
    swapped: tuple[Values, ...] | None = None
    """For a mean over classes: the images' values times the weight of their class. If two models
    are equivalent, an image's could just as well be swapped. None: `values`."""
    seed_level: float = 1.0
    """The part of any level that the seeds get: see `podium.statistics.looks`."""

    def judged(self, drawn: SamplingUnits) -> Judged:
        """What contenders are compared by.

        Args:
            drawn: the sampling units of the images.
        """
        low, high = self.metric.bounds
        most = high - low
        # a pseudo-image is right or wrong; for an area under a curve, ranked perfectly or as by a
        # guess
        swing = most if self.metric.contributions is None else most / 2
        least = drawn.least_f1 * swing**2 if math.isfinite(swing) else 0.0
        return Judged(
            self.values,
            self.groups,
            least,
            most,
            freedom=self.freedom,
            swapped=self.swapped,
            seed_level=self.seed_level,
        )

    def score(self, at: int) -> Interval:
        """A contender's score over seeds and images, with its interval.

        Args:
            at: number of the contender.
        """
        effect = seed_effect(self.values[at], self.groups, self.freedom, self.seed_level)
        alike = design_effect(self.values[at].mean(axis=0), self.groups)
        return score_interval(self.metric, effect, self.labels, alike)


def judged_of(table: PredictionTable) -> Judged:
    """What the contenders of a table are compared by: its metric, or accuracy.

    Args:
        table: the predictions of all contenders.
    """
    drawn, found = SamplingUnits(table.labels, table.groups, table.seed_level), influences(table)
    if isinstance(found, Influence):
        return found.judged(drawn)
    right = [(one.predicted == table.labels).astype(np.float64) for one in table.contenders]
    level = table.seed_level
    return Judged(right, table.groups, drawn.least, counted=True, seed_level=level)


def influences(table: PredictionTable) -> Influence | str | None:
    """The images' contributions to the table's metric.

    Args:
        table: the predictions of all contenders.

    Returns:
        None where the metric is accuracy; a sentence with the reason where the metric cannot be
        computed: its function is not loaded, say, or fails without one of the images.
    """
    metric = table.metric
    if metric.is_accuracy:
        return None
    groups = units_to_leave_out(metric, len(table), table.groups)
    try:
        values = tuple(
            np.stack([image_values(metric, one, table.labels, groups) for one in contender.logits])
            for contender in table.contenders
        )
    except ConfigError as error:
        return str(error)
    found = Influence(metric, values, groups, table.labels, seed_level=table.seed_level)
    if metric.per_image_of_class is None:
        return found
    return replace(found, freedom=class_freedom(table.labels), swapped=_swapped(table))


def units_to_leave_out(
    metric: Metric, n: int, groups: Indices | None, most: int = MOST_UNITS
) -> Indices | None:
    """What `image_values` leaves out together: images, groups, or random blocks of too many.

    Args:
        metric: where the values are known in closed form, nothing is left out.
        n: number of images.
        groups: group index of each image, from 0; None: images are independent.
        most: evaluations of the metric.

    Returns:
        Index of each image's unit, from 0; None: single images.
    """
    known = metric.per_image, metric.per_image_of_class, metric.contributions
    units = n if groups is None else int(groups.max()) + 1
    if units <= most or any(one is not None for one in known):
        return groups
    block = np.random.default_rng(0).permutation(units) % most
    return np.asarray(block if groups is None else block[groups], np.int64)


def _swapped(table: PredictionTable) -> tuple[Values, ...]:
    found = table.metric.per_image_of_class
    assert found is not None
    weights = class_weights(table.labels)
    return tuple(
        np.stack([np.asarray(found(one, table.labels), np.float64) for one in contender.logits])
        * weights
        for contender in table.contenders
    )


def image_values(
    metric: Metric,
    logits: npt.NDArray[np.float32],
    labels: Indices,
    groups: Indices | None = None,
) -> Values:
    """The value of each image, with the metric as their mean; shape (images,).

    Args:
        metric: evaluated once per image or group.
        logits: of one model, shape (images, classes).
        labels: class index of each image.
        groups: group index of each image, from 0, to leave out whole groups; None: single images.

    Raises:
        ConfigError: the metric cannot be computed.
    """
    n, whole = len(labels), metric.score(logits, labels)
    if metric.per_image is not None:
        return np.asarray(metric.per_image(logits, labels), np.float64)
    if metric.per_image_of_class is not None:
        values = np.asarray(metric.per_image_of_class(logits, labels), np.float64)
        return np.asarray(by_class(values[None], labels)[0])
    if metric.contributions is not None:
        return np.asarray(metric.contributions(logits, labels), np.float64)
    units = np.arange(n) if groups is None else groups
    sizes = np.bincount(units)
    if len(sizes) < 2:
        return np.full(n, whole)
    lost = np.empty(len(sizes))
    for unit in range(len(sizes)):
        kept = units != unit
        lost[unit] = whole - metric.score(logits[kept], labels[kept])
    values = whole + (lost * (n - sizes) / sizes)[units]
    return np.asarray(values + (whole - values.mean()))

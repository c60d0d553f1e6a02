"""What each image contributes to a metric: so that any metric can be tested as accuracy is.

Accuracy is a mean over the images, and its tests rest on the images' values. Another metric, such
as macro F1, is none. The jackknife (Tukey, 1958) makes it one to a first order: an image's value
is the metric, plus what would be lost without the image. Their mean is the metric, and their
variance is that of the metric.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from podium.errors import ConfigError
from podium.statistics.scoring import Metric
from podium.statistics.table import PredictionTable

MOST_UNITS = 500  # computations of a metric for each run; of more images, blocks are left out

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Influence:
    """What the images of a sheet contribute to its metric."""

    metric: Metric
    values: tuple[Values, ...]
    """Of each contender, shape (seeds, images); a row's mean is the metric of that seed."""
    groups: Indices | None
    """What was left out at a time, as numbers of the images; None: every image for itself."""


def influences(sheet: PredictionTable) -> Influence | str | None:
    """What the images contribute to the sheet's metric.

    Returns:
        None where the metric is accuracy; why not, where it cannot be computed: its function is a
        user's that is not loaded, say, or fails once an image is left out.
    """
    metric = sheet.metric
    if metric.is_accuracy:
        return None
    groups = sheet.groups if metric.per_image is not None else _blocks(sheet)
    try:
        values = tuple(
            np.stack([image_values(metric, one, sheet.labels, groups) for one in contender.logits])
            for contender in sheet.contenders
        )
    except ConfigError as error:
        return str(error)
    return Influence(metric, values, groups)


def image_values(
    metric: Metric,
    logits: npt.NDArray[np.float32],
    labels: Indices,
    groups: Indices | None = None,
) -> Values:
    """The value of each image, with the metric as their mean; shape (images,).

    Args:
        metric: to be computed once for each image or group.
        logits: of one model, shape (images, classes).
        labels: of the images, indices of classes.
        groups: number of each image's group, from 0; whole groups are left out then.

    Raises:
        ConfigError: the metric cannot be computed.
    """
    n, whole = len(labels), metric.score(logits, labels)
    if metric.per_image is not None:
        return np.asarray(metric.per_image(logits, labels), np.float64)
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


def _blocks(sheet: PredictionTable) -> Indices | None:
    """What is left out at a time: images or groups, and of many, blocks of them drawn once."""
    n = len(sheet) if sheet.groups is None else int(sheet.groups.max()) + 1
    if n <= MOST_UNITS:
        return sheet.groups
    block = np.random.default_rng(0).permutation(n) % MOST_UNITS
    return np.asarray(block if sheet.groups is None else block[sheet.groups], np.int64)

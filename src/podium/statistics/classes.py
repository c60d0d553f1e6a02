"""Which classes have a significantly different recall; with five images per class, few do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from podium.statistics.families import holm
from podium.statistics.intervals import LEVEL, share_interval
from podium.statistics.metrics import ClassScores, per_class
from podium.statistics.paired import design_effect

if TYPE_CHECKING:
    from podium.runs.predictions import Predictions

Indices = npt.NDArray[np.int64]


def significant_classes(classes: Sequence[ClassScores], level: float = LEVEL) -> list[bool]:
    """Whether the recall of each class differs significantly from that of all others.

    Fisher's exact test (Fisher, 1935) on correct and wrong predictions, each class versus the
    rest, with Holm's adjustment over the classes. Ranking the other classes would rank noise.

    Args:
        classes: of one run, with recall and support; images are independent.
        level: significance level of the adjusted p-value, 0..1.

    Returns:
        One flag per class, in the order given.
    """
    from scipy.stats import fisher_exact

    right = [round(one.recall * one.support) for one in classes]
    total, images = sum(right), sum(one.support for one in classes)
    p_values: dict[tuple[int, int], float] = {}
    found = []
    for hits, one in zip(right, classes, strict=True):
        key = (hits, one.support)
        if key not in p_values:
            rest = total - hits, images - total - (one.support - hits)
            p_values[key] = float(fisher_exact([[hits, one.support - hits], rest]).pvalue)
        found.append(p_values[key])
    return [p < level for p in holm(found)]


def significant_class_names(
    classes: Sequence[ClassScores],
    predictions: Predictions | None = None,
    groups: Indices | None = None,
) -> frozenset[str]:
    """Names of the classes whose recall differs significantly from that of all others.

    Args:
        classes: of one run, with recall and support.
        predictions: of that run; only needed with groups.
        groups: group index of each image, from 0, shape (images,): the groups are the sampling
            units (`class_p_by_groups`); None: images are independent.
    """
    if predictions is None or groups is None:
        apart = significant_classes(classes)
    else:
        right = predictions.predicted == predictions.labels
        found = class_p_by_groups(predictions.labels, right, groups, len(classes))
        apart = [p < LEVEL for p in holm(found)]
    return frozenset(one.name for one, differs in zip(classes, apart, strict=True) if differs)


def class_p_by_groups(
    labels: Indices, right: npt.NDArray[np.bool_], groups: Indices, classes: int
) -> list[float]:
    """p of "this class has the recall of all others", where images come in groups.

    Fisher's exact test on effective numbers of images: the counts of the class, and those of the
    others, are divided by their design effect (Rao & Scott, 1992). The design effect is estimated
    from all classes together, since one class lies in few groups.

    Args:
        labels: class index of each image, shape (images,).
        right: whether each image is classified correctly, shape (images,).
        groups: group index of each image, from 0, shape (images,).
        classes: number of classes.

    Returns:
        p of each class, 0..1; 1 for a class without images, or with all of them.
    """
    from scipy.stats import fisher_exact

    hits = right.astype(np.float64)
    cells = np.unique(np.stack([groups, labels]), axis=1, return_inverse=True)[1].ravel()
    within, overall = design_effect(hits, cells), design_effect(hits, groups)
    support = np.bincount(labels, minlength=classes)
    own = np.bincount(labels, hits, classes)

    def counts(correct: float, images: int, alike: float) -> tuple[int, int]:
        effective = round(images / alike)
        kept = round(effective * correct / images)
        return kept, effective - kept

    found = []
    for n, correct in zip(support.tolist(), own.tolist(), strict=True):
        if not 0 < n < len(labels):
            found.append(1.0)
            continue
        rest = counts(hits.sum() - correct, len(labels) - n, overall)
        found.append(float(fisher_exact([counts(correct, n, within), rest]).pvalue))
    return found


def per_class_by_groups(predictions: Predictions, groups: Indices | None) -> list[ClassScores]:
    """Precision, recall and F1 of every class, with intervals of recall that count groups.

    Args:
        predictions: of every image of a split.
        groups: group index of each image, shape (images,); None: images are independent.

    Raises:
        DataError: there are no images.
    """
    classes = per_class(predictions)
    if groups is None:
        return classes
    right = predictions.predicted == predictions.labels
    order = np.argsort(predictions.labels, kind="stable")
    ends = np.cumsum([one.support for one in classes])
    return [
        replace(one, by_groups=share_interval(right[part], groups[part])) if one.support else one
        for one, part in zip(classes, np.split(order, ends[:-1]), strict=True)
    ]

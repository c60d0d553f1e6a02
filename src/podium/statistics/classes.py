"""Which classes have a significantly different recall; with five images per class, few do."""

from __future__ import annotations

from collections.abc import Sequence

from podium.statistics.metrics import ClassScores
from podium.statistics.paired import holm


def significant_classes(classes: Sequence[ClassScores], level: float = 0.05) -> list[bool]:
    """Whether the recall of each class differs significantly from that of all others.

    Fisher's exact test (Fisher, 1935) on correct and wrong predictions, each class versus the
    rest, with Holm's adjustment over the classes. Ranking the other classes would rank noise.

    Args:
        classes: of one run, with recall and support.
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


def significant_class_names(classes: Sequence[ClassScores]) -> frozenset[str]:
    """Names of the classes whose recall differs significantly from that of all others.

    Args:
        classes: of one run, with recall and support.
    """
    apart = zip(classes, significant_classes(classes), strict=True)
    return frozenset(one.name for one, differs in apart if differs)

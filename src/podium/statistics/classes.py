"""Which classes can be told from the others by their recall; with five images each, few can."""

from __future__ import annotations

from collections.abc import Sequence

from podium.statistics.metrics import ClassScores
from podium.statistics.paired import holm


def significant_classes(classes: Sequence[ClassScores], level: float = 0.05) -> list[bool]:
    """Whether each class's recall differs from that of all others beyond chance.

    Fisher's exact test (Fisher, 1935) of right and wrong answers, this class against the rest,
    adjusted by Holm over the classes. Ranking a class that is not told apart would rank noise.

    Args:
        classes: of one run, with recall and support.
        level: below which the adjusted p must lie, 0..1.
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
    """Names of the classes that `told_apart` finds."""
    apart = zip(classes, significant_classes(classes), strict=True)
    return frozenset(one.name for one, differs in apart if differs)

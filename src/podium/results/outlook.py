"""What a study's test images could show at all, whatever they did show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median_low

from podium.statistics.assumptions import Assumptions, observed
from podium.statistics.power import images_needed, smallest_difference
from podium.statistics.table import PredictionTable
from podium.statistics.verdicts import Verdicts


@dataclass(frozen=True)
class Outlook:
    """The power of a study's test images, as `podium power --like` computes it."""

    given: Assumptions
    """What power depends on, as observed in this study."""
    seeds: int
    """Of most contenders: one that lacks a seed does not speak for the others."""
    smallest: float | None
    """The smallest difference in accuracy that is found with the target power; None: none is."""
    gap: float
    """Difference in accuracy between the two best contenders, as measured."""
    images: int | None
    """Test images that find a true difference of `gap`; None: no number does, or there is no need
    to know, since the two best are told apart or measured as equal."""


def outlook(table: PredictionTable | None, verdicts: Verdicts | None) -> Outlook | None:
    """The power of a study's test images.

    Args:
        table: the predictions of its contenders; None: their test images differ.
        verdicts: of its contenders; None: likewise.

    Returns:
        The outlook; None for fewer than two contenders or images, for contenders that are always
        or never right, and for folds, whose test has a power that depends on what no study shows:
        how alike models are that share training images.
    """
    if table is None or verdicts is None or not verdicts.pairs or verdicts.folds is not None:
        return None
    given = replace(observed(table), contenders=len(table.contenders))
    if len(table) < 2 or not 0 < given.accuracy < 1:
        return None
    seeds = median_low(len(one.seeds) for one in table.contenders)
    by_accuracy = sorted(verdicts.standings, key=lambda one: -one.accuracy.value)
    first, second = by_accuracy[:2]
    gap = first.accuracy.value - second.accuracy.value
    undecided = verdicts.pair(first.name, second.name).winner is None
    return Outlook(
        given,
        seeds,
        smallest_difference(len(table), seeds, given),
        gap,
        images_needed(gap, seeds, given) if undecided and gap > 0 else None,
    )

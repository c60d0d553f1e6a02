"""How many wrong labels the verdict on two trained models survives, in the worst case."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from podium.statistics.intervals import LEVEL
from podium.statistics.paired import mcnemar


@dataclass(frozen=True)
class Survived:
    """Changes of the test set that leave a verdict as it is, whichever images they are about."""

    struck: int
    """Images that may be struck out."""
    relabelled: int
    """Images that may turn out to be of any other class."""


def survived(only_first: int, only_second: int, level: float = LEVEL) -> Survived | None:
    """The numbers of changes that cannot reverse a verdict of McNemar's test with mid-p.

    The most harmful image to strike out is one that only the better model gets right. The most
    harmful wrong label is that of such an image whose true class is the other model's answer: it
    then counts for the other.

    Args:
        only_first: number of images that only the first model gets right.
        only_second: number of images that only the second model gets right.
        level: significance level of the pair, 0..1.

    Returns:
        The largest such numbers; None: there is no verdict at this level.

    Examples:
        >>> survived(30, 12)
        Survived(struck=6, relabelled=2)
    """
    more, fewer = max(only_first, only_second), min(only_first, only_second)
    lead = more - fewer

    def struck_too_many(count: int) -> bool:
        return mcnemar(more - count, fewer) >= level

    def relabelled_too_many(count: int) -> bool:
        return 2 * count >= lead or mcnemar(more - count, fewer + count) >= level

    if struck_too_many(0):
        return None
    return Survived(
        bisect_left(range(lead), True, key=struck_too_many) - 1,
        bisect_left(range(lead), True, key=relabelled_too_many) - 1,
    )

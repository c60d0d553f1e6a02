"""Better, equivalent within a margin, or undecided; and how much worse than the best at most.

That two contenders do not differ significantly does not make them equivalent: a small test set
tells nothing apart. Equivalence is a claim of its own, by two one-sided tests at 5 % each
(Schuirmann, 1987; for paired proportions Tango, 1998): the 90 % interval of the difference must lie
within the margin. With several pairs it is the interval that holds for all of them together, so
that a verdict follows from the very bound that is printed beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from podium.statistics.intervals import LEVEL, Interval
from podium.statistics.scoring import Metric

IntervalAt = Callable[[float], Interval]
"""The interval of a pair's difference, first minus second, at a confidence level of 0..1."""

SHOWN = 0.75
"""Median width of the pairs' 95 % intervals times this is the margin that is assumed: two equal
contenders with intervals of that width are called equivalent in about 80 % of studies, since
(1.645 + 1.282) / (2 x 1.960) = 0.75."""


EQUIVALENCE = 2 * LEVEL
"""What intervals that show equivalence leave out, at both ends together: two one-sided tests."""


@dataclass(frozen=True)
class Margin:
    """The difference below which two contenders count as equivalent."""

    size: float
    """In units of the metric; a share in 0..1."""
    chosen: bool
    """Whether the user chose it; False: it is what these test images can show."""

    def contains(self, within: float) -> bool:
        """Whether contenders that differ by less than `within` are equivalent.

        Args:
            within: see `podium.statistics.verdicts.Pair.within`.
        """
        return within < self.size < math.inf


NO_MARGIN = Margin(math.inf, False)
"""Where there is nothing to compare."""


def margin_of(given: float | None, intervals: Sequence[Interval], metric: Metric) -> Margin:
    """The margin that was asked for, or the smallest round one that these images can show.

    Args:
        given: in units of the metric, a share in 0..1; None: chosen from the intervals.
        intervals: 95 % intervals of the differences of all pairs, one or more.
        metric: that they are about.

    Returns:
        The margin. A chosen one is `SHOWN` times the median width of the intervals, rounded up to
        half a point, or to one significant digit for a metric that is no share.
    """
    if given is not None:
        return Margin(given, True)
    wanted = SHOWN * median(one.high - one.low for one in intervals)
    if not math.isfinite(wanted) or wanted <= 0:
        return NO_MARGIN
    step = 0.005 if metric.percent else 10 ** math.floor(math.log10(wanted))
    return Margin(round(step * math.ceil(wanted / step - 1e-9), 12), False)


def bound_of(interval: Interval) -> float:
    """How much two contenders differ at most, whichever is better.

    Args:
        interval: of the difference, at a confidence of 90 %: each of its ends is exceeded in 5 % of
            studies, and the truth can lie beyond one of them only.

    Returns:
        The end that is farther from 0, without its sign.

    Examples:
        >>> from podium.statistics.intervals import Interval
        >>> from podium.statistics.margins import EQUIVALENCE, bound_of
        >>> from podium.statistics.paired import paired_interval
        >>> found = Interval(0.0, *paired_interval(30, 30, 2000, 1 - EQUIVALENCE))
        >>> round(bound_of(found), 4)  # equivalent within 1 point, not within half a point
        0.0065
    """
    return max(-interval.low, interval.high)


def behind_the_best(
    intervals: Mapping[tuple[str, str], IntervalAt], names: Sequence[str], metric: Metric
) -> dict[str, float]:
    """How much worse than the best each contender is at most, whichever the best is.

    One-sided bounds of the differences from every other contender; the largest counts (comparisons
    with the best: Hsu, 1984). Divided among all but the best, 5 % is the probability that any of
    these bounds is exceeded.

    Args:
        intervals: of each pair (first, second), of first minus second.
        names: of all contenders.
        metric: that the differences are about; a lower one may be better.

    Returns:
        By name, 0 or more, in units of the metric.
    """
    if len(names) < 2:
        return dict.fromkeys(names, 0.0)
    found = dict.fromkeys(names, 0.0)
    confidence = 1 - 2 * LEVEL / (len(names) - 1)
    for (first, second), interval in intervals.items():
        one = interval(confidence)
        ends = (one.low, one.high) if metric.greater_is_better else (-one.high, -one.low)
        found[first] = max(found[first], -ends[0])  # second may be ahead of first by so much
        found[second] = max(found[second], ends[1])
    return found


@dataclass(frozen=True)
class MarginFindings:
    """What a margin says about the pairs and contenders of a table."""

    margin: Margin
    within: tuple[float, ...]
    """Of each pair, how much the two differ at most."""
    behind: dict[str, float]
    """`behind_the_best` of each contender, by name."""

    @property
    def equivalent(self) -> list[bool]:
        """Whether each pair differs by less than the margin."""
        return [self.margin.contains(one) for one in self.within]


def judge_margin(
    given: float | None,
    alone: Mapping[tuple[str, str], IntervalAt],
    joint: Sequence[Interval],
    names: Sequence[str],
    metric: Metric,
) -> MarginFindings:
    """Bound the difference of every pair, and how much worse than the best each contender is.

    Args:
        given: the margin, in units of the metric; None: what the images can show.
        alone: the interval of each pair (first, second) by itself, of first minus second.
        joint: intervals that hold for all pairs together at a confidence of 1 - `EQUIVALENCE`, in
            the same order.
        names: of all contenders.
        metric: that the differences are about.
    """
    behind = behind_the_best(alone, names, metric)
    if not alone:
        return MarginFindings(Margin(given or math.inf, given is not None), (), behind)
    margin = margin_of(given, [one(1 - LEVEL) for one in alone.values()], metric)
    return MarginFindings(margin, tuple(map(bound_of, joint)), behind)

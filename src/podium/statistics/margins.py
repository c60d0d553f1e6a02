"""Better, equivalent within a margin, or undecided; and how much worse than the best at most.

That two contenders do not differ significantly does not make them equivalent: a small test set
tells nothing apart. Equivalence is a claim of its own, with a test of its own (two one-sided tests:
Schuirmann, 1987; for paired proportions Tango, 1998): the interval of the difference must lie
within the margin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from podium.statistics.intervals import LEVEL, Interval
from podium.statistics.paired import LEAST_P, holm
from podium.statistics.scoring import Metric

IntervalAt = Callable[[float], Interval]
"""The interval of a pair's difference, first minus second, at a confidence level of 0..1."""

SHOWN = 0.75
"""Median width of the pairs' 95 % intervals times this is the margin that is assumed: two equal
contenders with intervals of that width are called equivalent in about 80 % of studies, since
(1.645 + 1.282) / (2 x 1.960) = 0.75."""


@dataclass(frozen=True)
class Margin:
    """The difference below which two contenders count as equivalent."""

    size: float
    """In units of the metric; a share in 0..1."""
    chosen: bool
    """Whether the user chose it; False: it is what these test images can show."""


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


def equivalence_p(interval: IntervalAt, margin: float) -> float:
    """p of "the difference is at least the margin", by two one-sided tests.

    Args:
        interval: of the difference, at any confidence level.
        margin: above 0.

    Returns:
        The smallest p, 0..0.5, at which the interval of confidence 1 - 2 p lies within the margin;
        0.5 where even the difference itself does not.

    Examples:
        >>> from podium.statistics.intervals import Interval
        >>> from podium.statistics.margins import equivalence_p
        >>> from podium.statistics.paired import paired_interval
        >>> def difference(confidence):
        ...     return Interval(0.0, *paired_interval(30, 30, 2000, confidence))
        >>> equivalence_p(difference, 0.01) < 0.05, equivalence_p(difference, 0.005) < 0.05
        (True, False)
    """

    def inside(p: float) -> bool:
        found = interval(1 - 2 * p)
        return max(-found.low, found.high) < margin

    low, high = LEAST_P, 0.5 - 1e-9
    if not inside(high):
        return 0.5
    if inside(low):
        return low
    for _ in range(40):  # p is known to a relative error of 1e-9
        middle = math.sqrt(low * high)
        low, high = (low, middle) if inside(middle) else (middle, high)
    return high


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
    p_equivalent: tuple[float, ...]
    """Of each pair, adjusted by Holm over all pairs."""
    behind: dict[str, float]
    """`behind_the_best` of each contender, by name."""


def judge_margin(
    given: float | None,
    pairs: Sequence[tuple[str, str]],
    intervals: Sequence[IntervalAt],
    names: Sequence[str],
    metric: Metric,
) -> MarginFindings:
    """Test the equivalence of every pair, and bound how much worse than the best each contender is.

    Args:
        given: the margin, in units of the metric; None: what the images can show.
        pairs: first and second of every pair.
        intervals: of each pair's difference, in the same order.
        names: of all contenders.
        metric: that the differences are about.
    """
    behind = behind_the_best(dict(zip(pairs, intervals, strict=True)), names, metric)
    if not pairs:
        return MarginFindings(Margin(given or math.inf, given is not None), (), behind)
    margin = margin_of(given, [one(1 - LEVEL) for one in intervals], metric)
    if math.isinf(margin.size):
        return MarginFindings(margin, (1.0,) * len(pairs), behind)
    p_values = holm([equivalence_p(one, margin.size) for one in intervals])
    return MarginFindings(margin, tuple(p_values), behind)

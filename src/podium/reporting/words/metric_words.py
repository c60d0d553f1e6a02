"""A study's metric in words: its title, its values and differences, in the reader's language."""

from __future__ import annotations

from typing import Any

from podium.reporting.words.labels import NOTHING, Labels
from podium.statistics.intervals import Interval
from podium.statistics.scoring import Metric

DIGITS = 3  # of a metric that is no share


def metric_title(metric: Metric, say: Labels) -> str:
    """What a metric is called: ours in the reader's language, a user's as it was registered."""
    return say.words.get(f"metric_{metric.name}", metric.title)


def metric_value(metric: Metric, value: float | None, say: Labels) -> str:
    """A value of it, a share with its sign."""
    return say.percent(value) if metric.percent else say.number(value, DIGITS)


def metric_interval(metric: Metric, interval: Interval | None, say: Labels) -> str:
    """Both ends of the interval of a value."""
    if interval is None:
        return NOTHING
    if metric.percent:
        return say.interval((interval.low, interval.high))
    return f"{say.number(interval.low, DIGITS)}–{say.number(interval.high, DIGITS)}"


def say_by(key: str, metric: Metric, say: Labels, **values: Any) -> str:
    """The text of `key`, or what it is where the study goes by another metric than accuracy."""
    if metric.is_accuracy:
        return say(key, **values)
    return say(f"{key}_metric", metric=metric_title(metric, say), **values)


def sized(metric: Metric, difference: float, say: Labels) -> str:
    """The size of a difference: of shares in percentage points."""
    return say.number(abs(100 * difference), 1) if metric.percent else _plain(abs(difference), say)


def signed(metric: Metric, difference: float, say: Labels, digits: int = 1) -> str:
    """A difference with its sign; of shares in percentage points."""
    text = (
        say.number(abs(100 * difference), digits)
        if metric.percent
        else _plain(abs(difference), say)
    )
    if not any(digit in text for digit in "123456789"):
        return text
    return f"{'+' if difference > 0 else '−'}{text}"


def signed_interval(metric: Metric, interval: Interval, say: Labels) -> str:
    """Both ends of a difference's interval."""
    low, high = (signed(metric, bound, say) for bound in (interval.low, interval.high))
    return say("v_to", low=low, high=high)


def _plain(value: float, say: Labels) -> str:
    return say.number(value, DIGITS)

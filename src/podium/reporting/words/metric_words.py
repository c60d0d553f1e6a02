"""A study's metric in the reader's language: its title, values and differences."""

from __future__ import annotations

from typing import Any

from podium.reporting.words.labels import NOTHING, Labels
from podium.statistics.intervals import Interval
from podium.statistics.scoring import Metric

DIGITS = 3  # of a metric that is not a share


def metric_title(metric: Metric, say: Labels) -> str:
    """The title of a metric: translated if built in, otherwise as registered.

    Args:
        metric: the metric.
        say: the language.
    """
    return say.words.get(f"metric_{metric.name}", metric.title)


def metric_value(metric: Metric, value: float | None, say: Labels) -> str:
    """Format a value of a metric, as a percentage if it is a share.

    Args:
        metric: the metric.
        value: of the metric; None gives a dash.
        say: the language.
    """
    return say.percent(value) if metric.percent else say.number(value, DIGITS)


def metric_interval(metric: Metric, interval: Interval | None, say: Labels) -> str:
    """Format the interval of a metric's value.

    Args:
        metric: the metric.
        interval: of the value; None gives a dash.
        say: the language.
    """
    if interval is None:
        return NOTHING
    if metric.percent:
        return say.interval((interval.low, interval.high))
    return f"{say.number(interval.low, DIGITS)}–{say.number(interval.high, DIGITS)}"


def say_by(key: str, metric: Metric, say: Labels, **values: Any) -> str:
    """The text of a key, or its variant for a study metric other than accuracy.

    Args:
        key: of the text; the variant's key ends in `_metric`.
        metric: of the study.
        say: the language.
        values: for its {placeholders}.
    """
    if metric.is_accuracy:
        return say(key, **values)
    return say(f"{key}_metric", metric=metric_title(metric, say), **values)


def sized(metric: Metric, difference: float, say: Labels) -> str:
    """Format the size of a difference, in percentage points for shares.

    Args:
        metric: the metric.
        difference: between two of its values.
        say: the language.
    """
    return say.number(abs(100 * difference), 1) if metric.percent else _plain(abs(difference), say)


def signed(metric: Metric, difference: float, say: Labels, digits: int = 1) -> str:
    """Format a difference with its sign, in percentage points for shares.

    Args:
        metric: the metric.
        difference: between two of its values.
        say: the language.
        digits: decimals of percentage points.
    """
    text = (
        say.number(abs(100 * difference), digits)
        if metric.percent
        else _plain(abs(difference), say)
    )
    if not any(digit in text for digit in "123456789"):
        return text
    return f"{'+' if difference > 0 else '−'}{text}"


def signed_interval(metric: Metric, interval: Interval, say: Labels) -> str:
    """Format the interval of a difference.

    Args:
        metric: the metric.
        interval: of the difference.
        say: the language.
    """
    low, high = (signed(metric, bound, say) for bound in (interval.low, interval.high))
    return say("v_to", low=low, high=high)


def _plain(value: float, say: Labels) -> str:
    return say.number(value, DIGITS)

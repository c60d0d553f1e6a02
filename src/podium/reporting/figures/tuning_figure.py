"""The best of k trials of each contender that was tuned, with its band."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from podium.reporting.figures.style import COLOURS, GREY, shorten
from podium.reporting.words.labels import Labels
from podium.reporting.words.metric_words import metric_title
from podium.results.tuning import ContenderTuning, StudyTuning

MARKERS = "osD^vP"
MOST_CURVES = len(COLOURS) * len(MARKERS)
_ROOM = 0.06  # of what is shown, below and above it
_BEYOND = 0.6  # of the range of the curves, up to which their bands are shown


def tuning_figure(found: StudyTuning, say: Labels) -> Figure:
    """Draw the best validation score of k trials, one curve per contender.

    Args:
        found: the tuning; the first `MOST_CURVES` contenders are drawn.
        say: the language.
    """
    shown = found.contenders[:MOST_CURVES]
    scale = 100.0 if found.metric.percent else 1.0
    figure = Figure(figsize=(7.6, 4.0 + 0.14 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for number, one in enumerate(shown):
        colour = COLOURS[number % len(COLOURS)]
        marker = MARKERS[number // len(COLOURS)]
        trials, curve = np.arange(1, len(one.curve.value) + 1), one.curve
        if curve.low is not None and curve.high is not None:
            high = np.nan_to_num(scale * curve.high, posinf=1e9)
            axes.fill_between(trials, scale * curve.low, high, color=colour, alpha=0.1, linewidth=0)
        step = "default" if not found.tune.is_sequential else "steps-post"
        axes.plot(
            trials,
            scale * curve.value,
            color=colour,
            marker=marker,
            markersize=4,
            drawstyle=step,
            linewidth=1.4,
            label=shorten(one.label, 60),
        )
    is_cut = _set_limits(axes, shown, scale)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: say.short(y)))
    axes.set_xlabel(say("tuning_axis"))
    unit = " (%)" if found.metric.percent else ""
    axes.set_ylabel(say("tuning_y", metric=metric_title(found.metric, say)) + unit)
    axes.grid(axis="y", linewidth=0.4, color=GREY, alpha=0.35)
    kind = "observed" if found.tune.is_sequential else "expected"
    axes.set_title(say(f"tuning_{kind}_title"), loc="left")
    figure.legend(loc="outside upper center", ncols=2)
    note = say(f"tuning_{kind}_note") + (f" {say('tuning_cut_note')}" if is_cut else "")
    figure.supxlabel("\n".join(textwrap.wrap(note, 105)), fontsize=7.5)
    return figure


def _set_limits(axes: Axes, shown: Sequence[ContenderTuning], scale: float) -> bool:
    """Show the curves, and of their bands what does not flatten them; returns whether that cuts."""
    values = scale * np.concatenate([one.curve.value for one in shown])
    least, most = float(values.min()), float(values.max())
    span = max(most - least, 0.01 * scale)
    bands = [end for one in shown for end in (one.curve.low, one.curve.high) if end is not None]
    every = scale * np.concatenate([values / scale, *bands])
    low, high = max(every.min(), least - _BEYOND * span), min(every.max(), most + _BEYOND * span)
    room = _ROOM * max(high - low, span)
    axes.set_ylim(low - room, high + room)
    return bool(every.min() < low - room or every.max() > high + room)

"""Accuracy by the number of training images, with bands and the laws of the curves."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from podium.reporting.figures.style import COLOURS, GREY, shorten
from podium.reporting.words.labels import Labels
from podium.results.curve import CurveResults

MARKERS = "osD^vP"
AHEAD = 2.5
"""Times the images that there are, up to which a law that holds is drawn."""


def growth_figure(found: CurveResults, say: Labels) -> Figure:
    """Draw each contender's accuracy with its band, and its law where it holds.

    Args:
        found: the learning curves.
        say: the language.
    """
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    axes = figure.subplots()
    ticks: set[int] = set()
    for number, curve in enumerate(found.curves):
        colour = COLOURS[number % len(COLOURS)]
        marker = MARKERS[number % len(MARKERS)]
        sizes = np.array([point.images for point in curve.points], np.float64)
        ticks |= {point.images for point in curve.points}
        low, value, high = (
            100 * np.array([getattr(point.accuracy, end) for point in curve.points])
            for end in ("low", "value", "high")
        )
        axes.fill_between(sizes, low, high, color=colour, alpha=0.15, linewidth=0)
        label = shorten(curve.label, 44)
        axes.plot(sizes, value, marker, color=colour, markersize=5, label=label, zorder=3)
        if curve.fit.silence is None:
            most = float(sizes[-1])
            spans = ((float(sizes[0]), most, "-"), (most, AHEAD * most, (0, (4, 2))))
            for first, last, style in spans:
                grid = np.geomspace(first, last, 60)
                law = 100 * curve.fit.accuracy(grid)
                axes.plot(grid, law[0], color=colour, linewidth=1.2, linestyle=style)
            below, above = np.quantile(law[1:], [0.025, 0.975], axis=0)  # of what lies ahead
            axes.fill_between(grid, below, above, color=colour, alpha=0.08, linewidth=0)
        else:  # no law, but the points belong together
            axes.plot(sizes, value, color=colour, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlabel(say("growth_axis"))
    axes.set_ylabel(say("growth_y"))
    if len(found.curves) == 1 or len(ticks) <= 8:
        axes.set_xticks(sorted(ticks))
    else:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: say.count(x)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: say.short(y)))
    axes.grid(linewidth=0.4, color=GREY, alpha=0.35)
    axes.set_title(say("growth_title"), loc="left")
    axes.legend(loc="lower right")
    figure.supxlabel("\n".join(textwrap.wrap(say("growth_note"), 105)), fontsize=7.5)
    return figure

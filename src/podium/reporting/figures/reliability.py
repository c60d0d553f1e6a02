"""Reliability diagram: accuracy as a function of confidence."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from podium.reporting.figures.style import ACCENT, GREY, shorten
from podium.reporting.words.labels import Labels
from podium.statistics.calibration import Calibration


def reliability_figure(before: Calibration, after: Calibration, title: str, say: Labels) -> Figure:
    """Draw accuracy against confidence before and after temperature scaling, on the same images.

    Each dot is a bin of equally many images, with the 95 % Wilson interval of its accuracy; on the
    diagonal, accuracy equals confidence. Below it is a histogram of the confidences.

    Args:
        before: at temperature 1.
        after: at the temperature fitted on the validation images.
        title: of the run.
        say: the language.
    """
    figure = Figure(figsize=(8.6, 5.6), layout="constrained")
    grid = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3.6, 1))
    for column, (found, name) in enumerate(((before, "cal_before"), (after, "cal_after"))):
        heading = say(name, temperature=say.number(found.temperature, 2))
        _diagram(grid[0, column], found, heading, say)
        _histogram(grid[1, column], found, say)
    # both histograms share one scale, set once both are known
    grid[1, 0].set_ylim(0, 1.08 * max(*before.histogram, *after.histogram))
    grid[0, 0].set_ylabel(say("cal_accuracy"))
    grid[1, 0].set_ylabel(say("cal_images"))
    figure.suptitle(f"{say('cal_title')}: {shorten(title, 70)}")
    note = say("cal_note", n=say.count(before.n), bins=len(before.bins))
    figure.supxlabel("\n".join(textwrap.wrap(note, 118)), fontsize=7.5)
    return figure


def _diagram(axes: Axes, found: Calibration, heading: str, say: Labels) -> None:
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    confidence = 100 * np.array([part.confidence for part in found.bins])
    accuracy = 100 * np.array([part.accuracy for part in found.bins])
    low = 100 * np.array([part.low for part in found.bins])
    high = 100 * np.array([part.high for part in found.bins])
    axes.vlines(confidence, low, high, color=ACCENT, linewidth=1.1, alpha=0.55, zorder=2)
    axes.plot(confidence, accuracy, "-", color=ACCENT, linewidth=0.7, alpha=0.55, zorder=2)
    axes.plot(confidence, accuracy, "o", color=ACCENT, markersize=4, zorder=3)
    axes.set_xlim(0, 101.5)
    axes.set_ylim(0, 101.5)
    axes.grid(linewidth=0.4, color=GREY, alpha=0.35)
    # in a title above the diagram: dots may lie anywhere inside it
    axes.set_title(f"{heading}\n{_figures(found, say)}", loc="left", fontsize=8, linespacing=1.45)


def _figures(found: Calibration, say: Labels) -> str:
    perfect = found.expected_if_perfect
    lines = [
        say(
            "cal_ece",
            ece=say.percent(found.ece.value, 1),
            interval=say.interval((found.ece.low, found.ece.high)),
        ),
        say("cal_perfect", interval=say.interval((perfect.low, perfect.high))),
        say(
            "cal_scores",
            nll=say.number(found.nll.value, 3),
            brier=say.number(found.brier.value, 3),
        ),
    ]
    return "\n".join(lines)


def _histogram(axes: Axes, found: Calibration, say: Labels) -> None:
    axes.bar(
        np.arange(2.5, 100, 5),
        found.histogram,
        width=5,
        color=GREY,
        edgecolor="white",
        linewidth=0.6,
    )
    for value, colour, style in (
        (found.confidence, ACCENT, "-"),
        (found.accuracy, "black", (0, (2, 1.5))),
    ):
        axes.axvline(100 * value, color=colour, linewidth=1.2, linestyle=style)
    axes.set_xlabel(say("cal_confidence"))
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: say.count(y)))
    axes.grid(axis="y", linewidth=0.4, color=GREY, alpha=0.35)
    words = say(
        "cal_means",
        confidence=say.percent(found.confidence, 1),
        accuracy=say.percent(found.accuracy, 1),
    )
    axes.set_title(words, loc="left", fontsize=7.5)

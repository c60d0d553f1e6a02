"""Risk-coverage curves: the error of each contender among the images that it answers."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from podium.reporting.figures.style import COLOURS, GREY, shorten
from podium.reporting.words.labels import Labels
from podium.statistics.selective import ANSWERED

# each colour drawn through, then dashed
STYLES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
MOST_CURVES = len(COLOURS) * len(STYLES)
_POINTS = 400  # of a curve; more would only make the file larger
_FEWEST = 0.02  # share of images below which a curve is the error of a handful


def risk_figure(curves: Sequence[tuple[str, npt.NDArray[np.float64]]], say: Labels) -> Figure:
    """Draw one curve per contender, the error over the most certain images.

    Args:
        curves: label of each contender and its error over the k most certain images, k from 1 to
            n; the best contenders first, of which `MOST_CURVES` are drawn.
        say: the language.
    """
    shown = curves[:MOST_CURVES]
    figure = Figure(figsize=(7.6, 4.2 + 0.14 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for number, (label, errors) in enumerate(shown):
        n = len(errors)
        many = np.unique(np.linspace(max(1, _FEWEST * n), n, min(n, _POINTS)).round().astype(int))
        axes.plot(
            100 * many / n,
            100 * errors[many - 1],
            color=COLOURS[number % len(COLOURS)],
            linestyle=STYLES[number // len(COLOURS)],
            linewidth=1.4,
            label=shorten(label, 60),
        )
    axes.axvline(100 * ANSWERED, color=GREY, linewidth=0.9, linestyle=":")
    axes.set_xlim(0, 101)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(say("answered_axis"))
    axes.set_ylabel(say("answered_error"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: say.short(y)))
    axes.grid(axis="y", linewidth=0.4, color=GREY, alpha=0.35)
    # above: below, it would lie on the note, for which the layout leaves no room of its own
    figure.legend(loc="outside upper center", ncols=2, handlelength=3.2)
    axes.set_title(say("answered_figure"), loc="left")
    left = len(curves) - len(shown)
    note = say("answered_note", n=say.count(len(shown[0][1])))
    note += f" {say('answered_left_out', count=say.count(left))}" if left else ""
    figure.supxlabel("\n".join(textwrap.wrap(note, 105)), fontsize=7.5)
    return figure

"""Accuracy on corrupted images, a panel for each corruption."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from podium.reporting.figures.style import COLOURS, shorten
from podium.reporting.words.labels import NOTHING, Labels
from podium.statistics.stress import Stressed

COLUMNS = 3


def stress_figure(found: Stressed, say: Labels, title: str) -> Figure:
    """Draw each contender's accuracy over the strengths, with its 95 % interval.

    Args:
        found: of the study.
        say: the language.
        title: of the study.
    """
    kinds = found.corruptions
    rows = -(-len(kinds) // COLUMNS)
    figure = Figure(figsize=(8.2, 1.2 + 2.5 * rows), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False).ravel()
    for axes, kind in zip(panels, kinds, strict=False):
        at = [0, *(place for place, one in enumerate(found.conditions) if one[0] == kind)]
        values = [NOTHING, *(say.short(found.conditions[place][2]) for place in at[1:])]
        for number, (name, curve) in enumerate(found.curves.items()):
            colour, style = (
                COLOURS[number % len(COLOURS)],
                ("-", "--", ":")[number // len(COLOURS) % 3],
            )
            places = range(len(at))
            means = [100 * curve[one].value for one in at]
            low, high = ([100 * getattr(curve[one], end) for one in at] for end in ("low", "high"))
            axes.fill_between(places, low, high, color=colour, alpha=0.12, linewidth=0)
            label = shorten(found.labels[name], 44)
            axes.plot(places, means, style, color=colour, marker="o", markersize=3.5, label=label)
        axes.set_xticks(range(len(at)), values)
        axes.set_title(say(f"stress_{kind}"), loc="left")
        axes.grid(axis="y", linewidth=0.4, alpha=0.35)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: say.short(y)))
    for axes in panels[len(kinds) :]:
        axes.set_visible(False)
    for axes in panels[::COLUMNS]:
        axes.set_ylabel(say("stress_accuracy_axis"))
    lines, names = panels[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside upper center", ncols=min(3, len(names)))
    note = say("stress_note", n=say.count(found.n), title=title)
    figure.supxlabel("\n".join(textwrap.wrap(note, 115)), fontsize=7.5)
    return figure

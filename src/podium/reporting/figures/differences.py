"""Differences in test accuracy between contenders, with their intervals."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from podium.reporting.figures.style import ACCENT, GREY, shorten
from podium.reporting.words.labels import Labels
from podium.reporting.words.metric_words import say_by
from podium.reporting.words.verdict_words import ordered_pairs
from podium.statistics.verdicts import Verdicts

MOST_PAIRS = 21  # more would not fit a page: then only pairs with the leader are drawn


def difference_figure(verdicts: Verdicts, say: Labels) -> Figure:
    """Draw a dot and joint interval per pair, the better contender first.

    Filled dots are significant after adjustment for all pairs.

    Args:
        verdicts: of two contenders or more.
        say: the language.
    """
    labels = verdicts.labels
    pairs = ordered_pairs(verdicts)
    if len(pairs) > MOST_PAIRS:
        pairs = [pair for pair in pairs if pair.first == verdicts.standings[0].name]
    pairs.reverse()  # the first pair on top
    figure = Figure(figsize=(7.6, 1.25 + 0.46 * len(pairs)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="black", linewidth=0.9)
    metric = verdicts.metric
    scale = 100 if metric.percent else 1
    for place, pair in enumerate(pairs):
        colour = GREY if pair.winner is None else ACCENT
        low, high = scale * pair.joint.low, scale * pair.joint.high
        axes.plot([low, high], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
        value, fill = scale * pair.joint.value, "white" if pair.winner is None else colour
        axes.plot([value], [place], "o", color=colour, markersize=6, markerfacecolor=fill)
    names = [
        say("v_vs", first=_short(labels[pair.first]), second=_short(labels[pair.second]))
        for pair in pairs
    ]
    axes.set_yticks(range(len(pairs)), names)
    axes.tick_params(axis="y", length=0, labelsize=7.5)
    axes.set_ylim(-0.7, len(pairs) - 0.3)
    points = f" ({say('v_points')})" if metric.percent else ""
    unit = {} if metric.is_accuracy else {"unit": points}
    axes.set_xlabel(say_by("v_difference_axis", metric, say, **unit))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _signed(x, say)))
    axes.grid(axis="x", linewidth=0.4, color=GREY, alpha=0.35)
    axes.spines["left"].set_visible(False)
    axes.set_title(say_by("v_difference_figure", metric, say), loc="left")
    note = say("v_difference_note", count=len(verdicts.pairs), n=say.count(verdicts.n))
    figure.supxlabel("\n".join(textwrap.wrap(note, 105)), fontsize=7.5)
    return figure


def _short(label: str) -> str:
    return shorten(label, 44)


def _signed(value: float, say: Labels) -> str:
    text = say.short(abs(value))
    return text if value == 0 else f"{'+' if value > 0 else '−'}{text}"

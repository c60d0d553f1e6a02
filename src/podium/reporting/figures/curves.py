"""Learning curves of one run, and the contenders' test accuracies side by side."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from podium.reporting.figures.style import ACCENT, GREY, shorten
from podium.reporting.words.labels import Labels
from podium.reporting.words.metric_words import metric_title
from podium.statistics.scoring import ACCURACY, Metric

if TYPE_CHECKING:
    from podium.results.study import Contender


def learning_curves(
    history: Sequence[dict[str, float]],
    best_epoch: int | None,
    title: str,
    say: Labels,
    metric: Metric = ACCURACY,
) -> Figure:
    """Draw loss and accuracy per epoch: train grey, validation black, dashed with markers.

    Where the study's metric is not accuracy, a third panel shows it on the validation images.

    Args:
        history: one row per epoch, as returned by `RunFolder.read_history`.
        best_epoch: from 1; marked by a thin line. None: not marked.
        title: of the run.
        say: the language.
        metric: of the study.
    """
    third = not metric.is_accuracy and metric.column in history[0]
    figure = Figure(figsize=(12.9 if third else 8.6, 3.7), layout="constrained")
    loss, accuracy, *others = figure.subplots(1, 3 if third else 2)
    epochs = np.array([row["epoch"] for row in history])
    sparse = max(1, round(len(epochs) / 30))  # markers of 60 epochs would hide the line
    shown = [(loss, "loss", 1.0), (accuracy, "accuracy", 100.0)]
    shown += [(axes, metric.name, 100.0 if metric.percent else 1.0) for axes in others]
    for axes, quantity, scale in shown:
        for part, colour, marker in (("train", GREY, "s"), ("valid", "black", "o")):
            if f"{part}_{quantity}" not in history[0]:
                continue
            values = scale * np.array([row[f"{part}_{quantity}"] for row in history])
            axes.plot(
                epochs,
                values,
                linestyle=(0, (4, 2)),
                linewidth=1.1,
                marker=marker,
                markersize=3.6,
                markevery=sparse,
                color=colour,
                label=say(part),
                zorder=3,
            )
        axes.set_xlabel(say("epoch"))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        margin = max(0.4, 0.03 * (epochs[-1] - epochs[0]))
        axes.set_xlim(epochs[0] - margin, epochs[-1] + margin)
        axes.grid(axis="y", linewidth=0.4, color="#8a8a8a", alpha=0.35)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _plain(y, say)))
    loss.set_ylabel(say("loss"))
    loss.set_ylim(bottom=0, top=loss.get_ylim()[1] * 1.12)  # room for the annotations
    accuracy.set_ylabel(say("total_accuracy"))
    accuracy.set_ylim(0, 110)
    accuracy.set_yticks(range(0, 101, 20))
    for axes in others:
        axes.set_ylabel(f"{metric_title(metric, say)}{' (%)' if metric.percent else ''}")
    for axes in (loss, accuracy, *others):
        _mark(axes, history, best_epoch, say)
    handles, names = loss.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, handlelength=3.2)
    figure.suptitle(f"{say('curves_title')}: {shorten(title, 80)}")
    return figure


def _mark(
    axes: Axes, history: Sequence[dict[str, float]], best_epoch: int | None, say: Labels
) -> None:
    """Draw thin vertical lines at learning rate drops and the best epoch, with legend entries."""
    drops = [
        (late["epoch"] - 0.5, late["lr"])
        for early, late in itertools.pairwise(history)
        if late["lr"] < early["lr"]
    ]
    if 0 < len(drops) <= 4:
        rates = " → ".join(_rate(rate, say) for _, rate in drops)
        for number, (place, _) in enumerate(drops):
            axes.axvline(
                place,
                linewidth=0.9,
                linestyle=":",
                color="black",
                label=say("lr_mark", lr=rates) if number == 0 else None,
            )
    if best_epoch is not None and len(history) > 1:
        axes.axvline(
            best_epoch,
            linewidth=0.9,
            color=ACCENT,
            label=say("best_epoch_mark", epoch=best_epoch),
        )


def _rate(rate: float, say: Labels) -> str:
    text = f"{rate:.2g}".replace("e-0", "e-")
    return text.replace(".", ",") if say.lang == "pt" else text


def _plain(value: float, say: Labels) -> str:
    text = f"{value:g}"
    return text.replace(".", ",") if say.lang == "pt" else text


def accuracies(contenders: Sequence[Contender], say: Labels) -> Figure:
    """Draw each run's test accuracy with its 95 % Wilson interval, best contender on top.

    Args:
        contenders: at least one.
        say: the language.
    """
    ranked = sorted(contenders, key=lambda contender: contender.accuracy)
    several = any(len(contender.runs) > 1 for contender in ranked)
    height = 1.35 + sum(0.3 + 0.16 * len(contender.runs) for contender in ranked)
    figure = Figure(figsize=(7.6, height), layout="constrained")
    axes = figure.subplots()
    lows, highs, ticks, place = [], [], [], 0.0
    for contender in ranked:
        span = 0.16 * len(contender.runs)
        middle = place + (0.3 + span) / 2
        ticks.append(middle)
        for number, run in enumerate(contender.runs):
            y = middle + 0.16 * ((len(contender.runs) - 1) / 2 - number)
            low, high = (100 * bound for bound in run.interval)
            value = 100 * run.scores.accuracy
            axes.plot([low, high], [y, y], color=ACCENT, linewidth=1.6, solid_capstyle="butt")
            axes.plot([value], [y], "o", color=ACCENT, markersize=6 if not several else 4.5)
            lows.append(low)
            highs.append(high)
        if len(contender.runs) > 1:
            mean = 100 * contender.accuracy
            axes.plot([mean, mean], [middle - span / 2, middle + span / 2], "k-", linewidth=1.1)
        axes.text(
            1.02,
            middle,
            say.percent(contender.accuracy),
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=9,
        )
        place += 0.3 + span
    names = ["\n".join(textwrap.wrap(shorten(contender.label, 90), 34)) for contender in ranked]
    axes.set_yticks(ticks, names)
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.set_ylim(0, place)
    room = max(1.0, 0.04 * (max(highs) - min(lows)))
    axes.set_xlim(max(0, min(lows) - room), min(100.6, max(highs) + room))
    axes.set_xlabel(say("test_accuracy_axis"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _plain(x, say)))
    axes.grid(axis="x", linewidth=0.4, color="#8a8a8a", alpha=0.35)
    axes.spines["left"].set_visible(False)
    axes.set_title(say("compare_title"), loc="left")
    note = say("compare_note", n=say.count(ranked[0].runs[0].scores.n))
    if several:
        note += " " + say("compare_mean_note")
    figure.supxlabel("\n".join(textwrap.wrap(note, 105)), fontsize=7.5)
    return figure

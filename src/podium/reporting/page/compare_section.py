"""The contenders side by side: learning curves, cost, classes, agreement."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from statistics import mean, median
from typing import Any

import numpy as np

from podium.reporting.figures.class_table import MOST_LISTED, Cell, cell
from podium.reporting.page.explorer import Explorer
from podium.reporting.page.templating import script_json
from podium.reporting.words.cost_words import cost_headings, cost_hint, cost_rows
from podium.reporting.words.labels import NOTHING, Labels
from podium.reporting.words.metric_words import metric_title
from podium.reporting.words.podium_words import bounds, score_words
from podium.reporting.words.recipes import run_title
from podium.results.run import RunResult
from podium.results.study import Contender, StudyResults
from podium.statistics.agreement import agreement
from podium.statistics.costs import TIMES, pareto_front

CURVES = ("valid_accuracy", "train_accuracy", "valid_loss", "train_loss")
COSTS = ("latency", "parameters", "megabytes", "seconds")


def compare_section(
    results: StudyResults, explorer: Explorer, say: Labels
) -> dict[str, Any] | None:
    """The template values of the comparison; None where there is a single contender.

    Args:
        results: the study.
        explorer: numbers the classes for the script.
        say: the language.
    """
    if len(results.contenders) < 2:
        return None
    curves, axes = _curves(results, say), _axes(results, say)
    verdicts = results.verdicts
    rows = [] if verdicts is None else cost_rows(verdicts, results.costs, say)
    return {
        "curves": curves,
        "axes": axes,
        "data": script_json(_data(results, [key for key, _ in curves], axes, say)),
        "curve_rows": [
            _curve_row(run, say) for one in results.ranking for run in one.runs if not run.members
        ],
        "cost_hint": cost_hint(verdicts, results.costs, say) if verdicts and rows else "",
        "cost_headings": cost_headings(verdicts, results.costs, say) if verdicts and rows else [],
        "cost_rows": rows,
        "machines": "" if _one_device(results) else say("compare_machines"),
        "contenders": [one.label for one in results.ranking],
        **_classes(results, explorer, say),
        **_agreement(results, say),
    }


def _curves(results: StudyResults, say: Labels) -> list[tuple[str, str]]:
    """What every epoch recorded, with its title, the study's metric first."""
    metric = results.metric
    names = {
        f"valid_{metric.name}": f"{metric_title(metric, say)} ({say('valid').lower()})",
        **{key: say(f"curve_{key}") for key in CURVES},
    }
    if metric.is_accuracy:
        names = {key: say(f"curve_{key}") for key in CURVES}
    known = {key for run in results.runs for row in run.history for key in row}
    return [(key, name) for key, name in names.items() if key in known]


def _axes(results: StudyResults, say: Labels) -> list[tuple[str, str]]:
    """The costs that are known of two contenders or more, with their titles."""
    costs = results.costs.values()
    return [
        (key, say(f"compare_{key}"))
        for key in COSTS
        if sum(getattr(one, key) is not None for one in costs) > 1
        and (key not in TIMES or _one_device(results))
    ]


def _one_device(results: StudyResults) -> bool:
    return len({one.device for one in results.costs.values()}) == 1


def _data(
    results: StudyResults, curves: list[str], axes: list[tuple[str, str]], say: Labels
) -> dict[str, Any]:
    """What the charts draw."""
    metric, costs = results.metric, results.costs
    scale, title = 100.0 if metric.percent else 1.0, metric_title(metric, say)
    merits = {
        one.name: metric.merit(one.score) for one in results.contenders if one.score is not None
    }
    fronts = {}
    for key, _ in axes:
        known = {name: getattr(costs[name], key) for name in merits}
        fronts[key] = pareto_front(merits, known)
    numbers = {one.name: at for at, one in enumerate(results.ranking)}
    return {
        "score": f"{title[:1].upper()}{title[1:]}{' (%)' if metric.percent else ''}",
        "contenders": [
            {
                "label": one.label,
                "score": None if one.score is None else round(scale * one.score, 3),
                "bounds": [round(scale * end, 3) for end in bounds(results, one) or ()],
                "told": " ".join(filter(None, _told(results, one, say))),
                **{key: getattr(costs[one.name], key) for key, _ in axes},
            }
            for one in results.ranking
        ],
        "fronts": {key: [numbers[name] for name in front] for key, front in fronts.items()},
        "runs": [
            _run(run, numbers[one.name], curves, results, say)
            for one in results.ranking
            for run in one.runs
            if run.history
        ],
    }


def _told(results: StudyResults, one: Contender, say: Labels) -> tuple[str, str]:
    value, interval = score_words(results, one, say)
    return value, f"({interval})" if interval else ""


def _run(
    run: RunResult, contender: int, curves: list[str], results: StudyResults, say: Labels
) -> dict[str, Any]:
    def share(key: str) -> bool:
        part = key.partition("_")[2]
        return part == "accuracy" or (part == results.metric.name and results.metric.percent)

    def value(row: dict[str, float], key: str) -> float | None:
        found = row.get(key)
        return None if found is None else round(found * (100 if share(key) else 1), 3)

    return {
        "contender": contender,
        "title": run_title(run, say),
        "best": run.best_epoch,
        "epoch": [int(row["epoch"]) for row in run.history],
        "seconds": [
            round(total, 1) for total in accumulate(row.get("seconds", 0.0) for row in run.history)
        ],
        **{key: [value(row, key) for row in run.history] for key in curves},
    }


def _curve_row(run: RunResult, say: Labels) -> list[tuple[str, float]]:
    """Text and sort key of what the learning curves show of a run."""
    rows = {int(row["epoch"]): row for row in run.history}
    best = rows.get(run.best_epoch or 0, {})
    each = [row["seconds"] for row in run.history if "seconds" in row]
    figures: list[tuple[str, float]] = [
        (say.count(len(rows) or None), len(rows)),
        (say.count(run.best_epoch), run.best_epoch or 0),
    ]
    for key in ("valid_accuracy", "train_accuracy"):
        figures.append((say.percent(best.get(key), 1), best.get(key, -1.0)))
    for key in ("valid_loss", "train_loss"):
        figures.append((say.number(best.get(key), 3), best.get(key, -1.0)))
    figures.append((say.duration(median(each)) if each else NOTHING, median(each) if each else -1))
    figures.append((say.duration(sum(each)) if each else NOTHING, sum(each)))
    return [(run_title(run, say), 0.0), *figures]


def _classes(results: StudyResults, explorer: Explorer, say: Labels) -> dict[str, Any]:
    """Recall of each class by each contender, the classes in which they differ most first."""
    of = [_recalls(one) for one in results.ranking]
    rows = []
    for name in results.class_names:
        values = [recalls.get(name) for recalls in of]
        known = [value for value in values if value is not None]
        spread = max(known) - min(known) if known else 0.0
        rows.append((name, values, spread))
    rows.sort(key=lambda row: -row[2])
    support = [one.support for one in results.runs[0].classes]
    n = int(median(support))
    shown = rows[:MOST_LISTED]
    part = {"count": say.count(len(shown)), "total": say.count(len(rows))}
    return {
        "classes": [
            {
                "name": name,
                "number": explorer.classes[name],
                "cells": [(cell(value, say), -1.0 if value is None else value) for value in values],
                "spread": (say.number(spread, 2), spread),
            }
            for name, values, spread in shown
        ],
        "classes_hint": say(
            "compare_classes_hint", n=say.count(n), share=say.number(1 / n if n else None, 2)
        ),
        "classes_note": say("compare_classes_part", **part) if len(shown) < len(rows) else "",
    }


def _recalls(one: Contender) -> dict[str, float | None]:
    """Recall of each class, a mean over the seeds; None: no test images."""
    by_name: dict[str, list[float]] = {}
    for run in one.runs:
        for found in run.classes:
            if found.shown[1] is not None:
                by_name.setdefault(found.name, []).append(found.shown[1])
    return {name: mean(values) for name, values in by_name.items()}


def _agreement(results: StudyResults, say: Labels) -> dict[str, Any]:
    if results.table is None:
        return {"agreement": [], "agreement_text": ""}
    found = agreement(results.table)
    order = [one.name for one in results.table.contenders]
    numbers = [order.index(one.name) for one in results.ranking]
    labels = [one.label for one in results.ranking]
    lowest = float(np.nanmin(found.same))

    def row(at: int) -> Iterator[Cell]:
        for other in numbers:
            value = float(found.same[at, other])
            yield _shade(value, lowest, say)

    return {
        "agreement": [(label, list(row(at))) for label, at in zip(labels, numbers, strict=True)],
        "agreement_text": say(
            "compare_agreement_text",
            all=say.percent(found.all_right, 1),
            none=say.percent(found.none_right, 1),
            any=say.percent(1 - found.none_right, 1),
        ),
    }


def _shade(value: float, lowest: float, say: Labels) -> Cell:
    """A share from the lowest of the table to 1, as colour."""
    if np.isnan(value):
        return cell(None, say)
    shade = cell(value, say, (lowest - (1 - lowest) - 1e-9, 1.0))  # the green half of the colours
    return Cell(say.percent(value, 0), shade.fill, shade.ink)

"""A linear probe's penalty is at the edge of its search."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from podium.results.advice.finding import Finding
from podium.results.run import RunResult
from podium.results.study import StudyResults


def penalty_edge(results: StudyResults) -> Iterator[Finding]:
    """In every run of a contender, the chosen penalty is the weakest or the strongest one tried, so
    that a better one may lie beyond.

    Args:
        results: the study.
    """
    for one in results.contenders:
        edges = {_edge(run) for run in one.runs}
        if edges == {"weakest"} or edges == {"strongest"}:
            yield Finding(f"penalty_{edges.pop()}", names={"name": one.label}, contender=one.name)


def _edge(run: RunResult) -> str:
    """`weakest`, `strongest`, or empty: it lies between others, or there was no choice."""
    if not run.folder.probe.is_file():
        return ""
    with run.folder.probe.open(encoding="utf-8", newline="") as file:
        trials = list(csv.DictReader(file))
    penalties = [float(trial["penalty"]) for trial in trials]
    chosen = [float(trial["penalty"]) for trial in trials if trial["chosen"] == "True"]
    if len(penalties) < 2 or not chosen:
        return ""
    return {min(penalties): "weakest", max(penalties): "strongest"}.get(chosen[0], "")

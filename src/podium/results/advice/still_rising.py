"""Validation accuracy was still rising when training ended."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean, variance

from podium.results.advice.finding import Finding
from podium.results.advice.overfitting import has_memorised
from podium.results.run import RunResult
from podium.results.study import StudyResults

LEAST_EPOCHS = 8
LEAST_GAIN = 0.01
ERRORS = 2.0  # standard errors of the gain


def still_rising(results: StudyResults) -> Iterator[Finding]:
    """In every run of a contender, the kept epoch is in the last quarter, whose mean validation
    accuracy exceeds that of the quarter before by a point and by two standard errors; and it has
    not memorised its training images, which more epochs would not remedy.

    Args:
        results: the study.
    """
    for one in results.contenders:
        found = [None if has_memorised(run) else _quarters(run) for run in one.runs]
        if all(found):
            before, late = (mean(part) for part in zip(*filter(None, found), strict=True))
            yield Finding(
                "still_rising",
                names={"name": one.label},
                shares={"before": before, "late": late},
                counts={"epochs": max(len(run.history) for run in one.runs)},
                contender=one.name,
            )


def _quarters(run: RunResult) -> tuple[float, float] | None:
    """Mean validation accuracy of the last two quarters of the epochs, if it rises."""
    values = [row["valid_accuracy"] for row in run.history if "valid_accuracy" in row]
    size = len(values) // 4
    if len(values) < LEAST_EPOCHS or (run.best_epoch or 0) <= len(values) - size:
        return None
    before, late = values[-2 * size : -size], values[-size:]
    gain = mean(late) - mean(before)
    error = ((variance(late) + variance(before)) / size) ** 0.5
    return (mean(before), mean(late)) if gain >= max(LEAST_GAIN, ERRORS * error) else None

"""The tables of a tuning: every trial, and the best of k of each contender."""

from __future__ import annotations

import json
import math

from podium.config.text import words
from podium.results.tuning import StudyTuning
from podium.runtime.csv_text import csv_text

TRIAL_COLUMNS = words(
    "contender trial state chosen metric score valid_accuracy best_epoch epochs seconds settings "
    "why"
)
BEST_COLUMNS = words("contender trials metric best low high")


def tuning_tables(found: StudyTuning) -> dict[str, str]:
    """File name -> CSV, with shares in 0..1 and '.' as decimal point in every language.

    Args:
        found: the tuning.
    """
    trials, best = [], []
    for one in found.contenders:
        for trial in one.trials:
            trials.append(
                (
                    one.name,
                    trial.number,
                    trial.state,
                    "yes" if trial is one.best else "no",
                    found.metric.name,
                    trial.score,
                    trial.valid_accuracy,
                    trial.best_epoch,
                    trial.epochs,
                    trial.seconds,
                    json.dumps(dict(trial.settings), ensure_ascii=False),
                    trial.why,
                )
            )
        for at, value in enumerate(one.curve.value):
            ends = [
                end[at] if end is not None and math.isfinite(end[at]) else None
                for end in (one.curve.low, one.curve.high)
            ]
            best.append((one.name, at + 1, found.metric.name, value, *ends))
    return {
        "tuning-trials.csv": csv_text(TRIAL_COLUMNS, trials),
        "tuning-best-of-k.csv": csv_text(BEST_COLUMNS, best),
    }

"""The tuning on the page: what every contender got, and the best of k trials."""

from __future__ import annotations

from typing import Any

from podium.config.text import words
from podium.reporting.words.labels import Labels
from podium.reporting.words.metric_words import metric_title, metric_value
from podium.reporting.words.tuning_words import changed_words, how_words
from podium.results.study import StudyResults

KEYS = words(
    "col_contender tuning_col_chosen tuning_col_trials tuning_col_time tuning_col_own "
    "tuning_col_best tuning_col_judged"
)


def tuning_section(results: StudyResults, say: Labels) -> dict[str, Any] | None:
    """The template values of the tuning; None: the study was not tuned.

    Args:
        results: the study.
        say: the language.
    """
    found = results.tuning
    if found is None or not found.contenders:
        return None
    rows = []
    for one in found.contenders:
        scores = [
            (metric_value(found.metric, score, say), -1.0 if score is None else score)
            for score in (one.own, one.best.score, one.judged)
        ]
        cells = [
            (one.label, 0.0),
            (changed_words(one, say), 0.0),
            (say.count(len(one.trials)), float(len(one.trials))),
            (say.duration(one.seconds), one.seconds),
            *scores,
        ]
        rows.append((cells, True))
    return {
        "intro": how_words(found, say),
        "headings": [*map(say, KEYS)],
        "rows": rows,
        "caution": f"{say('tuning_optimistic')} {say('tuning_intervals')}",
        "curve_hint": say(
            "tuning_observed" if found.tune.is_sequential else "tuning_expected",
            metric=metric_title(found.metric, say),
        ),
    }

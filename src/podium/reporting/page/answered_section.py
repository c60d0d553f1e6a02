"""The contenders on the page if each leaves its least certain images unanswered."""

from __future__ import annotations

from typing import Any

from podium.reporting.words.labels import Labels
from podium.reporting.words.metric_words import metric_interval, metric_value
from podium.reporting.words.verdict_words import headline, ordered_pairs, pair_cells, pair_headings
from podium.results.study import StudyResults

_COLUMNS = (0, 1, 2, 3, 7, 8)
"""Of the table of pairs: both contenders, difference, interval, adjusted p, verdict."""


def answered_section(results: StudyResults, say: Labels) -> dict[str, Any] | None:
    """The template values of the accuracies at 90 % answered; None where test images differ.

    Args:
        results: the study.
        say: the language.
    """
    verdicts = results.answered
    if verdicts is None:
        return None
    accuracies = {one.name: one.accuracy for one in results.contenders}
    pairs = ordered_pairs(verdicts)
    headings = pair_headings(say, verdicts.metric)
    return {
        "headline": headline(verdicts, say),
        "rows": [
            [
                (one.label, None),
                (say.percent(accuracies[one.name]), accuracies[one.name]),
                (metric_value(verdicts.metric, one.judged.value, say), one.judged.value),
                (metric_interval(verdicts.metric, one.judged, say), one.judged.low),
            ]
            for one in verdicts.standings
        ],
        "headings": [headings[at] for at in _COLUMNS],
        "pairs": [
            (
                [pair_cells(pair, verdicts.labels, say)[at] for at in _COLUMNS],
                [None, None, pair.joint.value, pair.joint.low, pair.p_adjusted, None],
                pair.winner is not None,
            )
            for pair in pairs
        ],
    }

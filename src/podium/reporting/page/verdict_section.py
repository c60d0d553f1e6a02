"""The verdicts on the page: answers to the study's questions, and the table of pairs."""

from __future__ import annotations

from typing import Any

from podium.reporting.words.cost_words import (
    margin_sentence,
    trade_offs,
)
from podium.reporting.words.labels import Labels
from podium.reporting.words.look_words import look_sentence
from podium.reporting.words.metric_words import say_by
from podium.reporting.words.verdict_words import (
    answers,
    claim_sentence,
    ordered_pairs,
    pair_cells,
    pair_headings,
    places_sentence,
)
from podium.results.study import StudyResults
from podium.statistics.verdicts import Pair


def verdict_section(results: StudyResults, say: Labels) -> dict[str, Any] | None:
    """The template values of the verdicts; None where there are no pairs.

    Args:
        results: the study.
        say: the language.
    """
    verdicts = results.verdicts
    if verdicts is None or not verdicts.pairs:
        return None
    stopped = [look_sentence(one, say) for one in results.looks[-1:]]
    return {
        "places": places_sentence(verdicts, say),
        "claim": " ".join([*stopped, claim_sentence(verdicts, say)]),
        "answers": answers(verdicts, results.questions, results.recipes, say, results.model_titles),
        "headings": pair_headings(say, verdicts.metric),
        "margin": margin_sentence(verdicts, say),
        "trade_offs": trade_offs(verdicts, results.costs, say),
        "hint": say_by("v_pairs_hint", verdicts.metric, say),
        "rows": [
            (pair_cells(pair, verdicts.labels, say), _keys(pair), pair.winner is not None)
            for pair in ordered_pairs(verdicts)
        ],
    }


def _keys(pair: Pair) -> list[Any]:
    """Sort keys of the columns; None: sorted by their text."""
    f1 = pair.macro_f1.value if pair.macro_f1 is not None else -1.0
    judged = pair.joint.value, pair.joint.low
    return [None, None, *judged, pair.only_first, f1, pair.p, pair.p_adjusted, None]

"""The page's verdicts: what the study shows, every pair, looks at the test images, leaks."""

from __future__ import annotations

from typing import Any

from podium.comparison import Pair
from podium.metrics import wilson_interval
from podium.reporting.gather import StudyResults
from podium.reporting.labels import Labels
from podium.reporting.verdict_words import (
    answers,
    claim_sentence,
    ordered_pairs,
    pair_cells,
    pair_headings,
)
from podium.sealed import rescorings

__all__ = ["leaks", "looks", "verdict_section"]


def verdict_section(results: StudyResults, say: Labels) -> dict[str, Any] | None:
    """What the template shows of the verdicts; None where there is no pair."""
    verdicts = results.verdicts
    if verdicts is None or not verdicts.pairs:
        return None
    return {
        "claim": claim_sentence(verdicts, say),
        "answers": answers(verdicts, results.questions, results.recipes, say),
        "headings": pair_headings(say),
        "rows": [
            (pair_cells(pair, verdicts.labels, say), _keys(pair), pair.winner is not None)
            for pair in ordered_pairs(verdicts)
        ],
    }


def _keys(pair: Pair) -> list[Any]:
    """What the columns of numbers are sorted by; None: by their text."""
    f1 = pair.macro_f1.value if pair.macro_f1 is not None else -1.0
    return [
        None, None, pair.accuracy.value, pair.accuracy.low, pair.only_first, f1, pair.p,
        pair.p_holm, None,
    ]  # fmt: skip


def looks(results: StudyResults, say: Labels) -> dict[str, Any]:
    """How often the test images were looked at, and which contenders were scored before."""
    scorings = results.scorings
    if not scorings:
        return {"text": say("seal_unknown"), "total": "", "rows": []}
    again = rescorings(scorings, results.spec.name)
    reported = {(one.now.contender, one.now.seed) for one in again}
    return {
        "text": say("seal_again", count=len(reported)) if again else say("seal_once"),
        "total": say(
            "seal_total",
            models=say.count(len({one.weights for one in scorings})),
            n=say.count(scorings[-1].n),
        ),
        "rows": [
            (
                results.spec.label(one.now.contender)
                if one.now.contender in results.spec.contenders
                else one.now.contender,
                f"{one.before.study}, {one.before.at[:16].replace('T', ' ')}",
                say.number(100 * one.before.accuracy),
                say.number(100 * one.now.accuracy),
                "; ".join(one.changes) or say("seal_same"),
            )
            for one in again
        ],
    }


def leaks(results: StudyResults, say: Labels) -> dict[str, Any] | None:
    """Test accuracy with and without images that train or validation has, too."""
    if results.audit is None:
        return None
    leaked = set(results.audit.leaked("test"))
    rows = []
    for run in results.runs:
        right = run.test.predicted == run.test.labels
        inside = [at for at, path in enumerate(run.test.paths) if path in leaked]
        kept, n = int(right.sum()) - int(right[inside].sum()), len(right) - len(inside)
        low_high = wilson_interval(kept, n) if n else (0.0, 1.0)
        rows.append(
            (
                run.title,
                say.number(100 * run.scores.accuracy),
                f"{say.number(100 * kept / n)} ({say.interval(low_high)})" if n else "–",
                f"{int(right[inside].sum())} / {len(inside)}",
            )
        )
    count = len(leaked.intersection(results.runs[0].test.paths))
    if not count:
        return {"text": say("leak_none"), "rows": []}
    n_all = results.runs[0].scores.n
    return {"text": say("leak_text", count=say.count(count), n=say.count(n_all)), "rows": rows}

"""How the test images were used, in words: how often they were scored, and what leaked."""

from __future__ import annotations

from typing import Any

import numpy as np

from podium.reporting.words.labels import Labels
from podium.reporting.words.recipes import run_title
from podium.results.study import StudyResults
from podium.runs.ledger import rescorings
from podium.statistics.intervals import share_interval


def looks(results: StudyResults, say: Labels) -> dict[str, Any]:
    """How often the test images were scored, and which contenders had been scored before.

    Args:
        results: the study.
        say: the language.
    """
    scorings = results.scorings
    if not scorings:
        return {"text": say("seal_unknown"), "total": "", "rows": []}
    again = rescorings(scorings, results.spec.name)
    stressed = sum(one.by == "stress" for one in scorings)
    total = say(
        "seal_total",
        models=say.count(len({one.weights for one in scorings})),
        n=say.count(scorings[-1].n),
    )
    reported = {(one.now.contender, one.now.seed) for one in again}
    return {
        "text": say("seal_again", count=len(reported)) if again else say("seal_once"),
        "total": f"{total} {say('seal_stress', count=stressed)}" if stressed else total,
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
    """Test accuracy with and without images that are also in train or validation.

    Args:
        results: the study.
        say: the language.

    Returns:
        A sentence and table rows; None where the images were not audited.
    """
    if results.audit is None:
        return None
    leaked = set(results.audit.leaked("test"))
    rows = []
    for run in results.runs:
        right = run.test.predicted == run.test.labels
        inside = [at for at, path in enumerate(run.test.paths) if path in leaked]
        apart = np.isin(np.arange(len(right)), inside, invert=True)
        kept, n = int(right[apart].sum()), int(apart.sum())
        own = None if run.groups is None else run.groups[apart]
        low_high = share_interval(right[apart], own) if n else (0.0, 1.0)
        rows.append(
            (
                run_title(run, say),
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

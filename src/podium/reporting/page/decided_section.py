"""The images that decided each pair, and how many wrong labels its verdict survives."""

from __future__ import annotations

from typing import Any

from podium.reporting.page.templating import script_json
from podium.reporting.words.labels import NOTHING, Labels
from podium.reporting.words.verdict_words import ordered_pairs, p_words
from podium.results.study import StudyResults
from podium.statistics.robustness import Survived, survived
from podium.statistics.verdicts import Pair, Verdicts


def decided_section(results: StudyResults, say: Labels) -> dict[str, Any] | None:
    """The template values of the images that decided; None where there are no pairs.

    Args:
        results: the study.
        say: the language.
    """
    verdicts = results.verdicts
    if verdicts is None or not verdicts.pairs:
        return None
    pairs = ordered_pairs(verdicts)
    counted = [_is_counted(pair, verdicts) for pair in pairs]
    several = len(pairs) > 1 and any(counted)
    return {
        "pairs": [_title(pair, verdicts) for pair in pairs],
        "rows": [_row(pair, verdicts, say) for pair in pairs],
        "level": say("decided_level", level=say.number(verdicts.level, 3)) if several else "",
        "uncounted": "" if all(counted) else say(f"decided_{_why_not(verdicts)}"),
        "data": script_json(
            {
                "level": verdicts.level,
                "pairs": [
                    _pair(pair, results, is_counted)
                    for pair, is_counted in zip(pairs, counted, strict=True)
                ],
            }
        ),
    }


def _is_counted(pair: Pair, verdicts: Verdicts) -> bool:
    """Whether p is McNemar's: the images that only one of the two gets right are all it needs."""
    return pair.seed_counts == (1, 1) and _why_not(verdicts) == "seeds"


def _why_not(verdicts: Verdicts) -> str:
    """Why p is not McNemar's: of any pair, or of those in which a contender has several seeds."""
    if verdicts.folds is not None:
        return "folds"
    if not verdicts.metric.is_accuracy:
        return "metric"
    return "groups" if verdicts.grouping is not None else "seeds"


def _title(pair: Pair, verdicts: Verdicts) -> str:
    return f"{verdicts.labels[pair.first]} – {verdicts.labels[pair.second]}"


def _survived(pair: Pair, verdicts: Verdicts) -> Survived | None:
    if not _is_counted(pair, verdicts):
        return None
    return survived(round(pair.only_first), round(pair.only_second), verdicts.level)


def _row(pair: Pair, verdicts: Verdicts, say: Labels) -> list[tuple[str, float]]:
    """Text and sort key of each cell."""
    digits = 0 if pair.claim == "models" else 1
    found = _survived(pair, verdicts)
    held = (found.struck, found.relabelled) if found else (None, None)
    return [
        (_title(pair, verdicts), 0.0),
        (say.number(pair.only_first, digits), pair.only_first),
        (say.number(pair.only_second, digits), pair.only_second),
        (p_words(pair.p, say).removeprefix("p = ").removeprefix("p "), pair.p),
        *((NOTHING, -1.0) if one is None else (say.count(one), float(one)) for one in held),
    ]


def _pair(pair: Pair, results: StudyResults, is_counted: bool) -> dict[str, Any]:
    """What the script needs; runs are numbered as in the explorer."""
    labels = {one.name: one.label for one in results.contenders}
    numbers: dict[str, list[int]] = {}
    for number, run in enumerate(results.runs):
        numbers.setdefault(run.folder.contender, []).append(number)
    of = (pair.first, pair.second)
    return {
        "names": [labels[name] for name in of],
        "runs": [numbers[name] for name in of],
        "only": [pair.only_first, pair.only_second],
        "n": pair.n,
        "counted": is_counted,
    }

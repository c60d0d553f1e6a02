"""Advice in words: what to try next, and the evidence for it."""

from __future__ import annotations

from dataclasses import dataclass

from podium.reporting.words.labels import Labels
from podium.results.advice.advise import advise
from podium.results.advice.finding import Finding
from podium.results.advice.shortcut import shortcut
from podium.results.study import StudyResults


@dataclass(frozen=True)
class Advice:
    """A piece of advice."""

    what: str
    """What to try, in a few words."""
    why: str
    """The evidence."""
    contender: str | None
    """Name of the contender that it is about; None: it is about the images."""


def advice(results: StudyResults, say: Labels) -> list[Advice]:
    """What to try next, the most serious first; empty where no rule applies.

    Args:
        results: the study.
        say: the language.
    """
    return [_in_words(one, say) for one in advise(results)]


def shortcut_sentences(results: StudyResults, say: Labels) -> list[tuple[str, bool]]:
    """What shortcut contenders find out about the images, as findings of the audit.

    Args:
        results: the study.
        say: the language.

    Returns:
        A sentence each, and True: it is an alarm.
    """
    return [(say("audit_shortcut", **_values(one, say)), True) for one in shortcut(results)]


def _in_words(one: Finding, say: Labels) -> Advice:
    values = _values(one, say)
    what, why = (say(f"advice_{one.rule}{part}", **values) for part in ("_what", "_why"))
    return Advice(what, why, one.contender)


def _values(one: Finding, say: Labels) -> dict[str, str]:
    return {
        **one.names,
        **{key: say.percent(share, 1) for key, share in one.shares.items()},
        **{key: say.count(count) for key, count in one.counts.items()},
    }

"""Corrupted images in words: what each contender loses, and whether the ranking turns."""

from __future__ import annotations

from podium.reporting.words.labels import Labels
from podium.reporting.words.verdict_words import p_words, points, points_interval
from podium.statistics.stress import EVERY, Stressed, StressPair


def corruption_title(name: str, say: Labels) -> str:
    """The display name of a corruption, or of all together.

    Args:
        name: of the corruption, or `every`.
        say: the language.
    """
    return say(f"stress_{name}")


def ranking_sentence(found: Stressed, say: Labels) -> str:
    """Who is first on the images as they are, and who under corruption.

    Args:
        found: of the study.
        say: the language.
    """
    clean = max(found.curves, key=lambda name: found.curves[name][0].value)
    stressed = max(found.means, key=lambda name: found.means[name])
    values = {
        "clean": found.labels[clean],
        "accuracy": say.percent(found.curves[clean][0].value, 1),
        "stressed": found.labels[stressed],
        "mean": say.percent(found.means[stressed], 1),
    }
    return say("stress_same_first" if clean == stressed else "stress_other_first", **values)


def turn_sentences(found: Stressed, say: Labels) -> list[str]:
    """The pairs whose order corruption turns, all corruptions together first.

    Args:
        found: of the study.
        say: the language.
    """
    return [_turn(pair, found, say) for pair in found.changed if pair.turns]


def _turn(pair: StressPair, found: Stressed, say: Labels) -> str:
    here = pair.stressed.interval.value
    ahead, behind = (pair.first, pair.second) if here > 0 else (pair.second, pair.first)
    where = say("stress_where_every" if pair.corruption == EVERY else "stress_where",
                name=corruption_title(pair.corruption, say))  # fmt: skip
    return say(
        "stress_turns",
        where=where,
        ahead=found.labels[ahead],
        behind=found.labels[behind],
        here=say.number(100 * abs(here), 1),
        clean=say.number(100 * abs(pair.clean), 1),
        change=points(pair.change.interval.value, say),
        interval=points_interval(pair.change.interval, say),
        p=p_words(pair.change.p_adjusted, say),
    )

"""Verdicts at any time in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from podium.reporting.words.labels import Labels
from podium.statistics.anytime import AnytimeVerdict


def anytime_lines(
    found: Sequence[AnytimeVerdict],
    labels: Mapping[str, str],
    margin: float | None,
    planned: int | None,
    say: Labels,
) -> list[str]:
    """One sentence for each pair, then what they hold for.

    Args:
        found: the verdicts.
        labels: display name of each contender, by name.
        margin: of equivalence, 0..1; None: none.
        planned: number of images at which the study ends at the latest; None: none.
        say: the language.
    """
    told = []
    for one in found:
        second = one.second if one.ahead in (None, one.first) else one.first
        names = {"a": labels[one.ahead or one.first], "b": labels[second]}
        if one.outcome == "superior":
            told.append(say("anytime_superior", **names, **_evidence(one.e, one, say)))
        elif one.outcome == "equivalent":
            assert margin is not None
            assert one.e_equivalent is not None
            points = say.short(round(100 * margin, 4))
            e = _evidence(one.e_equivalent, one, say)
            told.append(say("anytime_equivalent", **names, margin=points, **e))
        elif one.outcome == "futile":
            chance = say.percent(one.chance, 0)
            told.append(say("anytime_futile", **names, planned=say.count(planned), chance=chance))
        else:
            left = ""
            if one.chance is not None:
                chance = say.percent(one.chance, 0)
                left = say("anytime_chance", planned=say.count(planned), chance=chance)
            open_now = say("anytime_open", **names, **_evidence(one.e, one, say))
            told.append(f"{open_now} {left}".strip())
    return [*told, say("anytime_note")]


def _evidence(e: float, one: AnytimeVerdict, say: Labels) -> dict[str, str]:
    return {"e": say.short(float(f"{e:.3g}")), "needed": say.short(round(one.needed, 1))}

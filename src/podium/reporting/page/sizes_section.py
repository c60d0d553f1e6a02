"""What studies with other numbers of test images and seeds would decide, with sliders."""

from __future__ import annotations

import shlex
from typing import Any

from podium.reporting.page.templating import script_json
from podium.reporting.words.labels import Labels
from podium.reporting.words.verdict_words import ordered_pairs, pair_cells
from podium.results.outlook import OtherSizes, PairPower, other_sizes
from podium.results.study import StudyResults


def sizes_section(results: StudyResults, say: Labels) -> dict[str, Any] | None:
    """The template values of the sliders; None where no power is known.

    Args:
        results: the study.
        say: the language.
    """
    verdicts = results.verdicts
    if verdicts is None:
        return None
    found = other_sizes(results.outlook, verdicts, ordered_pairs(verdicts))
    if found is None:
        return None
    given, labels = found.given, verdicts.labels
    n, seeds = found.own
    hints = [say("sizes_hint", power=f"{100 * given.target:.0f} %"), _seeds_hint(found, say)]
    if given.group_size > 1:
        hints.append(say("sizes_groups"))
    rows = [pair_cells(one.pair, labels, say) for one in found.pairs]
    return {
        "hint": " ".join(hints),
        "images": [say.count(count) for count in found.images],
        "seeds": found.seeds,
        "own": (found.images.index(n), found.seeds.index(seeds)),
        "rows": [(f"{cells[0]} – {cells[1]}", cells[2], cells[-1]) for cells in rows],
        "data": script_json(
            {
                "images": found.images,
                "seeds": found.seeds,
                "target": round(100 * given.target),
                "names": [one.label for one in verdicts.standings],
                "pairs": [_pair(one, results, found) for one in found.pairs],
            }
        ),
    }


def _seeds_hint(found: OtherSizes, say: Labels) -> str:
    """Where it is known from how much seeds differ: only from pairs of several seeds each."""
    if any(one.pair.claim == "methods" for one in found.pairs):
        return say("sizes_seeds_measured")
    given = found.given
    sd, share = say.number(100 * given.seed_sd, 1), say.percent(given.image_share, 0)
    return say("sizes_seeds_assumed", sd=sd, share=share)


def _pair(one: PairPower, results: StudyResults, found: OtherSizes) -> dict[str, Any]:
    """What the script needs; contenders are numbered by place, power is in whole percents."""
    assert results.verdicts is not None
    names = [standing.name for standing in results.verdicts.standings]
    return {
        "of": [names.index(one.pair.first), names.index(one.pair.second)],
        "power": one.power and [[round(100 * power) for power in row] for row in one.power],
        "command": f"--difference {one.points:g} --disagreement {one.disagreement:g} "
        f"--contenders {found.given.contenders} --like "
        f"{shlex.quote(str(results.folder.path))}",
    }

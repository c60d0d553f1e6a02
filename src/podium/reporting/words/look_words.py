"""Why a study with `seeds: auto` stopped, or what it goes on for, in words."""

from __future__ import annotations

from podium.config.seeds import MOST_SEEDS
from podium.reporting.words.labels import Labels
from podium.statistics.stopping import LEAST_CHANCE, Look


def look_sentence(look: Look, say: Labels) -> str:
    """What a look showed, and why it was the last if it was.

    Args:
        look: the latest.
        say: the language.
    """
    counts = {
        "superior": look.count("superior"),
        "equivalent": look.count("equivalent"),
        "left": look.count("futile") + look.count("open"),
    }
    there = {key: count for key, count in counts.items() if count}
    pairs = len(look.judged)
    if pairs == 1:
        what = say(f"looks_pair_{next(iter(there))}")
    else:
        counted = [
            say(f"looks_{key}_1" if count == 1 else f"looks_{key}", count=say.count(count))
            for key, count in there.items()
        ]
        what = say("looks_pairs", pairs=say.count(pairs), outcomes=", ".join(counted))
    key = "limit"
    if not look.is_last:
        key = "open"
    elif look.seeds < MOST_SEEDS:
        key = "futile" if look.count("futile") else "decided"
    chance = f"{100 * LEAST_CHANCE:.0f} %"
    told = say(f"looks_{key}", seeds=look.seeds, most=MOST_SEEDS, what=what, chance=chance)
    return told if pairs == len(look.pairs) else f"{told} {say('looks_probes')}"

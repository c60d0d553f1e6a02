"""A tuning in words: how it was done, what it chose, what its scores are worth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from podium.reporting.words.labels import Labels
from podium.reporting.words.metric_words import metric_title, metric_value
from podium.results.tuning import ContenderTuning, StudyTuning

MOST_SAID = 8  # contenders with a sentence each; the table has the others


def tuned_words(tuned: Mapping[str, Any], say: Labels) -> str:
    """The settings that a tuning chose, and of how many trials.

    Args:
        tuned: of `done.json`.
        say: the language.
    """
    chosen = settings_words(tuned["settings"], say) or say("tuning_own")
    return say("tuning_of", settings=chosen, trials=say.count(tuned["trials"]))


def settings_words(settings: Mapping[str, Any], say: Labels) -> str:
    """Settings with their values, such as `lr 0.0012, mixup 0.2`; empty: there are none.

    Args:
        settings: by name, as plain values.
        say: the language.
    """
    told = []
    for name, value in settings.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        text = say.short(value) if is_number else json.dumps(value, ensure_ascii=False)
        told.append(f"{name} {text.strip(chr(34))}")
    return ", ".join(told)


def changed_words(one: ContenderTuning, say: Labels) -> str:
    """The chosen settings, each after what the contender is written with.

    Args:
        one: a contender.
        say: the language.
    """
    told = []
    for name, value in one.chosen.items():
        before, after = (settings_words({name: each}, say) for each in (one.before[name], value))
        told.append(after if before == after else f"{before} → {after.removeprefix(f'{name} ')}")
    return ", ".join(told) or say("tuning_own")


def how_words(found: StudyTuning, say: Labels) -> str:
    """How the settings were searched, and that no test image took part.

    Args:
        found: the tuning.
        say: the language.
    """
    tune = found.tune
    told = [
        say(
            "tuning_intro",
            trials=say.count(tune.trials),
            sampler=say(f"tuning_{tune.sampler}"),
            space=", ".join(tune.space),
            metric=metric_title(found.metric, say),
            seed=tune.seed,
        )
    ]
    if tune.prune == "median":
        ended = sum(one.count("pruned") for one in found.contenders)
        told.append(say("tuning_pruned", count=say.count(ended)))
    if failed := sum(one.count("failed") for one in found.contenders):
        told.append(say("tuning_failed", count=say.count(failed)))
    if found.untuned:
        told.append(say("tuning_untuned", names=", ".join(found.untuned)))
    return " ".join(told)


def tuning_sentences(found: StudyTuning, say: Labels) -> list[str]:
    """What each contender got, for a terminal.

    Args:
        found: the tuning.
        say: the language.
    """
    told = [
        say(
            "tuning_line",
            name=one.label,
            trials=say.count(len(one.trials)),
            time=say.duration(one.seconds),
            best=metric_value(found.metric, one.best.score, say),
            own=metric_value(found.metric, one.own, say),
            settings=changed_words(one, say),
        )
        for one in found.contenders[:MOST_SAID]
    ]
    if left := len(found.contenders) - MOST_SAID:
        told += [say("tuning_more", count=left)] if left > 0 else []
    return [*told, say("tuning_optimistic")] if told else []

"""The head of the report: a podium, the best contender's card, and three telling images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podium.reporting.page.explorer import Explorer
from podium.reporting.page.image_store import ImageStore
from podium.reporting.page.panel import anchor
from podium.reporting.words.labels import NOTHING, Labels
from podium.reporting.words.metric_words import metric_title
from podium.reporting.words.podium_words import (
    outlook_sentence,
    score_words,
    standings_by_name,
    steps,
    verdict_sentence,
)
from podium.reporting.words.recipes import recipe_in_words
from podium.reporting.words.verdict_words import listed_names
from podium.results.study import Contender, StudyResults
from podium.results.telling import TellingImage, telling_images
from podium.statistics.verdicts import Standing

MOST_STEPS = 3
MOST_NAMES = 6  # on a step
MOST_SAID = 3  # classes in a caption


def store_telling_images(
    results: StudyResults, store: ImageStore, thumbnails: Mapping[str, bytes]
) -> list[TellingImage]:
    """Choose the telling images and store them, before any other image takes their room.

    Args:
        results: the study.
        store: to fill.
        thumbnails: JPEGs of test images by path.
    """
    found = telling_images(results, thumbnails)
    return [one for one in found if store.put(thumbnails[one.path], one.path) is not None]


def head_section(
    results: StudyResults,
    told: list[TellingImage],
    explorer: Explorer,
    store: ImageStore,
    say: Labels,
) -> dict[str, Any]:
    """The template values of the head.

    Args:
        results: the study.
        told: the telling images.
        explorer: numbers the images for the script.
        store: holds the images.
        say: the language.
    """
    every = steps(results) if len(results.contenders) > 1 else []
    hidden = sum(map(len, every[MOST_STEPS:]))
    return {
        "verdict": verdict_sentence(results, say),
        "outlook": outlook_sentence(results, say),
        "steps": [_step(results, step, say) for step in every[:MOST_STEPS]],
        "more": say("podium_below", count=hidden) if hidden else "",
        "card": _card(results, say),
        "images": [
            {
                "number": store.number(one.path),
                "image": explorer.images.get(one.path),
                "path": one.path,
                "alt": say("picture_alt", name=one.true),
                "title": _image_title(one, results, say),
                "text": _image_text(one, say),
            }
            for one in told
        ],
    }


def _step(results: StudyResults, step: list[Contender], say: Labels) -> dict[str, Any]:
    standings = standings_by_name(results)
    own = [standings[one.name] for one in step] if standings else []
    shown = step[:MOST_NAMES]
    return {
        "place": _places(own),
        "contenders": [
            {
                "label": one.label,
                "anchor": anchor(one.runs[0]),
                "score": score_words(results, one, say),
            }
            for one in shown
        ],
        "more": say("v_others", count=len(step) - len(shown)) if len(step) > len(shown) else "",
    }


def _places(own: list[Standing]) -> str:
    """The places that those on a step may have."""
    if not own:
        return ""
    best, worst = min(one.best for one in own), max(one.worst for one in own)
    return str(best) if best == worst else f"{best}–{worst}"


def _card(results: StudyResults, say: Labels) -> dict[str, Any]:
    """The winner; where there is none, the contender that measured best."""
    best, metric, cost = results.ranking[0], results.metric, results.costs
    own = cost[best.name]
    title = metric_title(metric, say)
    key = "card_measured"
    if len(results.contenders) == 1:
        key = "card_only"
    elif results.verdicts is not None and [one.name for one in results.verdicts.leaders] == [
        best.name
    ]:
        key = "card_winner"
    elif sum(one.score == best.score for one in results.contenders) > 1:
        key = "card_shared"
    score, interval = score_words(results, best, say)
    size = [
        f"{say.number(own.parameters / 1e6)} M" if own.parameters else "",
        f"{say.number(own.megabytes, 1)} MB" if own.megabytes else "",
    ]
    device = f" ({own.device})" if own.device else ""
    latency = "" if own.latency is None else f"{say.number(own.latency, 1)} ms{device}"
    known = [
        (say("card_size"), " · ".join(filter(None, size))),
        (say("card_latency"), latency),
        (say("card_training"), say.duration(own.seconds)),
    ]
    facts = [(name, value) for name, value in known if value not in ("", NOTHING)]
    if not metric.is_accuracy:
        facts.insert(0, (say("metric_accuracy").capitalize(), say.percent(best.accuracy)))
    return {
        "kind": say(key, metric=title),
        "won": key == "card_winner",
        "label": best.label,
        "anchor": anchor(best.runs[0]),
        "recipe": recipe_in_words(best.runs[0], say),
        "metric": title,
        "score": score,
        "interval": interval,
        "seeds": say("mean_of_seeds", count=len(best.runs)) if len(best.runs) > 1 else "",
        "facts": facts,
    }


def _image_title(one: TellingImage, results: StudyResults, say: Labels) -> str:
    return say(f"telling_{one.kind}", name=results.ranking[0].label, count=len(one.said) + 1)


def _image_text(one: TellingImage, say: Labels) -> str:
    said = listed_names(list(one.said[:MOST_SAID]), say) if one.said else NOTHING
    return say(f"telling_{one.kind}_text", true=one.true, said=said, own=say.percent(one.own, 1))

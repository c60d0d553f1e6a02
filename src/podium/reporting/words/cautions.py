"""Cautions for readers of the report: scores at chance level, and possible memorisation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from podium.reporting.words.labels import Labels
from podium.reporting.words.recipes import run_title
from podium.results.run import RunResult
from podium.results.study import StudyResults
from podium.runs.predictions import Predictions

LEAST_SHARE = 0.2
"""The share of class names that must be ImageNet classes for a caution: a few match by chance."""


def majority(test: Predictions) -> tuple[str, float]:
    """The most frequent class of the test images, and the accuracy of always predicting it.

    Args:
        test: predictions on the test images.
    """
    label, count = Counter(test.labels.tolist()).most_common(1)[0]
    return test.class_names[label], count / len(test)


def at_chance(results: StudyResults, say: Labels) -> list[str]:
    """A sentence for each run that is not better than always predicting the most frequent class.

    Args:
        results: the study.
        say: the language.
    """
    told = []
    for run in results.runs:
        label, share = majority(run.test)
        low, _ = run.interval
        if low <= share:
            told.append(
                say(
                    "note_chance",
                    name=run_title(run, say),
                    accuracy=say.percent(run.scores.accuracy, 1),
                    interval=say.interval(run.interval),
                    label=label,
                    baseline=say.percent(share, 1),
                )
            )
    return told


def cross_validated(results: StudyResults, say: Labels) -> list[str]:
    """A sentence on what the scores of a cross-validated study are, and on its final models.

    Args:
        results: the study.
        say: the language.
    """
    folds, repeats = results.runs[0].folds, results.spec.data.repeats
    if folds is None:
        return []
    told = say("note_folds", folds=folds)
    again = say("note_repeats", repeats=repeats) if repeats > 1 else ""
    return [" ".join(filter(None, [told, again, final_model_words(results.runs[0], say)]))]


def final_model_words(run: RunResult, say: Labels) -> str:
    """A sentence on the model of a cross-validated run that is used afterwards; '' for others.

    Args:
        run: the run.
        say: the language.
    """
    made = run.done.get("final_model")
    return say(f"final_{made['kind']}", count=made.get("members", 1)) if made else ""


def may_be_known(results: StudyResults, say: Labels) -> list[str]:
    """A sentence where pre-trained contenders may have been trained on the test images.

    Nearly all published weights were trained on ImageNet. Whether these images are in it is
    unknown here; whether the classes are ImageNet classes is known.

    Args:
        results: the study.
        say: the language.
    """
    if not any(recipe.pretrained for recipe in results.recipes.values()):
        return []
    known = imagenet_classes(results.class_names)
    if len(known) < LEAST_SHARE * len(results.class_names):
        return []
    values = {"count": say.count(len(known)), "classes": say.count(len(results.class_names))}
    return [say("note_imagenet", **values)]


def imagenet_classes(names: Sequence[str]) -> list[str]:
    """The names that are ImageNet-1k classes, by WordNet ID or synonym.

    Underscores, hyphens and case are ignored. The result is empty where timm, which has the list,
    is not installed.

    Args:
        names: class names.
    """
    known = _imagenet_names()
    return [name for name in names if _plain(name) in known]


@cache
def _imagenet_names() -> frozenset[str]:
    spec = find_spec("timm")  # the list is read as text: importing timm would load torch
    places = (spec.submodule_search_locations if spec else None) or []
    for place in places:
        folder = Path(place) / "data" / "_info"
        try:
            numbers = (folder / "imagenet_synsets.txt").read_text(encoding="utf-8").split()
            lines = (folder / "imagenet_synset_to_lemma.txt").read_text(encoding="utf-8")
        except OSError:
            continue
        wanted, found = set(numbers), set(numbers)
        for line in lines.splitlines():
            number, _, synonyms = line.partition("\t")
            if number in wanted:
                found.update(_plain(one) for one in synonyms.split(","))
        return frozenset(found)
    return frozenset()


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().lower()

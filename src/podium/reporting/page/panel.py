"""One run on the page: its values, tables, matrix and images."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from markupsafe import Markup

from podium.reporting.figures.class_table import MOST_LISTED, ROWS_A_PAGE, by_f1, cells
from podium.reporting.figures.explanations import LABEL_MARK, Explanation
from podium.reporting.figures.matrix import matrix_part, matrix_view
from podium.reporting.figures.tasks import RunPictures
from podium.reporting.page.explorer import Explorer
from podium.reporting.page.image_store import ImageStore
from podium.reporting.words.labels import NOTHING, Labels
from podium.reporting.words.metric_words import metric_title, metric_value
from podium.reporting.words.recipes import (
    calibration_rows,
    facts,
    recall_interval,
    recipe_in_words,
    run_title,
    seed_name,
)
from podium.results.pictures import Picture
from podium.results.run import RunResult
from podium.statistics.calibration import LEAST_TO_PROMISE
from podium.statistics.metrics import ClassScores, most_confused, wilson_interval

CONFUSED_SHOWN = 15


def anchor(run: RunResult) -> str:
    """The HTML id of a run's panel.

    Args:
        run: the run.
    """
    return f"run-{run.slug}"


def run_panel(
    run: RunResult, drawn: RunPictures, explorer: Explorer, store: ImageStore, say: Labels
) -> dict[str, Any]:
    """The template values of one run.

    Args:
        run: the run.
        drawn: its figures and images.
        explorer: numbers the classes and images for the script.
        store: holds the images.
        say: the language.
    """
    score, title = run.scores, run_title(run, say)
    stand_in = {"used": run.model, "wanted": run.stood_in_for, "name": title}
    return {
        "anchor": anchor(run),
        "slug": run.slug,
        "title": title,
        "seed": seed_name(run, say),
        "recipe": recipe_in_words(run, say),
        "stand_in": say("stand_in", **stand_in) if run.stood_in_for else "",
        "accuracies": _accuracies(run, say),
        "facts": facts(run, say),
        "curves": Markup(drawn.curves),
        **_classes(run, explorer, say),
        "reliability": Markup(drawn.reliability),
        "calibration": calibration_rows(run, say),
        "calibration_hint": " ".join(
            filter(
                None, [calibration_caution(run, say) or say("cal_hint"), groups_caution(run, say)]
            )
        ),
        **_matrix(run, drawn, explorer, say),
        "gallery": [_picture(one, explorer, store, say) for one in drawn.gallery],
        "mistakes": [_picture(one, explorer, store, say) for one in drawn.mistakes],
        "explanations": [
            _explanation(one, run, explorer, store, say) for one in drawn.explanations
        ],
        "all_right": score.correct == score.n,
        "files": [path.as_posix() for path in drawn.files],
    }


def _accuracies(run: RunResult, say: Labels) -> list[tuple[str, str]]:
    """Names and values; the study's metric first where it is not accuracy."""
    accuracies = [
        (f"{say('test')} ({say.interval(run.interval)})", say.percent(run.scores.accuracy)),
        (say("valid"), say.percent(run.valid_accuracy)),
        *([] if run.members else [(say("train"), say.percent(run.train_accuracy))]),
    ]
    macro_f1 = say("col_macro_f1").removesuffix(" (%)"), say.percent(run.scores.macro_f1)
    metric = run.noted.metric
    if metric.is_accuracy:
        return [*accuracies, macro_f1]
    title = metric_title(metric, say)
    return [
        (f"{title} ({say('test')})", metric_value(metric, run.noted.test, say)),
        (f"{title} ({say('valid')})", metric_value(metric, run.noted.valid, say)),
        *((f"{say('metric_accuracy')}: {name}", text) for name, text in accuracies),
        macro_f1,
    ]


def _classes(run: RunResult, explorer: Explorer, say: Labels) -> dict[str, Any]:
    """The table of classes, weakest first."""
    rows = [
        {
            "name": one.name,
            "number": explorer.classes[one.name],
            "support": one.support,
            "told": one.name in run.told,
            "recall": recall_interval(one, say),
            "cells": [*zip(cells(one, say), (one.precision, one.recall, one.f1), strict=True)],
        }
        for one in by_f1(run.classes)[:MOST_LISTED]
    ]
    counts = {"count": say.count(len(rows)), "total": say.count(len(run.classes))}
    return {
        "classes": rows,
        "classes_note": say("class_table_part", **counts) if len(rows) < len(run.classes) else "",
        "grey_note": grey_note(run.classes, len(run.told), say),
        "paged": len(run.classes) > ROWS_A_PAGE,
    }


def _matrix(run: RunResult, drawn: RunPictures, explorer: Explorer, say: Labels) -> dict[str, Any]:
    """The confusion matrix and the most confused pairs of classes."""
    part, classes = matrix_part(run.test), explorer.classes
    return {
        "matrix": matrix_view(part, say),
        "matrix_classes": [classes[name] for name in part.names],
        "matrix_note": "" if part.is_whole else part.title(say),
        "matrix_picture": drawn.matrix,
        "matrix_alt": say("confusion_alt", name=run_title(run, say)),
        "confused": [
            {
                "true": pair.true,
                "predicted": pair.predicted,
                "numbers": (classes[pair.true], classes[pair.predicted]),
                "images": say.count(pair.images),
                "share": say.percent(pair.share, 0),
            }
            for pair in most_confused(run.test, CONFUSED_SHOWN)
        ],
    }


def grey_note(classes: Sequence[ClassScores], told: int, say: Labels) -> str:
    """Why most classes are grey: the interval of a recall with so few images.

    Args:
        classes: of one run.
        told: number of classes whose recall differs significantly.
        say: the language.
    """
    n = int(median(one.support for one in classes))
    return say(
        "class_grey_note",
        told=say.count(told),
        count=say.count(len(classes)),
        n=say.count(n),
        interval=say.interval(wilson_interval(n, n), 0) if n else NOTHING,
    )


def calibration_caution(run: RunResult, say: Labels) -> str:
    """A warning where the temperature was fitted on too few images, else an empty string.

    Args:
        run: the run.
        say: the language.
    """
    if run.temperature == 1:
        values = {"n": say.count(run.valid_n), "mistakes": say.count(run.valid_mistakes)}
        return say("cal_none", **values)
    if run.valid_n < LEAST_TO_PROMISE:
        return say("cal_few", n=say.count(run.valid_n), least=LEAST_TO_PROMISE)
    return ""


def groups_caution(run: RunResult, say: Labels) -> str:
    """What the interval of the calibration error is worth with groups of images, else ''.

    Args:
        run: the run.
        say: the language.
    """
    return "" if run.groups is None else say("cal_groups")


def _picture(
    picture: Picture | Explanation, explorer: Explorer, store: ImageStore, say: Labels
) -> dict[str, Any]:
    return {
        "picture": store.number(picture.path),
        "path": picture.path,
        "image": explorer.images.get(picture.path),
        "alt": say("picture_alt", name=picture.true),
        "true": picture.true,
        "predicted": picture.predicted,
        "probability": say.percent(picture.probability, 1),
        "right": picture.right,
    }


def _explanation(
    one: Explanation, run: RunResult, explorer: Explorer, store: ImageStore, say: Labels
) -> dict[str, Any]:
    maps = [(one.predicted, store.number(one.path, run.slug))]
    if one.of_true is not None:
        maps.append((one.true, store.number(one.path + LABEL_MARK, run.slug)))
    return {
        **_picture(one, explorer, store, say),
        "maps": [
            {"name": name, "picture": number, "alt": say("cam_alt", name=name)}
            for name, number in maps
        ],
    }

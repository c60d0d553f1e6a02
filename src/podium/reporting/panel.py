"""One run on the page: its figures in words, its tables, matrix and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from markupsafe import Markup

from podium.calibration import LEAST_TO_PROMISE, Calibration, Estimate
from podium.config import RunSpec
from podium.metrics import ClassScores, most_confused, wilson_interval
from podium.reporting.class_table import MOST_LISTED, ROWS_A_PAGE, by_f1, cells
from podium.reporting.explanations import LABEL_MARK, Explanation
from podium.reporting.explorer import Explorer
from podium.reporting.gallery import Picture
from podium.reporting.gather import RunResult
from podium.reporting.labels import NOTHING, Labels
from podium.reporting.matrix import MatrixView, matrix_part, matrix_view
from podium.reporting.shelf import Shelf
from podium.reporting.tables import augmentation, pretraining

__all__ = [
    "RunPictures",
    "anchor",
    "calibration_caution",
    "calibration_rows",
    "facts",
    "grey_note",
    "recall_interval",
    "recipe_in_words",
    "reliability_alt",
    "run_panel",
]

CONFUSED_SHOWN = 15


@dataclass(frozen=True)
class RunPictures:
    """What was drawn for one run, as the page shows it."""

    curves: str  # an <svg> element; empty where there is no history
    matrix: str  # a data: address of a picture; empty where the page draws the matrix itself
    gallery: Sequence[Picture]
    mistakes: Sequence[Picture]
    explanations: Sequence[Explanation]
    reliability: str  # an <svg> element
    files: Sequence[Path]  # of this run, relative to the page


def anchor(run: RunResult) -> str:
    """The id of the run's panel."""
    return f"run-{run.slug}"


def recipe_in_words(run: RunResult, say: Labels) -> str:
    """Model, augmentation and pre-training, the latter two where there are any."""
    parts = [run.model]
    if run.recipe.augmentation != "none" or run.recipe.mixup or run.recipe.cutmix:
        parts.append(augmentation(run.recipe, say))
    if run.recipe.pretrained or run.recipe.weights is not None:
        parts.append(pretraining(run.recipe, say))
    return " · ".join(parts)


def run_panel(
    run: RunResult, drawn: RunPictures, explorer: Explorer, shelf: Shelf, say: Labels
) -> dict[str, Any]:
    """What the template shows of one run.

    Args:
        run: the run.
        drawn: its figures and pictures.
        explorer: numbers the classes and images, for the script.
        shelf: holds the pictures.
        say: the language.
    """
    rows = [
        {
            "name": one.name,
            "number": explorer.classes[one.name],
            "support": one.support,
            "told": one.name in run.told,
            "recall": recall_interval(one, say),
            "cells": [
                (box, value)
                for box, value in zip(
                    cells(one, say), (one.precision, one.recall, one.f1), strict=True
                )
            ],
        }
        for one in by_f1(run.classes)[:MOST_LISTED]
    ]
    score = run.scores
    part = matrix_part(run.test)
    view: MatrixView | None = matrix_view(part, say)
    classes = explorer.classes
    accuracies = [
        (f"{say('test')} ({say.interval(run.interval)})", say.percent(score.accuracy)),
        (say("valid"), say.percent(run.valid_accuracy)),
        (say("train"), say.percent(run.train_accuracy)),
        (say("col_macro_f1").removesuffix(" (%)"), say.percent(score.macro_f1)),
    ]
    return {
        "anchor": anchor(run),
        "slug": run.slug,
        "title": run.title,
        "recipe": recipe_in_words(run, say),
        "stand_in": (
            say("stand_in", used=run.model, wanted=run.stood_in_for, name=run.title)
            if run.stood_in_for
            else ""
        ),
        "accuracies": accuracies,
        "facts": facts(run, say),
        "curves": Markup(drawn.curves),
        "classes": rows,
        "classes_note": (
            say("class_table_part", count=say.count(len(rows)), total=say.count(len(run.classes)))
            if len(rows) < len(run.classes)
            else ""
        ),
        "grey_note": grey_note(run.classes, len(run.told), say),
        "reliability": Markup(drawn.reliability),
        "calibration": calibration_rows(run, say),
        "calibration_hint": calibration_caution(run, say) or say("cal_hint"),
        "matrix": view,
        "matrix_classes": [classes[name] for name in part.names],
        "matrix_note": "" if part.is_whole else part.title(say),
        "matrix_picture": drawn.matrix,
        "matrix_alt": say("confusion_alt", name=run.title),
        "paged": len(run.classes) > ROWS_A_PAGE,
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
        "gallery": [_picture(one, explorer, shelf, say) for one in drawn.gallery],
        "mistakes": [_picture(one, explorer, shelf, say) for one in drawn.mistakes],
        "explanations": [
            _explanation(one, run, explorer, shelf, say) for one in drawn.explanations
        ],
        "all_right": score.correct == score.n,
        "files": [path.as_posix() for path in drawn.files],
    }


def grey_note(classes: Sequence[ClassScores], told: int, say: Labels) -> str:
    """Why most classes are grey: what an interval of their recall looks like."""
    n = int(median(one.support for one in classes))
    return say(
        "class_grey_note",
        told=say.count(told),
        count=say.count(len(classes)),
        n=say.count(n),
        interval=say.interval(wilson_interval(n, n), 0) if n else NOTHING,
    )


def reliability_alt(run: RunResult, say: Labels) -> str:
    """The reliability diagram in words."""
    before, after = run.calibration
    return say(
        "cal_alt",
        name=run.title,
        before=say.percent(before.ece.value, 1),
        after=say.percent(after.ece.value, 1),
    )


def calibration_caution(run: RunResult, say: Labels) -> str:
    """That the temperature promises nothing, where it rests on too few images; '' elsewhere."""
    if run.temperature == 1:
        values = {"n": say.count(run.valid_n), "mistakes": say.count(run.valid_mistakes)}
        return say("cal_none", **values)
    if run.valid_n < LEAST_TO_PROMISE:
        return say("cal_few", n=say.count(run.valid_n), least=LEAST_TO_PROMISE)
    return ""


def calibration_rows(run: RunResult, say: Labels) -> list[tuple[str, str, str]]:
    """Name, value as trained and value with the temperature, of each calibration figure."""

    def share(estimate: Estimate) -> str:
        bounds = say.interval((estimate.low, estimate.high))
        return f"{say.percent(estimate.value, 1)} ({bounds})"

    def number(estimate: Estimate) -> str:
        low, high = say.number(estimate.low, 3), say.number(estimate.high, 3)
        return f"{say.number(estimate.value, 3)} ({low}–{high})"

    def perfect(found: Calibration) -> str:
        expected = found.expected_if_perfect
        return say.interval((expected.low, expected.high))

    before, after = run.calibration
    return [
        (say("cal_row_ece"), share(before.ece), share(after.ece)),
        (say("cal_row_perfect"), perfect(before), perfect(after)),
        (say("cal_row_nll"), number(before.nll), number(after.nll)),
        (say("cal_row_brier"), number(before.brier), number(after.brier)),
    ]


def recall_interval(one: ClassScores, say: Labels) -> tuple[str, float]:
    """The 95 % interval of a class's recall in %, and its lower end to sort by."""
    if not one.support:
        return NOTHING, -1.0
    bounds = wilson_interval(round(one.recall * one.support), one.support)
    return say.interval(bounds, 0).removesuffix(" %"), bounds[0]


def _picture(
    picture: Picture | Explanation, explorer: Explorer, shelf: Shelf, say: Labels
) -> dict[str, Any]:
    return {
        "picture": shelf.number(picture.path),
        "path": picture.path,
        "image": explorer.images.get(picture.path),
        "alt": say("picture_alt", name=picture.true),
        "true": picture.true,
        "predicted": picture.predicted,
        "probability": say.percent(picture.probability, 1),
        "right": picture.right,
    }


def _explanation(
    one: Explanation, run: RunResult, explorer: Explorer, shelf: Shelf, say: Labels
) -> dict[str, Any]:
    maps = [(one.predicted, shelf.number(one.path, run.slug))]
    if one.of_true is not None:
        maps.append((one.true, shelf.number(one.path + LABEL_MARK, run.slug)))
    return {
        **_picture(one, explorer, shelf, say),
        "maps": [
            {"name": name, "picture": number, "alt": say("cam_alt", name=name)}
            for name, number in maps
        ],
    }


def _learning_rate(recipe: RunSpec, say: Labels) -> str:
    """The rate, and what becomes of it."""
    if recipe.lr_schedule == "one_cycle":
        return f"{say.short(recipe.lr)} ({say('fact_one_cycle')})"
    reached = recipe.lr_drop == "plateau" or (recipe.lr_drop or recipe.epochs) < recipe.epochs
    if recipe.lr_drop is None or not reached:
        return say.short(recipe.lr)
    when = "plateau" if recipe.lr_drop == "plateau" else f"{say('epoch').lower()} {recipe.lr_drop}"
    return f"{say.short(recipe.lr)} → {say.short(recipe.lr * recipe.lr_drop_factor)} ({when})"


def _input_size(recipe: RunSpec, size: int | None, say: Labels) -> str:
    """The side that the model is scored at, and those it trained at where they differ."""
    if not size:
        return NOTHING
    text = say("fact_input_value", size=size)
    if recipe.progressive_sizes:
        steps = " → ".join(str(side) for side in dict.fromkeys(recipe.progressive_sizes))
        text += f" ({say('fact_input_trained', sizes=steps)})"
    return text


def _fitting(recipe: RunSpec, say: Labels) -> list[tuple[str, str]]:
    """How the weights were fitted: what is off is left out."""
    head = []
    if recipe.linear_probe:
        head.append(say("fact_probe" if recipe.is_probe_alone else "fact_probe_first"))
    if recipe.pooling == "stages":
        head.append(say("fact_stages"))
    facts = [(say("fact_head"), "; ".join(head))] if head else []
    if recipe.is_probe_alone:  # no step of an optimizer is taken
        return facts
    facts += [
        (say("fact_optimizer"), recipe.optimizer),
        (say("fact_lr"), _learning_rate(recipe, say)),
    ]
    if recipe.layer_decay < 1:
        facts.append((say("fact_layer_decay"), say.number(recipe.layer_decay, 2)))
    if recipe.weight_decay:
        spared = "" if recipe.decay_norm_bias else f" ({say('fact_decay_spared')})"
        facts.append((say("fact_weight_decay"), f"{recipe.weight_decay:g}{spared}"))
    if recipe.label_smoothing:
        facts.append((say("fact_label_smoothing"), say.number(recipe.label_smoothing, 2)))
    return facts


def facts(run: RunResult, say: Labels) -> list[tuple[str, str]]:
    """Name and value of everything about a run that is neither a picture nor a class's."""
    done, recipe = run.done, run.recipe
    size = done.get("image_size") or recipe.image_size
    trained = done.get("trainable_parameters")
    parameters = say.count(done.get("parameters"))
    if trained is not None:
        parameters += f" ({say.count(trained)})"
    source = done.get("pretrained_source")
    if not source:
        source = say("scratch") if not (recipe.pretrained or recipe.weights) else NOTHING
    device = str(done.get("device") or NOTHING)
    if done.get("precision"):
        device += f", {done['precision']}"
    return [
        (say("col_augmentation"), augmentation(recipe, say)),
        (say("fact_weights"), str(source)),
        (say("fact_input"), _input_size(recipe, size, say)),
        (say("fact_parameters"), parameters),
        *_fitting(recipe, say),
        *([(say("fact_ema"), f"{recipe.ema:g}")] if recipe.ema else []),
        *([(say("fact_flip_test"), say("fact_flip_test_value"))] if recipe.flip_test else []),
        (say("fact_batch"), say.count(recipe.batch_size)),
        (say("fact_top5"), say.percent(run.scores.top5_accuracy)),
        (say("fact_nll"), say.number(run.scores.nll, 3)),
        (say("fact_temperature"), say.number(run.temperature, 2)),
        (say("fact_time"), say.duration(done.get("seconds"))),
        (say("fact_speed"), say.number(done.get("images_per_second"), 1)),
        (say("fact_device"), device),
        (say("fact_scored"), str(done.get("test_scored_at") or NOTHING)),
        (say("fact_finished"), str(done.get("finished_at") or NOTHING)),
    ]

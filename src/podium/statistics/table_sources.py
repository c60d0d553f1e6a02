"""One model's predictions as a column, from a run folder or from a CSV of any tool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from podium.config.settings import RunSpec, StudySpec
from podium.config.titles import model_title, stand_in_label
from podium.errors import DataError, RunFolderError
from podium.runs.find import find_runs
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.predictions import Predictions, SplitName, TopPredictions
from podium.statistics.columns import OWN_COLUMNS, answers_in, filled_columns
from podium.statistics.costs import NO_COST, Cost, cost_of
from podium.statistics.looks import looked_level
from podium.statistics.scoring import ACCURACY, Metric, noted

Indices = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Column:
    """One model's predictions, before they are aligned with the others."""

    home: Path  # the study folder or the CSV; contender names are unique within it
    name: str
    label: str
    seed: int
    source: str
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    predicted: tuple[str, ...]
    class_names: tuple[str, ...] = ()
    """All classes that the model knows, in its order; empty for a CSV, which does not list them."""
    recipe: RunSpec | None = None
    valid_merit: float | None = None
    groups: tuple[str, ...] | None = None
    folds: tuple[str, ...] | None = None
    """Name of the fold in which each image was tested; None: a test split."""
    notices: tuple[str, ...] = ()
    metric: Metric = ACCURACY
    cost: Cost = NO_COST
    margin: float | None = None
    """The margin of its study, in points for shares."""
    seed_level: float = 1.0
    """The part of any level that the seeds of its study get."""
    logits: Logits | None = None


def column_of(
    home: Path,
    name: str,
    label: str,
    seed: int,
    source: str,
    predictions: Predictions,
    recipe: RunSpec | None = None,
    valid: float | None = None,
    metric: Metric = ACCURACY,
    groups: Mapping[str, str] | None = None,
) -> Column:
    """The predictions of one trained model as a column.

    Args:
        home: the study folder.
        name: the contender's name.
        label: the contender's display name.
        seed: of the training.
        source: what to call the predictions in messages.
        predictions: of the model.
        recipe: the model was trained with, where it is known.
        valid: the model's validation score, higher is better, where it is known.
        metric: the best epoch was chosen by.
        groups: path -> group, of the images that have one; None: no image has one.
    """
    names = np.asarray(predictions.class_names, dtype=object)
    labels, predicted = names[predictions.labels], names[predictions.predicted]
    answers = predictions.paths, tuple(labels), tuple(predicted), predictions.class_names
    logits = None if metric.is_accuracy else predictions.logits
    approximate: tuple[str, ...] = ()
    if isinstance(predictions, TopPredictions) and metric.needs_every_logit:
        kept, total = predictions.top.classes.shape[1], len(predictions.class_names)
        approximate = (
            f"{metric.title} is compared approximately: the files hold the {kept} largest logits "
            f"of {total:,}, and the remaining probability is spread evenly over the other classes.",
        )
    column = Column(home, name, label, seed, source, *answers, recipe, valid)
    # an image without a group is one of its own
    units = tuple(groups.get(one, one) for one in predictions.paths) if groups else None
    return replace(column, metric=metric, logits=logits, groups=units, notices=approximate)


def from_folder(path: Path, split: SplitName) -> list[Column]:
    """The finished runs of a study, contender or run folder.

    Args:
        path: the folder.
        split: which predictions to read.

    Raises:
        RunFolderError: there is no such folder, or it holds no finished run.
    """
    if not path.is_dir():
        raise RunFolderError(
            f"{path} is neither a folder nor a file. Give finished runs (runs/sports100, "
            "runs/sports100/simple_resnet/seed-0) or a CSV of predictions."
        )
    found = find_runs(path)
    done = [run for run in found.runs if run.is_done()]
    if not done:
        raise RunFolderError(
            f"{path} holds no finished run. Expected a study, contender or run folder, such as "
            "runs/sports100/simple_resnet/seed-0, with a done.json."
        )
    known = {study.path: study.read_groups() for study in {run.study for run in done}}
    margin = found.spec.margin if found.spec is not None else None
    often = Counter(run.contender for run in done)
    fewest = min(often.values())
    levels = {path: _seed_level(StudyFolder(path), fewest) for path in known}
    return [
        replace(column, margin=margin, seed_level=levels[run.study.path])
        for run in done
        for column in _from_run(run, split, found.spec, known[run.study.path])
    ]


def _seed_level(study: StudyFolder, seeds: int) -> float:
    """The part of any level that so many seeds of a study get; of a run without its study, all."""
    return looked_level(seeds, study.read_spec()) if study.spec.is_file() else 1.0


def _from_run(
    run: RunFolder, split: SplitName, spec: StudySpec | None, groups: Mapping[str, str]
) -> list[Column]:
    """The predictions of a run; with repeats of its folds, those of each repeat."""
    recipe = spec.contenders[run.contender] if spec is not None else _stored_recipe(run)
    label = (recipe.label if recipe else None) or run.contender
    done = run.read_done()
    if done.get("stood_in_for") and recipe is not None:
        recipe = recipe.model_copy(update={"model": str(done["model"])})
        wanted, used = (model_title(str(done[key])) for key in ("stood_in_for", "model"))
        label = stand_in_label(label, wanted, used)  # the bare label would name a different model
    known, home = noted(done), run.study.path
    by = known.valid_merit, known.metric
    source, cost = str(run.path), cost_of(done, run.weights_size)
    if done.get("folds") and split != "test":
        raise DataError(
            f"{run.path} is cross-validated: an image serves for validation in several folds, so "
            "its validation predictions cannot be compared. Compare the test predictions."
        )
    if not done.get("folds"):
        predictions = run.read_predictions(split)
        own = run.contender, label, run.seed, source, predictions, recipe
        return [replace(column_of(home, *own, *by, groups), cost=cost)]
    repeats = zip(run.read_repeats(), run.read_folds(), strict=True)
    once = "once in each repeat" if int(done.get("repeats") or 1) > 1 else "once"
    told = f"{done['folds']} folds: every image was tested {once}, by a model that had not seen it."
    return [
        replace(
            made := column_of(home, run.contender, label, number, source, one, recipe, *by, groups),
            folds=tuple(str(of[path]) for path in one.paths),
            cost=cost,
            notices=(*made.notices, told),
        )
        for (number, one), of in repeats
    ]


def _stored_recipe(run: RunFolder) -> RunSpec | None:
    """The recipe stored with a run; None where it cannot be read: it is not needed to compare."""
    try:
        return RunSpec.model_validate(run.read_config()["recipe"], context={"stored": True})
    except (RunFolderError, ValueError):
        return None


def from_csv(path: Path) -> list[Column]:
    """The models of a CSV file of predictions.

    Args:
        path: a CSV with the columns `path`, `label` and, for each model, one column of predicted
            class names or one column of scores per class; `group` and `fold` are optional.

    Raises:
        DataError: the file is not as described.
    """
    cells = filled_columns(path)
    lower = {name.lower(): column for name, column in cells.items()}
    paths, labels = lower["path"], lower["label"]
    if len(set(paths)) != len(paths):
        twice = next(one for one in paths if paths.count(one) > 1)
        raise DataError(f"{path} names {twice!r} more than once; expected one row per image.")
    models = {name: column for name, column in cells.items() if name.lower() not in OWN_COLUMNS}
    try:
        answers, told = answers_in(models, labels, path.stem)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    groups, folds = lower.get("group"), lower.get("fold")
    notices = tuple(f"{path}: {one}" for one in told)
    found = []
    for name, predicted in answers.items():
        stem, at, seed = name.rpartition("@")
        own, number = (stem, int(seed)) if at and seed.isdecimal() and stem else (name, 0)
        column = Column(path.resolve(), own, own, number, str(path), paths, labels, predicted)
        found.append(replace(column, groups=groups, folds=folds, notices=notices))
    return found

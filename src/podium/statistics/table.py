"""The answer sheet: what every contender said of the same images, from runs or from a CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from podium.config.settings import RunSpec
from podium.errors import DataError, RunFolderError
from podium.runs.predictions import Predictions, SplitName
from podium.statistics.scoring import ACCURACY, Metric
from podium.statistics.table_sources import Column, column_of, from_csv, from_folder
from podium.statistics.vocabulary import same_classes, same_paths, some

Indices = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ContenderPredictions:
    """One contender's answers: `predicted` holds indices of classes, shape (seeds, images)."""

    name: str
    label: str
    seeds: tuple[int, ...]
    predicted: Indices
    recipe: RunSpec | None = None
    valid_merit: float | None = None
    """Mean over its seeds of the metric on the validation images, its sign turned where less is
    better; None where it is not known."""
    logits: tuple[Logits, ...] = ()
    """Of each seed, shape (images, classes); only where the sheet's metric needs them."""


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """All contenders on the same images: `labels` holds indices of classes, shape (images,)."""

    class_names: tuple[str, ...]
    paths: tuple[str, ...]
    labels: Indices
    contenders: tuple[ContenderPredictions, ...]
    notices: tuple[str, ...] = ()
    groups: Indices | None = None
    """Number of each image's group, from 0: the patient, say; None: every image for itself."""
    metric: Metric = ACCURACY
    """What the contenders were trained to be good in, if that is the same of all; else accuracy."""

    def __len__(self) -> int:
        return len(self.paths)


def read_table(
    sources: Iterable[str | Path], *, split: SplitName = "test", shared: bool = False
) -> PredictionTable:
    """Read finished runs, or CSV files of predictions from any tool.

    Args:
        sources: each a study's folder (all its finished runs), a contender's folder (its seeds),
            a run's folder, or a CSV file with the columns `path`, `label` and for each model one
            column of predicted class names, or of scores for every class, named after the class
            (`NAME_CLASS` for the model NAME); `NAME@3` is model NAME trained with seed 3. A column
            `group` says which images belong together (the patient, say).
        split: which predictions of a run to read.
        shared: compare on the images that all have in common, where they differ.

    Raises:
        RunFolderError: a folder holds no finished run.
        DataError: a CSV is not as described, or the images or labels do not agree.
    """
    columns: list[Column] = []
    for source in sources:
        path = Path(source)
        columns += from_csv(path) if path.is_file() else from_folder(path, split)
    if not columns:
        raise RunFolderError("Expected one run or CSV file or more, got none.")
    return _align(columns, shared)


def table_of(
    contenders: Sequence[tuple[str, str, RunSpec | None, float | None, dict[int, Predictions]]],
    metric: Metric = ACCURACY,
) -> PredictionTable:
    """The sheet of predictions that were read already.

    Args:
        contenders: (name, label, recipe, merit on validation, predictions by seed) of each.
        metric: that they are judged by.

    Raises:
        DataError: the images or labels do not agree.
    """
    return _align(
        [
            column_of(
                Path(),
                name,
                label,
                seed,
                f"{name}, seed {seed}",
                predictions,
                recipe,
                valid,
                metric,
            )
            for name, label, recipe, valid, by_seed in contenders
            for seed, predictions in by_seed.items()
        ],
        shared=False,
    )


def _in_one_vocabulary(columns: Sequence[Column]) -> tuple[list[Column], list[str]]:
    """The same columns, with classes and paths spelled as in the first; and what to tell of it."""
    first = columns[0]
    known: set[str] = set()
    # columns of one CSV share their labels and paths, which are long
    respelled: dict[int, dict[str, str]] = {}
    made, told = [], []
    for column in columns:
        who = f"{column.source}, {column.name}"
        meaning, notice = same_classes(
            {*column.labels, *column.class_names}, set(column.predicted), known, who
        )
        told += [*column.notices, notice]
        known |= {meaning.get(name, name) for name in (*column.labels, *column.class_names)}
        if meaning:
            column = replace(
                column,
                labels=tuple(meaning.get(name, name) for name in column.labels),
                predicted=tuple(meaning.get(name, name) for name in column.predicted),
                class_names=tuple(meaning.get(name, name) for name in column.class_names),
            )
        if set(column.paths) != set(first.paths):
            if id(column.paths) not in respelled:
                respelled[id(column.paths)] = same_paths(first.paths, column.paths)
            here = respelled[id(column.paths)]
            if here:
                path = column.paths[0]
                told.append(f"{column.source}: {path!r} is read as {here[path]!r}, and so on.")
                column = replace(column, paths=tuple(here[path] for path in column.paths))
        made.append(column)
    return made, list(dict.fromkeys(filter(None, told)))


def _align(columns: Sequence[Column], shared: bool) -> PredictionTable:
    """Put all columns on the images of the first, in one order."""
    columns, notices = _in_one_vocabulary(columns)
    first = columns[0]
    common = set(first.paths).intersection(*(column.paths for column in columns))
    odd = next((one for one in columns if set(one.paths) != set(first.paths)), None)
    if odd is not None:
        if not shared or not common:
            raise DataError(_other_images(first, odd, len(common)))
        notices.append(f"Compared on the {len(common):,} images that all have in common.")
    paths = tuple(path for path in first.paths if path in common)
    truth = dict(zip(first.paths, first.labels, strict=True))
    names = first.class_names
    if not names or any(column.class_names != names for column in columns):
        every = {
            name
            for column in columns
            for name in (*column.class_names, *column.labels, *column.predicted)
        }
        names = tuple(sorted(every))
    number = {name: at for at, name in enumerate(names)}
    metric, told = _metric_of(columns, names)
    notices += told
    members: dict[tuple[Path, str], list[Column]] = {}
    answers: dict[int, Indices] = {}
    logits: dict[int, Logits] = {}
    for column in columns:
        where = {path: at for at, path in enumerate(column.paths)}
        order = [where[path] for path in paths]
        pairs = zip(paths, order, strict=True)
        wrong = next((path for path, at in pairs if column.labels[at] != truth[path]), None)
        if wrong is not None:
            raise DataError(
                f"{wrong} is {truth[wrong]!r} in {first.source} and "
                f"{column.labels[where[wrong]]!r} in {column.source}. The labels must agree."
            )
        members.setdefault((column.home, column.name), []).append(column)
        row = [number[column.predicted[at]] for at in order]
        answers[id(column)] = np.asarray(row, dtype=np.int64)
        if not metric.is_accuracy and column.logits is not None:
            same = order == list(range(len(column.paths)))  # no copy, then: they are many
            logits[id(column)] = column.logits if same else column.logits[order]
    contenders = _contenders(members, answers, logits)
    labels = np.asarray([number[truth[path]] for path in paths], dtype=np.int64)
    notices += _never_right(contenders, labels)
    groups = _groups(columns, paths)
    return PredictionTable(names, paths, labels, tuple(contenders), tuple(notices), groups, metric)


def _metric_of(columns: Sequence[Column], names: tuple[str, ...]) -> tuple[Metric, list[str]]:
    """What all runs were trained to be good in, and what to tell where that is not the same."""
    titles = list(dict.fromkeys(one.metric.title for one in columns))
    metric = columns[0].metric
    if len({one.metric.name for one in columns}) > 1:
        said = f"These runs were chosen by different metrics ({', '.join(titles)})"
    elif metric.is_accuracy or all(one.class_names == names for one in columns):
        return metric, []
    else:
        said = f"These runs, chosen by {titles[0]}, know different classes"
    return ACCURACY, [f"{said}: they are compared by accuracy."]


def _contenders(
    members: Mapping[tuple[Path, str], Sequence[Column]],
    answers: Mapping[int, Indices],
    logits: Mapping[int, Logits],
) -> list[ContenderPredictions]:
    """The columns of each contender together; contenders of several studies may share a name."""
    often = Counter(name for _, name in members)
    places = _short_places({home for home, name in members if often[name] > 1})
    found = []
    for (home, name), theirs in members.items():
        seeds = tuple(one.seed for one in theirs)
        if twice := [seed for seed, times in Counter(seeds).items() if times > 1]:
            raise DataError(f"{name}, seed {twice[0]}, of {home} is given twice.")
        known = [one.valid_merit for one in theirs if one.valid_merit is not None]
        clash = often[name] > 1
        found.append(
            ContenderPredictions(
                name=f"{places[home]}/{name}" if clash else name,
                label=f"{theirs[0].label} ({places[home]})" if clash else theirs[0].label,
                seeds=seeds,
                predicted=np.stack([answers[id(one)] for one in theirs]),
                recipe=theirs[0].recipe,
                valid_merit=sum(known) / len(known) if known else None,
                logits=tuple(logits[id(one)] for one in theirs if id(one) in logits),
            )
        )
    return found


def _groups(columns: Sequence[Column], paths: tuple[str, ...]) -> Indices | None:
    """Number of each image's group; None where no source names any, or each image has its own."""
    named = [(one, dict(zip(one.paths, one.groups, strict=True))) for one in columns if one.groups]
    if not named:
        return None
    first, of = named[0]
    for column, other in named[1:]:
        wrong = next((path for path in paths if other[path] != of[path]), None)
        if wrong is not None:
            raise DataError(
                f"{wrong} is in group {of[wrong]!r} in {first.source} and in {other[wrong]!r} in "
                f"{column.source}. The groups must agree."
            )
    names, numbers = np.unique([of[path] for path in paths], return_inverse=True)
    return None if len(names) == len(paths) else numbers.astype(np.int64)


def _other_images(first: Column, odd: Column, common: int) -> str:
    """That two contenders answered different images, with a path of each."""
    alone = [
        f"{some([path for path in one.paths if path not in known], 1)} in {one.source}"
        for one, known in ((odd, set(first.paths)), (first, set(odd.paths)))
        if not known.issuperset(one.paths)
    ]
    remedy = (
        "Score both on one test set, or compare on the common ones alone (--shared)."
        if common
        else "Write the paths of the same images alike, or score both on one test set."
    )
    return (
        f"{odd.source} has {len(odd.paths):,} images and {first.source} {len(first.paths):,}; "
        f"{common:,} are common to all. A paired test needs the same images. Only "
        f"{', and only '.join(alone)}. {remedy}"
    )


def _never_right(contenders: Sequence[ContenderPredictions], labels: Indices) -> list[str]:
    """A sentence for each contender that has no image right: its answers are hardly in order."""
    told = []
    for one in contenders:
        if (one.predicted == labels).any():
            continue
        size = 1 + max(int(one.predicted.max()), int(labels.max()))
        shares = np.bincount(one.predicted.ravel(), minlength=size) / one.predicted.size
        chance = float(shares @ np.bincount(labels, minlength=size))
        by_chance = f"; the same answers in a random order would be on {chance:.0f}"
        told.append(
            f"{one.label} is right on none of the {len(labels):,} images"
            f"{by_chance if chance >= 1 else ''}. Check that its rows and classes are in order."
        )
    return told


def _short_places(homes: Collection[Path]) -> dict[Path, str]:
    """The shortest ends of the paths that tell them apart."""
    whole = {home: home.with_suffix("") if home.is_file() else home for home in homes}
    found = {}
    for home, path in whole.items():
        parts = path.resolve().parts
        for count in range(1, len(parts) + 1):
            end = parts[-count:]
            if sum(other.resolve().parts[-count:] == end for other in whole.values()) == 1:
                break
        else:  # a folder beside its own CSV
            end = home.parts
        found[home] = "/".join(end)
    return found


def matched_seeds(
    first: ContenderPredictions, second: ContenderPredictions
) -> tuple[list[int], list[int]]:
    """Rows of the seeds to set against each other.

    The same seeds: each with itself. Else each with each, so that a pair rests on all seeds of
    both, as the standings do.
    """
    if set(first.seeds) == set(second.seeds):
        return list(range(len(first.seeds))), [second.seeds.index(seed) for seed in first.seeds]
    both = range(len(first.seeds)), range(len(second.seeds))
    return [i for i in both[0] for _ in both[1]], [j for _ in both[0] for j in both[1]]

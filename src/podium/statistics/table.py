"""The prediction table: all contenders' predictions on the same images, from runs or a CSV."""

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
from podium.statistics.costs import NO_COST, Cost, mean_cost
from podium.statistics.scoring import ACCURACY, Metric
from podium.statistics.table_sources import Column, column_of, from_csv, from_folder
from podium.statistics.vocabulary import same_classes, same_paths, some

Indices = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ContenderPredictions:
    """One contender's predictions: `predicted` holds class indices, shape (seeds, images)."""

    name: str
    label: str
    seeds: tuple[int, ...]
    predicted: Indices
    recipe: RunSpec | None = None
    valid_merit: float | None = None
    """Mean validation score over its seeds, its sign flipped where lower is better; None where it
    is unknown."""
    logits: tuple[Logits, ...] = ()
    """One array per seed, shape (images, classes); only where the table's metric needs them."""
    cost: Cost = NO_COST
    """What it costs to run and to train, where that is known."""
    folds: Indices | None = None
    """Fold in which each image was tested, from 0, shape (seeds, images): a row's model had not
    seen the images of the fold. Rows of further repeats have other folds. None: a test split."""

    def take(self, inside: npt.NDArray[np.bool_]) -> ContenderPredictions:
        """The predictions of some of the images.

        Args:
            inside: True for those images, shape (images,).
        """
        folds = self.folds
        if folds is not None:
            folds = np.stack([_numbered(row[inside]) for row in folds])
        return replace(
            self,
            predicted=self.predicted[:, inside],
            logits=tuple(one[inside] for one in self.logits),
            folds=folds,
        )


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """All contenders on the same images: `labels` holds class indices, shape (images,)."""

    class_names: tuple[str, ...]
    paths: tuple[str, ...]
    labels: Indices
    contenders: tuple[ContenderPredictions, ...]
    notices: tuple[str, ...] = ()
    groups: Indices | None = None
    """Group index of each image, from 0, such as its patient; None: images are independent."""
    metric: Metric = ACCURACY
    """The metric of the contenders' studies, where it is the same for all; else accuracy."""
    margin: float | None = None
    """The margin of the contenders' studies, where it is the same for all; in units of the metric,
    a share in 0..1."""
    seed_level: float = 1.0
    """The part of any level that the seeds get: less than 1 where their number depends on earlier
    looks, see `podium.statistics.looks`."""

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, inside: npt.NDArray[np.bool_]) -> PredictionTable:
        """The same contenders on some of the images; groups and folds are numbered anew.

        Args:
            inside: True for those images, shape (images,).
        """
        groups = None if self.groups is None else _numbered(self.groups[inside])
        count = int(np.count_nonzero(inside))
        return replace(
            self,
            paths=tuple(path for path, kept in zip(self.paths, inside, strict=True) if kept),
            labels=self.labels[inside],
            contenders=tuple(one.take(inside) for one in self.contenders),
            groups=None if groups is None or groups.max(initial=-1) + 1 == count else groups,
        )


def read_table(
    sources: Iterable[str | Path], *, split: SplitName = "test", shared: bool = False
) -> PredictionTable:
    """Read finished runs, or CSV files of predictions from any tool.

    Args:
        sources: each a study folder (all its finished runs), a contender folder (its seeds), a run
            folder, or a CSV file with the columns `path`, `label` and, for each model, one column
            of predicted class names, or one column of scores per class, named after the class
            (`NAME_CLASS` for the model NAME); `NAME@3` is model NAME trained with seed 3. An
            optional column `group` holds the group of each image, such as its patient.
        split: which predictions of a run to read.
        shared: compare on the images common to all where the images differ.

    Raises:
        RunFolderError: a folder holds no finished run.
        DataError: a CSV is not as described, or the images or labels do not agree.
    """
    columns: list[Column] = []
    for source in sources:
        path = Path(source)
        columns += from_csv(path) if path.is_file() else from_folder(path, split)
    if not columns:
        raise RunFolderError("Expected at least one run or CSV file, got none.")
    return _align(columns, shared)


def table_of(
    contenders: Sequence[tuple[str, str, RunSpec | None, float | None, dict[int, Predictions]]],
    metric: Metric = ACCURACY,
    groups: Mapping[str, str] | None = None,
    folds: Mapping[tuple[str, int], Mapping[str, int]] | None = None,
) -> PredictionTable:
    """Build a table from predictions in memory.

    Args:
        contenders: (name, label, recipe, validation score, predictions by seed) of each; a higher
            validation score is better.
        metric: to judge them by.
        groups: path -> group, of the images that have one; None: images are independent.
        folds: (name, seed) -> path -> fold in which the image was tested; None: a test split.

    Raises:
        DataError: the images or labels do not agree.
    """
    columns = []
    for name, label, recipe, valid, by_seed in contenders:
        for seed, predictions in by_seed.items():
            who = name, label, seed, f"{name}, seed {seed}"
            of = (folds or {}).get((name, seed))
            column = column_of(Path(), *who, predictions, recipe, valid, metric, groups)
            columns.append(replace(column, folds=_named_folds(predictions.paths, of)))
    return _align(columns, shared=False)


def _named_folds(paths: tuple[str, ...], folds: Mapping[str, int] | None) -> tuple[str, ...] | None:
    return None if folds is None else tuple(str(folds[path]) for path in paths)


def _in_one_vocabulary(columns: Sequence[Column]) -> tuple[list[Column], list[str]]:
    """The same columns, with classes and paths spelled as in the first, and notices about it."""
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
    """Align all columns with the images of the first, in one order."""
    columns, notices = _in_one_vocabulary(columns)
    first = columns[0]
    every, others = set(first.paths), [one for one in columns if one.paths != first.paths]
    common = every.intersection(*(one.paths for one in others))
    odd = next((one for one in others if set(one.paths) != every), None)
    if odd is not None:
        if not shared or not common:
            raise DataError(_other_images(first, odd, len(common)))
        notices.append(f"Compared on the {len(common):,} images common to all.")
    paths = tuple(path for path in first.paths if path in common)
    truth = dict(zip(first.paths, first.labels, strict=True))
    names = _class_names(columns)
    number = {name: at for at, name in enumerate(names)}
    metric, told = _metric_of(columns, names)
    notices += told
    members: dict[tuple[Path, str], list[Column]] = {}
    answers: dict[int, Indices] = {}
    logits: dict[int, Logits] = {}
    for column in columns:
        order = _places(column.paths, paths)
        for path, at in zip(paths, order, strict=True):
            if column.labels[at] != truth[path]:
                raise DataError(
                    f"{path} is {truth[path]!r} in {first.source} and "
                    f"{column.labels[at]!r} in {column.source}. The labels must agree."
                )
        members.setdefault((column.home, column.name), []).append(column)
        row = [number[column.predicted[at]] for at in order]
        answers[id(column)] = np.asarray(row, dtype=np.int64)
        if not metric.is_accuracy and column.logits is not None:
            same = isinstance(order, range)  # avoids copying a large array
            logits[id(column)] = column.logits if same else column.logits[order]
    contenders = _contenders(members, paths, answers, logits)
    labels = np.asarray([number[truth[path]] for path in paths], dtype=np.int64)
    notices += _never_right(contenders, labels)
    margins = {column.margin for column in columns}
    return PredictionTable(
        class_names=names,
        paths=paths,
        labels=labels,
        contenders=tuple(contenders),
        notices=tuple(notices),
        groups=_groups(columns, paths),
        metric=metric,
        margin=metric.in_units(margins.pop()) if len(margins) == 1 else None,
        seed_level=min(column.seed_level for column in columns),
    )


def _places(own: tuple[str, ...], paths: tuple[str, ...]) -> Sequence[int]:
    """Where each of the images is among a column's own; a range where they are the same."""
    if own == paths:
        return range(len(paths))
    where = {path: at for at, path in enumerate(own)}
    return [where[path] for path in paths]


def _class_names(columns: Sequence[Column]) -> tuple[str, ...]:
    """The classes of all columns: those of the first, where all know the same in one order."""
    names = columns[0].class_names
    if names and all(column.class_names == names for column in columns):
        return names
    every = {
        name
        for column in columns
        for name in (*column.class_names, *column.labels, *column.predicted)
    }
    return tuple(sorted(every))


def _metric_of(columns: Sequence[Column], names: tuple[str, ...]) -> tuple[Metric, list[str]]:
    """The metric that all runs share, or accuracy and a notice where they do not share one."""
    titles = list(dict.fromkeys(one.metric.title for one in columns))
    metric = columns[0].metric
    if len({one.metric.name for one in columns}) > 1:
        said = f"The best epochs were chosen by different metrics ({', '.join(titles)})"
    elif metric.is_accuracy or all(one.class_names == names for one in columns):
        return metric, []
    else:
        said = f"The runs were judged by {titles[0]} but know different classes"
    return ACCURACY, [f"{said}: the runs are compared by accuracy."]


def _contenders(
    members: Mapping[tuple[Path, str], Sequence[Column]],
    paths: tuple[str, ...],
    answers: Mapping[int, Indices],
    logits: Mapping[int, Logits],
) -> list[ContenderPredictions]:
    """Group columns by contender; contenders of different studies may share a name."""
    often = Counter(name for _, name in members)
    places = _short_places({home for home, name in members if often[name] > 1})
    found = []
    for (home, name), theirs in members.items():
        seeds = tuple(one.seed for one in theirs)
        if twice := [seed for seed, times in Counter(seeds).items() if times > 1]:
            raise DataError(f"{name}, seed {twice[0]}, of {home} is given twice. Give it once.")
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
                cost=mean_cost([one.cost for one in theirs]),
                folds=_folds(theirs, paths),
            )
        )
    return found


def _folds(columns: Sequence[Column], paths: tuple[str, ...]) -> Indices | None:
    """The fold of each image in each column, numbered in the order of the images; None: a split."""
    if all(one.folds is None for one in columns):
        return None
    rows = []
    for one in columns:
        if one.folds is None:
            raise DataError(f"{one.source} has no folds, but other predictions of {one.name} have.")
        of = dict(zip(one.paths, one.folds, strict=True))
        number: dict[str, int] = {}
        rows.append([number.setdefault(of[path], len(number)) for path in paths])
    return np.asarray(rows, np.int64)


def _groups(columns: Sequence[Column], paths: tuple[str, ...]) -> Indices | None:
    """Group index of each image; None where no source has groups, or each image has its own."""
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


def _numbered(values: Indices) -> Indices:
    """The same values, numbered from 0."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _other_images(first: Column, odd: Column, common: int) -> str:
    """The error message that two contenders have different images, with a path from each."""
    alone = [
        f"{some([path for path in one.paths if path not in known], 1)} in {one.source}"
        for one, known in ((odd, set(first.paths)), (first, set(odd.paths)))
        if not known.issuperset(one.paths)
    ]
    remedy = (
        "Score both on the same test set, or compare only on the common images (--shared)."
        if common
        else "Use the same paths for the same images, or score both on the same test set."
    )
    return (
        f"{odd.source} has {len(odd.paths):,} images and {first.source} {len(first.paths):,}; "
        f"{common:,} are common to all. A paired test needs the same images. Only "
        f"{', and only '.join(alone)}. {remedy}"
    )


def _never_right(contenders: Sequence[ContenderPredictions], labels: Indices) -> list[str]:
    """A notice for each contender without correct predictions: its rows may be out of order."""
    told = []
    for one in contenders:
        if (one.predicted == labels).any():
            continue
        size = 1 + max(int(one.predicted.max()), int(labels.max()))
        shares = np.bincount(one.predicted.ravel(), minlength=size) / one.predicted.size
        chance = float(shares @ np.bincount(labels, minlength=size))
        by_chance = f"; in random order, the same predictions would be right on {chance:.0f}"
        told.append(
            f"{one.label} is right on none of the {len(labels):,} images"
            f"{by_chance if chance >= 1 else ''}. Check the order of its rows and classes."
        )
    return told


def _short_places(homes: Collection[Path]) -> dict[Path, str]:
    """The shortest path suffixes that are unique."""
    whole = {home: home.with_suffix("") if home.is_file() else home for home in homes}
    found = {}
    for home, path in whole.items():
        parts = path.resolve().parts
        for count in range(1, len(parts) + 1):
            end = parts[-count:]
            if sum(other.resolve().parts[-count:] == end for other in whole.values()) == 1:
                break
        else:  # a folder next to its own CSV
            end = home.parts
        found[home] = "/".join(end)
    return found


def matched_seeds(
    first: ContenderPredictions, second: ContenderPredictions
) -> tuple[list[int], list[int]]:
    """The rows of the seeds to pair.

    Contenders with the same seeds are paired seed by seed. Otherwise every seed of one is paired
    with every seed of the other, so that a pair uses all seeds of both, as the standings do.

    Args:
        first: the first contender.
        second: the second contender.

    Returns:
        Rows of the first contender, and the matching rows of the second.
    """
    if set(first.seeds) == set(second.seeds):
        return list(range(len(first.seeds))), [second.seeds.index(seed) for seed in first.seeds]
    both = range(len(first.seeds)), range(len(second.seeds))
    return [i for i in both[0] for _ in both[1]], [j for _ in both[0] for j in both[1]]

"""The contents of a study folder, read once: finished runs with their scores, and the others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from podium.auditing import Audit, read_audit
from podium.config.settings import RunSpec, StudySpec
from podium.errors import DataError, RunFolderError
from podium.results.answered import by_certainty
from podium.results.outlook import Outlook, outlook
from podium.results.run import RunResult, read_run
from podium.results.slices import StudySlices, study_slices
from podium.results.tuning import StudyTuning, study_tuning
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.ledger import Scoring, read_scorings
from podium.runs.predictions import Predictions
from podium.runs.rounds import reached_seeds
from podium.runtime.files import read_json
from podium.statistics.comparison import compare_table
from podium.statistics.costs import Cost, cost_of, mean_cost
from podium.statistics.looks import looked_level
from podium.statistics.questions import Question, questions
from podium.statistics.scoring import ANSWERED_90, Metric
from podium.statistics.stopping import Look, looks
from podium.statistics.table import PredictionTable, table_of
from podium.statistics.verdicts import Verdicts

State = Literal["failed", "unfinished", "not_started", "no_members", "damaged"]


@dataclass(frozen=True)
class Contender:
    """The finished runs of one contender, one per seed."""

    name: str
    label: str
    runs: tuple[RunResult, ...]

    @property
    def accuracy(self) -> float:
        """Test accuracy pooled over all its runs and the repeats of their folds, 0..1."""
        tests = [test for run in self.runs for _, test in run.replicates]
        correct = sum(int((test.predicted == test.labels).sum()) for test in tests)
        return correct / sum(map(len, tests))

    @property
    def valid_accuracy(self) -> float | None:
        """Mean validation accuracy over its runs, 0..1; None unless all of them recorded it."""
        return _mean(run.valid_accuracy for run in self.runs)

    @property
    def valid_merit(self) -> float | None:
        """Mean validation score of the study's metric, its sign flipped where lower is better."""
        return _mean(run.noted.valid_merit for run in self.runs)

    @property
    def score(self) -> float | None:
        """Test score of the study's metric over all its runs."""
        if self.runs[0].noted.metric.is_accuracy:
            return self.accuracy
        return _mean(run.noted.test for run in self.runs)


@dataclass(frozen=True)
class Unfinished:
    """A run without a result: `epochs` is the number completed, and `message` the error; with
    `no_members`, the labels of the contenders that it would average and that are not done."""

    label: str
    named_seed: int | None
    state: State
    message: str
    epochs: int
    wanted: int


@dataclass(frozen=True)
class StudyResults:
    """Everything a report is built from."""

    folder: StudyFolder
    spec: StudySpec
    data: Mapping[str, Any]
    contenders: tuple[Contender, ...]
    unfinished: tuple[Unfinished, ...]
    table: PredictionTable | None  # None where the contenders' test images differ
    verdicts: Verdicts | None  # likewise
    audit: Audit | None
    scorings: tuple[Scoring, ...]  # of these test images, oldest first

    @cached_property
    def questions(self) -> list[Question]:
        """The questions that the finished contenders can answer."""
        return questions(self.recipes, {one.name: one.valid_merit for one in self.contenders})

    @property
    def metric(self) -> Metric:
        """The metric that chose the epochs and ranks the contenders."""
        return self.runs[0].noted.metric

    @property
    def recipes(self) -> dict[str, RunSpec]:
        """The recipe of each finished contender, with the substitute model, if one was used."""
        return {
            one.name: one.runs[0].recipe.model_copy(
                update={"model": one.runs[0].done.get("model") or one.runs[0].recipe.model}
            )
            for one in self.contenders
        }

    @property
    def model_titles(self) -> dict[str, str]:
        """Display names of the models of `recipes`."""
        return {
            recipe.model: contender.runs[0].model
            for recipe, contender in zip(self.recipes.values(), self.contenders, strict=True)
        }

    @property
    def costs(self) -> dict[str, Cost]:
        """What each finished contender costs to run and to train, by name."""
        return {
            one.name: mean_cost([cost_of(run.done, run.folder.weights_size) for run in one.runs])
            for one in self.contenders
        }

    @cached_property
    def outlook(self) -> Outlook | None:
        """What the test images could show at all; None: see `podium.results.outlook.outlook`."""
        return outlook(self.table, self.verdicts)

    @cached_property
    def answered(self) -> Verdicts | None:
        """The contenders compared by their accuracy at 90 % answered; None where their test images
        differ."""
        if self.table is None:
            return None
        groups = self.folder.read_groups()
        level = self.table.seed_level
        table = _table(self.contenders, groups, ANSWERED_90, level, by_certainty)
        return _judge(table, resamples=0)  # its classes are not the study's: no macro F1

    @cached_property
    def looks(self) -> tuple[Look, ...]:
        """The looks at a study with `seeds: auto`, the latest last; none at any other."""
        if self.table is None or self.spec.seeds != "auto":
            return ()
        return tuple(looks(self.table))

    @cached_property
    def slices(self) -> StudySlices | None:
        """The contenders within slices of the test images; None: there are no slices."""
        return study_slices(self.folder, self.spec.data.slices, self.table)

    @cached_property
    def tuning(self) -> StudyTuning | None:
        """How the contenders were tuned; None: they were not."""
        return study_tuning(self.folder, self.spec, self.metric, self.runs)

    @property
    def title(self) -> str:
        return self.spec.title or self.spec.name

    @property
    def runs(self) -> tuple[RunResult, ...]:
        return tuple(run for contender in self.contenders for run in contender.runs)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.runs[0].test.class_names

    @property
    def ranking(self) -> list[Contender]:
        """Best test score of the study's metric first; ties keep the study's order."""

        def merit(contender: Contender) -> float:
            return -math.inf if contender.score is None else self.metric.merit(contender.score)

        return sorted(self.contenders, key=lambda contender: -merit(contender))


def gather(folder: StudyFolder) -> StudyResults:
    """Read a study folder.

    Args:
        folder: the study folder.

    Raises:
        RunFolderError: it is not a study folder, or no run in it has a result.
    """
    spec = folder.read_spec()
    if spec.data.score_on == "nothing":
        raise RunFolderError(
            f"{folder.path} has the trials of a tuning, which are scored on no test images: they "
            "are in the report of the study that they belong to."
        )
    labels = _distinct_labels(spec)
    groups = folder.read_groups()
    contenders, unfinished = [], []
    seeds = reached_seeds(folder, spec)
    for name, recipe in spec.contenders.items():
        runs = []
        for seed in seeds:
            run = folder.run(name, seed)
            named = seed if len(seeds) > 1 else None
            if not run.is_done():
                cells = [*folder.folds(run, spec), run]
                failed = next((one for one in cells if one.failed.is_file()), run)
                missing = [one for one in recipe.mean_of if not folder.run(one, seed).is_done()]
                absent = ", ".join(labels[one] for one in missing)
                unfinished.append(_why_unfinished(failed, labels[name], named, recipe, absent))
                continue
            try:
                runs.append(read_run(run, labels[name], recipe, named, groups))
            except (RunFolderError, DataError, TypeError, ValueError) as error:
                unfinished.append(
                    Unfinished(labels[name], named, "damaged", str(error), 0, recipe.most_epochs)
                )
        if runs:
            contenders.append(Contender(name, runs[0].label, tuple(runs)))
    contenders = _with_members(contenders, labels)
    if not contenders:
        raise RunFolderError(_nothing_to_report(folder.path, unfinished))
    data = folder.read_data() if folder.data.is_file() else {}
    level = looked_level(min(len(one.runs) for one in contenders), spec)
    table = _table(contenders, groups, contenders[0].runs[0].noted.metric, level)
    if table is not None:
        table = replace(table, margin=table.metric.in_units(spec.margin))
    return StudyResults(
        folder,
        spec,
        data,
        tuple(contenders),
        tuple(unfinished),
        table,
        _judge(table),
        _audit(folder, data),
        tuple(read_scorings(folder.path, str(data.get("test_fingerprint")))),
    )


def _with_members(contenders: list[Contender], labels: Mapping[str, str]) -> list[Contender]:
    """The same, means with the labels of what they average, which may name a model that stood in
    for another."""
    shown = {**labels, **{one.name: one.label for one in contenders}}
    return [
        replace(
            one,
            runs=tuple(
                replace(run, members=tuple(shown[name] for name in run.recipe.mean_of))
                for run in one.runs
            ),
        )
        for one in contenders
    ]


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean, or None where a value is unknown."""
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if len(known) == len(found) else None


def _table(
    contenders: Sequence[Contender],
    groups: Mapping[str, str],
    metric: Metric,
    seed_level: float,
    of: Callable[[RunResult, Predictions], Predictions] = lambda run, test: test,
) -> PredictionTable | None:
    """The table of all contenders, `of` each run's test predictions; None: images differ."""
    by_name = [
        (
            one.name,
            one.label,
            one.runs[0].recipe,
            one.valid_merit,
            {number: of(run, test) for run in one.runs for number, test in run.replicates},
        )
        for one in contenders
    ]
    folds = {
        (one.name, number): of
        for one in contenders
        for run in one.runs
        if run.folds is not None
        for (number, _), of in zip(run.replicates, run.folder.read_folds(), strict=True)
    }
    try:
        return replace(table_of(by_name, metric, groups, folds), seed_level=seed_level)
    except DataError:  # the folder was assembled by hand
        return None


def _judge(table: PredictionTable | None, resamples: int = 2000) -> Verdicts | None:
    if table is None:
        return None
    try:
        return compare_table(table, resamples=resamples)
    except DataError:  # the folder was assembled by hand
        return None


def _audit(folder: StudyFolder, data: Mapping[str, Any]) -> Audit | None:
    """The audit of the study's images, if there is one of exactly these images."""
    if not folder.audit.is_file():
        return None
    try:
        audit = read_audit(folder.audit)
    except DataError:
        return None
    return audit if audit.fingerprint == data.get("fingerprint") else None


def _distinct_labels(spec: StudySpec) -> dict[str, str]:
    """A label for each contender; contenders that share one get their keys appended."""
    labels = {name: spec.label(name) for name in spec.contenders}
    often = Counter(labels.values())
    return {
        name: f"{label} ({name})" if often[label] > 1 else label for name, label in labels.items()
    }


def _why_unfinished(
    run: RunFolder, label: str, named_seed: int | None, recipe: RunSpec, absent: str
) -> Unfinished:
    epochs = 0
    if run.history.is_file():
        try:
            epochs = len(run.read_history())
        except RunFolderError:
            epochs = 0
    if run.failed.is_file():
        try:
            failed = read_json(run.failed)
            message = str(failed.get("message") or failed.get("reason") or "")
        except (RunFolderError, AttributeError) as error:
            message = str(error)
        return Unfinished(label, named_seed, "failed", message, epochs, recipe.most_epochs)
    if absent:
        return Unfinished(label, named_seed, "no_members", absent, 0, 0)
    state: State = "unfinished" if epochs or run.last.is_file() else "not_started"
    return Unfinished(label, named_seed, state, "", epochs, recipe.most_epochs)


def _nothing_to_report(path: Path, unfinished: list[Unfinished]) -> str:
    states = {
        "unfinished": "not finished",
        "not_started": "not started",
        "no_members": "its members are not done",
    }
    told = [
        f"  {run.label}"
        + (f", seed {run.named_seed}" if run.named_seed is not None else "")
        + f": {states.get(run.state, run.state)}"
        + (f" ({run.message})" if run.message else "")
        for run in unfinished
    ]
    return "\n".join(
        [
            f"{path}: expected at least one finished run, found none of {len(unfinished)}. "
            "There is nothing to report yet; `podium run` continues with what is not done.",
            *told,
        ]
    )

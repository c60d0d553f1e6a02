"""The contents of a study folder, read once: finished runs with their scores, and the others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from podium.auditing import Audit, read_audit
from podium.config.settings import RunSpec, StudySpec
from podium.errors import DataError, RunFolderError
from podium.models.ours import model_title
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.ledger import Scoring, read_scorings
from podium.runs.pictures import read_pictures
from podium.runs.predictions import Predictions
from podium.runtime.files import read_json
from podium.statistics.calibration import Calibration, calibration, fit_temperature
from podium.statistics.classes import per_class_by_groups, significant_class_names
from podium.statistics.comparison import compare_table
from podium.statistics.intervals import share_interval
from podium.statistics.likeliest import TopClasses, top_classes
from podium.statistics.metrics import ClassScores, Scores, scores
from podium.statistics.questions import Question, questions
from podium.statistics.scoring import Metric, Noted, noted
from podium.statistics.table import table_of
from podium.statistics.verdicts import Verdicts

State = Literal["failed", "unfinished", "not_started", "damaged"]


@dataclass(frozen=True)
class RunResult:
    """A finished run: its records, its test predictions and what follows from them."""

    folder: RunFolder
    label: str  # the contender's, followed by the substitute model, if one was used
    named_seed: int | None  # its seed where the study has several; None: a single seed
    recipe: RunSpec
    done: Mapping[str, Any]
    history: list[dict[str, float]]
    test: Predictions
    scores: Scores
    classes: tuple[ClassScores, ...]
    valid_accuracy: float | None
    temperature: float  # fitted on the validation images; 1 where that was not possible
    valid_n: int = 0  # images the temperature was fitted on
    valid_mistakes: int = 0  # among them; without any, no temperature can be fitted
    groups: npt.NDArray[np.int64] | None = None  # of each test image; None: independent

    @cached_property
    def noted(self) -> Noted:
        """The study's metric and its values; accuracy is computed from the predictions."""
        found = noted(self.done)
        if found.metric.is_accuracy:
            return Noted(found.metric, self.valid_accuracy, self.scores.accuracy)
        return found

    @cached_property
    def calibration(self) -> tuple[Calibration, Calibration]:
        """Calibration on the test images: as trained, and with the temperature."""
        found = [
            calibration(self.test, temperature, groups=self.groups)
            for temperature in (1.0, self.temperature)
        ]
        return found[0], found[1]

    @cached_property
    def top_classes(self) -> TopClasses:
        """The likeliest classes of every test image."""
        return top_classes(self.test)

    @cached_property
    def explanations(self) -> dict[str, bytes]:
        """Grad-CAM maps of test images by key; empty where none were made."""
        return read_pictures(self.folder.explanations)

    @cached_property
    def told(self) -> frozenset[str]:
        """Names of the classes whose recall differs significantly from that of the others."""
        return significant_class_names(self.classes, self.test, self.groups)

    @property
    def slug(self) -> str:
        """Prefix of the names of this run's files."""
        return f"{self.folder.contender}-seed-{self.folder.seed}"

    @property
    def model(self) -> str:
        """Display name of the trained model."""
        return _title(self.done, self.recipe.model)

    @property
    def stood_in_for(self) -> str | None:
        wanted = self.done.get("stood_in_for")
        return model_title(str(wanted)) if wanted else None

    @property
    def best_epoch(self) -> int | None:
        best = self.done.get("best_epoch")
        return int(best) if best else None

    @property
    def train_accuracy(self) -> float | None:
        """Training accuracy in the best epoch, 0..1."""
        rows = {int(row["epoch"]): row["train_accuracy"] for row in self.history}
        return rows.get(self.best_epoch or 0)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the test accuracy, 0..1: Wilson's, or cluster-robust with groups."""
        return share_interval(self.test.predicted == self.test.labels, self.groups)


@dataclass(frozen=True)
class Contender:
    """The finished runs of one contender, one per seed."""

    name: str
    label: str
    runs: tuple[RunResult, ...]

    @property
    def accuracy(self) -> float:
        """Test accuracy pooled over all its runs, 0..1."""
        correct = sum(run.scores.correct for run in self.runs)
        return correct / sum(run.scores.n for run in self.runs)

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
    """A run without a result: `message` is the error, `epochs` the number completed."""

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
    verdicts: Verdicts | None  # None where the contenders' test images differ
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
    labels = _distinct_labels(spec)
    groups = folder.read_groups()
    contenders, unfinished = [], []
    for name, recipe in spec.contenders.items():
        runs = []
        for seed in spec.seeds:
            run = folder.run(name, seed)
            named = seed if len(spec.seeds) > 1 else None
            if not run.is_done():
                unfinished.append(_why_unfinished(run, labels[name], named, recipe))
                continue
            try:
                runs.append(read_run(run, labels[name], recipe, named, groups))
            except (RunFolderError, DataError, TypeError, ValueError) as error:
                unfinished.append(
                    Unfinished(labels[name], named, "damaged", str(error), 0, recipe.most_epochs)
                )
        if runs:
            contenders.append(Contender(name, runs[0].label, tuple(runs)))
    if not contenders:
        raise RunFolderError(_nothing_to_report(folder.path, unfinished))
    data = folder.read_data() if folder.data.is_file() else {}
    return StudyResults(
        folder,
        spec,
        data,
        tuple(contenders),
        tuple(unfinished),
        _judge(contenders, groups),
        _audit(folder, data),
        tuple(read_scorings(folder.path, str(data.get("test_fingerprint")))),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean, or None where a value is unknown."""
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if len(known) == len(found) else None


def _judge(contenders: list[Contender], groups: Mapping[str, str]) -> Verdicts | None:
    by_name = [
        (
            one.name,
            one.label,
            one.runs[0].recipe,
            one.valid_merit,
            {run.folder.seed: run.test for run in one.runs},
        )
        for one in contenders
    ]
    try:
        metric = contenders[0].runs[0].noted.metric
        return compare_table(table_of(by_name, metric, groups))
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


def read_run(
    run: RunFolder,
    label: str,
    recipe: RunSpec,
    named_seed: int | None = None,
    groups: Mapping[str, str] | None = None,
) -> RunResult:
    """Read one finished run.

    Args:
        run: the run folder.
        label: the contender's label.
        recipe: the contender's recipe.
        named_seed: the run's seed where the study has several.
        groups: path -> group, of the images that have one; an image without is one of its own.

    Raises:
        RunFolderError, DataError: a file of the run is missing or damaged.
    """
    done = run.read_done()
    noted(done)  # a damaged record is reported here
    if done.get("stood_in_for"):
        # in every figure and table: the bare label would name a model that was not used
        label = f"{label} [{_title(done, recipe.model)}]"
    test = run.read_predictions("test")
    valid, temperature = None, float(done.get("temperature") or 0.0)
    valid_n = mistakes = 0
    if run.predictions("valid").is_file():
        held_out = run.read_predictions("valid")
        found = scores(held_out)
        valid, valid_n, mistakes = found.accuracy, found.n, found.n - found.correct
        temperature = temperature or fit_temperature(held_out)  # an earlier version's run
    numbers = None
    if groups:
        units = [groups.get(path, path) for path in test.paths]
        numbers = np.unique(units, return_inverse=True)[1].astype(np.int64)
    return RunResult(
        folder=run,
        label=label,
        named_seed=named_seed,
        recipe=recipe,
        done=done,
        history=run.read_history() if run.history.is_file() else [],
        test=test,
        scores=scores(test),
        classes=tuple(per_class_by_groups(test, numbers)),
        valid_accuracy=valid,
        temperature=temperature or 1.0,
        valid_n=valid_n,
        valid_mistakes=mistakes,
        groups=numbers,
    )


def _title(done: Mapping[str, Any], wanted: str) -> str:
    """Display name of a run's model: user models record theirs, built-in ones have a table."""
    about = done.get("about_model")
    told = about.get("title") if isinstance(about, Mapping) else None
    return str(told) if told else model_title(str(done.get("model") or wanted))


def _why_unfinished(
    run: RunFolder, label: str, named_seed: int | None, recipe: RunSpec
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
    state: State = "unfinished" if epochs or run.last.is_file() else "not_started"
    return Unfinished(label, named_seed, state, "", epochs, recipe.most_epochs)


def _nothing_to_report(path: Path, unfinished: list[Unfinished]) -> str:
    states = {"unfinished": "not finished", "not_started": "not started"}
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

"""How a study's contenders were tuned: their trials, what was chosen, the best of k trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from podium.config.settings import RunSpec, StudySpec
from podium.config.shortcuts import SHORTCUT_MODELS
from podium.config.studyfile import load_study
from podium.config.tuning import Tune, ranges_of, tunable
from podium.results.run import RunResult
from podium.runs.folder import StudyFolder
from podium.runs.tuning import Trial, TunedContender, chosen_of
from podium.statistics.best_of_k import BestOfK, best_so_far, expected_best
from podium.statistics.scoring import Metric


@dataclass(frozen=True)
class ContenderTuning:
    """One contender's tuning, with scores by the study's metric on the validation images."""

    name: str
    label: str
    trials: tuple[Trial, ...]
    chosen: Mapping[str, Any]
    """The settings that were chosen; empty: its own are the best."""
    before: Mapping[str, Any]
    """The same settings as the contender is written."""
    best: Trial
    curve: BestOfK
    """In units of the metric."""
    judged: float | None
    """Mean score of the finished trainings with the study's seeds; None: there are none."""

    @property
    def own(self) -> float | None:
        """Score of the contender's own settings; None: that training failed."""
        return self.trials[0].score

    @property
    def seconds(self) -> float:
        """Of all trials."""
        return sum(trial.seconds for trial in self.trials)

    def count(self, state: str) -> int:
        """The number of trials that ended in a state."""
        return sum(trial.state == state for trial in self.trials)


@dataclass(frozen=True)
class StudyTuning:
    """How a study was tuned."""

    tune: Tune
    metric: Metric
    contenders: tuple[ContenderTuning, ...]
    untuned: tuple[str, ...]
    """Labels of the trained contenders on which no setting of the space has an effect."""


def study_tuning(
    folder: StudyFolder, spec: StudySpec, metric: Metric, runs: Sequence[RunResult]
) -> StudyTuning | None:
    """How a study was tuned; None: it was not.

    Args:
        folder: the study's folder.
        spec: the study.
        metric: of the study.
        runs: its finished runs.

    Raises:
        RunFolderError: the record of the tuning is damaged.
    """
    if spec.tune is None:
        return None
    written = load_study(folder.spec, stored=True)
    tuned = chosen_of(written, folder.path)
    labels = {run.folder.contender: run.label for run in runs}
    found = []
    for name, one in tuned.items():
        scores = [run.noted.valid for run in runs if run.folder.contender == name]
        known = [score for score in scores if score is not None]
        found.append(
            ContenderTuning(
                name,
                labels.get(name, spec.label(name)),
                one.trials,
                one.best.settings,
                {setting: one.recipe[setting] for setting in one.best.settings},
                one.best,
                _curve(one, spec.tune, metric),
                mean(known) if known else None,
            )
        )
    ranges = ranges_of(spec.tune, RunSpec, stored=True)
    left = [
        labels.get(name, spec.label(name))
        for name, recipe in written.contenders.items()
        if name not in tuned
        and not recipe.mean_of
        and recipe.model not in SHORTCUT_MODELS
        and not tunable(recipe, ranges)  # else it could not be tuned, and has no run
    ]
    return StudyTuning(spec.tune, metric, tuple(found), tuple(left))


def _curve(one: TunedContender, tune: Tune, metric: Metric) -> BestOfK:
    """The best of k trials; a trial that failed counts as the worst that has a score."""
    scores = [trial.score for trial in one.trials]
    known = [metric.merit(score) for score in scores if score is not None]
    merits = [min(known) if score is None else metric.merit(score) for score in scores]
    if tune.is_sequential:
        found = best_so_far(merits)
    else:
        end = metric.bounds[1] if metric.greater_is_better else -metric.bounds[0]
        found = expected_best(merits[0], merits[1:], end)
    if metric.greater_is_better:
        return found
    flipped = (None if part is None else -part for part in (found.value, found.high, found.low))
    value, low, high = flipped
    assert value is not None
    return BestOfK(value, low, high)

"""Tunes the contenders of a study: trials on training and validation images, then a choice.

The trials are a study of their own in `runs/STUDY/tuning/`, whose contenders they are. So a trial
is a cell like any other: resumed to the bit, trained by any executor, left to another process that
trains it already. Its images have no test split.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from podium.config.settings import RunSpec, StudySpec
from podium.config.shortcuts import SHORTCUT_MODELS
from podium.config.tuning import Range, Tune, ranges_of, trial_name, trials_of, tunable
from podium.errors import RunFolderError
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.tuning import (
    Trial,
    TunedContender,
    Tuning,
    chosen_of,
    read_tuning,
    trials_folder,
    write_tuning,
)
from podium.runtime.events import Event, IndexProgress, Message, Notify, StopRequest, WarningMessage
from podium.runtime.lock import sole_owner
from podium.statistics.scoring import Metric, find_metric
from podium.study.outcome import StudyResult
from podium.study.preflight import stand_in
from podium.study.suggestions import RANDOM_AT_FIRST, Suggestions
from podium.study.work import patience
from podium.training.schedule import best_so_far

RunTrials = Callable[[StudySpec, StudyFolder, Sequence[str]], StudyResult]
Alone = Callable[[], contextlib.AbstractContextManager[None]]


def heard_of_trials(notify: Notify) -> Notify:
    """A listener of the trials without what was told of the study's images before.

    Args:
        notify: receives the other events.
    """

    def tell(event: Event) -> None:
        told = type(event) is Message and event.contender is None
        if not told and not isinstance(event, IndexProgress):
            notify(event)

    return tell


def refuse_other_tuning(spec: StudySpec, folder: StudyFolder) -> None:
    """Refuse to choose settings for contenders whose judged trainings have begun.

    Args:
        spec: the study as written.
        folder: its folder.

    Raises:
        RunFolderError: a contender was trained with settings of another tuning, or of none.
    """
    if spec.tune is None or spec.data.score_on == "nothing":
        return
    ranges, tuned = ranges_of(spec.tune, RunSpec, stored=True), chosen_of(spec, folder.path)
    wanted = {name for name, one in spec.contenders.items() if tunable(one, ranges)} - {*tuned}
    begun = [run for run in folder.runs(spec) if run.contender in wanted and run.config.is_file()]
    if not begun:
        return
    before, now = read_tuning(folder.path), spec.tune.model_dump(mode="json")
    changed = [] if before is None else [key for key in now if before.tune.get(key) != now[key]]
    how = "as it was written then, or as another tuning chose"
    if changed:
        how = f"with settings of another tuning (other {', '.join(changed)})"
    raise RunFolderError(
        f"{begun[0].path} was trained before this tuning, {how}. Nothing was changed. Give the "
        "study another name (--name), or remove the folders of its runs to start again; trials in "
        "its folder tuning/ that stay the same are kept."
    )


def tune_contenders(
    spec: StudySpec,
    folder: StudyFolder,
    recipes: Mapping[str, RunSpec],
    run_trials: RunTrials,
    alone: Alone,
    notify: Notify,
    stop: StopRequest | None,
) -> dict[str, str]:
    """Choose the settings of contenders, and record them in `tuning.json`.

    Args:
        spec: the study as written.
        folder: its folder.
        recipes: of the contenders that are wanted, each with the model that is used.
        run_trials: trains trials, from their study, its folder and the names of those to train.
        alone: holds the study's folder for this process.
        notify: called with what is going to be done.
        stop: while waiting, raises KeyboardInterrupt once it is set; None: never.

    Returns:
        Name -> why it could not be tuned, of the contenders for which that is so.

    Raises:
        ConfigError: Optuna is not installed.
    """
    tune = spec.tune
    assert tune is not None
    ranges = ranges_of(tune, RunSpec, stored=True)
    known = chosen_of(spec, folder.path)
    wanted = [name for name in recipes if name not in known and tunable(recipes[name], ranges)]
    _tell_untuned(spec, recipes, ranges, notify)
    if not wanted:
        return {}
    written = {name: _as_tried(spec, folder, name, recipes) for name in spec.contenders}
    searches = {
        name: _Search(tune, name, recipe, ranges, folder, find_metric(spec.metric))
        for name, recipe in written.items()
        if tunable(recipe, ranges)
    }
    with _only_driver(folder, tune, notify, stop):
        failed = _search(spec, folder, searches, wanted, run_trials, notify)
        for name in wanted:
            if name not in failed:
                found = searches[name].result(spec.contenders[name])
                if found is None:
                    trials = searches[name].finished()
                    failed[name] = f"none of its {len(trials)} trials has a score. {trials[0].why}"
                else:
                    with alone():
                        _record(folder, spec, name, found)
    return failed


def _as_tried(
    spec: StudySpec, folder: StudyFolder, name: str, recipes: Mapping[str, RunSpec]
) -> RunSpec:
    """A contender as its first trial trains it: as written, with the model that is used.

    `recipes` may have what was chosen for it before, and lacks contenders that are done.
    """
    assert spec.tune is not None
    written = spec.contenders[name]
    first = StudyFolder(trials_folder(folder.path)).run(trial_name(name, 1), spec.tune.seed)
    if written.mean_of:
        return written
    if name in recipes:
        return stand_in(written, recipes[name].model)
    if first.config.is_file():
        return stand_in(written, first.read_config()["recipe"]["model"])
    return written


class _Search:
    """The trials of one contender: their settings, and what they came to so far."""

    def __init__(
        self,
        tune: Tune,
        name: str,
        recipe: RunSpec,
        ranges: Mapping[str, Range],
        folder: StudyFolder,
        metric: Metric,
    ) -> None:
        self.tune, self.name, self.recipe, self.metric = tune, name, recipe, metric
        self.trials = StudyFolder(trials_folder(folder.path))
        self.count = trials_of(recipe, tunable(recipe, ranges), tune.trials)
        self.suggestions = Suggestions(tune, name, recipe, ranges)
        self._told = 0

    def run(self, number: int) -> RunFolder:
        """The folder of a trial."""
        return self.trials.run(trial_name(self.name, number), self.tune.seed)

    def advance(self) -> None:
        """Draw the settings of every trial that does not depend on one that is not finished."""
        while len(self.suggestions.settings) < self.count:
            if self.tune.is_sequential and not self._tell_finished():
                return
            run = self.run(len(self.suggestions.settings) + 1)
            begun = run.read_config().get("recipe") if run.config.is_file() else None
            self.suggestions.draw(begun)

    def _tell_finished(self) -> bool:
        """Tell the trials that are finished; returns whether all that are known are."""
        while self._told < len(self.suggestions.settings):
            run = self.run(self._told + 1)
            if not run.is_done():
                return False
            self._told += 1
            done = run.read_done()
            merits = best_so_far(run.read_history(), self.metric) if done["epochs"] else []
            self.suggestions.tell(self._told, done["state"], merits)
        return True

    def recipes(self) -> dict[str, RunSpec]:
        """Name of each known trial -> what it trains."""
        label = (self.recipe.label or self.name)[:40]
        return {
            trial_name(self.name, number): made.model_copy(
                update={"label": f"{label}, trial {number} of {self.count}"}
            )
            for number, made in enumerate(self.suggestions.recipes, 1)
        }

    def pending(self) -> list[str]:
        """Names of the known trials that are not finished."""
        numbers = range(1, len(self.suggestions.settings) + 1)
        return [trial_name(self.name, one) for one in numbers if not self.run(one).is_done()]

    def tidy(self) -> None:
        """Remove the weights that a kill, or a node without the study's folder, has left."""
        for number in range(1, len(self.suggestions.settings) + 1):
            if (run := self.run(number)).is_done():
                run.forget_weights()

    def finished(self) -> list[Trial]:
        """The trials, all of which are finished, in order."""
        return [
            read_trial(self.run(number), number, settings)
            for number, settings in enumerate(self.suggestions.settings, 1)
        ]

    def result(self, written: RunSpec) -> TunedContender | None:
        """The trials with the best of them; None: none has a score.

        Args:
            written: the contender as written, whose model another may replace here.
        """
        trials = self.finished()
        merits = [
            (self.metric.merit(one.score), -one.number)  # of equals the first
            for one in trials
            if one.state == "complete" and one.score is not None
        ]
        if not merits:
            return None
        return TunedContender(tuple(trials), -max(merits)[1], written.model_dump(mode="json"))


def read_trial(run: RunFolder, number: int, settings: Mapping[str, Any]) -> Trial:
    """What a finished trial came to.

    Args:
        run: its folder.
        number: of the trial, from 1.
        settings: that were drawn for it.

    Raises:
        RunFolderError: its record is missing or damaged.
    """
    done = run.read_done()
    keys = ("state", "score", "valid_accuracy", "best_epoch", "epochs", "seconds", "why")
    try:
        return Trial(number, dict(settings), **{key: done[key] for key in keys})
    except KeyError as error:
        raise RunFolderError(
            f"{run.done} is not the record of a trial: it has no {error}."
        ) from None


def _search(
    spec: StudySpec,
    folder: StudyFolder,
    searches: Mapping[str, _Search],
    wanted: Sequence[str],
    run_trials: RunTrials,
    notify: Notify,
) -> dict[str, str]:
    """Train trials until the wanted contenders have all of theirs, or cannot."""
    trials = StudyFolder(trials_folder(folder.path))
    failed: dict[str, str] = {}
    told = False
    while True:
        for search in searches.values():
            search.advance()
            search.tidy()
        if not told:
            told = True
            notify(Message(_what_is_ahead([searches[name] for name in wanted])))
        todo = [name for one in wanted if one not in failed for name in searches[one].pending()]
        if not todo:
            return failed
        known = {key: one for search in searches.values() for key, one in search.recipes().items()}
        result = run_trials(trial_study(spec, known), trials, todo)
        for outcome in result.outcomes:
            name, _, number = outcome.run.contender.rpartition("-trial-")
            if outcome.error:
                failed.setdefault(name, f"its trial {number} failed. {outcome.error}")


def _what_is_ahead(searches: Sequence[_Search]) -> str:
    total = sum(one.count for one in searches)
    done = sum(len(one.suggestions.settings) - len(one.pending()) for one in searches)
    before = f", {done:,} of them done before" if done else ""
    return (
        f"tunes {len(searches)} contender{'s' * (len(searches) > 1)} on training and validation "
        f"images: {total:,} trials{before}; then the study"
    )


def trial_study(spec: StudySpec, recipes: Mapping[str, RunSpec]) -> StudySpec:
    """The study whose contenders are trials: the same images, but for the test images.

    Args:
        spec: the study that is tuned.
        recipes: name -> what to train, of all trials that are known.
    """
    assert spec.tune is not None
    values = {
        "name": f"{spec.name[:93]}-tuning",
        "data": {**spec.data.model_dump(mode="json"), "score_on": "nothing", "slices": []},
        "seeds": [spec.tune.seed],
        "metric": spec.metric,
        "tune": spec.tune.model_dump(mode="json"),
        "contenders": {name: one.model_dump(mode="json") for name, one in recipes.items()},
    }
    return StudySpec.model_validate(values, context={"stored": True})


def _record(folder: StudyFolder, spec: StudySpec, name: str, found: TunedContender) -> None:
    """Add a contender to the record; call it as the folder's sole owner."""
    assert spec.tune is not None
    fresh = Tuning(spec.tune.model_dump(mode="json"), find_metric(spec.metric).described())
    before = read_tuning(folder.path)
    same = before is not None and (before.tune, before.metric) == (fresh.tune, fresh.metric)
    kept = before if before is not None and same else fresh
    write_tuning(folder.path, replace(kept, contenders={**kept.contenders, name: found}))


def _tell_untuned(
    spec: StudySpec, recipes: Mapping[str, RunSpec], ranges: Mapping[str, Range], notify: Notify
) -> None:
    assert spec.tune is not None
    if spec.tune.sampler == "tpe" and spec.tune.trials <= RANDOM_AT_FIRST:
        notify(
            Message(
                f"tune: sampler tpe draws the first {RANDOM_AT_FIRST} trials at random: here all"
            )
        )
    for name, recipe in recipes.items():
        count = trials_of(recipe, tunable(recipe, ranges), spec.tune.trials)
        if recipe.mean_of:
            notify(Message(f"{name}: not tuned itself; it averages contenders that may be"))
        elif recipe.model in SHORTCUT_MODELS:
            notify(Message(f"{name}: not tuned, as shortcuts stay as they are"))
        elif not count:
            notify(Message(f"{name}: not tuned, as no setting in tune.space has an effect on it"))
        elif count < spec.tune.trials:
            notify(
                Message(f"{name}: tune.space has {count} different settings for it, a trial each")
            )


@contextlib.contextmanager
def _only_driver(
    folder: StudyFolder, tune: Tune, notify: Notify, stop: StopRequest | None
) -> Iterator[None]:
    """One process at a time where trials depend on one another; others wait for what it finds.

    Trials that do not are known from the start, and shared like all cells.
    """
    if not tune.is_sequential:
        yield
        return
    wait = patience(f"tunes {folder.path}", notify, stop, WarningMessage)
    with sole_owner(trials_folder(folder.path) / ".driver", wait):
        yield

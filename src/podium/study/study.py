"""Studies: contenders x seeds, trained under one protocol, resumable. The only orchestrator."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from podium.config.code import allow_named
from podium.config.machine import Machine
from podium.config.settings import RunSpec, StudySpec
from podium.config.studyfile import load_study, machine_settings, study_folder
from podium.data.index import DataIndex
from podium.data.record import index_table, write_table
from podium.errors import TrainingError
from podium.runs.folder import StudyFolder
from podium.runs.ledger import keep_copy
from podium.runs.rounds import reached_seeds
from podium.runs.tuning import with_chosen
from podium.runtime.events import Message, Notify, RunFailed, StopRequest, StudyStarted, silent
from podium.runtime.files import make_folder, remove_temporaries, write_json, write_text
from podium.runtime.lock import InUseError, owner_of, sole_owner
from podium.study.cells import Cell, cells_of
from podium.study.engines.driver import ProcessExecutor
from podium.study.executors import Executor, executor_named, outcomes_of
from podium.study.images import (
    audit_study,
    find_images,
    images_first,
    refuse_other_images,
)
from podium.study.needs import missing_needs, refuse_without_members
from podium.study.outcome import Outcome, StudyResult, record_failure
from podium.study.pictures import store_pictures
from podium.study.preflight import (
    code_of_study,
    preflight,
    refuse_another_recipe,
    refuse_other_members,
    try_out,
)
from podium.study.rounds import cells_to_run, next_round, refuse_listed_seeds
from podium.study.trackers.listen import Listeners
from podium.study.trackers.tracker import StudyInfo
from podium.study.tuning import heard_of_trials, refuse_other_tuning, tune_contenders
from podium.study.work import Work, lock_of

if TYPE_CHECKING:
    from podium.reporting import ReportResult

Code = dict[str, dict[str, str]]  # contender -> setting -> provenance of what is not ours

ASK_AGAIN = 0.5  # seconds between two checks of a cell that another process holds


@dataclass
class Plan:
    """What was settled before training: the same for every cell, wherever it is trained."""

    cells: Sequence[Cell]
    """All cells that were asked for."""
    todo: Sequence[Cell]
    """Those to train."""
    outcomes: dict[Cell, Outcome]
    """Of those that are done, and of those that cannot be trained."""
    work: Work


class Study:
    """A study on disk. `run` trains what is not done yet; `report` writes the page.

    Args:
        spec: the study.
        runs: folder that holds all studies.
        machine: settings of the machine; None: the defaults.
        audit: look for duplicates, leaks and wrong labels before training.
        beside: folder of the study's file, where code that it names may lie; empty string: none.

    Examples:
        >>> import podium
        >>> study = podium.Study.load("demo", overrides=["seeds=[0,1]"])
        >>> len(study.cells()), str(study.cells()[1])
        (10, 'simple_resnet/seed-1')
    """

    def __init__(
        self,
        spec: StudySpec,
        *,
        runs: str | Path = "runs",
        machine: Machine | None = None,
        audit: bool = True,
        beside: str | Path = "",
    ) -> None:
        self.asked = spec
        """The study as written."""
        self.beside = beside
        """Folder of the study's file, where code that it names may lie; empty string: none."""
        self.audit = audit
        """Whether the images are audited before training."""
        self.machine = machine or Machine()
        """Settings of the machine."""
        self.folder = StudyFolder(Path(runs) / spec.name)
        """Where runs and report lie."""
        self.spec = with_chosen(spec, self.folder.path)
        """The images, the contenders, the seeds; once they are tuned, with the settings chosen."""

    @classmethod
    def load(
        cls,
        study: str | Path,
        *,
        data: str | Path | None = None,
        overrides: Iterable[str] = (),
        runs: str | Path = "runs",
        audit: bool = True,
        **machine: Any,
    ) -> Study:
        """Load a study from a YAML file or by a built-in name.

        Args:
            study: path of a YAML file, or a name that `podium studies` lists.
            data: folder of images that replaces the study's own; None: the study's own.
            overrides: `key=value` strings, such as `contenders.*.epochs=2`.
            runs: folder that holds all studies.
            audit: look for duplicates, leaks and wrong labels before training.
            machine: settings of `Machine`, such as `device="cuda"`.

        Raises:
            ConfigError: a setting of the study is invalid; the message names it.
        """
        spec = load_study(study, data=data, overrides=overrides)
        settings, beside = machine_settings(**machine), study_folder(study)
        return cls(spec, runs=runs, machine=settings, audit=audit, beside=beside)

    def cells(self) -> tuple[Cell, ...]:
        """The cells of the study: one contender with one seed each, and their folds; with `seeds:
        auto`, all that it may come to. No images are needed."""
        return cells_of(self.spec)

    def run(
        self,
        notify: Notify = silent,
        stop: StopRequest | None = None,
        *,
        only: str | Iterable[str] = (),
    ) -> StudyResult:
        """Train and score every cell that is not done, with the machine's executor.

        A failure is recorded and the other cells continue. Ctrl-C saves the current run and
        raises KeyboardInterrupt; another call of `run` resumes it. Several processes may run one
        study at the same time: a cell that another process trains is left to it, and waited for
        at the end.

        User code that the study names as `module:name` is imported first: from the folder of the
        study's file, the current folder, or an installed package.

        Args:
            notify: called with an event for every batch and epoch.
            stop: checked after every step; None: the first Ctrl-C is the request.
            only: the only cells (`fast/seed-1`, `fast/seed-1/fold-0`) or contenders (`fast`) to
                train; empty: all.

        Returns:
            How each cell ended, in the order of `cells`.

        Raises:
            ConfigError: a setting of the machine is invalid, `only` names no cell, or a mean
                without its members, or user code cannot be imported or is not what the setting
                takes.
            DataError: the images cannot be used; nothing was trained.
            RunFolderError: the folder belongs to other images or recipes.
            StorageError: the folder cannot be written, or the disk is full.
        """
        allow_named((self.spec, self.machine), self.beside)
        cells = cells_to_run(self.folder, self.spec, only)
        refuse_without_members(self.folder, cells)
        with Listeners(self.machine.tracker_names, notify) as listeners, self._driven():
            plan = self._prepare(cells, code_of_study(self.spec), listeners, stop)
            if self.asked.tune is not None and self.asked.data.score_on != "nothing":
                self._tune(plan, notify, stop)
            plan.outcomes |= self._train(plan.todo, plan.work)
            while more := next_round(self.folder, self.spec, plan.cells, listeners):
                plan.cells, plan.todo = (*plan.cells, *more), (*plan.todo, *more)
                plan.outcomes |= self._train(more, plan.work)
            return self._finish(plan)

    @contextlib.contextmanager
    def _driven(self) -> Iterator[None]:
        """Refuse a study whose cells another process has trained by processes of their own."""
        cells = self.folder.processes
        if isinstance(executor_named(self.machine.executor), ProcessExecutor):
            with sole_owner(cells):
                yield
        else:
            if owner := owner_of(cells):
                raise InUseError(self.folder.path, owner, "")
            yield
        seeds = reached_seeds(self.folder, self.spec)
        runs = [run for run in self.folder.cells(self.spec) if run.seed in seeds]
        if cells.is_dir() and all(run.is_done() for run in runs):
            shutil.rmtree(cells, ignore_errors=True)

    def _prepare(
        self, cells: Sequence[Cell], code: Code, notify: Listeners, stop: StopRequest | None
    ) -> Plan:
        """Settle everything that cells share, before hours are spent on the first of them."""
        alone = lock_of(self.folder, notify, stop)
        make_folder(self.folder.path)
        with images_first(self.spec.data):
            refuse_other_tuning(self.asked, self.folder)
            for run in self.folder.cells(self.spec):
                refuse_another_recipe(self.spec, run, code[run.contender])
                refuse_other_members(self.folder, self.spec, run)
        index = find_images(self.spec.data, notify)
        todo = [cell for cell in cells if not self._is_done(cell)]
        for cell in todo:
            for notice in self.spec.contenders[cell.contender].notices():
                notify(Message(f"{cell.contender}: {notice}"))
        if todo:
            notify.start(StudyInfo(self.spec, self.folder, index.classes, index.fingerprint))
            try_out(self.spec, [cell.contender for cell in todo], index)
        here = self.machine.executor not in ("ray", "slurm")  # else nodes may have what this lacks
        with alone():
            remove_temporaries(self.folder.path)  # of killed processes
            refuse_other_images(self.folder, self.spec, index)
            refuse_listed_seeds(self.folder, self.spec)
            # with `seeds: auto`, further rounds need the recipes of those that are done so far, too
            settle = [*todo, *cells] if self.spec.seeds == "auto" else todo
            recipes, failed = preflight(
                self.folder, self.spec, self.machine if here else None, settle, notify
            )
            write_text(self.folder.spec, self.asked.to_yaml())
            write_json(self.folder.data, index.summary())
            write_table(index_table(index), self.folder.images)
            if todo:
                self._look_ahead(index, recipes, todo, notify, stop)
        work = Work(self.folder, self.spec, self.machine, index, recipes, code, alone, notify, stop)
        done = {cell: Outcome(work.run(cell), skipped=True) for cell in cells if cell not in todo}
        return Plan(cells, [cell for cell in todo if cell not in failed], done | failed, work)

    def _look_ahead(
        self,
        index: DataIndex,
        recipes: Mapping[str, RunSpec],
        todo: Sequence[Cell],
        notify: Notify,
        stop: StopRequest | None,
    ) -> None:
        """Audit the images; on a cluster, also compute what several cells would."""
        executor = executor_named(self.machine.executor)
        with contextlib.ExitStack() as stack:
            parts = None
            if isinstance(executor, ProcessExecutor):
                parts = stack.enter_context(executor.parts(self.machine))
            if self.audit:
                audit_study(self.folder, index, notify, parts)
            if parts is not None:
                from podium.study.ahead import features_ahead

                features_ahead(recipes, todo, index, self.machine, parts, notify, stop)

    def _tune(self, plan: Plan, notify: Notify, stop: StopRequest | None) -> None:
        """Choose the settings of the contenders that are to be trained; changes the plan."""
        work, contenders = plan.work, {cell.contender for cell in plan.todo}

        def run_trials(trials: StudySpec, folder: StudyFolder, only: Sequence[str]) -> StudyResult:
            study = Study(trials, machine=self.machine, audit=False, beside=self.beside)
            study.folder = folder
            return study.run(heard_of_trials(notify), stop, only=only)

        recipes = {name: work.recipes[name] for name in work.recipes if name in contenders}
        failed = tune_contenders(
            self.asked, self.folder, recipes, run_trials, work.alone, work.notify, stop
        )
        work.spec = self.spec = with_chosen(self.asked, self.folder.path)
        allow_named((self.spec,), self.beside)
        work.code = code_of_study(self.spec)  # of what was chosen, too
        now = {str(cell): cell for cell in self.cells()}  # the settings decide what a cell costs
        plan.outcomes = {now[str(cell)]: outcome for cell, outcome in plan.outcomes.items()}
        plan.cells = [now[str(cell)] for cell in plan.cells]
        todo = [now[str(cell)] for cell in plan.todo]
        for cell in (cell for cell in todo if cell.contender in failed):
            error = TrainingError(f"{cell.contender} could not be tuned: {failed[cell.contender]}")
            plan.outcomes[cell] = record_failure(work.run(cell), error, cell.title, work.notify)
        plan.todo = [cell for cell in todo if cell.contender not in failed]

    def _train(self, cells: Sequence[Cell], work: Work) -> dict[Cell, Outcome]:
        """Have the machine's executor train some cells."""
        executor = executor_named(self.machine.executor)
        work.notify(StudyStarted(len(cells), sum(work.millions(cell) for cell in cells)))
        outcomes: dict[Cell, Outcome] = {}
        waiting = list(cells)
        while waiting:  # folds, then the runs that pool them, then the means of those
            ready = [cell for cell in waiting if not set(cell.needs) & set(waiting)]
            early = {cell: why for cell in ready if (why := missing_needs(self.folder, cell))}
            for cell, why in early.items():
                who: Any = {"contender": cell.contender, "seed": cell.seed, "fold": cell.fold}
                work.notify(RunFailed(cell.title, why, **who))
            outcomes |= {cell: Outcome(work.run(cell), error=why) for cell, why in early.items()}
            outcomes |= _trained(executor, [cell for cell in ready if cell not in early], work)
            waiting = [cell for cell in waiting if cell not in ready]
        return outcomes

    def _finish(self, plan: Plan) -> StudyResult:
        """Store what the report needs of the images, and complete what a kill left."""
        work = plan.work
        with work.alone():
            store_pictures(self.folder, work.index)
            keep_copy(self.folder.path, work.index.split_fingerprint("test"))
        for cell in plan.cells:  # after the pictures: what is explained are those that are shown
            if cell not in plan.todo and work.run(cell).is_done():
                work.revisit(cell)
        return StudyResult(self.folder, tuple(plan.outcomes[cell] for cell in plan.cells))

    def report(self, *, lang: Literal["en", "pt"] = "en", **options: Any) -> Path:
        """Write figures, tables and the page from the files of the study.

        Args:
            lang: language of all labels.
            options: further arguments of `podium.reporting.build_report`, such as `out`.

        Returns:
            The path of `index.html`.
        """
        return self.write_report(lang=lang, **options).index

    def write_report(self, *, lang: Literal["en", "pt"] = "en", **options: Any) -> ReportResult:
        """The same as `report`, for callers that also want its files and what they show.

        Args:
            lang: language of all labels.
            options: further arguments of `podium.reporting.build_report`, such as `out`.
        """
        from podium.reporting import build_report

        here = options.get("out") is None  # where another process may write it as well
        with lock_of(self.folder, silent, None)() if here else contextlib.nullcontext():
            return build_report(self.folder, lang=lang, **options)

    def _is_done(self, cell: Cell) -> bool:
        return self.folder.run(cell.contender, cell.seed, cell.fold).is_done()


def _trained(executor: Executor, cells: Sequence[Cell], work: Work) -> dict[Cell, Outcome]:
    """Have cells trained until each is done or has failed, here or in another process."""
    outcomes: dict[Cell, Outcome] = {}
    reported: set[Cell] = set()
    while cells:
        outcomes |= outcomes_of(executor, cells, work)
        cells = [cell for cell in cells if outcomes[cell].busy]
        for cell in cells:
            if cell not in reported:
                reported.add(cell)
                owner = outcomes[cell].busy
                text = f"{cell} is being trained by {owner}; waiting"
                work.notify(Message(text, contender=cell.contender))
        if cells:
            if work.stop is not None and work.stop.is_set():
                raise KeyboardInterrupt
            time.sleep(ASK_AGAIN)
    return outcomes

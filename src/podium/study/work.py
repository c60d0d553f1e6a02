"""Training of one cell: in this process, or by a command that any other program can start."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from podium.config.curve import has_shares
from podium.config.machine import Machine
from podium.config.registry import allowed
from podium.config.settings import RunSpec, StudySpec
from podium.config.titles import model_title, stand_in_label
from podium.data.index import DataIndex
from podium.errors import StorageError
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.tuning import how_tuned
from podium.runtime.attempt import Attempt, StaleAttemptError, begin
from podium.runtime.events import (
    Message,
    Notify,
    RunDone,
    RunStarted,
    StopRequest,
    stop_on_signals,
)
from podium.runtime.files import remove_temporaries
from podium.runtime.lock import InUseError, sole_owner
from podium.study.arithmetic import Arithmetic, keep, settle
from podium.study.cells import Cell
from podium.study.engines.files import CellFiles
from podium.study.needs import missing_needs
from podium.study.outcome import Outcome, failed_before, record_failure
from podium.study.pictures import store_pictures
from podium.study.preflight import begin_run

if TYPE_CHECKING:
    from podium.runtime.device import Device
    from podium.study.contender import Choose

Result = TypeVar("Result")
Lock = Callable[[], contextlib.AbstractContextManager[None]]

OF_A_CELL = (
    *("device", "precision", "devices", "workers", "cache_limit", "checkpoint_every", "cpus"),
    *("tensorboard", "trackers"),
)
"""The settings of a machine that matter to the process of one cell."""


def lock_of(folder: StudyFolder, notify: Notify, stop: StopRequest | None) -> Lock:
    """A lock on the study's folder, not on its cells' folders, for this process only.

    It is held while files of the study itself are written.

    Args:
        folder: the study's folder.
        notify: called once with a message if another process holds the folder.
        stop: while waiting, raises KeyboardInterrupt once it is set; None: never.
    """
    wait = patience(f"prepares {folder.path} or writes its report", notify, stop)
    return lambda: sole_owner(folder.path, wait)


def patience(
    doing: str, notify: Notify, stop: StopRequest | None, kind: type[Message] = Message
) -> Callable[[str], None]:
    """What to do while another process holds a folder: tell it once, and look for a stop.

    Args:
        doing: what the other process does, to follow "which".
        notify: called once.
        stop: raises KeyboardInterrupt once it is set; None: never.
        kind: of the message.
    """
    reported: list[str] = []

    def wait(owner: str) -> None:
        if stop is not None and stop.is_set():
            raise KeyboardInterrupt
        if not reported:
            reported.append(owner)
            notify(kind(f"waits for {owner}, which {doing}"))

    return wait


class Work:
    """What an executor trains cells with; created by `Study.run`.

    Args:
        folder: the study's folder.
        spec: the study.
        machine: settings of the machine.
        index: the study's images.
        recipes: recipe of each contender, as it is trained.
        code: for each contender, setting -> provenance of what is not built in.
        alone: holds the study's folder for this process, for the short time in which files of
            the study itself are written.
        notify: called with an event for every batch and epoch.
        stop: checked after every step; None: the first Ctrl-C is the request.
        attempt: what may forbid this process to go on with its cell; None: nothing.
        patience: seconds to wait for a process that holds the cell.

    Examples:
        An executor that trains each cell in a process of its own:

        >>> import subprocess
        >>> class Processes:
        ...     def map(self, cells, work):
        ...         for cell in cells:
        ...             subprocess.run(work.command(cell))
        ...             yield work.outcome(cell)
    """

    def __init__(
        self,
        folder: StudyFolder,
        spec: StudySpec,
        machine: Machine,
        index: DataIndex,
        recipes: Mapping[str, RunSpec],
        code: Mapping[str, dict[str, str]],
        alone: Lock,
        notify: Notify,
        stop: StopRequest | None,
        attempt: Attempt | None = None,
        patience: float = 0.0,
    ) -> None:
        self.folder, self.spec, self.machine, self.index = folder, spec, machine, index
        self.recipes, self.code = recipes, code
        self.alone, self.notify, self.stop = alone, notify, stop
        self.attempt, self.patience = attempt, patience
        self._found_busy: set[Cell] = set()
        self._one_at_a_time = threading.Lock()  # trainings share PyTorch's generator

    def run(self, cell: Cell) -> RunFolder:
        """Folder of the cell's run."""
        return self.folder.run(cell.contender, cell.seed, cell.fold)

    @property
    def _of_trials(self) -> bool:
        """Whether these are the trials of a tuning, which have no test images."""
        return self.spec.data.score_on == "nothing"

    def closes(self, cell: Cell) -> bool:
        """Whether a cell pools the folds of a run."""
        return self.spec.data.folds is not None and cell.fold is None

    def millions(self, cell: Cell) -> int:
        """Pixels to train on, in millions, from which the remaining time is computed."""
        folds = self.index.folds
        if folds is None:
            images: float = len(self.index.splits["train"])
        else:
            images = len(self.index.splits["test"])
            if cell.fold is not None:
                images *= (1 - 1 / folds.count) * (1 - folds.valid_fraction)
        share = self.spec.contenders[cell.contender].train_share
        return round(share * images * cell.cost / 1e6)

    def train(self, cell: Cell) -> Outcome:
        """Train and score a cell in this process, unless it is done or in progress elsewhere.

        An interrupted run is resumed. A failure is recorded, not raised.

        Args:
            cell: the cell to train.

        Returns:
            How it ended; `busy` if another process holds the cell.

        Raises:
            KeyboardInterrupt: it was stopped; its state is saved.
            RunFolderError: it was started with another recipe.
            StorageError: the folder cannot be written, or the disk is full.
        """
        run = self.run(cell)
        if not run.is_done() and (missing := missing_needs(self.folder, cell)):
            return Outcome(run, error=missing)
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(self._one_at_a_time)
                stack.enter_context(sole_owner(run.path, patience=self.patience))
                attempts = CellFiles.of(self.folder, cell).attempts
                if self.attempt is None and attempts.is_file():
                    begin(attempts)  # on a cluster, whose processes must not come back
                outcome = self._known(cell, run) or self._train(cell, run)
                with self.alone():
                    store_pictures(self.folder, self.index)  # for the report, not the training
                self._explain(run, self.machine.device)
                return outcome
        except InUseError as error:
            if not run.failed.is_file():  # the process that trains it has removed an earlier one
                self._found_busy.add(cell)
            return Outcome(run, busy=error.owner)

    def command(self, cell: Cell, machine: Machine | None = None) -> list[str]:
        """The command that trains and scores a cell in a process of its own.

        Run it in the current folder, here or on a machine that sees the same files. It exits
        with 0 when the cell is done; `outcome` then gives the result.

        Args:
            cell: the cell to train.
            machine: settings instead of the study's; None: those.
        """
        machine = machine or self.machine
        words = [sys.executable, "-m", "podium", "cell", str(self.folder.path.resolve())]
        words += [cell.contender, str(cell.seed)]
        words += [] if cell.fold is None else ["--fold", str(cell.fold)]
        for name in OF_A_CELL:
            value, flag = getattr(machine, name), f"--{name.replace('_', '-')}"
            if name == "trackers" or value == Machine.model_fields[name].default:
                continue
            words += [flag] if value is True else [flag, str(value)]
        for name in machine.trackers:
            words += ["--tracker", name]
        for module, folder in allowed().items():
            words += ["--import", str(Path(folder, module))]
        return words

    def outcome(self, cell: Cell) -> Outcome:
        """The outcome of a cell that another process has trained, from its folder.

        Args:
            cell: the cell that was trained.
        """
        run = self.run(cell)
        if run.is_done():
            return Outcome(run)
        if missing := missing_needs(self.folder, cell):
            return Outcome(run, error=missing)
        error = f"{cell} did not finish and recorded no reason. See the output of its process."
        return failed_before(run) or Outcome(run, error=error)

    def revisit(self, cell: Cell) -> None:
        """Complete a finished cell after a kill, and remove temporary files.

        Call it once the study's images are stored: heat maps are made of those.

        Args:
            cell: the finished cell.
        """
        run = self.run(cell)
        with sole_owner(run.path, wait=lambda _: None):  # until its heat maps are there
            remove_temporaries(run.path)
            there = self.machine.executor in ("ray", "slurm")  # cells, whose device this may lack
            self._explain(run, "auto" if there else self.machine.device)

    def _explain(self, run: RunFolder, device: str) -> None:
        """Make the heat maps of a finished run for the report, which shows no fold alone."""
        if has_shares(self.spec) or self._of_trials:  # minutes for what no page shows
            return
        if run.fold is None and run.is_done() and not run.explanations.is_file():
            from podium.runtime.device import thread_count
            from podium.study.explain import explain_runs

            # rounding decides bits of the maps, too
            machine = self.machine.model_copy(update={"device": device})
            with thread_count(run.read_done().get("threads")):
                explain_runs(self.folder, [run], self.index.reader, machine, self.notify)

    def _known(self, cell: Cell, run: RunFolder) -> Outcome | None:
        """The outcome that exists already, perhaps from another process; None: work to do."""
        remove_temporaries(run.path)
        if run.is_done():
            return Outcome(run, skipped=True)
        return failed_before(run) if cell in self._found_busy else None

    def _train(self, cell: Cell, run: RunFolder) -> Outcome:
        epochs, cost = self.spec.contenders[run.contender].most_epochs, self.millions(cell)
        who: Any = {"contender": run.contender, "seed": run.seed, "fold": run.fold}
        title = self._title(cell)
        self.notify(RunStarted(title, epochs, cost, **who))
        recipe = self._begin(run)
        try:
            from podium.data.parts import fold_index, share_index
            from podium.runtime.device import thread_count
            from podium.study.averaging import average_and_score
            from podium.study.closing import Closing, close_run
            from podium.study.contender import Assignment, train_and_score
            from podium.study.trial import floor_of, train_trial
            from podium.training.faults import refuse_lost_device

            index = self.index if cell.fold is None else fold_index(self.index, cell.fold)
            if has_shares(self.spec) and not self.closes(cell):
                index = share_index(
                    index, recipe.train_share, cell.seed, whole_groups=self.spec.data.in_groups
                )
            members = (self.folder.run(one, run.seed, run.fold) for one in recipe.mean_of)
            given = Assignment(
                run,
                index,
                recipe,
                self.spec.contenders[run.contender].model,
                self.machine,
                self.spec.metric,
                settle=partial(self._settle, run),
                attempt=self.attempt,
                members=tuple(members),
                floor=floor_of([self.run(one) for one in cell.needs], self.spec.metric)
                if self._of_trials
                else (),
                tuned=how_tuned(self.spec, self.folder.path, run.contender),
            )
            with contextlib.ExitStack() as stack:
                stack.enter_context(thread_count(None))
                stop = self.stop or stack.enter_context(stop_on_signals())
                if self.closes(cell):
                    folds = self.folder.folds(run, self.spec)
                    pooled = Closing(given, folds, self.spec.final_model, self.spec.data.in_groups)
                    closing = close_run(pooled, self.notify, stop)
                else:
                    make = average_and_score if given.members else train_and_score
                    make = train_trial if self._of_trials else make
                    closing = make(given, self.notify, stop)
        except StaleAttemptError:
            raise  # nothing may be recorded
        except StorageError:
            raise  # the next run would fail in the same way, and no failure can be recorded
        except Exception as error:
            outcome = record_failure(run, error, title, self.notify)
            refuse_lost_device(error)
            return outcome
        pooled_folds = self.spec.data.folds if self.closes(cell) else None
        self.notify(RunDone(title, closing, pooled_folds, **who))
        return Outcome(run)

    def _settle(self, run: RunFolder, device: Device, choose: Choose, notify: Notify) -> Arithmetic:
        import torch

        return settle(
            partial(self._at_study, keep, run),
            run.contender,
            self.machine,
            device.kind,
            threads=torch.get_num_threads(),
            precision=choose,
            notify=notify,
        )

    def _title(self, cell: Cell) -> str:
        """The cell's title; where another model stands in, with that model, as in the report."""
        used, wanted = self.recipes[cell.contender].model, self.spec.contenders[cell.contender]
        if used == wanted.model:
            return cell.title
        label = self.spec.label(cell.contender)
        told = stand_in_label(label, model_title(wanted.model), model_title(used))
        return told + cell.title.removeprefix(label)

    def _begin(self, run: RunFolder) -> RunSpec:
        """Record what is trained."""
        model, code = self.recipes[run.contender].model, self.code[run.contender]
        return self._at_study(begin_run, run, self.spec, code, model)

    def _at_study(self, function: Callable[..., Result], run: RunFolder, *given: Any) -> Result:
        """Call a function that reads and writes files of the study, as their only writer."""
        with self.alone():
            if self.attempt is None:
                return function(run, *given)
            return self.attempt.at_study(function, run, *given)

"""How one cell is trained: in this process, or by a command that any other program can start."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from podium.config.registry import allowed
from podium.config.settings import Machine, RunSpec, StudySpec
from podium.data.index import DataIndex
from podium.errors import StorageError
from podium.runs.folder import RunFolder, StudyFolder
from podium.runtime.events import Notify, RunDone, RunStarted, StopRequest, stop_on_signals
from podium.runtime.files import remove_temporaries, write_text
from podium.runtime.lock import InUseError, sole_owner
from podium.study.cells import Cell
from podium.study.outcome import Outcome, failed_before, record_failure
from podium.study.pictures import store_pictures
from podium.study.preflight import model_used, refuse_another_recipe, stand_in

Lock = Callable[[], contextlib.AbstractContextManager[None]]


class Work:
    """What an executor is given to train cells with; `Study.run` makes it.

    Args:
        folder: the study's.
        spec: the study.
        machine: what it runs on.
        index: its images.
        recipes: of each contender, as it is trained.
        code: of each contender, where what is not ours comes from.
        alone: holds the study's folder for this process, for the short time that files of the
            study's own are written.
        notify: told of every batch and epoch.
        stop: asked after every step; None: the first Ctrl-C is the request.
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
    ) -> None:
        self.folder, self.spec, self.machine, self.index = folder, spec, machine, index
        self.recipes, self.code = recipes, code
        self.alone, self.notify, self.stop = alone, notify, stop
        self._found_busy: set[Cell] = set()
        self._one_at_a_time = threading.Lock()  # trainings share PyTorch's generator

    def run(self, cell: Cell) -> RunFolder:
        """The cell's folder."""
        return self.folder.run(cell.contender, cell.seed)

    def millions(self, cell: Cell) -> int:
        """Pixels to train on, in millions: what the time left is reckoned from."""
        return round(len(self.index.splits["train"]) * cell.cost / 1e6)

    def train(self, cell: Cell) -> Outcome:
        """Train and score a cell in this process, unless that is done, or being done elsewhere.

        What a kill left behind is gone on with. A failure is written down, not raised.

        Returns:
            How it ended; `busy` where another process holds the cell.

        Raises:
            KeyboardInterrupt: it was stopped; its state is saved.
            RunFolderError: it was begun with another recipe.
            StorageError: the folder cannot be written, or the disk is full.
        """
        run = self.run(cell)
        try:
            with self._one_at_a_time, sole_owner(run.path):
                outcome = self._known(cell, run) or self._train(cell, run)
                with self.alone():
                    store_pictures(self.folder, self.index)  # the report wants them, no training
                self._explain(run)
                return outcome
        except InUseError as error:
            if not run.failed.is_file():  # whoever trains it has removed an earlier one
                self._found_busy.add(cell)
            return Outcome(run, busy=error.owner)

    def command(self, cell: Cell) -> list[str]:
        """The command that trains and scores the cell in a process of its own.

        It is to run in the current folder, here or on a machine that sees the same files. It ends
        with 0 when the cell is done; `outcome` then knows.
        """
        words = [sys.executable, "-m", "podium", "run", str(self.folder.spec.resolve())]
        words += ["--runs", str(self.folder.path.parent.resolve()), "--only", str(cell)]
        words += ["--no-audit"]  # it is done
        for name, field in Machine.model_fields.items():
            value, flag = getattr(self.machine, name), f"--{name.replace('_', '-')}"
            if name in ("executor", "trackers") or value == field.default:
                continue
            words += [flag] if value is True else [flag, str(value)]
        for name in self.machine.trackers:
            words += ["--tracker", name]
        for module, folder in allowed().items():
            words += ["--import", str(Path(folder, module))]
        return words

    def outcome(self, cell: Cell) -> Outcome:
        """How a cell ended that another process has trained, from its folder."""
        run = self.run(cell)
        if run.is_done():
            return Outcome(run)
        told = f"{cell} was not trained to its end, and left no reason. See what its process said."
        return failed_before(run) or Outcome(run, error=told)

    def revisit(self, cell: Cell) -> None:
        """Make what a kill left out of a finished cell, and remove what it left behind.

        Call it when the study's pictures are stored: heat maps are made of those.
        """
        run = self.run(cell)
        with sole_owner(run.path, wait=lambda _: None):  # until its pictures are there
            remove_temporaries(run.path)
            self._explain(run)

    def _explain(self, run: RunFolder) -> None:
        """Where a finished run looked, for the report: made where it is missing."""
        if run.is_done() and not run.explanations.is_file():
            from podium.study.explain import explain_runs

            explain_runs(self.folder, [run], self.index.reader, self.machine, self.notify)

    def _known(self, cell: Cell, run: RunFolder) -> Outcome | None:
        """The outcome that is there, perhaps of another process; None where there is work to do."""
        remove_temporaries(run.path)
        if run.is_done():
            return Outcome(run, skipped=True)
        return failed_before(run) if cell in self._found_busy else None

    def _train(self, cell: Cell, run: RunFolder) -> Outcome:
        epochs, cost = self.spec.contenders[run.contender].most_epochs, self.millions(cell)
        who: Any = {"contender": run.contender, "seed": run.seed}
        self.notify(RunStarted(cell.title, epochs, cost, **who))
        recipe = self._begin(run)
        try:
            from podium.study.contender import Assignment, train_and_score

            wanted = self.spec.contenders[run.contender].model
            given = Assignment(run, self.index, recipe, wanted, self.machine, self.spec.metric)
            with contextlib.ExitStack() as signals:
                stop = self.stop or signals.enter_context(stop_on_signals())
                closing = train_and_score(given, self.notify, stop)
        except StorageError:
            raise  # the next run would fail in the same way, and no note of it can be written
        except Exception as error:
            return record_failure(run, error, cell.title, self.notify)
        self.notify(RunDone(cell.title, closing, **who))
        return Outcome(run)

    def _begin(self, run: RunFolder) -> RunSpec:
        """Write down what is trained; another process may have begun other seeds meanwhile."""
        wanted = self.spec.contenders[run.contender]
        with self.alone():
            refuse_another_recipe(self.spec, run, self.code[run.contender])
            used = model_used(self.folder, self.spec, run.contender, asking=run)
            recipe = stand_in(wanted, used or self.recipes[run.contender].model)
            run.failed.unlink(missing_ok=True)
            values = {
                "contender": run.contender,
                "seed": run.seed,
                "model_used": recipe.model,
                "metric": self.spec.metric,
                "recipe": wanted.model_dump(mode="json"),
            }
            if code := self.code[run.contender]:
                values["code"] = code
            write_text(run.config, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        return recipe

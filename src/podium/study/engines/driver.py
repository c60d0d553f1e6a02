"""Drives the cells of a study in processes of their own, whatever starts the processes.

An engine starts and ends processes, and knows nothing of studies. The driver decides what to
start, shows what the cells do, begins a cell again if its process was lost, and stops them all.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from podium.config.machine import Machine
from podium.runs.folder import RunFolder, StudyFolder
from podium.runtime.attempt import ask_to_stop, begin
from podium.runtime.event_log import EventReader
from podium.runtime.events import (
    Message,
    RunFailed,
    StopRequest,
    WarningMessage,
    stop_on_signals,
)
from podium.runtime.files import utc_now
from podium.runtime.lock import owner_of
from podium.runtime.parts import Parts
from podium.runtime.threads import GRANTED
from podium.study.cells import Cell
from podium.study.engines.files import CellFiles
from podium.study.outcome import Outcome
from podium.study.work import Work

MOST_LOSSES = 3  # in a row, without a saved state between them
SAVING = 60.0  # seconds for all cells to save their state after a Ctrl-C
_ASK_EVERY = 0.2  # seconds between two looks at the processes


@dataclass(frozen=True)
class Task:
    """A process to start: one attempt at a cell."""

    cell: Cell
    attempt: int
    """Number of the attempt."""
    command: Sequence[str]
    """Its first word is this Python, which on another machine may lie elsewhere."""
    folder: Path
    """The current folder of the process."""
    environment: Mapping[str, str]
    """Variables that are added to those of the machine that it runs on."""
    output: Path
    """The file that takes what the process prints."""
    avoid: frozenset[str]
    """Nodes on which an earlier attempt was lost: to be used only if there is no other."""


class Engine(Protocol):
    """Starts processes somewhere. A handle is what it makes of a task: anything hashable."""

    capacity: int
    """Number of processes that it takes at a time; further ones wait with the driver."""

    def start(self, tasks: Sequence[Task]) -> Sequence[Any]:
        """Start processes, or queue them.

        Args:
            tasks: at most as many as there is capacity for.

        Returns:
            A handle of each.
        """
        ...

    def ended(self, running: Mapping[Any, str]) -> Mapping[Any, str]:
        """The processes that have ended or are out of reach, each with what is known of how.

        Args:
            running: the handle of each process that is not known to have ended -> the node that it
                reported from; empty string: it has not reported yet.
        """
        ...

    def kill(self, handles: Sequence[Any]) -> None:
        """End processes at once, or take them out of the queue.

        Args:
            handles: of the processes.
        """
        ...


class ProcessExecutor:
    """An executor that trains each cell in a process of its own; a subclass has the engine."""

    def open(
        self, work: Work, cells: Sequence[Cell]
    ) -> contextlib.AbstractContextManager[tuple[Engine, Machine]]:
        """The engine, as long as it is needed, and the settings of the cells' processes.

        Args:
            work: the study and the settings of the machine.
            cells: what is going to be trained.

        Raises:
            ConfigError: the engine cannot be used, or has nothing of what a cell needs.
        """
        raise NotImplementedError

    def parts(self, machine: Machine) -> contextlib.AbstractContextManager[Parts | None]:
        """What computes parts of work that all cells share, as long as it is needed.

        Args:
            machine: settings of the machine.

        Returns:
            None where this process should compute them.
        """
        return contextlib.nullcontext()

    def map(self, cells: Sequence[Cell], work: Work) -> Iterator[Outcome]:
        """Train the cells, the longest first, several at a time."""
        free = []
        for cell in cells:
            if owner := owner_of(work.run(cell).path):
                yield Outcome(work.run(cell), busy=owner)
            else:
                free.append(cell)
        if not free:
            return
        with contextlib.ExitStack() as stack:
            engine, machine = stack.enter_context(self.open(work, free))
            machine = machine.model_copy(update={"trackers": (), "tensorboard": False})
            stop = work.stop or stack.enter_context(stop_on_signals())
            driver = _Driver(engine, machine, work, stop)
            stack.callback(driver.stop_all)
            yield from driver.run(sorted(free, key=lambda cell: -cell.cost))


@dataclass
class _Attempt:
    """A process that was handed to the engine."""

    cell: Cell
    number: int
    files: CellFiles
    reader: EventReader
    saved: int | None
    """Modification time of the saved state at the start, ns; None: there was none."""
    since: float
    """When it was handed over, then when it began."""
    node: str = ""
    """Where it reported to run; empty string: it has not, and may be queued."""


class _Driver:
    def __init__(self, engine: Engine, machine: Machine, work: Work, stop: StopRequest) -> None:
        self.engine, self.machine, self.work, self.stop = engine, machine, work, stop
        self.running: dict[Any, _Attempt] = {}
        self.losses: dict[Cell, int] = {}
        self.avoid: dict[Cell, frozenset[str]] = {}

    def run(self, waiting: list[Cell]) -> Iterator[Outcome]:
        """Train cells until each has an outcome.

        Args:
            waiting: the cells, in the order in which they are begun.
        """
        while waiting or self.running:
            if self.stop.is_set():
                raise KeyboardInterrupt
            room = max(0, self.engine.capacity - len(self.running))
            self._start(waiting[:room])
            waiting = waiting[room:]
            self._relay(self.running.values())
            for handle, how in self.engine.ended(self._nodes()).items():
                attempt = self.running.pop(handle)
                self._relay([attempt])
                outcome = self._outcome(attempt) or self._lost(attempt, how)
                if outcome is None:
                    waiting.append(attempt.cell)
                else:
                    yield outcome
            time.sleep(_ASK_EVERY)

    def _nodes(self) -> dict[Any, str]:
        return {handle: one.node for handle, one in self.running.items()}

    def _start(self, cells: Sequence[Cell]) -> None:
        attempts = [self._begin(cell) for cell in cells]
        if attempts:
            handles = self.engine.start([self._task(one) for one in attempts])
            self.running |= dict(zip(handles, attempts, strict=True))

    def _begin(self, cell: Cell) -> _Attempt:
        files = CellFiles.of(self.work.folder, cell)
        number = begin(files.attempts)
        files.remove()
        reader, saved = EventReader(files.events(number)), _modified(self.work.run(cell))
        return _Attempt(cell, number, files, reader, saved, time.monotonic())

    def _task(self, attempt: _Attempt) -> Task:
        command = self.work.command(attempt.cell, self.machine)
        cores = str(self.machine.cpus)
        return Task(
            attempt.cell,
            attempt.number,
            [*command, "--attempt", str(attempt.number)],
            Path.cwd(),
            {GRANTED: cores, "OMP_NUM_THREADS": cores, "PYTHONUNBUFFERED": "1"},
            attempt.files.output(attempt.number).resolve(),
            self.avoid.get(attempt.cell, frozenset()),
        )

    def _relay(self, attempts: Iterable[_Attempt]) -> None:
        """Pass on what cells report."""
        for one in attempts:
            if not one.node and (place := one.files.read_place(one.number)):
                one.node, one.since = str(place["node"]), time.monotonic()
                where = f"{place['host']}"
                if one.node != place["host"]:
                    where += f" (node {one.node[:12]})"
                self._log(one, f"started as process {place['pid']} on {where}")
            for event in one.reader.new():
                self.work.notify(event)

    def _outcome(self, attempt: _Attempt) -> Outcome | None:
        """How a cell ended; None: its process was lost."""
        run = self.work.run(attempt.cell)
        found = attempt.files.read_outcome(attempt.number, run)
        if run.is_done() and (found is None or not found.skipped):
            found = Outcome(run)  # killed after that, perhaps: there is nothing left to do
        if found is None:
            return None
        if found.busy:
            self._log(attempt, f"left to {found.busy}")
        elif found.error:
            self._log(attempt, f"failed: {found.error.splitlines()[0]}")
        else:
            self._log(attempt, f"done after {time.monotonic() - attempt.since:.0f} s")
            attempt.files.remove()
        return found

    def _lost(self, attempt: _Attempt, how: str) -> Outcome | None:
        """The outcome of a cell that was lost too often; None: it is begun again."""
        cell, run = attempt.cell, self.work.run(attempt.cell)
        words = attempt.files.last_words(attempt.number)
        why = "; ".join(text for text in (how, words) if text) or "no reason is known"
        self._log(attempt, f"lost: {why}")
        went_on = _modified(run) != attempt.saved
        self.losses[cell] = 1 if went_on else self.losses.get(cell, 0) + 1
        if self.losses[cell] < MOST_LOSSES:
            if attempt.node:
                self.avoid[cell] = self.avoid.get(cell, frozenset()) | {attempt.node}
            text = f"{cell}: its process was lost ({why}). It is begun again from its saved state"
            self.work.notify(WarningMessage(text))
            return None
        message = (
            f"Its process was lost {MOST_LOSSES} times, at last: {why}. What it printed is in "
            f"{attempt.files.output(attempt.number)}."
        )
        who: Any = {"contender": run.contender, "seed": run.seed, "fold": run.fold}
        self.work.notify(RunFailed(cell.title, message, **who))
        return Outcome(run, error=message)

    def stop_all(self) -> None:
        """Have every process save its state and end; kill those that do not."""
        if not self.running:
            return
        self.work.notify(Message(f"saves the state of {len(self.running)} cells and ends them"))
        for one in self.running.values():
            ask_to_stop(one.files.attempts)
        self.engine.kill([handle for handle, one in self.running.items() if not one.node])
        until = time.monotonic() + SAVING
        while self.running and time.monotonic() < until:
            for handle in self.engine.ended(self._nodes()):
                one = self.running.pop(handle)
                self._log(one, "stopped; its state is saved" if one.node else "not begun")
            time.sleep(_ASK_EVERY)
        for one in self.running.values():
            self._log(one, f"killed: it had not ended after {SAVING:.0f} s")
        self.engine.kill([*self.running])

    def _log(self, attempt: _Attempt, text: str) -> None:
        """Append a line to `cells.log` in the study's folder."""
        line = f"{utc_now()} {attempt.cell} attempt {attempt.number}: {text}\n"
        with open(log_of(self.work.folder), "a", encoding="utf-8") as file:
            file.write(line)


def log_of(folder: StudyFolder) -> Path:
    """The file that says when and where each cell was begun, and how it ended.

    Args:
        folder: the study's folder.
    """
    return folder.path / "cells.log"


def _modified(run: RunFolder) -> int | None:
    """When a run's state was last saved, ns; None: never."""
    try:
        return run.last.stat().st_mtime_ns
    except OSError:
        return None

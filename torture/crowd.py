"""A thousand cells: the driver must not slow down, grow, or flood its display.

The cells are simulated: processes of a second that leave what a cell leaves, and train nothing.
All else is real: the driver, the processes and the files between them, the display.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psutil
from rich.console import Console

from podium.cli.progress import StudyProgress
from podium.config.machine import Machine
from podium.runs.folder import HISTORY_COLUMNS, RunFolder, StudyFolder
from podium.runtime.event_log import EventWriter
from podium.runtime.events import EpochDone, EpochStarted, Event, RunDone, RunStarted, StudyStarted
from podium.study.cells import Cell
from podium.study.engines.driver import Engine, ProcessExecutor, log_of
from podium.study.engines.local import Processes
from podium.study.work import Work

__all__ = ["CrowdResult", "torture_crowd"]

_EPOCHS = 3
_ROWS = 40  # of the terminal
_NAME, _SEED = "contender-to-be", 987_654_321
_CELL = f"""
import json, os, sys, time
events, files, contender, seed, attempt = *sys.argv[1:5], sys.argv[-1]
with open(f"{{files}}/place-{{attempt}}.json", "w") as file:
    json.dump({{"host": "here", "node": "here", "pid": os.getpid()}}, file)
lines = open(events).read().replace({_NAME!r}, contender).replace({str(_SEED)!r}, seed)
for line in lines.splitlines(keepends=True):
    with open(f"{{files}}/events-{{attempt}}.jsonl", "a") as file:
        file.write(line)
    time.sleep({1 / (2 + 2 * _EPOCHS)})
with open(f"{{files}}/outcome-{{attempt}}.json", "w") as file:
    json.dump({{"skipped": False, "error": "", "busy": ""}}, file)
"""


@dataclass
class CrowdResult:
    """What the driver needed."""

    cells: int
    at_a_time: int
    done: int
    seconds: float
    cpu_seconds: float
    """Of the driver's process, display included."""
    early_mib: float
    """Memory of the driver's process once a tenth of the cells was done."""
    end_mib: float
    bars: int
    """Most progress bars at a time, on a terminal of 40 lines."""
    lines: float
    """Printed for each cell where there is no terminal."""

    @property
    def sound(self) -> bool:
        """Whether all cells ended, memory stayed flat, and the display stayed readable."""
        flat = self.end_mib - self.early_mib < 32
        fewer = self.lines < 2 + _EPOCHS  # than of cells in turn
        return self.done == self.cells and flat and self.bars < _ROWS and fewer


class _Stage:
    """Stands in for `Work`: it has a folder and displays, and no images."""

    stop = None

    def __init__(self, folder: StudyFolder, template: Path, notify: Any) -> None:
        self.folder, self.template, self.notify = folder, template, notify
        self.machine = Machine(cpus=1, gpus=0)

    def run(self, cell: Cell) -> RunFolder:
        """The folder of a cell."""
        return self.folder.run(cell.contender, cell.seed)

    def command(self, cell: Cell, machine: Machine) -> list[str]:
        """Words that start a simulated cell."""
        files = self.folder.processes / str(cell)
        given = [str(self.template), str(files), cell.contender, str(cell.seed)]
        return [sys.executable, "-S", "-c", _CELL, *given]


class _Crowd(ProcessExecutor):
    """Starts processes as `--on local` does, on a machine with more cores."""

    def __init__(self, cores: int) -> None:
        self.cores = cores

    @contextlib.contextmanager
    def open(self, work: Work, cells: Sequence[Cell]) -> Iterator[tuple[Engine, Machine]]:
        yield Processes(work.machine, self.cores, ()), work.machine


def torture_crowd(place: Path, count: int = 1_000, at_a_time: int = 30) -> CrowdResult:
    """Drive simulated cells.

    Args:
        place: an empty folder.
        count: number of cells.
        at_a_time: number of processes at a time.

    Returns:
        what the driver needed.
    """
    template = place / "events.jsonl"
    write, who = EventWriter(template), {"contender": _NAME, "seed": _SEED}
    for event in _story(who):
        write(event)
    process, bars, log = psutil.Process(), 0, io.StringIO()
    with (
        open(place / "screen", "w", encoding="utf-8") as file,
        StudyProgress(Console(file=file, force_terminal=True, width=100, height=_ROWS)) as shown,
        StudyProgress(Console(file=log, width=100)) as logged,
    ):

        def notify(event: Event) -> None:
            nonlocal bars
            shown.notify(event)
            logged.notify(event)
            bars = max(bars, len(shown.tasks))

        stage = _Stage(StudyFolder(place / "study"), template, notify)
        stage.folder.path.mkdir()
        half = -(-count // 2)
        cells = [Cell(f"model-{n // half}", n % half, f"Model, seed {n}", 1) for n in range(count)]
        notify(StudyStarted(count, count))
        began, used, early, done = time.monotonic(), sum(process.cpu_times()[:2]), 0.0, 0
        for outcome in _Crowd(at_a_time).map(cells, cast(Work, stage)):
            done += not outcome.error
            if done == count // 10:
                early = _mib(process)
        seconds, end = time.monotonic() - began, _mib(process)
    assert log_of(stage.folder).read_text().count(" done after ") == done
    lines = len(log.getvalue().splitlines()) / count
    cpu = sum(process.cpu_times()[:2]) - used
    return CrowdResult(count, at_a_time, done, seconds, cpu, early, end, bars, lines)


def _story(who: Any) -> Iterator[Event]:
    """The events of a cell."""
    yield RunStarted("Model", _EPOCHS, 1, **who)
    for epoch in range(1, _EPOCHS + 1):
        yield EpochStarted(epoch, 0, 10, **who)
        yield EpochDone(_EPOCHS, dict.fromkeys(HISTORY_COLUMNS, 0.5) | {"epoch": epoch}, **who)
    scores = {"valid_accuracy": 0.5, "test_accuracy": 0.5}
    yield RunDone("Model", scores, **who)


def _mib(process: psutil.Process) -> float:
    return float(process.memory_info().rss / 2**20)

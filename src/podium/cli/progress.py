"""A study's progress on the terminal: study, run and epoch, each with its remaining time."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress as Bars,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from podium.runs.folder import HISTORY_COLUMNS
from podium.runtime.events import (
    AuditProgress,
    BatchDone,
    CacheProgress,
    EpochDone,
    EpochStarted,
    EvaluateProgress,
    Event,
    IndexProgress,
    Message,
    Progress,
    RunDone,
    RunEvent,
    RunFailed,
    RunStarted,
    StudyStarted,
    WarningMessage,
)
from podium.runtime.threads import OtherPrograms, usable_cores

LOOK_EVERY = 10.0  # seconds between two measurements of other programs' load
MANY = 4  # runs at a time; if there are more, neither their steps nor their epochs are shown
BUSY = 0.2  # share of the cores in use by other programs from which on it is reported


@dataclass
class _Shown:
    """A run in progress, as it is displayed."""

    title: str
    epochs: int
    cost: float
    epoch: int = 1
    part: float = 0.0
    """Finished share of its epochs, 0 to 1."""


class StudyProgress:
    """A context manager whose `notify` takes a study's events; events of runs may be interleaved.

    On a terminal it shows progress bars; elsewhere (a log, CI) it prints one line per epoch. Of
    many runs at a time it shows as many bars as there is room for, and prints one line per run.

    Args:
        console: where to print.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            speed_estimate_period=600,
            expand=True,
        )
        self.tasks: dict[str, TaskID] = {}
        self.runs: dict[tuple[Any, ...], _Shown] = {}
        self.total = self.spent = 0.0
        self.side_by_side = False  # whether several runs have been in progress at a time
        self.planned = self.begun = 0  # runs of the study, and how many of them have begun
        self.others, self.looked, self.busy = OtherPrograms(), time.monotonic(), ""
        self.busy_told = False  # after the epoch before

    def __enter__(self) -> StudyProgress:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def notify(self, event: Event) -> None:
        """Show one event."""
        match event:
            case WarningMessage() | RunFailed():
                self._warn(event.text)
            case Message(text) if not (self._is_crowded() and event.contender):
                self._tell(f"  [dim]{escape(text)}[/dim]")
            case EvaluateProgress(what) if not self._is_crowded():
                self._set(self._bar("batch", event), f"Predicting {what}", event.done, event.total)
            case Progress() if not (self._is_crowded() and event.contender):
                self._step(event)
            case StudyStarted():
                self.total, self.planned = event.cost, event.runs
                self.spent, self.begun = 0.0, 0
                if event.cost:
                    self._set("study", "Study", 0, 100, "%")
            case RunStarted():
                self._run_started(event)
        if isinstance(event, RunEvent) and (run := self.runs.get(event.cell)):
            self._of_run(event, run)

    def _set(self, name: str, description: str, done: float, total: float, note: str = "") -> None:
        values = {"completed": done, "total": total, "description": description, "note": note}
        if name in self.tasks:
            self.bars.update(self.tasks[name], **values)  # type: ignore[arg-type]
        else:
            self.tasks[name] = self.bars.add_task(**values)  # type: ignore[arg-type]

    def _forget(self, *names: str) -> None:
        for name in names:
            if name in self.tasks:
                self.bars.remove_task(self.tasks.pop(name))

    def _bar(self, name: str, event: Event) -> str:
        """The name of a progress bar of the event's run."""
        return f"{name} {event.cell}"

    def _title(self, run: _Shown, text: str) -> str:
        """A text of a run, with its title if several are in progress."""
        return f"{escape(run.title)}: {text}" if self.side_by_side else text

    def _is_crowded(self) -> bool:
        return len(self.runs) > MANY

    def _has_room(self) -> bool:
        """Whether one more bar fits below what is printed."""
        return len(self.tasks) < max(MANY, self.console.height - 4)

    def _warn(self, text: str) -> None:
        self._tell(f"[yellow]![/yellow] {escape(text)}")

    def _tell(self, text: str) -> None:
        """Print markup: wrapped between words on a terminal, one line in a log."""
        wide = not self.console.is_terminal
        self.console.print(text, highlight=False, soft_wrap=wide)

    def _step(self, event: Progress) -> None:
        match event:
            case IndexProgress():
                name, text = "index", "Checking images"
            case AuditProgress(what):
                name, text = "audit", f"Audit: {what}"
            case CacheProgress(what):
                name, text = self._bar("cache", event), f"Decoding images, {what}"
            case _:
                name, text = event.what, event.what.capitalize()
        self._set(name, text, event.done, event.total)
        if event.done >= event.total:
            self._forget(name)

    def _run_started(self, event: RunStarted) -> None:
        again = event.cell in self.runs  # its process was lost
        self.begun += not again
        self.runs[event.cell] = _Shown(event.title, event.epochs, event.cost)
        self.side_by_side |= len(self.runs) > 1
        if not self._is_crowded():
            counted = self.planned > 1 and not again
            place = f"  [dim]{self.begun} of {self.planned}[/dim]" if counted else ""
            self._tell(f"[bold]{escape(event.title)}[/bold]{place}")
        self._forget(self._bar("run", event), self._bar("batch", event))
        if event.epochs and self._has_room():
            title = self._title(self.runs[event.cell], "Epochs")
            self._set(self._bar("run", event), title, 0, event.epochs)

    def _of_run(self, event: RunEvent, run: _Shown) -> None:
        bar, steps = self._bar("run", event), self._bar("batch", event)
        match event:
            case EpochStarted(epoch):
                run.epoch = epoch
                self._forget(steps)
                if bar in self.tasks or self._has_room():
                    self._set(bar, self._title(run, "Epochs"), epoch - 1, run.epochs)
                if not self._is_crowded():
                    self._set(steps, self._title(run, f"Epoch {epoch}"), event.step, event.steps)
            case BatchDone(epoch, step):
                self._look_at_others()
                note = f"loss {event.loss:.3f}"
                note += f"  [yellow]{self.busy}[/yellow]" if self.busy else ""
                if steps in self.tasks:
                    self._set(steps, self._title(run, f"Epoch {epoch}"), step, event.steps, note)
                run.part = (epoch - 1 + step / event.steps) / run.epochs
                self._set_study()
            case EpochDone():
                run.part = event.row["epoch"] / event.epochs
                if bar in self.tasks:
                    self._set(bar, self._title(run, "Epochs"), event.row["epoch"], event.epochs)
                if not self._is_crowded():
                    self._tell_epoch(event, run)
            case RunDone():
                scores, folds = event.scores, event.folds
                what = "best epoch" if run.epochs else "mean of its members"
                what = what if folds is None else f"all {folds} folds together"
                shares = [
                    f"{split} {100 * scores[key]:.1f} %"
                    for split in ("valid", "test")
                    if (key := f"{split}_accuracy") in scores
                ]
                text = f"{what}: {', '.join(shares) or 'none'}  {_metric_words(scores)}"
                self._tell(f"  {self._title(run, text.rstrip())}")
        if isinstance(event, RunDone | RunFailed):
            self._forget(bar, steps)
            self.spent += run.cost
            del self.runs[event.cell]
            self._set_study()

    def _set_study(self) -> None:
        if "study" in self.tasks:
            spent = self.spent + sum(run.cost * run.part for run in self.runs.values())
            self._set("study", "Study", round(100 * spent / max(self.total, 1), 1), 100, "%")

    def _look_at_others(self) -> None:
        """Note when other programs use the cores, which explains slow training."""
        if time.monotonic() - self.looked < LOOK_EVERY:
            return
        taken, cores = self.others.cores(), usable_cores()
        self.looked = time.monotonic()
        busy = taken >= BUSY * cores
        self.busy = f"machine busy: others use {taken:.1f} of {cores} cores" if busy else ""

    def _tell_epoch(self, event: EpochDone, run: _Shown) -> None:
        row, speed = event.row, f"  {event.row['images_per_second']:.0f} img/s"
        rate = f"lr {row['lr']:.0e}  " if row["lr"] else ""  # a linear probe has none
        rest = f"loss {row['train_loss']:.3f}  train {100 * row['train_accuracy']:5.1f} %  "
        if not math.isnan(row["valid_accuracy"]):  # a training on all images validates on none
            rest += f"valid {100 * row['valid_accuracy']:5.1f} %  {_metric_words(row)}"
        rest += f"{row['seconds']:.1f} s"
        head = f"epoch {row['epoch']:>{len(str(event.epochs))}.0f}/{event.epochs}  "
        # on a narrow terminal, what the history has as well gives way
        texts = [f"  {self._title(run, head + one)}" for one in (rate + rest + speed, rate + rest)]
        room = self.console.width if self.console.is_terminal else math.inf
        shortest = f"  {self._title(run, head + rest)}"
        self._tell(next((text for text in texts if len(text) <= room), shortest))
        if self.busy and not self.busy_told:
            self._tell(f"  [yellow]({self.busy})[/yellow]")
        self.busy_told = bool(self.busy)


def _metric_words(row: Mapping[str, float]) -> str:
    """The study's metric for an epoch or a whole run, unless it is accuracy."""
    known = {*HISTORY_COLUMNS, "test_accuracy"}
    found = [
        f"{key.removeprefix('valid_')} {value:.4g}"
        if key.startswith("valid_")
        else f"(test {value:.4g})"
        for key, value in row.items()
        if key not in known and key.startswith(("valid_", "test_"))
    ]
    return f"{' '.join(found)}  " if found else ""

"""A study's progress on the terminal: study, run and epoch, each with its time left."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from podium.runs.folder import HISTORY_COLUMNS
from podium.runtime.events import Event
from podium.runtime.threads import OtherPrograms, usable_cores

__all__ = ["StudyProgress"]


LOOK_EVERY = 10.0  # seconds between two looks at what else the machine does
BUSY = 0.2  # share of the cores that other programs use, from which on that is said


class StudyProgress:
    """A context manager whose `notify` takes a study's events.

    On a terminal three bars move; elsewhere (a log, CI) there is one line an epoch.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
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
        self.title = ""
        self.epochs = self.epoch = 0
        self.cost = self.spent = 0.0
        self.others, self.looked, self.busy = OtherPrograms(), time.monotonic(), ""

    def __enter__(self) -> StudyProgress:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def notify(self, event: Event) -> None:
        """Show one event."""
        handler = getattr(self, f"_{event.kind}", None)
        if handler is not None:
            handler(event)

    def _set(self, name: str, description: str, done: float, total: float, note: str = "") -> None:
        values = {"completed": done, "total": total, "description": description, "note": note}
        if name in self.tasks:
            self.progress.update(self.tasks[name], **values)  # type: ignore[arg-type]
        else:
            self.tasks[name] = self.progress.add_task(**values)  # type: ignore[arg-type]

    def _forget(self, *names: str) -> None:
        for name in names:
            if name in self.tasks:
                self.progress.remove_task(self.tasks.pop(name))

    def _index(self, event: Event) -> None:
        self._set("index", "Checking images", event.step, event.total)
        if event.step >= event.total:
            self._forget("index")

    def _audit(self, event: Event) -> None:
        self._set("audit", f"Audit: {event.text}", event.step, event.total)
        if event.step >= event.total:
            self._forget("audit")

    def _cache(self, event: Event) -> None:
        self._set("cache", f"Decoding images, {event.text}", event.step, event.total)
        if event.step >= event.total:
            self._forget("cache")

    def _study(self, event: Event) -> None:
        self.total = event.total
        if event.total:
            self._set("study", "Study", 0, 100, "%")

    def _run(self, event: Event) -> None:
        self.spent += self.cost
        self.cost = event.row["cost"]
        self.title, self.epochs, self.epoch = event.text, event.total, 1
        self.console.print(f"[bold]{escape(event.text)}[/bold]")
        self._forget("run", "batch")
        self._set("run", "Epochs", 0, event.total)

    def _start(self, event: Event) -> None:
        self.epoch = int(event.row["epoch"])
        self._forget("batch")
        self._set("run", "Epochs", self.epoch - 1, self.epochs)
        self._set("batch", f"Epoch {self.epoch}", event.step, event.total)

    def _look_at_others(self) -> None:
        """Note it where other programs take the cores: a slow training is then explained."""
        if time.monotonic() - self.looked < LOOK_EVERY:
            return
        taken, cores = self.others.cores(), usable_cores()
        self.looked = time.monotonic()
        busy = taken >= BUSY * cores
        self.busy = f"machine busy: others use {taken:.1f} of {cores} cores" if busy else ""

    def _batch(self, event: Event) -> None:
        self._look_at_others()
        note = f"loss {event.loss:.3f}" + (f"  [yellow]{self.busy}[/yellow]" if self.busy else "")
        self._set("batch", f"Epoch {self.epoch}", event.step, event.total, note)
        part = (self.epoch - 1 + event.step / event.total) / self.epochs
        if "study" in self.tasks:
            done = 100 * (self.spent + self.cost * part) / max(self.total, 1)
            self._set("study", "Study", round(done, 1), 100, "%")

    def _epoch(self, event: Event) -> None:
        row = event.row
        self._set("run", "Epochs", row["epoch"], event.total)
        self.console.print(
            f"  epoch {row['epoch']:>3.0f}/{event.total}  lr {row['lr']:.0e}  "
            f"loss {row['train_loss']:.3f}  train {100 * row['train_accuracy']:5.1f} %  "
            f"valid {100 * row['valid_accuracy']:5.1f} %  {_metric_words(row)}"
            f"{row['seconds']:.1f} s  {row['images_per_second']:.0f} img/s"
            + (f"  [yellow]({self.busy})[/yellow]" if self.busy else ""),
            highlight=False,
            soft_wrap=True,
        )

    def _evaluate(self, event: Event) -> None:
        self._set("batch", f"Predicting {event.text}", event.step, event.total)

    def _done(self, event: Event) -> None:
        self.console.print(
            f"  best epoch: valid {100 * event.row['valid_accuracy']:.1f} %, "
            f"test {100 * event.row['test_accuracy']:.1f} %  {_metric_words(event.row)}".rstrip(),
            highlight=False,
        )
        self._forget("run", "batch")

    def _message(self, event: Event) -> None:
        self.console.print(f"  {escape(event.text)}", style="dim", highlight=False, soft_wrap=True)

    def _warning(self, event: Event) -> None:
        self.console.print(
            f"[yellow]![/yellow] {escape(event.text)}", highlight=False, soft_wrap=True
        )


def _metric_words(row: Mapping[str, float]) -> str:
    """The study's metric, where it is not accuracy, of an epoch or of a whole run."""
    known = {*HISTORY_COLUMNS, "test_accuracy"}
    found = [
        f"{key.removeprefix('valid_')} {value:.4g}" if key.startswith("valid_")
        else f"(test {value:.4g})"
        for key, value in row.items()
        if key not in known and key.startswith(("valid_", "test_"))
    ]  # fmt: skip
    return f"{' '.join(found)}  " if found else ""

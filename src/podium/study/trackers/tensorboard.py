"""TensorBoard event files beside the history, to follow several runs at once."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from podium.config.registry import TRACKERS
from podium.errors import ConfigError
from podium.runtime.events import EpochDone, Event, RunDone, RunFailed, TrainingStarted
from podium.study.trackers.tracker import StudyInfo


class TensorBoardTracker:
    """Writes each row of a run's history as scalars to `tensorboard/` in the run's folder.

    Raises:
        ConfigError: the package tensorboard is not installed.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise ConfigError(
                "--tracker tensorboard needs the package tensorboard: "
                "pip install 'podium[tensorboard]'."
            )
        self.writers: dict[tuple[Any, ...], Any] = {}  # by cell

    def start(self, study: StudyInfo) -> None:
        self.study = study

    def notify(self, event: Event) -> None:
        if isinstance(event, TrainingStarted):
            self._open(event)
        elif isinstance(event, EpochDone):
            self._write(self.writers[event.cell], event.row)
        elif isinstance(event, RunDone | RunFailed):
            self._close(event.cell)

    def close(self) -> None:
        for cell in list(self.writers):
            self._close(cell)

    def _open(self, event: TrainingStarted) -> None:
        """Open a run's event files at its saved state, wherever a kill may have left them.

        Rows of epochs that are trained again are hidden, and the last row is written again: a
        kill may have come between the state and the event file. If there are no event files, all
        epochs are written.
        """
        from torch.utils.tensorboard import SummaryWriter

        self._close(event.cell)
        folder = self.study.run(event).path / "tensorboard"
        known = _wait_for_a_later_name(folder)
        again = event.rows[-1:] if known else event.rows
        first = len(event.rows) - len(again) + 1
        make: Any = SummaryWriter
        writer = make(str(folder), purge_step=first if known else None)
        self.writers[event.cell] = writer
        for row in again:
            self._write(writer, row)

    def _close(self, cell: tuple[Any, ...]) -> None:
        writer = self.writers.pop(cell, None)
        if writer is not None:
            writer.close()

    def _write(self, writer: Any, row: Mapping[str, float]) -> None:
        """Write one row; it is on disk on return."""
        for column, value in row.items():
            if column != "epoch":
                kind, _, what = column.partition("_")
                tag = f"{what}/{kind}" if kind in ("train", "valid") else column
                writer.add_scalar(tag, value, int(row["epoch"]))
        writer.flush()


def _wait_for_a_later_name(folder: Path) -> bool:
    """Whether there are event files; the next one's name sorts behind theirs on return.

    Readers take the files in the order of their names, `events.out.tfevents.<second>.<host>.<pid>`:
    of two of the same second, a later process's may come first and would hide nothing.
    """
    seconds = [path.name.split(".")[3] for path in folder.glob("events.out.tfevents.*")]
    if f"{int(time.time()):010d}" in seconds:
        time.sleep(1 - time.time() % 1)
    return bool(seconds)


TRACKERS.register("tensorboard", TensorBoardTracker)

"""The files by which the process of a cell and the one that drives the study know of each other.

They lie in `runs/STUDY/.cells/CONTENDER/seed-N[/fold-K]/`, apart from the run's own files: those
are the same whatever trained it.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podium.errors import RunFolderError
from podium.runs.folder import RunFolder, StudyFolder
from podium.runtime.files import read_json, write_json
from podium.study.cells import Cell
from podium.study.outcome import Outcome

NODE = "PODIUM_NODE"
"""Environment variable: what the cluster calls the machine that a cell runs on."""
START = "PODIUM_START"
"""Environment variable: how often a cluster has started this attempt before."""
PATIENCE = 30.0
"""Seconds for which the process of an earlier attempt may still save its state."""


@dataclass(frozen=True)
class CellFiles:
    """The files of one cell's attempts."""

    path: Path

    @classmethod
    def of(cls, folder: StudyFolder, cell: Cell) -> CellFiles:
        """Those of a cell of a study."""
        return cls(folder.processes / str(cell))

    @property
    def attempts(self) -> Path:
        """The number of the latest attempt; see `podium.runtime.attempt`."""
        return self.path / "attempt.json"

    def events(self, attempt: int) -> Path:
        """What a progress display shows; see `podium.runtime.event_log`."""
        return self.path / f"events-{attempt}.jsonl"

    def output(self, attempt: int) -> Path:
        """What the process printed."""
        return self.path / f"output-{attempt}.txt"

    def place(self, attempt: int) -> Path:
        """Where the process runs."""
        return self.path / f"place-{attempt}.json"

    def outcome(self, attempt: int) -> Path:
        """How the cell ended; absent where the process was killed."""
        return self.path / f"outcome-{attempt}.json"

    def write_place(self, attempt: int) -> None:
        """Record where this process runs."""
        host = socket.gethostname()
        node = os.environ.get(NODE, host)
        write_json(self.place(attempt), {"host": host, "node": node, "pid": os.getpid()})

    def read_place(self, attempt: int) -> dict[str, Any]:
        """`host`, `node` and `pid` of an attempt; empty: it never began."""
        try:
            return dict(read_json(self.place(attempt)))
        except (RunFolderError, TypeError, ValueError):
            return {}

    def write_outcome(self, attempt: int, outcome: Outcome) -> None:
        """Record how the cell ended."""
        write_json(
            self.outcome(attempt),
            {"skipped": outcome.skipped, "error": outcome.error, "busy": outcome.busy},
        )

    def read_outcome(self, attempt: int, run: RunFolder) -> Outcome | None:
        """How an attempt ended; None: its process was lost.

        Args:
            attempt: its number.
            run: the cell's folder.
        """
        try:
            values = read_json(self.outcome(attempt))
            return Outcome(run, bool(values["skipped"]), str(values["error"]), str(values["busy"]))
        except (RunFolderError, KeyError, TypeError):
            return None

    def last_words(self, attempt: int) -> str:
        """The last line that a process printed; empty string: none."""
        try:
            text = self.output(attempt).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""

    def remove(self) -> None:
        """Remove what attempts have told; their number, and who had leave to use the test images,
        stay: they forbid a process that was cut off to come back."""
        for path in self.path.iterdir() if self.path.is_dir() else ():
            kept = path == self.attempts or path.name.startswith("leave-")
            if path.is_file() and not kept:
                path.unlink(missing_ok=True)

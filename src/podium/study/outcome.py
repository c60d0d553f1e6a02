"""What became of a study's runs."""

from __future__ import annotations

from dataclasses import dataclass

from podium.runs.folder import (
    RunFolder,
    StudyFolder,
)


@dataclass(frozen=True)
class Outcome:
    """How one run ended. `error` is empty where it is done."""

    run: RunFolder
    skipped: bool = False
    error: str = ""


@dataclass(frozen=True)
class StudyResult:
    """What `Study.run` did."""

    folder: StudyFolder
    outcomes: tuple[Outcome, ...]

    @property
    def failed(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.error)

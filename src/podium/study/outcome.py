"""What became of a study's cells, and the record of one that failed."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from podium.errors import PodiumError, UnreadableImageError
from podium.runs.folder import RunFolder, StudyFolder
from podium.runtime.events import Notify, RunFailed
from podium.runtime.files import read_json, utc_now, write_json


@dataclass(frozen=True)
class Outcome:
    """How one cell ended: `error` and `busy` are empty where it is done."""

    run: RunFolder
    """The cell's folder."""
    skipped: bool = False
    """It was done already, or another process did it."""
    error: str = ""
    """Why it is not done."""
    busy: str = ""
    """Who trains it at this moment, such as `process 123 on host`; the study asks again later."""


@dataclass(frozen=True)
class StudyResult:
    """What `Study.run` did."""

    folder: StudyFolder
    outcomes: tuple[Outcome, ...]

    @property
    def failed(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.error)


def record_failure(run: RunFolder, error: Exception, title: str, notify: Notify) -> Outcome:
    """Write down why a run ended before its end (`failed.json`), and tell it.

    Args:
        run: its folder.
        error: what ended it.
        title: what to call it.
        notify: told.
    """
    message = str(error) or type(error).__name__
    if not isinstance(error, PodiumError):
        message = f"{type(error).__name__}: {message}"
    elif isinstance(error, UnreadableImageError):
        message += (
            ". Put the file back as it was and run the same command again, or give the study "
            "another name (--name) to leave it out"
        )
    trace = "".join(traceback.format_exception(error))
    write_json(
        run.failed,
        {
            "reason": type(error).__name__,
            "message": message,
            "at": utc_now(),
            "traceback": trace if not isinstance(error, PodiumError) else None,
        },
    )
    notify(RunFailed(title, message, contender=run.contender, seed=run.seed))
    return Outcome(run, error=message)


def failed_before(run: RunFolder) -> Outcome | None:
    """The outcome of a run whose last attempt failed, from its record; None where none did."""
    if not run.failed.is_file():
        return None
    return Outcome(run, error=str(read_json(run.failed)["message"]))

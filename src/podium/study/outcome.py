"""Outcomes of a study's cells, and the record of a failed one."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from podium.errors import PodiumError, UnreadableImageError
from podium.runs.folder import RunFolder, StudyFolder
from podium.runtime.events import Notify, RunFailed
from podium.runtime.files import read_json, utc_now, write_json


@dataclass(frozen=True)
class Outcome:
    """How one cell ended; `error` and `busy` are empty if it is done.

    Examples:
        >>> from pathlib import Path
        >>> import podium
        >>> run = podium.StudyFolder(Path("runs/mine")).run("small", 0)
        >>> podium.Outcome(run).error, podium.Outcome(run, busy="process 7 on host").busy
        ('', 'process 7 on host')
    """

    run: RunFolder
    """The cell's folder."""
    skipped: bool = False
    """Whether it was already done, or was done by another process."""
    error: str = ""
    """Why it is not done; empty string: no error."""
    busy: str = ""
    """The process that trains it now, such as `process 123 on host`; the study asks again
    later. Empty string: none."""


@dataclass(frozen=True)
class StudyResult:
    """What `Study.run` did.

    Examples:
        >>> from pathlib import Path
        >>> import podium
        >>> folder = podium.StudyFolder(Path("runs/mine"))
        >>> done = podium.Outcome(folder.run("small", 0))
        >>> failed = podium.Outcome(folder.run("large", 0), error="Memory ran out.")
        >>> result = podium.StudyResult(folder, (done, failed))
        >>> [outcome.error for outcome in result.failed]
        ['Memory ran out.']
    """

    folder: StudyFolder
    outcomes: tuple[Outcome, ...]

    @property
    def failed(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.error)


def record_failure(run: RunFolder, error: Exception, title: str, notify: Notify) -> Outcome:
    """Record why a run ended early (`failed.json`), and report it.

    Args:
        run: folder of the run.
        error: what ended it.
        title: display name of the run.
        notify: called with a `RunFailed` event.
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
    notify(RunFailed(title, message, contender=run.contender, seed=run.seed, fold=run.fold))
    return Outcome(run, error=message)


def failed_before(run: RunFolder) -> Outcome | None:
    """The recorded outcome of a run whose last attempt failed; None: it did not fail."""
    if not run.failed.is_file():
        return None
    return Outcome(run, error=str(read_json(run.failed)["message"]))

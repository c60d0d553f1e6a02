"""Numbered attempts at a cell: the process of an earlier one must not write, nor score the test.

A machine that is cut off from the others goes on computing. If its work is begun again elsewhere,
it still holds the earlier number when it comes back, and everything that it would write is refused.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from podium.errors import PodiumError, RunFolderError
from podium.runtime.files import read_json, write_json

_LOOK_EVERY = 0.5  # seconds between two looks at the file, which may be on a network


class StaleAttemptError(PodiumError):
    """A process goes on with work that was begun again elsewhere; it has to end."""


@dataclass
class Attempt:
    """One attempt at a cell, in the process that trains it; also a `StopRequest`.

    Args:
        path: the file with the number of the latest attempt, written by `begin`.
        number: of this attempt, from 1.

    Examples:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "attempt.json"
        >>> first = Attempt(file, begin(file))
        >>> first.check()
        >>> begin(file)
        2
        >>> first.check()
        Traceback (most recent call last):
        ...
        podium.runtime.attempt.StaleAttemptError: Attempt 1 was replaced by attempt 2...
    """

    path: Path
    number: int

    def __post_init__(self) -> None:
        self._parent, self._looked, self._stop = os.getppid(), 0.0, False

    def check(self) -> None:
        """Refuse to go on if a later attempt was begun, or has completed the study.

        Raises:
            StaleAttemptError: it was, or has.
            RunFolderError: the file is damaged.
        """
        if not self.path.is_file():
            raise StaleAttemptError(
                f"Attempt {self.number} is over: {self.path} is gone, as it is once the study is "
                "done. Nothing was written since."
            )
        number, _ = _read(self.path)
        if number != self.number:
            raise StaleAttemptError(
                f"Attempt {self.number} was replaced by attempt {number}, begun elsewhere while "
                "this machine could not be reached. Nothing was written since."
            )

    def is_set(self) -> bool:
        """Whether this process should save its state and end.

        So it should if the study asks for it, if a later attempt was begun, or if the process that
        started this one is gone.
        """
        if not self._stop and time.monotonic() - self._looked >= _LOOK_EVERY:
            self._looked = time.monotonic()
            number, stop = _read(self.path) if self.path.is_file() else (0, True)
            self._stop = stop or number != self.number or os.getppid() != self._parent
        return self._stop


def begin(path: Path) -> int:
    """Begin a new attempt; earlier ones become stale.

    Args:
        path: the file of attempts; created if it is missing.

    Returns:
        The number of the new attempt, from 1.
    """
    number = _read(path)[0] + 1 if path.is_file() else 1
    write_json(path, {"attempt": number, "stop": False})
    return number


def ask_to_stop(path: Path) -> None:
    """Ask the latest attempt to save its state and end.

    Args:
        path: the file of attempts.
    """
    write_json(path, {"attempt": _read(path)[0], "stop": True})


def _read(path: Path) -> tuple[int, bool]:
    """The number of the latest attempt, and whether it was asked to stop."""
    values = read_json(path)
    try:
        return int(values["attempt"]), bool(values["stop"])
    except (KeyError, TypeError, ValueError):
        raise RunFolderError(
            f"{path} is damaged; expected a file that Podium wrote. Remove it once no process "
            "trains this cell."
        ) from None

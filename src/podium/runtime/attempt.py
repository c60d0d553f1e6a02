"""Numbered attempts at a cell: the process of an earlier one must not write, nor score the test.

A machine that is cut off from the others goes on computing. If its work is begun again elsewhere,
it still holds the earlier number when it comes back, and everything that it would write is refused.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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
        start: how often what queues the process had started it under this number before.

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
    start: int = 0

    def __post_init__(self) -> None:
        self._parent, self._looked, self._stop = os.getppid(), 0.0, False

    def enter(self) -> None:
        """Make earlier starts under the same number stale, if this is the latest attempt.

        Raises:
            StaleAttemptError: it is not.
            RunFolderError: the file is damaged.
        """
        if self.path.is_file():
            found = _read(self.path)
            if found.attempt == self.number and found.start < self.start:
                _write(self.path, found._replace(start=self.start))
        self.check()

    def check(self) -> None:
        """Refuse to go on if it was begun again, or the study was completed.

        Raises:
            StaleAttemptError: it was, or has.
            RunFolderError: the file is damaged.
        """
        if not self.path.is_file():
            raise StaleAttemptError(
                f"Attempt {self.number} is over: {self.path} is gone, as it is once the study is "
                "done. Nothing was written since."
            )
        found = _read(self.path)
        if not self._is(found):
            later = f"attempt {found.attempt}" if found.attempt != self.number else "a later start"
            raise StaleAttemptError(
                f"Attempt {self.number} was replaced by {later}, begun elsewhere while "
                "this machine could not be reached. Nothing was written since."
            )

    def _is(self, found: _Latest) -> bool:
        return (found.attempt, found.start) == (self.number, self.start)

    def is_set(self) -> bool:
        """Whether this process should save its state and end.

        So it should if the study asks for it, if a later attempt was begun, or if the process that
        started this one is gone.
        """
        if not self._stop and time.monotonic() - self._looked >= _LOOK_EVERY:
            self._looked = time.monotonic()
            found = _read(self.path) if self.path.is_file() else _Latest(0, 0, True)
            self._stop = found.stop or not self._is(found) or os.getppid() != self._parent
        return self._stop


def begin(path: Path) -> int:
    """Begin a new attempt; earlier ones become stale.

    Args:
        path: the file of attempts; created if it is missing.

    Returns:
        The number of the new attempt, from 1.
    """
    number = _read(path).attempt + 1 if path.is_file() else 1
    _write(path, _Latest(number, 0, False))
    return number


def ask_to_stop(path: Path) -> None:
    """Ask the latest attempt to save its state and end.

    Args:
        path: the file of attempts.
    """
    _write(path, _read(path)._replace(stop=True))


class _Latest(NamedTuple):
    """The latest attempt, as it stands in the file."""

    attempt: int
    start: int
    stop: bool
    """Whether it was asked to stop."""


def _write(path: Path, latest: _Latest) -> None:
    write_json(path, latest._asdict())


def _read(path: Path) -> _Latest:
    values = read_json(path)
    try:
        return _Latest(int(values["attempt"]), int(values["start"]), bool(values["stop"]))
    except (KeyError, TypeError, ValueError):
        raise RunFolderError(
            f"{path} is damaged; expected a file that Podium wrote. Remove it once no process "
            "trains this cell."
        ) from None

"""Numbered attempts at a cell: the process of an earlier one must not write, nor score the test.

A machine that is cut off from the others goes on computing. If its work is begun again elsewhere,
it still holds the earlier number when it comes back, and everything that it would write is refused.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from podium.errors import PodiumError, RunFolderError
from podium.runtime.files import create_first, read_json, write_json

Result = TypeVar("Result")

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
                create_first(_leave(self.path, found))
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

    def grant(self) -> None:
        """Take leave to use the test images; it is recorded before they are used.

        Checking the number is not enough: a machine that is cut off right after the check would use
        them at some later time, when an attempt that replaced it may use them, too. So leave is a
        file. Either the attempt creates it, after it has written all that decides its predictions,
        and what replaces it begins from there: the same weights. Or what replaces it has created
        it, and there is no leave any more.

        Raises:
            StaleAttemptError: this attempt was replaced, or had its leave before.
            RunFolderError: the file of attempts is damaged.
        """
        self.check()
        if not create_first(_leave(self.path, _Latest(self.number, self.start, False))):
            raise StaleAttemptError(
                f"Attempt {self.number} must not use the test images: it was replaced meanwhile, "
                "or has used them before. Nothing was written since."
            )

    def before_write(self, path: Path, new: Path) -> None:
        """Called before a file of the study gets its name; see `fenced`.

        Args:
            path: the file.
            new: its content, which has another name as yet.

        Raises:
            StaleAttemptError: this attempt must not write any more.
        """
        self.check()

    def at_study(self, function: Callable[..., Result], *given: Any) -> Result:
        """Call a function that reads and writes files beyond those of this attempt's run.

        Args:
            function: of a module.
            given: its arguments; the first is the run's folder.

        Raises:
            StaleAttemptError: this attempt must not write any more.
        """
        self.check()
        return function(*given)

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
    number = 1
    if path.is_file():
        before = _read(path)
        create_first(_leave(path, before))
        number = before.attempt + 1
    _write(path, _Latest(number, 0, False))
    return number


def ask_to_stop(path: Path) -> None:
    """Ask the latest attempt to save its state and end.

    Args:
        path: the file of attempts.
    """
    _write(path, _read(path)._replace(stop=True))


def is_asked_to_stop(path: Path) -> bool:
    """Whether the latest attempt was asked to save its state and end.

    Args:
        path: the file of attempts.
    """
    return _read(path).stop


class _Latest(NamedTuple):
    """The latest attempt, as it stands in the file."""

    attempt: int
    start: int
    stop: bool
    """Whether it was asked to stop."""


def _leave(path: Path, of: _Latest) -> Path:
    """The file that decides whether an attempt may use the test images: its creator does."""
    return path.with_name(f"leave-{of.attempt}-{of.start}")


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

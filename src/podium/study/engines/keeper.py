"""Keeps a study's folder for cells on nodes that do not see it: an actor beside the driver.

It sends such a cell the files that it needs, and takes each file that the cell writes before the
cell writes the next one. So the folder is at every instant what a run on this machine would leave
if it were killed. Only the latest attempt at a cell is answered. What this machine's caches have is
lent to all cells.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import shutil
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from podium.errors import PodiumError, RunFolderError, StorageError
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.tuning import tuning_file
from podium.runtime.attempt import Attempt, StaleAttemptError, is_asked_to_stop
from podium.runtime.events import silent
from podium.runtime.files import atomic_write, remove_temporaries
from podium.runtime.lock import InUseError, sole_owner
from podium.study.cells import Cell
from podium.study.engines.files import PATIENCE, CellFiles
from podium.study.outcome import Outcome
from podium.study.work import lock_of

PIECE = 8 * 2**20
"""Bytes of a file in one message: little enough for any object store of Ray."""
STUDY = "study"
"""The place of the study's files; other places have weights."""

_LENDS = ("read", "list_cache", "digest")  # of caches: also to cells that see the study's folder

Begun = tuple[list[str], dict[str, Mapping[str, bytes]]]
Answer = tuple[bool, Any]
"""Whether it was done, and the result, or else the error."""


@dataclass
class _Held:
    """A cell that an attempt on another node trains."""

    run: RunFolder
    files: CellFiles
    attempt: Attempt
    held: contextlib.ExitStack
    """The lock on the run's folder."""
    arriving: IO[bytes] | None = None
    """What has come of the file that is being sent."""

    def receive(self, content: IO[bytes]) -> None:
        """Forget what has come of a file that was not sent to its end, and take another."""
        if self.arriving is not None:
            self.arriving.close()
        self.arriving = content

    def let_go(self) -> None:
        """Let go of the run's folder."""
        self.receive(io.BytesIO())
        self.held.close()


class Keeper:
    """Answers the cells of a study that are trained on nodes without its folder.

    Args:
        folder: the study's folder.
        code: an argument of `--import` -> the files of that module, as `sources_of` returns them.
        caches: name -> folder of weights: downloaded ones, see `podium.models.weights`, and files
            that the study names.
    """

    def __init__(
        self,
        folder: StudyFolder,
        code: Mapping[str, Mapping[str, bytes]],
        caches: Mapping[str, Path],
    ) -> None:
        self.folder, self.code = folder, dict(code)
        self.places = {**caches, STUDY: folder.path}
        self.held: dict[Cell, _Held] = {}
        self.turns: dict[Cell, threading.Lock] = defaultdict(threading.Lock)

    def ask(self, cell: Cell, number: int, what: str, *given: Any) -> Answer:
        """Do one thing for an attempt; requests of one cell are done one after the other.

        Args:
            cell: the cell.
            number: of the attempt.
            what: `begin` first; then `read`, `list_cache`, `digest`, `write`, `follow`, `call` and
                `grant`, until `end`.
            given: arguments of the method of that name.
        """
        try:
            with self.turns[cell]:
                if what == "begin":
                    return True, self._begin(cell, number)
                held = self.held.get(cell)
                if what in _LENDS and given[0] != STUDY:
                    held = None
                elif held is None or held.attempt.number != number:
                    raise StaleAttemptError(
                        f"Attempt {number} at {cell} is over: it was replaced, or the study's "
                        "machine has restarted. Nothing was written since."
                    )
                if what == "end":
                    self.held.pop(cell).let_go()
                    return True, None
                return True, getattr(self, f"_{what}")(held, *given)
        except (Exception, KeyboardInterrupt) as error:
            return False, _sendable(error)

    def _begin(self, cell: Cell, number: int) -> Begun | None:
        """Hold the cell for an attempt.

        Returns:
            The names of the files that it needs, and the user's code; None: another process holds
            the cell, as its outcome says.
        """
        run = self.folder.run(cell.contender, cell.seed, cell.fold)
        files = CellFiles.of(self.folder, cell)
        attempt = Attempt(files.attempts, number)
        attempt.check()
        if cell in self.held:
            self.held.pop(cell).let_go()
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(sole_owner(run.path, patience=PATIENCE))
            except InUseError as error:
                files.write_outcome(number, Outcome(run, busy=error.owner))
                return None
            remove_temporaries(run.path)
            names = [
                path.relative_to(self.folder.path).as_posix()
                for path in self._needed(cell, run, files)
                if path.is_file() and not path.name.startswith(".")
            ]
            self.held[cell] = _Held(run, files, attempt, stack.pop_all())
        return names, self.code

    def _needed(self, cell: Cell, run: RunFolder, files: CellFiles) -> Iterator[Path]:
        """The files that a cell may read, and others that need not exist."""
        folder = self.folder
        yield from (folder.spec, folder.data, folder.thumbnails, files.attempts)
        yield tuning_file(folder.path)
        yield from run.path.iterdir()
        for one in cell.needs:
            other = folder.run(one.contender, one.seed, one.fold)
            if other.path.is_dir():
                # to pool or average runs needs their results and weights, not their states
                yield from (path for path in other.path.iterdir() if path != other.last)

    def _read(self, held: object, place: str, name: str, at: int) -> bytes:
        """A piece of a file, from a byte on; one that is shorter than `PIECE` is the last."""
        with open(self._path(place, name), "rb") as file:
            file.seek(at)
            return file.read(PIECE)

    def _list_cache(self, held: object, place: str, patterns: list[str]) -> list[str]:
        """The names of the files in a cache that match one of several patterns."""
        root = self.places[place]
        found = (path for pattern in patterns for path in sorted(root.glob(pattern)))
        return [path.relative_to(root).as_posix() for path in found if path.is_file()]

    def _digest(self, held: object, place: str, name: str) -> str:
        """The SHA-256 of a file."""
        with open(self._path(place, name), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _path(self, place: str, name: str) -> Path:
        root = self.places[place]
        path = root / name
        if ".." in path.parts:
            raise RunFolderError(f"{name} is not a file of {root}.")
        return path

    def _write(self, held: _Held, name: str, at: int, piece: bytes, last: bool) -> None:
        """Take a piece of a file; with the last one, the file is written as a whole."""
        path = self._path(STUDY, name)
        own = path.is_relative_to(held.run.path) or path.is_relative_to(held.files.path)
        if not own and path != self.folder.thumbnails:
            raise RunFolderError(f"{name} is not a file that a cell writes.")
        held.attempt.check()
        try:
            if at == 0:
                new = tempfile.SpooledTemporaryFile(PIECE, dir=str(held.files.path))  # noqa: SIM115
                held.receive(new)
            assert held.arriving is not None
            held.arriving.seek(at)
            held.arriving.write(piece)
        except OSError as error:
            raise StorageError(path, error) from None
        if not last:
            return
        with held.arriving as content, contextlib.ExitStack() as stack:
            if not own:
                stack.enter_context(lock_of(self.folder, silent, held.attempt)())
                if path.is_file():  # another cell has made it
                    return
            content.seek(0)
            atomic_write(path, lambda file: shutil.copyfileobj(content, file))

    def _follow(self, held: _Held, grown: Mapping[str, tuple[int, bytes]]) -> bool:
        """Take what was appended to the cell's events and to its output.

        Args:
            held: the cell.
            grown: name of a file -> the byte from which on it has grown, and by what.

        Returns:
            Whether the cell should save its state and end.
        """
        held.attempt.check()
        for name, (at, text) in grown.items():
            path = held.files.path / Path(name).name
            try:
                with open(path, "r+b" if path.is_file() else "wb") as file:
                    file.seek(at)
                    file.write(text)
            except OSError as error:
                raise StorageError(path, error) from None
        return is_asked_to_stop(held.files.attempts)

    def _call(self, held: _Held, function: Callable[..., Any], *given: Any) -> Any:
        """Call a function with the run's folder, as the only writer of the study's folder."""
        with lock_of(self.folder, silent, held.attempt)():
            return held.attempt.at_study(function, held.run, *given)

    def _grant(self, held: _Held) -> None:
        """Give leave to use the test images."""
        held.attempt.grant()


def _sendable(error: BaseException) -> BaseException:
    """The error, or one with its message if another process could not read it."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return PodiumError(f"{type(error).__name__}: {error}")

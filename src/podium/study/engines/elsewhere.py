"""A cell on a node that does not see the study's folder: it works in a folder of its own there.

The process of the cell is the usual one. What it writes goes to the study first (`Keeper`), and
only then gets its name here; what it asks of the study is asked there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

from podium.config.registry import write_sources
from podium.runs.folder import StudyFolder
from podium.runtime.attempt import StaleAttemptError, ask_to_stop
from podium.runtime.files import atomic_write
from podium.study.cells import Cell
from podium.study.engines.children import running
from podium.study.engines.driver import Task
from podium.study.engines.files import NODE, CellFiles
from podium.study.engines.keeper import PIECE, STUDY
from podium.study.engines.link import LINK, UnreachableError, unreachable
from podium.study.engines.ray_nodes import result_of

_FOLLOW_EVERY = 1.0  # seconds


class _Study:
    """The study's side, as an attempt on this node reaches it.

    Args:
        keeper: the actor.
        cell: the cell.
        number: of the attempt.
    """

    def __init__(self, keeper: Any, cell: Cell, number: int) -> None:
        self.keeper, self.cell, self.number = keeper, cell, number

    def ask(self, what: str, *given: Any) -> Any:
        """Have the keeper do something; raises the error that it met."""
        asked = self.keeper.ask.remote(self.cell, self.number, what, *given)
        try:
            done, found = result_of(asked)
        except Exception as error:  # Ray has many for an actor that does not answer
            done, found = False, unreachable(self.number, type(error).__name__)
        if not done:
            raise found
        return found

    def serve(self, what: str, *given: Any) -> Any:
        """Do what the process of the cell asks for."""
        if what == "write":
            return self.write(*given)
        if what == "fetch":
            return self.fetch_cache(*given)
        return self.ask(what, *given)

    def write(self, name: str, content: str) -> None:
        """Send a file, which is written there as a whole.

        Args:
            name: its path in the study's folder.
            content: the file here.
        """
        with open(content, "rb") as file:
            size, at = os.fstat(file.fileno()).st_size, 0
            while True:
                piece = file.read(PIECE)
                self.ask("write", name, at, piece, at + len(piece) >= size)
                at += len(piece)
                if at >= size:
                    return

    def fetch(self, place: str, name: str, path: Path, *, digest: str = "") -> None:
        """Get a file.

        Args:
            place: where it lies there.
            name: its path there.
            path: where to put it here.
            digest: its SHA-256; empty string: not checked.
        """
        seen = hashlib.sha256()

        def pieces(file: Any) -> None:
            at = 0
            while True:
                piece = self.ask("read", place, name, at)
                seen.update(piece)
                file.write(piece)
                at += len(piece)
                if len(piece) < PIECE:
                    break
            if digest and seen.hexdigest() != digest:
                raise unreachable(self.number, f"{name} came damaged")

        atomic_write(path, pieces)

    def fetch_cache(self, place: str, patterns: list[str], cache: str) -> None:
        """Get the files of a cache that are missing here."""
        for name in self.ask("list_cache", place, patterns):
            if not (path := Path(cache, name)).is_file():
                self.fetch(place, name, path, digest=self.ask("digest", place, name))


def lending(task: Task, keeper: Any) -> contextlib.AbstractContextManager[str]:
    """While it lasts, the process of a cell can ask for what this machine's caches lack.

    Args:
        task: the process.
        keeper: the actor beside the driver.

    Returns:
        A context manager that yields the value of `LENDER`.
    """
    return _serving(_Study(keeper, task.cell, task.attempt))


def train_elsewhere(task: Task, study: Path, node: str, keeper: Any) -> int:
    """On a node that does not see the study's folder: run the process of a cell to its end.

    Args:
        task: the process.
        study: the study's folder, on the driver's machine.
        node: what Ray calls this machine.
        keeper: the actor beside the driver.

    Returns:
        Its exit code.

    Raises:
        StaleAttemptError: the cell was begun again elsewhere, or the study cannot be reached.
    """
    side = _Study(keeper, task.cell, task.attempt)
    begun = side.ask("begin")
    if begun is None:
        return 0
    names, code = begun
    try:
        with tempfile.TemporaryDirectory(prefix="podium-", ignore_cleanup_errors=True) as place:
            here = Path(place).resolve()
            folder = StudyFolder(here / study.name)
            for name in names:
                side.fetch(STUDY, name, folder.path / name)
            changed = {str(study): str(folder.path), **_unpacked(code, here)}
            words = [changed.get(word, word) for word in task.command]
            cwd = task.folder if task.folder.is_dir() else here
            return _run(replace(task, command=words, folder=cwd), folder, node, side)
    finally:
        with contextlib.suppress(StaleAttemptError):
            side.ask("end")


def _unpacked(code: dict[str, dict[str, bytes]], here: Path) -> dict[str, str]:
    """Write the user's code, and return for each argument of `--import` what it is here."""
    found = {}
    for number, (argument, files) in enumerate(code.items()):
        place = here / f"code-{number}"
        write_sources(files, place)
        found[argument] = str(place / Path(argument).name)
    return found


def _run(task: Task, folder: StudyFolder, node: str, side: _Study) -> int:
    """Run the process of a cell to its end, and send on what it reports.

    Args:
        task: the process.
        folder: the cell's own, in place of the study's.
        node: what Ray calls this machine.
        side: the study's side.
    """
    files = CellFiles.of(folder, task.cell)
    files.path.mkdir(parents=True, exist_ok=True)
    task = replace(task, output=files.output(side.number))
    follow = _Follower(side, files, (task.output, files.events(side.number)))
    with _serving(side) as link, running(task, **{NODE: node, LINK: link}) as process:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_FOLLOW_EVERY)
            ended = process.returncode is not None
            follow()
            if ended:
                return process.returncode


class _Follower:
    """Sends on what grows, and passes on the request to stop."""

    def __init__(self, side: _Study, files: CellFiles, paths: Sequence[Path]) -> None:
        self.side, self.files, self.sent = side, files, dict.fromkeys(paths, 0)
        self.stopped = False

    def __call__(self) -> None:
        while self._send():
            pass

    def _send(self) -> bool:
        """Send on at most one piece of each file; returns whether there may be more."""
        grown = {}
        for path, at in self.sent.items():
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
                file.seek(at)
                if text := file.read(PIECE):
                    grown[path.name] = at, text
        try:
            stop = self.side.ask("follow", grown)
        except UnreachableError:  # for a moment, perhaps; the cell itself ends once it must write
            return False
        for path in self.sent:
            self.sent[path] += len(grown[path.name][1]) if path.name in grown else 0
        if stop and not self.stopped:
            self.stopped = True
            ask_to_stop(self.files.attempts)
        return any(len(text) == PIECE for _, text in grown.values())


@contextlib.contextmanager
def _serving(side: _Study) -> Iterator[str]:
    """Answer the process of the cell, one request after the other; yields the value of `LINK`."""
    key = secrets.token_bytes(32)
    with Listener(authkey=key) as listener:

        def serve() -> None:
            while True:
                try:
                    with listener.accept() as connection:
                        what, *given = connection.recv()
                        if what == "close":
                            return
                        try:
                            answer = True, side.serve(what, *given)
                        except BaseException as error:
                            answer = False, error
                        connection.send(answer)
                except (OSError, EOFError, AuthenticationError):
                    continue  # that process was killed

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"{key.hex()}@{listener.address}"
        finally:
            with Client(listener.address, authkey=key) as connection:
                connection.send(("close",))
            thread.join()

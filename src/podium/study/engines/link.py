"""What the process of a cell asks of the study's machine: all, if its node does not see the folder.

It asks the process that started it, on the same machine, which asks the study's machine: see
`podium.study.engines.elsewhere`.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

from podium.config.settings import RunSpec
from podium.errors import DataError, StorageError
from podium.runs.folder import StudyFolder
from podium.runtime.attempt import Attempt, Result, StaleAttemptError
from podium.study.engines.files import CellFiles

FEATURES = "features"
"""The place, at the study's machine, of features that were computed ahead."""
LINK = "PODIUM_LINK"
"""Environment variable: where the process of a cell reaches the one that started it, on a node that
does not see the study's folder."""
LENDER = "PODIUM_LENDER"
"""Environment variable: the same on a node that sees it, but perhaps not the command's caches."""


class UnreachableError(StaleAttemptError):
    """The machine with the study cannot be reached."""


@dataclass
class LinkedAttempt(Attempt):
    """An attempt in a process that can ask the study's machine for what this one lacks.

    Args:
        folder: the study's folder, or that of the cell in its place.
        link: the value of `LENDER` or `LINK`.
    """

    folder: Path = Path()
    link: str = ""

    def fetch(self, place: str, patterns: Sequence[str], cache: Path) -> None:
        """Get files of a cache that this machine lacks and the study's has.

        Args:
            place: name of the cache.
            patterns: of the files' names.
            cache: its folder here.
        """
        with contextlib.suppress(UnreachableError, StorageError):  # then this machine makes them
            self._ask("fetch", place, list(patterns), str(cache))

    def _ask(self, *request: Any) -> Any:
        key, _, address = self.link.partition("@")
        try:
            with Client(address, authkey=bytes.fromhex(key)) as connection:
                connection.send(request)
                done, found = connection.recv()
        except (OSError, EOFError, AuthenticationError):
            done, found = False, unreachable(self.number, "what started this process is gone")
        if not done:
            raise found
        return found


@dataclass
class ElsewhereAttempt(LinkedAttempt):
    """An attempt in the process of a cell whose node does not see the study's folder."""

    def before_write(self, path: Path, new: Path) -> None:
        if not path.name.startswith("."):  # else a lock's note, of this machine
            self._ask("write", path.relative_to(self.folder).as_posix(), str(new))

    def at_study(self, function: Callable[..., Result], *given: Any) -> Result:
        found: Result = self._ask("call", function, *given[1:])  # there, with the study's run
        return found

    def grant(self) -> None:
        self._ask("grant")

    def fetch(self, place: str, patterns: Sequence[str], cache: Path) -> None:
        self._ask("fetch", place, list(patterns), str(cache))


def attempt_of(folder: StudyFolder, files: CellFiles, number: int, start: int) -> Attempt:
    """The attempt that this process makes at a cell.

    Args:
        folder: the study's folder, or that of the cell in its place.
        files: of the cell.
        number: of the attempt.
        start: how often it was started before.
    """
    for name, kind in ((LINK, ElsewhereAttempt), (LENDER, LinkedAttempt)):
        if link := os.environ.get(name):
            return kind(files.attempts, number, start, folder.path, link)
    return Attempt(files.attempts, number, start)


@contextlib.contextmanager
def naming_the_node(attempt: Attempt | None, host: str) -> Iterator[None]:
    """Where images are missing on a node without the study's folder, say what nodes need.

    Args:
        attempt: of this process.
        host: name of this machine.
    """
    try:
        yield
    except DataError as error:
        if not isinstance(attempt, ElsewhereAttempt):
            raise
        raise DataError(
            f"{host} does not share the study's file system, and needs the images under the same "
            f"path, or at an address that all nodes reach (`podium data pack`): {error}"
        ) from None


def place_of_weights(contender: str) -> str:
    """The name of the place, at the study's machine, with the file that a contender starts from."""
    return f"weights of {contender}"


def fetch_weights(contender: str, recipe: RunSpec, attempt: Attempt | None) -> None:
    """On a node of a cluster, get the weights that it lacks and the study's machine has.

    Downloaded ones are kept in this machine's cache; a file that the study names, where its folder
    is not seen, lies beside the cell's folder, and goes with it.

    Args:
        contender: its key in the study.
        recipe: of the contender.
        attempt: of this process.
    """
    if not isinstance(attempt, LinkedAttempt):
        return
    from podium.models.registry import weight_files
    from podium.models.weights import LENT, weight_caches

    named = recipe.weights if isinstance(attempt, ElsewhereAttempt) else None
    if named is not None and not named.is_file():
        lent = attempt.folder.parent / ".weights"
        attempt.fetch(place_of_weights(contender), [glob.escape(named.name)], lent)
        os.environ[LENT] = str(lent)  # for processes of the training, too
    if not recipe.pretrained:
        return
    caches = weight_caches()
    for model in filter(None, (recipe.model, recipe.if_unavailable)):
        for place, patterns in weight_files(model).items():
            attempt.fetch(place, patterns, caches[place])


@contextlib.contextmanager
def borrowing_features(attempt: Attempt | None) -> Iterator[None]:
    """On a node of a cluster, get the features that it lacks and the study's machine has.

    Args:
        attempt: of this process.
    """
    if not isinstance(attempt, LinkedAttempt):
        yield
        return
    from podium.features.disk import borrowing

    def lend(entry: str, folder: Path) -> None:
        attempt.fetch(FEATURES, [f"{glob.escape(entry)}/*.npz"], folder)

    with borrowing(lend):
        yield


def unreachable(number: int, why: str) -> UnreachableError:
    """The error that ends an attempt whose study is out of reach.

    Args:
        number: of the attempt.
        why: in a few words.
    """
    return UnreachableError(
        f"Attempt {number} ends: the machine with the study cannot be reached ({why}). Nothing "
        "was written there since."
    )

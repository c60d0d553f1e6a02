"""What can go wrong with the machine during a training, in words a user can act on."""

from __future__ import annotations

import ast
import multiprocessing
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from podium.config import RunSpec
from podium.errors import TrainingError, chain
from podium.events import Event, Notify

__all__ = ["Place", "WorkerLostError", "despite_lost_workers", "in_words", "runs_again"]

Result = TypeVar("Result")

_NO_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "could not create a memory object",  # oneDNN
    "could not execute a primitive",  # oneDNN, where its scratch memory cannot be had
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Cannot allocate memory",
    "unable to mmap",
)


class WorkerLostError(TrainingError):
    """A process that decodes images is gone, most often killed for want of memory."""


def in_words(error: BaseException, recipe: RunSpec) -> TrainingError | None:
    """The same fault as an error that says what to do; none where it is no known fault.

    Args:
        error: what a training raised.
        recipe: of the training.
    """
    errors = list(chain(error))  # a worker's end may come in the middle of other work
    lost = [str(one) for one in errors if "DataLoader worker" in str(one)]
    if lost:
        return WorkerLostError(
            "A process that decodes images is gone, most likely killed because memory ran out "
            f"({lost[0].splitlines()[0].strip()}). What was trained up to the last saved state is "
            "kept. --workers 0 needs no such processes."
        )
    if any(
        isinstance(one, (MemoryError, torch.OutOfMemoryError))
        or any(sign in str(one) for sign in _NO_MEMORY)
        for one in errors
    ):
        return TrainingError(
            f"Memory ran out with {recipe.batch_size} images a step. What was trained up to the "
            "last saved state is kept. Free memory and run the same command again, or take a "
            "smaller --batch-size or --image-size under another --name."
        )
    return None


def despite_lost_workers(
    work: Callable[[int], Result], workers: int, recipe: RunSpec, notify: Notify
) -> Result:
    """What `work(workers)` gives; where one of its workers is lost, what `work(0)` gives.

    Who decodes changes neither order nor augmentation, so the result is the same.

    Args:
        work: takes the number of processes that decode; begins where it left off.
        workers: how many there may be.
        recipe: of the training, for messages.
        notify: told when it goes on without workers.

    Raises:
        TrainingError: memory ran out.
    """
    while True:
        try:
            return work(workers)
        except (RuntimeError, MemoryError) as error:
            told = in_words(error, recipe)
            if told is None:
                raise
            if not isinstance(told, WorkerLostError) or not workers:
                raise told from error
        # outside of the handler, which keeps the memory of what failed alive
        notify(Event("warning", f"{told} Goes on by decoding in the training's own process."))
        workers = 0


class Place(NamedTuple):
    """A line of a script."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


def runs_again(start_method: str | None = None) -> Place | None:
    """The line of the program's script that every process started now would run again.

    A process that is not forked (Windows, macOS) imports the script that the program began with, to
    find the functions in it. What that script does outside of `if __name__ == "__main__":` is done
    again there, this very call included.

    Args:
        start_method: of the processes; None: the program's.

    Returns:
        None where nothing is: processes are forked, the line is under the guard, or there is no
        script, as in a notebook.
    """
    usual = multiprocessing.get_all_start_methods()[0]  # asking for it would settle it
    if (start_method or multiprocessing.get_start_method(allow_none=True) or usual) == "fork":
        return None
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if getattr(main, "__file__", None) is None or (spec and spec.name.endswith(".__main__")):
        return None  # neither is imported again
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None and not (
        frame.f_globals is vars(main) and frame.f_code.co_name == "<module>"
    ):
        frame = frame.f_back
    if frame is None:
        return None
    place = Place(frame.f_code.co_filename, frame.f_lineno)
    try:
        tree = ast.parse(Path(place.file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    guarded = any(
        isinstance(node, ast.If)
        and node.lineno <= place.line <= (node.end_lineno or node.lineno)
        and any(isinstance(one, ast.Name) and one.id == "__name__" for one in ast.walk(node.test))
        for node in ast.walk(tree)
    )
    return None if guarded else place

"""What can go wrong with the machine during a training, in words a user can act on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from podium.config.settings import RunSpec
from podium.errors import TrainingError, chain
from podium.runtime.events import Notify, WarningMessage

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


def as_training_error(error: BaseException, recipe: RunSpec) -> TrainingError | None:
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
            told = as_training_error(error, recipe)
            if told is None:
                raise
            if not isinstance(told, WorkerLostError) or not workers:
                raise told from error
        # outside of the handler, which keeps the memory of what failed alive
        notify(WarningMessage(f"{told} Goes on by decoding in the training's own process."))
        workers = 0

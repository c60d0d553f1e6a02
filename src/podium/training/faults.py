"""Converts machine faults during a training to errors that users can act on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from podium.config.settings import RunSpec
from podium.errors import TrainingError, chain, one_line
from podium.runtime.events import Notify, WarningMessage

Result = TypeVar("Result")

_NO_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "could not create a memory object",  # oneDNN
    "could not execute a primitive",  # oneDNN, if its scratch memory cannot be allocated
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",  # outside PyTorch's own allocator
    "Cannot allocate memory",
    "unable to mmap",
)


class WorkerLostError(TrainingError):
    """A decoding process was lost, most often killed because memory ran out."""


def as_training_error(error: BaseException, recipe: RunSpec) -> TrainingError | None:
    """Convert a known fault to an error that says what to do.

    Args:
        error: raised by a training.
        recipe: of the training.

    Returns:
        The error; None if the fault is not known.
    """
    errors = list(chain(error))  # a worker may die during other work
    lost = [str(one) for one in errors if "DataLoader worker" in str(one)]
    if lost:
        return WorkerLostError(
            "A decoding process was lost, most likely killed because memory ran out "
            f"({lost[0].splitlines()[0].strip()}). Training up to the last saved state is kept. "
            "--workers 0 uses no decoding processes."
        )
    if any(map(_is_of_memory, errors)):
        return TrainingError(
            f"Memory ran out with {recipe.batch_size} images per step. Training up to the last "
            "saved state is kept. Free memory and run the same command again, or use a smaller "
            "--batch-size or --image-size under another --name."
        )
    return None


def _is_of_memory(error: BaseException) -> bool:
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(sign in str(error) for sign in _NO_MEMORY)


def refuse_lost_device(error: BaseException) -> None:
    """Stop if this process can no longer use its GPU: all that follows would fail in the same way.

    Args:
        error: raised by a training.

    Raises:
        TrainingError: an error of the device is among its causes.
    """
    lost = [one for one in chain(error) if isinstance(one, torch.AcceleratorError)]
    if lost and not _is_of_memory(lost[0]):
        raise TrainingError(
            f"The GPU stopped ({one_line(lost[0])}), and this process cannot use it any more. Run "
            "the same command again: it goes on from the last saved states. With --on local each "
            "contender is trained in a process of its own, so that one failure ends only one."
        ) from error


def despite_lost_workers(
    work: Callable[[int], Result], workers: int, recipe: RunSpec, notify: Notify
) -> Result:
    """Return `work(workers)`; if one of its workers is lost, return `work(0)`.

    Workers affect neither order nor augmentation, so the result is the same.

    Args:
        work: called with the number of decoding processes; resumes where it stopped.
        workers: maximum number of decoding processes.
        recipe: of the training, for messages.
        notify: receives a warning if the training continues without workers.

    Raises:
        TrainingError: memory ran out.
    """
    while True:
        try:
            return work(workers)
        except (RuntimeError, MemoryError) as error:
            fault = as_training_error(error, recipe)
            if fault is None:
                raise
            if not isinstance(fault, WorkerLostError) or not workers:
                raise fault from error
        # outside of the handler, which keeps the memory of the failed attempt alive
        notify(WarningMessage(f"{fault} Continues by decoding in the training process."))
        workers = 0

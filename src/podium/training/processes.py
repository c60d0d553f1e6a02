"""Communication between the processes of a data-parallel training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from lightning_fabric import Fabric
from torch import nn

from podium.errors import TrainingError
from podium.training.job import Job


class DivergedError(TrainingError):
    """A loss or a weight is no longer finite: the fault of the settings, not of the machine."""


def precise(device: torch.device) -> torch.dtype:
    """The dtype for sums over images: double, so that means do not depend on their number.

    Metal has no doubles.

    Args:
        device: where the sums are.
    """
    return torch.float32 if device.type == "mps" else torch.float64


def all_sum(fabric: Fabric, values: Sequence[float]) -> list[float]:
    """Sum each value over all processes; every process must take part.

    Args:
        fabric: of the training.
        values: of this process.
    """
    if fabric.world_size == 1:
        return list(values)
    sums = torch.tensor(values, dtype=precise(fabric.device), device=fabric.device)
    total = fabric.all_reduce(sums, reduce_op="sum")
    assert isinstance(total, torch.Tensor)
    return [float(value) for value in total]


def share_buffers(fabric: Fabric, module: nn.Module) -> None:
    """Give every process the first one's buffers, such as the statistics of batch norms.

    Each process updates them with its own part of the last batch. Only the first one's are saved,
    so that a validation by all of them must use those.

    Args:
        fabric: of the training; every process must take part.
        module: changed in place.
    """
    if fabric.world_size > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)


def refuse_infinite(job: Job, value: float, what: str, where: str, rate: float) -> None:
    """Stop a training whose values are no longer finite.

    Args:
        job: the training.
        value: to check.
        what: name of the value, for the message.
        where: position in the training, for the message.
        rate: the learning rate of the last step.

    Raises:
        DivergedError: the value is infinite or not a number.
    """
    if not math.isfinite(value):
        last = job.folder.last
        kept = (
            "has the last good state"
            if last.is_file()
            else "was not written, since no state was good"
        )
        raise DivergedError(
            f"The {what} of {job.folder.contender} is no longer finite: {where}, learning rate "
            f"{rate:g}, {job.precision}. {last.name} {kept}. Try a smaller lr under another "
            "--name, or --precision fp32."
        )

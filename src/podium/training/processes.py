"""What the processes of a data-parallel training agree on; with one process, itself alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from lightning_fabric import Fabric

from podium.errors import TrainingError
from podium.training.job import Job


def precise(device: torch.device) -> torch.dtype:
    """The type for sums over images: double, so that a mean does not depend on how many there are.

    Metal has no doubles.
    """
    return torch.float32 if device.type == "mps" else torch.float64


def all_sum(fabric: Fabric, values: Sequence[float]) -> list[float]:
    """Each value summed over all processes; every process must take part."""
    if fabric.world_size == 1:
        return list(values)
    sums = torch.tensor(values, dtype=precise(fabric.device), device=fabric.device)
    total = fabric.all_reduce(sums, reduce_op="sum")
    assert isinstance(total, torch.Tensor)
    return [float(value) for value in total]


def refuse_infinite(job: Job, value: float, what: str, where: str, rate: float) -> None:
    """End a training whose numbers are no longer numbers.

    Args:
        job: the training.
        value: to look at.
        what: it is, for the message.
        where: in the training.
        rate: the learning rate of the last step.

    Raises:
        TrainingError: the value is infinite or not a number.
    """
    if not math.isfinite(value):
        last = job.folder.last
        kept = "the last good state" if last.is_file() else "nothing, as none was good"
        raise TrainingError(
            f"The {what} of {job.folder.contender} is no longer finite: {where}, learning rate "
            f"{rate:g}, {job.precision}. {last.name} keeps {kept}. Try a smaller lr under another "
            "--name, or --precision fp32."
        )

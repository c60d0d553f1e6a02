"""A study's metric on the validation images, gathered from all processes of a training."""

from __future__ import annotations

import math

import torch
from lightning_fabric import Fabric

from podium.statistics.scoring import Metric


def without_validation(metric: Metric) -> dict[str, float]:
    """The validation columns of a training without validation images: not a number."""
    columns = ("valid_loss", "valid_accuracy", *(() if metric.is_accuracy else (metric.column,)))
    return dict.fromkeys(columns, math.nan)


def metric_column(
    fabric: Fabric, metric: Metric, logits: torch.Tensor, labels: torch.Tensor, total: int
) -> dict[str, float]:
    """Compute the metric's column in an epoch's row of the history; empty for accuracy.

    Args:
        fabric: of the training; every process must take part.
        metric: computed on all images at once: it need not be a mean over images.
        logits: of this process's images, float32 of shape (n, classes).
        labels: of this process's images, shape (n,).
        total: number of images of all processes.

    Raises:
        ConfigError: the metric fails on them, or is not finite.
    """
    if metric.is_accuracy:
        return {}
    every, truth = (in_order_of_images(fabric, one, total) for one in (logits, labels))
    value = metric.score(every.numpy(), truth.numpy())
    return {metric.column: fabric.broadcast(value)}  # one value decides for all processes


def in_order_of_images(fabric: Fabric, part: torch.Tensor, total: int) -> torch.Tensor:
    """Gather the rows of all images in order; every process must take part, and gets all of them.

    Args:
        fabric: of the training.
        part: this process's rows: those of the images `rank`, `rank + world` and so on.
        total: number of images.

    Returns:
        `total` rows, on the CPU.
    """
    world = fabric.world_size
    if world == 1:
        return part.cpu()
    padded = part.new_zeros((-(-total // world), *part.shape[1:]))  # all parts have one size
    padded[: len(part)] = part
    every = fabric.all_gather(padded.to(fabric.device))
    assert isinstance(every, torch.Tensor)
    return every.transpose(0, 1).flatten(0, 1)[:total].cpu()

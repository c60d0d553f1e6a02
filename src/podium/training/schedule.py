"""What follows from a history: the next learning rate and image size, the best epoch, the end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from podium.config.settings import RunSpec

Row = Mapping[str, float]


_LOWEST = 1 / 25, 1 / 25e4  # of the highest rate: at the start and end of one cycle, as fast.ai's


def learning_rate(recipe: RunSpec, rows: Sequence[Row], step: int = 0, steps: int = 1) -> float:
    """The rate of a step of the epoch that follows `rows`, the history so far.

    A function of the history and the step alone, so that a resumed run takes the same path.

    Args:
        recipe: the schedule; `one_cycle` is that of `torch.optim.lr_scheduler.OneCycleLR`.
        rows: the finished epochs.
        step: of the epoch under way, from 0.
        steps: of every epoch.
    """
    if recipe.lr_schedule == "one_cycle":
        probe = int(recipe.linear_probe)  # the epoch that fits the head takes no steps
        last = max(1, (recipe.epochs - probe) * steps - 1)
        done = max(0, len(rows) - probe) * steps
        at, top = min(last, done + step), recipe.warmup * (last + 1) - 1
        start, end = (recipe.lr * share for share in _LOWEST)
        if at < top:
            return _half_cosine(start, recipe.lr, at / top)
        return _half_cosine(recipe.lr, end, (at - top) / (last - top))
    if recipe.lr_drop is None:
        return recipe.lr
    if recipe.lr_drop == "plateau":
        flat = any(
            _epochs_since_better(rows[:end]) >= recipe.plateau_patience
            for end in range(1, len(rows) + 1)
        )
        return recipe.lr * (recipe.lr_drop_factor if flat else 1.0)
    return recipe.lr * (recipe.lr_drop_factor if len(rows) >= recipe.lr_drop else 1.0)


def epoch_rates(recipe: RunSpec, rows: Sequence[Row], steps: int) -> list[float]:
    """The rate of each step of the epoch that follows `rows`; looks through them only once."""
    if recipe.lr_schedule == "one_cycle":
        return [learning_rate(recipe, rows, step, steps) for step in range(steps)]
    return [learning_rate(recipe, rows)] * steps


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def training_size(recipe: RunSpec, epoch: int, image_size: int) -> int:
    """Side of the training images of an epoch (from 1), in pixels.

    Args:
        recipe: `progressive_sizes` share its epochs equally, the first ones getting the rest; a
            linear probe's epoch is not one of them.
        epoch: from 1 to `recipe.epochs`.
        image_size: the side without progressive sizes.
    """
    sizes = recipe.progressive_sizes or (image_size,)
    probe = int(recipe.linear_probe)
    return sizes[max(0, epoch - 1 - probe) * len(sizes) // max(1, recipe.epochs - probe)]


def _epochs_since_better(rows: Sequence[Row]) -> int:
    lowest = min(range(len(rows)), key=lambda at: rows[at]["valid_loss"])
    return len(rows) - 1 - max(lowest, best_epoch(rows) - 1)


def best_epoch(rows: Sequence[Row]) -> int:
    """The first epoch (from 1) with the highest validation accuracy."""
    return 1 + max(range(len(rows)), key=lambda at: (rows[at]["valid_accuracy"], -at))


def is_finished(recipe: RunSpec, rows: Sequence[Row]) -> bool:
    """Whether the epochs are used up, or early stopping says so."""
    if len(rows) >= recipe.most_epochs:
        return True
    return bool(recipe.early_stop and rows and len(rows) - best_epoch(rows) >= recipe.early_stop)

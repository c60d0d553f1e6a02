"""Decisions from a history: the next learning rate and image size, the best epoch, the end."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import median

from podium.config.settings import RunSpec
from podium.statistics.scoring import ACCURACY, Metric

Row = Mapping[str, float]


_LOWEST = 1 / 25, 1 / 25e4  # of the highest rate: at the start and end of one cycle, as fast.ai's


def learning_rate(
    recipe: RunSpec, rows: Sequence[Row], step: int = 0, steps: int = 1, metric: Metric = ACCURACY
) -> float:
    """Compute the learning rate of a step of the epoch after `rows`.

    It depends only on the history and the step, so that a resumed run takes the same path.

    Args:
        recipe: has the schedule; `one_cycle` is that of `torch.optim.lr_scheduler.OneCycleLR`.
        rows: the finished epochs.
        step: of the current epoch, from 0.
        steps: number of steps per epoch.
        metric: of the study; on a plateau neither it nor the loss improves.
    """
    if recipe.lr_schedule == "one_cycle":
        probe = int(bool(recipe.linear_probe))  # the epoch that fits the head takes no steps
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
        flat = plateau_after(recipe, rows, metric) is not None
        return recipe.lr * (recipe.lr_drop_factor if flat else 1.0)
    return recipe.lr * (recipe.lr_drop_factor if len(rows) >= recipe.lr_drop else 1.0)


def plateau_after(recipe: RunSpec, rows: Sequence[Row], metric: Metric = ACCURACY) -> int | None:
    """The epoch after which `lr_drop: plateau` lowers the rate, from 1; None: not so far.

    Args:
        recipe: has the patience.
        rows: the finished epochs.
        metric: of the study.
    """
    ends = range(1, len(rows) + 1)
    flat = (
        end for end in ends if _epochs_since_better(rows[:end], metric) >= recipe.plateau_patience
    )
    return next(flat, None)


def epoch_rates(
    recipe: RunSpec, rows: Sequence[Row], steps: int, metric: Metric = ACCURACY
) -> list[float]:
    """Compute the learning rate of each step of the epoch after `rows`, scanning them only once.

    Args:
        recipe: has the schedule.
        rows: the finished epochs.
        steps: number of steps per epoch.
        metric: of the study; on a plateau neither it nor the loss improves.
    """
    if recipe.lr_schedule == "one_cycle":
        return [learning_rate(recipe, rows, step, steps) for step in range(steps)]
    return [learning_rate(recipe, rows, metric=metric)] * steps


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def training_size(recipe: RunSpec, epoch: int, image_size: int) -> int:
    """Compute the side of an epoch's training images, in pixels.

    Args:
        recipe: its epochs, except a linear probe's, are divided equally among
            `progressive_sizes`; the first sizes get the remainder.
        epoch: from 1 to `recipe.epochs`.
        image_size: the side without progressive sizes.
    """
    sizes = recipe.progressive_sizes or (image_size,)
    probe = int(bool(recipe.linear_probe))
    return sizes[max(0, epoch - 1 - probe) * len(sizes) // max(1, recipe.epochs - probe)]


def _epochs_since_better(rows: Sequence[Row], metric: Metric) -> int:
    lowest = min(range(len(rows)), key=lambda at: rows[at]["valid_loss"])
    return len(rows) - 1 - max(lowest, best_epoch(rows, metric) - 1)


def best_epoch(rows: Sequence[Row], metric: Metric = ACCURACY) -> int:
    """Find the first epoch (from 1) with the best validation value of the metric.

    Args:
        rows: the finished epochs, at least one.
        metric: of the study.
    """
    return 1 + max(range(len(rows)), key=lambda at: (metric.merit(rows[at][metric.column]), -at))


def is_finished(recipe: RunSpec, rows: Sequence[Row], metric: Metric = ACCURACY) -> bool:
    """Whether all epochs are done, or early stopping ends the training.

    Args:
        recipe: has the number of epochs and the patience of early stopping.
        rows: the finished epochs.
        metric: of the study.
    """
    if len(rows) >= recipe.most_epochs:
        return True
    return bool(
        recipe.early_stop and rows and len(rows) - best_epoch(rows, metric) >= recipe.early_stop
    )


FEWEST_TRIALS = 4
"""Complete trials before which none is ended early."""


def best_so_far(rows: Sequence[Row], metric: Metric) -> list[float]:
    """The best validation value up to each epoch, with higher always better.

    Args:
        rows: the finished epochs.
        metric: of the study.
    """
    return list(itertools.accumulate((metric.merit(row[metric.column]) for row in rows), max))


def median_floor(complete: Sequence[Sequence[Row]], metric: Metric) -> tuple[float, ...]:
    """What a trial must have reached after each epoch not to be ended early.

    A median stopping rule (after Golovin et al., 2017): a trial is ended after an epoch if its best
    value so far is worse than the median of the best values that the complete trials had so far
    after as many epochs. Optuna's `MedianPruner` does the same if trials report their best value so
    far; of trials that report each epoch's own value, it takes the median of those.

    Args:
        complete: the histories of complete trials.
        metric: of the study.

    Returns:
        By epoch, with higher always better; empty if there are too few trials.
    """
    if len(complete) < FEWEST_TRIALS:
        return ()
    reached = [best_so_far(rows, metric) for rows in complete]
    longest = max(map(len, reached))
    return tuple(median(one[at] for one in reached if len(one) > at) for at in range(longest))


def falls_behind(rows: Sequence[Row], floor: Sequence[float], metric: Metric) -> bool:
    """Whether a trial is ended early after the last of its epochs.

    Args:
        rows: the finished epochs.
        floor: from `median_floor`.
        metric: of the study.
    """
    return 0 < len(rows) <= len(floor) and best_so_far(rows, metric)[-1] < floor[len(rows) - 1]

"""What follows from a history: the next learning rate, the best epoch, the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from podium.config import RunSpec

__all__ = ["best_epoch", "is_finished", "learning_rate"]

Row = Mapping[str, float]


def learning_rate(recipe: RunSpec, rows: Sequence[Row]) -> float:
    """The rate of the epoch that follows `rows`, the history so far.

    A function of the history alone, so that a resumed run takes the same path.
    """
    if recipe.lr_drop is None:
        return recipe.lr
    if recipe.lr_drop == "plateau":
        flat = any(
            _epochs_since_better(rows[:end]) >= recipe.plateau_patience
            for end in range(1, len(rows) + 1)
        )
        return recipe.lr * (recipe.lr_drop_factor if flat else 1.0)
    return recipe.lr * (recipe.lr_drop_factor if len(rows) >= recipe.lr_drop else 1.0)


def _epochs_since_better(rows: Sequence[Row]) -> int:
    lowest = min(range(len(rows)), key=lambda at: rows[at]["valid_loss"])
    return len(rows) - 1 - max(lowest, best_epoch(rows) - 1)


def best_epoch(rows: Sequence[Row]) -> int:
    """The first epoch (from 1) with the highest validation accuracy."""
    return 1 + max(range(len(rows)), key=lambda at: (rows[at]["valid_accuracy"], -at))


def is_finished(recipe: RunSpec, rows: Sequence[Row]) -> bool:
    """Whether the epochs are used up, or early stopping says so."""
    if len(rows) >= recipe.epochs:
        return True
    return bool(recipe.early_stop and rows and len(rows) - best_epoch(rows) >= recipe.early_stop)

"""The training on all images after cross-validation: as the folds chose, for none are held out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, median_high

from podium.config.settings import RunSpec
from podium.statistics.scoring import Metric
from podium.training.schedule import Row, best_epoch, plateau_after


@dataclass(frozen=True)
class Refit:
    """What replaces the choices that a training makes on validation images.

    Attributes:
        epochs: number of epochs; the last one is kept.
        penalty: of the linear probe; None: the recipe has no probe.
    """

    epochs: int
    penalty: float | None = None


def refit_after(
    recipe: RunSpec,
    histories: Sequence[Sequence[Row]],
    penalties: Sequence[float],
    metric: Metric,
) -> tuple[RunSpec, Refit]:
    """Settle the training on all images: the median over the folds of what each of them chose.

    The schedule stays that of the recipe's epochs, so that an epoch trains at the rate and the
    size of image that it had in the folds. Of an even number of epochs, the later of the middle
    two is used: more images bear more epochs.

    Args:
        recipe: of the folds.
        histories: the history of each fold.
        penalties: that each fold's probe chose; empty without a probe.
        metric: of the study.

    Returns:
        `(recipe, refit)`: the recipe with a plateau's drop at the epoch of the folds' drops, or
        without it where half of the folds had none.

    Examples:
        >>> from podium.statistics.scoring import ACCURACY
        >>> folds = [[{"valid_accuracy": a, "valid_loss": 1 - a} for a in (0.5, best, 0.6)]
        ...          for best in (0.7, 0.8, 0.4)]
        >>> refit_after(RunSpec(model="simple_resnet", epochs=3), folds, [], ACCURACY)[1]
        Refit(epochs=2, penalty=None)
    """
    if recipe.lr_drop == "plateau":
        drops = [plateau_after(recipe, rows, metric) for rows in histories]
        drop = median_high(math.inf if one is None else one for one in drops)
        recipe = recipe.model_copy(update={"lr_drop": int(drop) if drop < math.inf else None})
    epochs = median_high(best_epoch(rows, metric) for rows in histories)
    # penalties are tried in steps of a factor: their middle is that of the logarithms
    penalty = math.exp(median(map(math.log, penalties))) if penalties else None
    return recipe, Refit(epochs, penalty)

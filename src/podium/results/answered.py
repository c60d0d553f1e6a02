"""What contenders get right if each leaves the images unanswered that it is least certain of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from podium.results.run import RunResult
from podium.runs.predictions import Predictions
from podium.statistics.selective import certainty, risk_curve

_OUTCOMES = ("wrong", "right")


def by_certainty(run: RunResult, test: Predictions) -> Predictions:
    """Predictions reduced to what a model's accuracy on the images it answers depends on.

    Two classes are left, wrong and right, and every image's label is right. The difference of the
    logits is the rank of the image's certainty, at the temperature that the run's probabilities
    have wherever they are shown: the temperature changes the order of images.

    Args:
        run: of the predictions.
        test: its predictions of one repeat.
    """
    _, rank = np.unique(certainty(test, run.temperature), return_inverse=True)
    logits = np.zeros((len(test), 2), np.float32)
    right = (test.predicted == test.labels).astype(np.int64)
    logits[np.arange(len(test)), right] = 1 + rank
    return Predictions(_OUTCOMES, test.paths, np.ones(len(test), np.int64), logits)


def mean_risk_curve(runs: Sequence[RunResult]) -> npt.NDArray[np.float64]:
    """The error over the k most certain test images, k from 1 to n: a mean over runs and repeats.

    Args:
        runs: of one contender.

    Returns:
        Shape (n,), 0..1.
    """
    curves = [
        risk_curve(
            certainty(test, run.temperature), (test.predicted == test.labels).astype(np.float64)
        )
        for run in runs
        for _, test in run.replicates
    ]
    return np.asarray(np.mean(curves, axis=0))

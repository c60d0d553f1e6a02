"""Confidence interval of an expected calibration error, by test inversion.

The measured error, a sum of |accuracy - confidence| over bins, is biased upwards, since noise never
cancels in it, and a bootstrap adds the same noise once more: in simulations with 500 images its
95 % interval contained the true error of a slightly overconfident model in none of 300 cases. (See
also Roelofs et al., 2022, "Mitigating bias in calibration error estimation".)

The interval therefore contains every true error for which the measured one lies in the central
95 % of simulated ones (Neyman construction). The simulation places the true accuracies for a given
true error along the direction of a logistic recalibration of the bins (Platt, 1999).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when they are first used

REPLICATES = 2000

Floats = npt.NDArray[np.float64]


class Estimate(NamedTuple):
    """A value and its 95 % range."""

    value: float
    low: float
    high: float


def error_interval(
    confidence: Floats,
    accuracy: Floats,
    size: npt.NDArray[np.int_],
    *,
    alike: float = 1.0,
    replicates: int = REPLICATES,
) -> Estimate:
    """Calibration error of bins, and the 95 % interval of their true calibration error.

    The tests simulate its coverage; `docs/statistics.md` gives the figures.

    Args:
        confidence: mean confidence of each bin, shape (bins,), 0..1.
        accuracy: accuracy of each bin, shape (bins,), 0..1.
        size: images in each bin, shape (bins,), 1 or more.
        alike: design effect of groups of images: as many of them vary like one image.
        replicates: simulations per candidate true error.

    Returns:
        The sum over bins of share of images x |accuracy - confidence|, and the interval; 0..1.
    """
    measured = float(np.abs(accuracy - confidence) @ size / size.sum())
    start = scipy.special.logit(np.clip(confidence, 1e-9, 1 - 1e-9))
    most = min(
        1.0, measured + 1.35 / math.sqrt(size.sum() / alike)
    )  # standard deviation <= 0.5 / sqrt(n)

    def invert(direction: Floats) -> tuple[float, float, float]:
        return _invert(measured, confidence, start, direction, size, most, replicates, alike)

    low, high, reached = invert(_direction(start, accuracy, size))
    if reached < most:
        # Underconfidence ends where all accuracies are 1. The rest of the range belongs to
        # overconfidence: a few images, all correct, do not rule it out.
        high = max(high, invert(-np.ones_like(start))[1])
    return Estimate(measured, low, high)


def _direction(start: Floats, accuracy: Floats, size: npt.NDArray[np.int_]) -> Floats:
    """The shift of each bin under a logistic recalibration, in logits."""
    inputs = np.stack([np.ones_like(start), start], axis=1)

    def loss(change: Floats) -> tuple[float, Floats]:
        moved = start + inputs @ change
        # Weak regularisation keeps the fit finite where all images are correct.
        value = size @ (np.logaddexp(0, moved) - accuracy * moved) + 0.05 * change @ change
        excess = scipy.special.expit(moved) - accuracy
        return float(value), inputs.T @ (size * excess) + 0.1 * change

    found = scipy.optimize.minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B")
    return np.asarray(inputs @ found.x)


def _invert(
    measured: float,
    confidence: Floats,
    start: Floats,
    direction: Floats,
    size: npt.NDArray[np.int_],
    most: float,
    replicates: int,
    alike: float,
) -> tuple[float, float, float]:
    """The interval of the true error along one direction, and the largest error along it."""
    share = size / size.sum()
    steps = np.concatenate([[0.0], np.geomspace(1e-4, 1e4, 400)])
    errors = np.abs(scipy.special.expit(start + steps[:, None] * direction) - confidence) @ share
    errors[0] = 0.0
    wanted = np.linspace(0.0, min(float(errors[-1]), most), 24)
    truth = scipy.special.expit(start + np.interp(wanted, errors, steps)[:, None] * direction)
    truth[0] = confidence
    random = np.random.default_rng(0)  # the same predictions give the same interval
    tried = np.maximum(1, np.rint(size / alike).astype(np.int64))
    drawn = random.binomial(tried, truth[:, None, :], (len(truth), replicates, len(size))) / tried
    simulated = np.abs(drawn - confidence) @ share
    # "weibull": a new draw falls below with exactly that probability, however few the replicates
    ends = np.quantile(simulated, (0.025, 0.5, 0.975), axis=1, method="weibull")
    below, middle, above = ends
    below, above = np.maximum.accumulate(below), np.maximum.accumulate(above)
    # A lucky sample proves nothing: the upper bound is never below the median error of a perfect
    # model (as in the power-constrained limits of Cowan et al., 2011).
    low = float(np.interp(measured, above, wanted, left=0.0))
    high = float(np.interp(max(measured, float(middle[0])), below, wanted, left=0.0))
    return low, high, float(errors[-1])

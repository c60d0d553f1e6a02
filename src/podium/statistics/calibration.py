"""Calibration of a model's confidence: NLL, Brier score, calibration error, temperature.

A model with a confidence of 90 % on each of a hundred images should be right on ninety of them.
The deviation from that is its calibration error; a single temperature, fitted on validation
images, usually removes most of it and never changes the predicted class (Guo, Pleiss, Sun &
Weinberger, 2017, "On calibration of modern neural networks").

Every estimate comes with a 95 % interval, because 500 images determine calibration only roughly:
even a *perfect* model would measure an error of two to six points on so few. See
`Calibration.expected_if_perfect` for the error expected from chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when they are first used

from podium.errors import ConfigError
from podium.runs.predictions import TopPredictions
from podium.statistics.calibration_error import REPLICATES, Estimate, error_interval
from podium.statistics.intervals import share_interval
from podium.statistics.losses import (
    check_finite,
    in_parts,
    kept_moments,
    mean_losses,
    scaled_logits,
)
from podium.statistics.paired import design_effect

if TYPE_CHECKING:
    from podium.runs.predictions import Predictions

BINS = 15  # as in Guo et al. (2017)
IMAGES_A_BIN = 20  # fewer are uninformative: 20 of 20 correct still leaves 84 to 100 %
TEMPERATURES = (0.05, 20.0)
FEWEST_TO_FIT = 20

LEAST_TO_PROMISE = 100
"""Images a temperature must be fitted on before its probabilities are called calibrated; see
`docs/statistics.md` for the errors to expect with fewer."""


Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ReliabilityBin:
    """Images of similar confidence, and their accuracy."""

    confidence: float
    """Mean confidence, 0..1."""
    accuracy: float
    """Share of correct predictions, 0..1."""
    low: float
    """Lower bound of the 95 % interval of the accuracy: Wilson's, or cluster-robust with groups."""
    high: float
    """Upper bound of the same interval."""
    n: int
    """Number of images."""


@dataclass(frozen=True)
class Calibration:
    """Calibration of one model on one split."""

    n: int
    """Number of images."""
    temperature: float
    """What the logits were divided by; 1 leaves them unchanged."""
    accuracy: float
    """Share of correct predictions, 0..1; independent of the temperature."""
    confidence: float
    """Mean confidence, 0..1: the probability of the predicted class."""
    overconfidence: Estimate
    """Mean confidence minus accuracy, -1..1; above 0 the model is overconfident. With fewer than
    25 groups of images no coverage is promised for its interval: a bad group may be missing."""
    nll: Estimate
    """Mean negative log-likelihood of the labels, in nats."""
    brier: Estimate
    """Mean squared distance of the probabilities from the one-hot label, 0..2."""
    ece: Estimate
    """Measured calibration error of the top label, 0..1, with the interval of the true error."""
    expected_if_perfect: Estimate
    """Mean and 95 % range of the error that a perfectly calibrated model would measure here."""
    bins: tuple[ReliabilityBin, ...]
    """From the lowest confidence to the highest."""
    histogram: tuple[int, ...]
    """Number of images with a confidence in 0..0.05, 0.05..0.1 and so on to 1: twenty counts."""

    @property
    def beyond_chance(self) -> bool:
        """Whether the measured error exceeds that of a perfect model in 97.5 % of cases."""
        return self.ece.value > self.expected_if_perfect.high


def calibrated_probabilities(predictions: Predictions, temperature: float = 1.0) -> Floats:
    """Softmax of the logits over `temperature`, shape (n, classes), rows summing to 1.

    Args:
        predictions: of n images.
        temperature: what to divide the logits by.

    Raises:
        DataError: there are no images, or a logit is not finite.
        ConfigError: the temperature is not a positive number.
    """
    return np.asarray(scipy.special.softmax(scaled_logits(predictions, temperature), axis=1))


def reliability_bins(
    predictions: Predictions, temperature: float = 1.0, *, bins: int = BINS
) -> tuple[ReliabilityBin, ...]:
    """Sort images by confidence and cut them into bins of equal size.

    Images of equal confidence share a bin, so the result does not depend on the order of files.

    Args:
        predictions: of n images.
        temperature: what to divide the logits by.
        bins: how many at most; fewer where a bin would hold fewer than 20 images.

    Raises:
        DataError: there are no images, or a logit is not finite.
        ConfigError: the temperature is not a positive number, or `bins` is less than 1.
    """
    confidence, right = _confidence(predictions, temperature)
    return _bins(confidence, right, bins, None)


def _bins(
    confidence: Floats, right: npt.NDArray[np.bool_], most: int, groups: Indices | None
) -> tuple[ReliabilityBin, ...]:
    found = []
    for part in _cut(confidence, most):
        low, high = share_interval(right[part], None if groups is None else groups[part])
        mean = float(confidence[part].mean()), float(right[part].mean())
        found.append(ReliabilityBin(*mean, low, high, len(part)))
    return tuple(found)


def _cut(confidence: Floats, most: int) -> list[npt.NDArray[np.intp]]:
    """Indices of the images of each bin, from the lowest confidence to the highest."""
    if most < 1:
        raise ConfigError(f"bins: expected 1 or more, got {most}.")
    n = len(confidence)
    count = max(1, min(most, n // IMAGES_A_BIN))
    order = np.argsort(confidence, kind="stable")
    ranked = confidence[order]
    ends = np.arange(1, count) * n // count
    kept = [0]
    for end in np.searchsorted(ranked, ranked[ends - 1], side="right"):
        # a boundary that moved past ties may leave too few images on one side
        if end - kept[-1] >= IMAGES_A_BIN and n - end >= IMAGES_A_BIN:
            kept.append(int(end))
    return np.split(order, kept[1:])


def _confidence(
    predictions: Predictions, temperature: float
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Probability of the predicted class of each image, and whether it is the label."""
    right = predictions.predicted == predictions.labels
    if isinstance(predictions, TopPredictions):
        return np.exp(-kept_moments(predictions, temperature).log_total), right
    check_finite(predictions, temperature)
    parts = map(predictions.take, in_parts(predictions))
    found = [calibrated_probabilities(part, temperature).max(axis=1) for part in parts]
    return np.concatenate(found), right


def ece(predictions: Predictions, temperature: float = 1.0, *, bins: int = BINS) -> Estimate:
    """Expected calibration error of the top label, with equal-mass bins (Naeini et al., 2015).

    The value is the plain sum over bins of share of images x |accuracy - confidence|. Noise in
    the bins never cancels in it, so it is biased upwards, by two to six points on 500 images. The
    interval is for the true error of these bins (`podium.statistics.calibration_error`), so the
    value may lie at its upper bound or above. Whether the model differs from a perfect one at all
    is answered by `expected_if_perfect`.

    Args:
        predictions: of n images.
        temperature: what to divide the logits by.
        bins: how many at most; fewer where a bin would hold fewer than 20 images.

    Returns:
        The measured error and the 95 % interval of the true one, all 0..1.

    Raises:
        DataError: there are no images, or a logit is not finite.
        ConfigError: the temperature is not a positive number, or `bins` is less than 1.
    """
    return _error(reliability_bins(predictions, temperature, bins=bins))


def _error(bins: tuple[ReliabilityBin, ...], alike: float = 1.0) -> Estimate:
    return error_interval(
        np.array([part.confidence for part in bins]),
        np.array([part.accuracy for part in bins]),
        np.array([part.n for part in bins]),
        alike=alike,
    )


def expected_if_perfect(
    predictions: Predictions, temperature: float = 1.0, *, bins: int = BINS
) -> Estimate:
    """The calibration error that a perfectly calibrated model would measure on as many images.

    Consistency resampling (Broecker & Smith, 2007): the confidences are kept, and each image is
    correct with a probability equal to its confidence, in 2,000 replicates.

    Args:
        predictions: of n images; their labels are not used.
        temperature: what to divide the logits by.
        bins: how many at most; fewer where a bin would hold fewer than 20 images.

    Returns:
        Mean and central 95 % range of the errors, 0..1.

    Raises:
        DataError: there are no images, or a logit is not finite.
        ConfigError: the temperature is not a positive number, or `bins` is less than 1.
    """
    confidence, _ = _confidence(predictions, temperature)
    return _perfect(confidence, bins)


def _perfect(confidence: Floats, most: int, alike: float = 1.0) -> Estimate:
    random = np.random.default_rng(0)
    errors = np.zeros(REPLICATES)
    for part in _cut(confidence, most):
        inside = confidence[part]
        gap = np.zeros(REPLICATES)
        for some in np.array_split(inside, max(1, len(inside) // 2000)):  # 32 MB at a time
            gap += (random.random((REPLICATES, len(some))) < some).sum(axis=1) - some.sum()
        errors += np.abs(gap) * math.sqrt(alike) / len(confidence)
    low, high = np.quantile(errors, (0.025, 0.975))
    return Estimate(float(errors.mean()), float(low), float(high))


def fit_temperature(predictions: Predictions) -> float:
    """The temperature that maximises the likelihood of the labels (Guo et al., 2017).

    Minimises the mean negative log-likelihood of logits / T over T in 0.05..20; it is convex in
    1 / T, so the minimum is unique. Above 1 the model was overconfident. At 20 its logits carry
    almost no information.

    Args:
        predictions: of the *validation* images.

    Returns:
        T; 1 where the images do not determine it: fewer than 20 images; one class; constant
        logits; or no mistakes, where the optimum is T = 0, total certainty, which no number of
        images can prove.

    Raises:
        DataError: there are no images, a logit is not finite, or not all of them are known.
    """
    logits = scaled_logits(predictions, 1.0)
    rows = np.arange(len(predictions))
    own = logits[rows, predictions.labels]
    if len(predictions) < FEWEST_TO_FIT or (own >= logits.max(axis=1)).all():
        return 1.0
    logits -= own[:, None]  # only differences matter, and the label's is 0

    def loss(log_temperature: float) -> float:
        return float(
            -scipy.special.log_softmax(logits / math.exp(log_temperature), axis=1)[
                rows, predictions.labels
            ].mean()
        )

    low, high = (math.log(bound) for bound in TEMPERATURES)
    found = scipy.optimize.minimize_scalar(
        loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}
    )
    # "bounded" never reaches the bounds
    best = min((float(found.x), low, high), key=loss)
    return math.exp(best)


def calibration(
    predictions: Predictions,
    temperature: float = 1.0,
    *,
    bins: int = BINS,
    groups: Indices | None = None,
) -> Calibration:
    """Compute all calibration measures of one model on one split.

    Args:
        predictions: of n images.
        temperature: what to divide the logits by, such as the one fitted on validation images.
        bins: how many at most; fewer where a bin would hold fewer than 20 images.
        groups: shape (n,), group index of each image, from 0: intervals are cluster-robust, and
            calibration errors are simulated with the effective number of images; None: images are
            independent.

    Raises:
        DataError: there are no images, or a logit is not finite.
        ConfigError: the temperature is not a positive number, or `bins` is less than 1.
    """
    confidence, right = _confidence(predictions, temperature)
    found = _bins(confidence, right, bins, groups)
    alike = design_effect(right - confidence, groups)
    likelihood, score, overconfidence = mean_losses(predictions, temperature, groups)
    return Calibration(
        n=len(predictions),
        temperature=temperature,
        accuracy=float(right.mean()),
        confidence=float(confidence.mean()),
        overconfidence=overconfidence,
        nll=likelihood,
        brier=score,
        ece=_error(found, alike),
        expected_if_perfect=_perfect(confidence, bins, alike),
        bins=found,
        histogram=tuple(np.histogram(confidence, bins=20, range=(0.0, 1.0))[0].tolist()),
    )

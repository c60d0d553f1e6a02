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

from podium.errors import ConfigError, DataError
from podium.statistics.calibration_error import REPLICATES, Estimate, error_interval
from podium.statistics.intervals import share_interval
from podium.statistics.paired import design_effect, seed_effect

if TYPE_CHECKING:
    from podium.runs.predictions import Predictions

BINS = 15  # as in Guo et al. (2017)
IMAGES_A_BIN = 20  # fewer are uninformative: 20 of 20 correct still leaves 84 to 100 %
TEMPERATURES = (0.05, 20.0)
FEWEST_TO_FIT = 20
_CHUNK = 4_000_000  # probabilities processed at a time

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
    """Mean confidence minus accuracy, -1..1; above 0 the model is overconfident."""
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
    return np.asarray(scipy.special.softmax(_scaled(predictions, temperature), axis=1))


def nll(
    predictions: Predictions, temperature: float = 1.0, groups: Indices | None = None
) -> Estimate:
    """Mean of -log p(label), in nats, with a 95 % interval of the population mean.

    Args:
        predictions: of n images.
        temperature: what to divide the logits by.
        groups: shape (n,), group index of each image, from 0; None: images are independent.

    Raises:
        DataError: there are no images, or a logit is not finite.
        ConfigError: the temperature is not a positive number.
    """
    return _losses(predictions, temperature, groups)[0]


def brier(
    predictions: Predictions, temperature: float = 1.0, groups: Indices | None = None
) -> Estimate:
    """Mean of the sum over classes of (p - one-hot label)^2 (Brier, 1950): 0 at best, 2 at worst.

    Args:
        predictions: of n images.
        temperature: what to divide the logits by.
        groups: shape (n,), group index of each image, from 0; None: images are independent.

    Raises:
        DataError: there are no images, or a logit is not finite.
        ConfigError: the temperature is not a positive number.
    """
    return _losses(predictions, temperature, groups)[1]


def _losses(
    predictions: Predictions, temperature: float, groups: Indices | None = None
) -> tuple[Estimate, Estimate, Estimate]:
    """NLL, Brier score and overconfidence, each a mean over the images with its interval."""
    logs = scipy.special.log_softmax(_scaled(predictions, temperature), axis=1)
    parts = np.array_split(np.arange(len(logs)), max(1, logs.size // _CHUNK))
    made = [_losses_of(logs[at], predictions.labels[at], predictions.predicted[at]) for at in parts]
    nlls, briers, excesses = np.concatenate(made, axis=2)
    return (
        _mean(nlls, 0.0, math.inf, groups),
        _mean(briers, 0.0, 2.0, groups),
        _mean(excesses, -1.0, 1.0, groups),
    )


def _losses_of(
    logs: Floats, labels: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64]
) -> Floats:
    """Each image's NLL, Brier score and overconfidence; shape (3, 3, images).

    The second axis: as observed; if the prediction were correct; the expectation if it were wrong,
    with the label drawn from the other classes by the model's probabilities.
    """
    rows = np.arange(len(logs))
    shares = np.exp(logs)
    squares, confidence = np.square(shares).sum(axis=1), shares[rows, predicted]
    found = np.empty((3, 3, len(logs)))
    for at, label in enumerate((labels, predicted)):
        found[0, at] = -logs[rows, label]
        found[1, at] = squares - 2 * shares[rows, label] + 1
        found[2, at] = confidence - (predicted == label)
    if logs.shape[1] == 1:
        found[:, 2] = found[:, 1]  # there is no other class
        return found
    others = logs.copy()
    others[rows, predicted] = -np.inf
    chances = scipy.special.softmax(others, axis=1)
    others[rows, predicted] = 0.0
    found[0, 2] = -(chances * others).sum(axis=1)
    found[1, 2] = squares - 2 * (chances * shares).sum(axis=1) + 1
    found[2, 2] = confidence
    return found


def _mean(values: Floats, least: float, most: float, groups: Indices | None) -> Estimate:
    """Mean with a Student t interval that adds two pseudo-images.

    A few confident mistakes dominate such a mean, and a sample without them varies too little: with
    50 images at 97 to 99 % accuracy, plain intervals covered the truth in only 36 to 83 % of cases.
    One correct and one wrong pseudo-image, each with the value that the model expects, fix that, as
    two of each do for a proportion (Agresti & Coull, 1998).

    Args:
        values: shape (3, n): as observed, if correct, if wrong.
        least: smallest possible value.
        most: largest possible value.
        groups: group index of each image; the pseudo-images then weigh as much as an effective one.
    """
    mean = float(values[0].mean())
    more = values[1:].mean(axis=1)
    n, freedom = float(values.shape[1]), values.shape[1] + 1
    spread = float(((values[0] - mean) ** 2).sum())
    if groups is not None:
        by_groups = seed_effect(values[:1], groups)
        count = int(groups.max()) + 1
        freedom = max(1, count - 1)
        variance = by_groups.image_square / by_groups.count
        alike = max(1.0, variance * n * n / spread) if spread else n / count
        n, spread = n / alike, variance * (n / alike) ** 2
    middle = (n * mean + float(more.sum())) / (n + 2)
    spread += n * (mean - middle) ** 2 + float(((more - middle) ** 2).sum())
    # without groups the usual n - 1 of a variance; that of groups has it already
    divisor = n + 1 if groups is None else n + 2
    reach = float(scipy.special.stdtrit(freedom, 0.975))
    half = reach * math.sqrt(spread / divisor / (n + 2))
    mean = min(most, max(least, mean))
    return Estimate(mean, max(least, min(mean, middle - half)), min(most, max(mean, middle + half)))


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
    probabilities = calibrated_probabilities(predictions, temperature)
    return probabilities.max(axis=1), predictions.predicted == predictions.labels


def _scaled(predictions: Predictions, temperature: float) -> Floats:
    if not len(predictions):
        raise DataError("Expected predictions of at least one image, got none: nothing to score.")
    if not (math.isfinite(temperature) and temperature > 0):
        raise ConfigError(f"temperature: expected a positive number, got {temperature}.")
    finite = np.asarray(np.isfinite(predictions.logits).all(axis=1))
    if not finite.all():
        raise DataError(
            f"Expected finite logits, got NaN or infinite ones for {int((~finite).sum())} of "
            f"{len(finite)} images, such as {predictions.paths[int(finite.argmin())]}. "
            "The model's weights are probably damaged: train it again."
        )
    return predictions.logits.astype(np.float64) / temperature


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
        DataError: there are no images, or a logit is not finite.
    """
    logits = _scaled(predictions, 1.0)
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
    likelihood, score, overconfidence = _losses(predictions, temperature, groups)
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

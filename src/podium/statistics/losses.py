"""NLL, Brier score and overconfidence of a model: means over images, each with its interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when they are first used

from podium.errors import ConfigError, DataError
from podium.runs.predictions import TopPredictions
from podium.statistics.calibration_error import Estimate
from podium.statistics.paired import seed_effect

if TYPE_CHECKING:
    from podium.runs.predictions import Predictions
    from podium.runs.top_logits import Moments

_CHUNK = 4_000_000  # probabilities processed at a time

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def scaled_logits(predictions: Predictions, temperature: float = 1.0) -> Floats:
    """Logits over a temperature, in double precision; shape (n, classes).

    Args:
        predictions: of n images.
        temperature: what to divide the logits by.

    Raises:
        DataError: there are no images, a logit is not finite, or not all of them are known.
        ConfigError: the temperature is not a positive number.
    """
    if isinstance(predictions, TopPredictions):
        raise DataError(
            f"This needs every logit; the file holds the {predictions.top.classes.shape[1]} "
            f"largest of {len(predictions.class_names):,} classes. Predict the images again with "
            "podium.evaluate."
        )
    check_finite(predictions, temperature)
    return predictions.logits.astype(np.float64) / temperature


def check_finite(predictions: Predictions, temperature: float) -> None:
    """Check predictions and a temperature before anything is computed from them.

    Args:
        predictions: of n images.
        temperature: what to divide the logits by.

    Raises:
        DataError: there are no images, or a logit is not finite.
        ConfigError: the temperature is not a positive number.
    """
    if not len(predictions):
        raise DataError("Expected predictions of at least one image, got none: nothing to score.")
    if not (math.isfinite(temperature) and temperature > 0):
        raise ConfigError(f"temperature: expected a positive number, got {temperature}.")
    if isinstance(predictions, TopPredictions):
        sums = predictions.top.moments[0]
        finite = np.isfinite(sums.log_total) & np.isfinite(sums.surprise)
        finite &= np.isfinite(predictions.top.label)
    else:
        finite = np.asarray(np.isfinite(predictions.logits).all(axis=1))
    if not finite.all():
        raise DataError(
            f"Expected finite logits, got NaN or infinite ones for {int((~finite).sum())} of "
            f"{len(finite)} images, such as {predictions.paths[int(finite.argmin())]}. "
            "The model's weights are probably damaged: train it again."
        )


def in_parts(predictions: Predictions) -> list[slice]:
    """Slices of a few million logits: in double precision, all at once could exhaust memory."""
    step = max(1, _CHUNK // max(1, len(predictions.class_names)))
    return [slice(at, at + step) for at in range(0, len(predictions), step)]


def kept_moments(predictions: TopPredictions, temperature: float) -> Moments:
    """Sums over all classes at one of the two temperatures that a file has them for.

    Args:
        predictions: of n images.
        temperature: what to divide the logits by.

    Raises:
        DataError: there are no images, a logit is not finite, or it is another temperature.
        ConfigError: the temperature is not a positive number.
    """
    check_finite(predictions, temperature)
    found = predictions.top.at(temperature)
    if found is None:
        raise DataError(
            f"Calibration at temperature {temperature:g} needs every logit; the file has sums "
            f"over its {len(predictions.class_names):,} classes at 1 and "
            f"{predictions.top.temperature:g}. Predict the images again with podium.evaluate."
        )
    return found


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
    return mean_losses(predictions, temperature, groups)[0]


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
    return mean_losses(predictions, temperature, groups)[1]


def mean_losses(
    predictions: Predictions, temperature: float, groups: Indices | None = None
) -> tuple[Estimate, Estimate, Estimate]:
    """NLL, Brier score and overconfidence, each a mean over the images with its interval.

    Args:
        predictions: of n images.
        temperature: what to divide the logits by.
        groups: shape (n,), group index of each image, from 0; None: images are independent.

    Raises:
        DataError: there are no images, or a logit is not finite.
        ConfigError: the temperature is not a positive number.
    """
    if isinstance(predictions, TopPredictions):
        made = [_losses_of_kept(predictions, temperature)]
    else:
        check_finite(predictions, temperature)
        made = []
        for at in in_parts(predictions):
            scaled = scaled_logits(predictions.take(at), temperature)
            logs = scipy.special.log_softmax(scaled, axis=1)
            labels, predicted = predictions.labels[at], predictions.predicted[at]
            made.append(_losses_of(logs, labels, predicted))
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


def _losses_of_kept(predictions: TopPredictions, temperature: float) -> Floats:
    """The same as `_losses_of`, from the kept logits and the sums over the others."""
    top, sums = predictions.top, kept_moments(predictions, temperature)
    best, behind = -sums.log_total, top.label.astype(np.float64) - top.logits[:, 0]
    label = best + behind / temperature
    confidence, rest = np.exp(best), -np.expm1(best)
    squares = np.square(confidence) + sums.squares
    right = predictions.predicted == predictions.labels
    found = np.empty((3, 3, len(best)))
    for at, (log, hit) in enumerate(((label, right), (best, np.ones_like(right)))):
        found[0, at] = -log
        found[1, at] = squares - 2 * np.exp(log) + 1
        found[2, at] = confidence - hit
    # the mean of p over the other classes, weighted with p: no more than all of it
    mean = np.divide(sums.squares, rest, out=np.zeros_like(rest), where=rest > 0)
    found[0, 2] = sums.surprise
    found[1, 2] = squares - 2 * np.minimum(mean, rest) + 1
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
    n = float(values.shape[1])
    spread = float(((values[0] - mean) ** 2).sum())
    if groups is not None:
        effect = seed_effect(values[:1], groups)
        over_groups = effect.image_square / effect.count
        n /= max(1.0, over_groups * n * n / spread) if spread else n / (effect.image_freedom + 1)
    middle = (n * mean + float(more.sum())) / (n + 2)
    added = n * (mean - middle) ** 2 + float(((more - middle) ** 2).sum())
    if groups is None:
        variance, freedom = (spread + added) / (n + 1) / (n + 2), n + 1
    else:  # of few groups, pseudo-images must not make the variance smaller
        variance, freedom = over_groups + added / (n + 2) ** 2, effect.image_freedom
    half = float(scipy.special.stdtrit(freedom, 0.975)) * math.sqrt(variance)
    mean = min(most, max(least, mean))
    return Estimate(mean, max(least, min(mean, middle - half)), min(most, max(mean, middle + half)))

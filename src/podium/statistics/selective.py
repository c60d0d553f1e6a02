"""Accuracy of a model that leaves the images it is least certain of unanswered.

The certainty of an answer is its log-odds, which rank answers as its probability does, but do not
round to 1. Where several images share the certainty at the cut, each counts as the same fraction:
the result does not depend on the order of files.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when they are first used

from podium.runs.predictions import Predictions, TopPredictions
from podium.statistics.losses import check_finite, in_parts, kept_moments

Values = npt.NDArray[np.float64]
Logits = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

ANSWERED = 0.9
"""Share of images that reports let a model answer."""

_NEAR = 0.05  # share of images on either side of the cut that its accuracy is estimated from
_CHUNK = 4_000_000  # logits processed at a time


def log_odds(logits: Logits, temperature: float = 1.0) -> Values:
    """The log-odds of the likeliest class of each image, shape (n,).

    Args:
        logits: shape (n, classes).
        temperature: what to divide them by.
    """
    if logits.shape[1] == 1:
        return np.zeros(len(logits))
    found, rows = np.empty(len(logits)), max(1, _CHUNK // logits.shape[1])
    for at in range(0, len(logits), rows):
        part = logits[at : at + rows].astype(np.float64) / temperature
        best = part.max(axis=1)
        part[np.arange(len(part)), part.argmax(axis=1)] = -np.inf
        found[at : at + rows] = best - scipy.special.logsumexp(part, axis=1)
    return found


def certainty(predictions: Predictions, temperature: float = 1.0) -> Values:
    """The same of a split's predictions, of which a file may hold only the largest logits.

    Args:
        predictions: of n images.
        temperature: what to divide the logits by: it changes the order of images.

    Raises:
        DataError: there are no images, or a logit is not finite.
        ConfigError: the temperature is not a positive number.
    """
    if isinstance(predictions, TopPredictions):
        with np.errstate(divide="ignore"):  # all of the probability: infinite odds
            return np.asarray(-np.log(np.expm1(kept_moments(predictions, temperature).log_total)))
    check_finite(predictions, temperature)
    parts = map(predictions.take, in_parts(predictions))
    return np.concatenate([log_odds(part.logits, temperature) for part in parts])


def answered_weights(certain: Values, share: float) -> Values:
    """1 for each image that is answered, 0 for the others, a fraction for those tied at the cut.

    Args:
        certain: certainty of each image, shape (n,), one image or more.
        share: of images to answer, above 0 and at most 1; rounded up to whole images.
    """
    many = _answered(len(certain), share)
    cut = np.partition(certain, len(certain) - many)[len(certain) - many]
    above, tied = certain > cut, certain == cut
    return np.asarray(above + tied * (many - above.sum()) / tied.sum())


def _answered(n: int, share: float) -> int:
    return max(1, math.ceil(share * n - 1e-9))


def accuracy_answered(certain: Values, right: Values, share: float) -> float:
    """The accuracy over the images that are answered, 0..1.

    Args:
        certain: certainty of each image, shape (n,), one image or more.
        right: 1 for correct and 0 for wrong answers, shape (n,).
        share: of images to answer, above 0 and at most 1.

    Examples:
        >>> import numpy as np
        >>> certain, right = np.array([4.0, 3.0, 2.0, 1.0, 0.0]), np.array([1.0, 1, 0, 1, 0])
        >>> accuracy_answered(certain, right, 0.8), accuracy_answered(certain, right, 0.4)
        (0.75, 1.0)
    """
    weights = answered_weights(certain, share)
    return float(weights @ right / weights.sum())


def answered_values(certain: Values, right: Values, share: float) -> Values:
    """Each image's contribution to `accuracy_answered`, shape (n,): their mean is that accuracy.

    Another image also moves the cut, past images that are right as often as those near it: so what
    counts is by how much an answered image is better than those. Their accuracy is estimated from
    the tenth of the images around the cut; the jackknife would take it from a single one.

    Args:
        certain: certainty of each image, shape (n,), one image or more.
        right: 1 for correct and 0 for wrong answers, shape (n,).
        share: of images to answer, above 0 and at most 1.
    """
    n, weights = len(certain), answered_weights(certain, share)
    many = weights.sum()
    whole = float(weights @ right / many)
    ranked = np.sort(certain)[::-1]
    reach, at = max(1, round(_NEAR * n)), _answered(n, share) - 1
    near = certain <= ranked[max(0, at - reach)]
    near &= certain >= ranked[min(n - 1, at + reach)]
    level = float(right[near].mean())
    return np.asarray(whole + weights * (right - level) * n / many - (whole - level))


def risk_curve(certain: Values, right: Values) -> Values:
    """The error over the k most certain images, for k from 1 to n: the risk-coverage curve.

    Args:
        certain: certainty of each image, shape (n,).
        right: 1 for correct and 0 for wrong answers, shape (n,).

    Returns:
        Shape (n,), 0..1; where images are tied, the mean over their orders.
    """
    order = np.argsort(-certain, kind="stable")
    _, tied, sizes = np.unique(-certain[order], return_inverse=True, return_counts=True)
    expected = (np.bincount(tied, right[order]) / sizes)[tied]
    return np.asarray(1 - expected.cumsum() / np.arange(1, len(order) + 1))


def accuracy_at_90(logits: Logits, labels: Labels) -> float:
    """Accuracy over the 90 % of images whose answers are the most certain."""
    return accuracy_answered(log_odds(logits), _right(logits, labels), ANSWERED)


def values_at_90(logits: Logits, labels: Labels) -> Values:
    """Each image's contribution to it."""
    return answered_values(log_odds(logits), _right(logits, labels), ANSWERED)


def _right(logits: Logits, labels: Labels) -> Values:
    return np.asarray(logits.argmax(axis=1) == labels, np.float64)

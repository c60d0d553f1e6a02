"""Figures of merit from a predictions file. Pure functions on numpy; scikit-learn does the sums.

All shares are in 0..1. A class without an image in the split has no recall, so it is reported
with a support of 0 and left out of the macro averages: they are means over the classes that
occur as labels. A class that was never predicted has no precision and counts as 0, as in
scikit-learn with `zero_division=0`. On a split with equally many images a class, macro recall
therefore equals accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from podium.errors import DataError

if TYPE_CHECKING:
    from podium.runs.predictions import Predictions

_CHUNK = 4_000_000  # logits that are looked at together


@dataclass(frozen=True)
class Scores:
    """How good the predictions of a split are, over all its images."""

    n: int
    """Images."""
    correct: int
    """Images whose largest logit is that of their label."""
    accuracy: float
    """`correct / n`."""
    macro_precision: float
    """Mean precision over the classes that occur as labels."""
    macro_recall: float
    """Mean recall over the same classes."""
    macro_f1: float
    """Mean F1 over the same classes."""
    top5_accuracy: float | None
    """Share of images whose label is among the five largest logits; none up to 5 classes."""
    nll: float
    """Mean negative log-likelihood of the labels, in nats: the cross-entropy."""


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of one class."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    """Images of this class."""
    predicted: int
    """Images that were taken for this class."""

    @property
    def undefined(self) -> bool:
        """Whether a figure stands at 0 only because its denominator is 0."""
        return self.support == 0 or self.predicted == 0


class Confusion(NamedTuple):
    """One way of being wrong: `images` of class `true` were taken for `predicted`."""

    true: str
    predicted: str
    images: int
    share: float
    """`images` over the images of class `true`."""


def scores(predictions: Predictions) -> Scores:
    """Accuracy, macro averages, top-5 accuracy and negative log-likelihood of a split.

    Args:
        predictions: of every image of the split, as `RunFolder.read_predictions` gives them.

    Raises:
        DataError: there is not one image.
    """
    from sklearn.metrics import precision_recall_fscore_support

    _refuse_empty(predictions)
    labels, predicted = predictions.labels, predictions.predicted
    correct = int((labels == predicted).sum())
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predicted, labels=np.unique(labels), average="macro", zero_division=0
    )
    return Scores(
        n=len(predictions),
        correct=correct,
        accuracy=correct / len(predictions),
        macro_precision=float(precision),
        macro_recall=float(recall),
        macro_f1=float(f1),
        top5_accuracy=top_k_accuracy(predictions, 5) if len(predictions.class_names) > 5 else None,
        nll=negative_log_likelihood(predictions),
    )


def per_class(predictions: Predictions) -> list[ClassScores]:
    """Precision, recall and F1 of every class, in the order of `class_names`.

    Args:
        predictions: of every image of a split, as for `scores`.

    Raises:
        DataError: there is not one image.
    """
    from sklearn.metrics import precision_recall_fscore_support

    _refuse_empty(predictions)
    count = len(predictions.class_names)
    predicted = predictions.predicted
    precision, recall, f1, support = precision_recall_fscore_support(
        predictions.labels, predicted, labels=np.arange(count), average=None, zero_division=0
    )
    taken = np.bincount(predicted, minlength=count)
    return [
        ClassScores(name, float(p), float(r), float(f), int(s), int(t))
        for name, p, r, f, s, t in zip(
            predictions.class_names, precision, recall, f1, support, taken, strict=True
        )
    ]


def confusion(
    predictions: Predictions, among: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.int64]:
    """Counts, shape (classes, classes): row = true class, column = predicted class.

    Args:
        predictions: of a split.
        among: numbers of the classes to count, in the order wanted; images of others, or taken
            for others, are left out. Empty: all classes.

    Raises:
        DataError: there is not one image.
    """
    from sklearn.metrics import confusion_matrix

    _refuse_empty(predictions)
    labels, predicted = predictions.labels, predictions.predicted
    shown = np.arange(len(predictions.class_names)) if among is None else among
    if not np.isin(labels, shown).any():  # scikit-learn refuses that
        return np.zeros((len(shown), len(shown)), dtype=np.int64)
    return np.asarray(confusion_matrix(labels, predicted, labels=shown), dtype=np.int64)


def most_confused(predictions: Predictions, k: int) -> list[Confusion]:
    """The `k` most frequent confusions, fewer where there are no more.

    Sorted by count, then by share of the true class, then by the classes' order.

    Raises:
        DataError: there is not one image.
    """
    _refuse_empty(predictions)
    names, labels, predicted = (
        predictions.class_names,
        predictions.labels,
        predictions.predicted,
    )
    support = np.bincount(labels, minlength=len(names))
    # not from the matrix: with 10,000 classes that has 100 million cells
    wrong = labels != predicted
    found = np.stack([labels[wrong], predicted[wrong]], 1)
    ways, counts = np.unique(found, axis=0, return_counts=True)
    pairs = [
        (int(count), float(count / support[i]), int(i), int(j))
        for (i, j), count in zip(ways, counts, strict=True)
    ]
    pairs.sort(key=lambda pair: (-pair[0], -pair[1], pair[2], pair[3]))
    return [Confusion(names[i], names[j], count, share) for count, share, i, j in pairs[:k]]


def top_k_accuracy(predictions: Predictions, k: int) -> float:
    """Share of images whose label is among the `k` largest logits.

    Of equal logits the first counts as larger, as in `argmax`, so k = 1 gives the accuracy.

    Raises:
        DataError: there is not one image.
    """
    _refuse_empty(predictions)
    hits = 0
    for logits, labels in _in_chunks(predictions):
        own = logits[np.arange(len(labels)), labels][:, None]
        before = np.arange(logits.shape[1]) < labels[:, None]
        rank = (logits > own).sum(axis=1) + ((logits == own) & before).sum(axis=1)
        hits += int((rank < k).sum())
    return hits / len(predictions)


def negative_log_likelihood(predictions: Predictions) -> float:
    """Mean of -log softmax(logits)[label], in nats.

    Raises:
        DataError: there is not one image.
    """
    from scipy.special import log_softmax

    _refuse_empty(predictions)
    losses = [
        -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]
        for logits, labels in _in_chunks(predictions)
    ]
    return float(np.concatenate(losses).mean())


def _in_chunks(
    predictions: Predictions,
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
    """Logits and labels of some images at a time: in double precision all would fill the memory."""
    rows = max(1, _CHUNK // max(1, len(predictions.class_names)))
    for at in range(0, len(predictions), rows):
        yield predictions.logits[at : at + rows], predictions.labels[at : at + rows]


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share, `correct` out of `n` (Wilson, 1927); both in 0..1.

    It says how far chance in the choice of the test images alone could have moved the share.
    """
    from scipy.stats import binomtest

    interval = binomtest(correct, n).proportion_ci(confidence_level=confidence, method="wilson")
    return float(interval.low), float(interval.high)


def _refuse_empty(predictions: Predictions) -> None:
    if not len(predictions):
        raise DataError("Expected predictions of one image or more, got none: nothing to score.")

"""Classification metrics of a split's predictions. Pure functions on numpy, using scikit-learn.

All shares are in 0..1. A class without images in the split has no recall, so it is reported with
a support of 0 and left out of the macro averages, which are means over the classes that occur as
labels. A class that was never predicted has no precision and counts as 0, as in scikit-learn with
`zero_division=0`. On a split with equally many images per class, macro recall therefore equals
accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from podium.errors import DataError
from podium.runs.predictions import TopPredictions

if TYPE_CHECKING:
    from podium.runs.predictions import Predictions

_CHUNK = 4_000_000  # logits processed at a time


@dataclass(frozen=True)
class Scores:
    """Metrics over all images of a split."""

    n: int
    """Number of images."""
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
    """Share of images whose label is among the five largest logits; None with 5 classes or fewer.
    """
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
    """Images that were predicted as this class."""
    by_groups: tuple[float, float] | None = None
    """95 % interval of the recall that counts groups; None: images are independent."""

    @property
    def shown(self) -> tuple[float | None, float | None, float | None]:
        """Precision, recall and F1 as tables show them; None where the value is undefined.

        The attributes are 0 there, as macro averages count them: precision without images
        predicted as the class, recall without images of it, F1 without either.
        """
        return (
            self.precision if self.predicted else None,
            self.recall if self.support else None,
            self.f1 if self.predicted or self.support else None,
        )

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the recall, 0..1: cluster-robust with groups of images, else Wilson's.

        Needs a support of 1 or more.
        """
        return self.by_groups or wilson_interval(round(self.recall * self.support), self.support)


class Confusion(NamedTuple):
    """One kind of mistake: `images` of class `true` were predicted as `predicted`."""

    true: str
    predicted: str
    images: int
    share: float
    """`images` over the images of class `true`."""


def scores(predictions: Predictions) -> Scores:
    """Accuracy, macro averages, top-5 accuracy and negative log-likelihood of a split.

    Args:
        predictions: of every image of the split, as returned by `RunFolder.read_predictions`.

    Raises:
        DataError: there are no images.

    Examples:
        >>> import numpy as np
        >>> import podium
        >>> predictions = podium.Predictions(
        ...     class_names=("cat", "dog"),
        ...     paths=("1.jpg", "2.jpg", "3.jpg", "4.jpg"),
        ...     labels=np.array([0, 0, 1, 1]),
        ...     logits=np.array([[2, 0], [3, 0], [1, 0], [0, 4]], np.float32),
        ... )
        >>> found = podium.scores(predictions)
        >>> found.correct, found.accuracy, found.macro_recall
        (3, 0.75, 0.75)
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
        predictions: of every image of the split, as returned by `RunFolder.read_predictions`.

    Raises:
        DataError: there are no images.

    Examples:
        >>> import numpy as np
        >>> import podium
        >>> predictions = podium.Predictions(
        ...     class_names=("cat", "dog"),
        ...     paths=("1.jpg", "2.jpg", "3.jpg", "4.jpg"),
        ...     labels=np.array([0, 0, 1, 1]),
        ...     logits=np.array([[2, 0], [3, 0], [1, 0], [0, 4]], np.float32),
        ... )
        >>> [(one.name, one.recall, one.support) for one in podium.per_class(predictions)]
        [('cat', 1.0, 2), ('dog', 0.5, 2)]
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
    """Confusion matrix, shape (classes, classes): row = true class, column = predicted class.

    Args:
        predictions: of a split.
        among: indices of the classes to count, in the order wanted; images of other classes, or
            predicted as other classes, are left out. None: all classes.

    Raises:
        DataError: there are no images.
    """
    from sklearn.metrics import confusion_matrix

    _refuse_empty(predictions)
    labels, predicted = predictions.labels, predictions.predicted
    shown = np.arange(len(predictions.class_names)) if among is None else among
    if not np.isin(labels, shown).any():  # scikit-learn raises an error here
        return np.zeros((len(shown), len(shown)), dtype=np.int64)
    return np.asarray(confusion_matrix(labels, predicted, labels=shown), dtype=np.int64)


def most_confused(predictions: Predictions, k: int) -> list[Confusion]:
    """The most frequent confusions, by count, then by share of the true class, then by class order.

    Args:
        predictions: of a split.
        k: how many to return at most.

    Raises:
        DataError: there are no images.
    """
    _refuse_empty(predictions)
    names, labels, predicted = (
        predictions.class_names,
        predictions.labels,
        predictions.predicted,
    )
    support = np.bincount(labels, minlength=len(names))
    # not from the matrix: with 10,000 classes it has 100 million cells
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

    Ties go to the first class, as in `argmax`, so k = 1 gives the accuracy.

    Args:
        predictions: of a split.
        k: 1 or more.

    Raises:
        DataError: there are no images, or their file holds fewer than `k` logits of each.
    """
    _refuse_empty(predictions)
    if isinstance(predictions, TopPredictions):
        return _top_k_of_kept(predictions, k)
    hits = 0
    for logits, labels in _in_chunks(predictions):
        own = logits[np.arange(len(labels)), labels][:, None]
        before = np.arange(logits.shape[1]) < labels[:, None]
        rank = (logits > own).sum(axis=1) + ((logits == own) & before).sum(axis=1)
        hits += int((rank < k).sum())
    return hits / len(predictions)


def _top_k_of_kept(predictions: TopPredictions, k: int) -> float:
    kept = predictions.top.classes
    if k > kept.shape[1] and k < len(predictions.class_names):
        raise DataError(
            f"Top-{k} accuracy needs the {k} largest logits of each image; the file holds "
            f"{kept.shape[1]} of {len(predictions.class_names):,}."
        )
    return float((kept[:, :k] == predictions.labels[:, None]).any(axis=1).mean())


def negative_log_likelihood(predictions: Predictions) -> float:
    """Mean of -log softmax(logits)[label], in nats.

    Args:
        predictions: of a split.

    Raises:
        DataError: there are no images.
    """
    from scipy.special import log_softmax

    _refuse_empty(predictions)
    if isinstance(predictions, TopPredictions):
        top = predictions.top
        behind = top.logits[:, 0].astype(np.float64) - top.label
        return float((top.moments[0].log_total + behind).mean())
    losses = [
        -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]
        for logits, labels in _in_chunks(predictions)
    ]
    return float(np.concatenate(losses).mean())


def _in_chunks(
    predictions: Predictions,
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
    """Logits and labels in chunks: in double precision, all at once could exhaust memory."""
    rows = max(1, _CHUNK // max(1, len(predictions.class_names)))
    for at in range(0, len(predictions), rows):
        yield predictions.logits[at : at + rows], predictions.labels[at : at + rows]


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson, 1927).

    It covers only the uncertainty from the random choice of test images.

    Args:
        correct: number of correct images.
        n: number of images.
        confidence: confidence level, 0..1.

    Returns:
        Lower and upper bound, 0..1.
    """
    from scipy.stats import binomtest

    interval = binomtest(correct, n).proportion_ci(confidence_level=confidence, method="wilson")
    return float(interval.low), float(interval.high)


def _refuse_empty(predictions: Predictions) -> None:
    if not len(predictions):
        raise DataError("Expected predictions of at least one image, got none: nothing to score.")

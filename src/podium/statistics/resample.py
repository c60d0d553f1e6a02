"""Macro F1 on resampled images, with one set of resamples for all models."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.float64]

MOST_WEIGHTS = 4_000_000  # numbers in memory at a time


def macro_f1(
    labels: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], classes: int
) -> float:
    """Mean F1 over the classes that occur as labels, 0..1, as in scikit-learn.

    Args:
        labels: shape (n,), class indices.
        predicted: shape (n,), class indices.
        classes: number of classes.
    """
    return float(_macro_f1(labels, predicted, classes, np.ones((len(labels), 1)))[0])


def resampled_macro_f1(
    labels: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    classes: int,
    *,
    resamples: int,
    seed: int = 0,
    groups: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.float64]:
    """Macro F1 of every model on the same resamples of the images.

    Images are drawn with replacement and not stratified by class: on a test set of five images
    per class, stratified resamples would vary a fifth too little.

    Args:
        labels: shape (n,), class indices.
        predicted: shape (models, n), class indices.
        classes: number of classes.
        resamples: how many to draw.
        seed: of the draws; the same seed gives the same values.
        groups: shape (n,), group index of each image, from 0, to draw whole groups; None: draw
            single images.

    Returns:
        Shape (models, resamples), 0..1.
    """
    n = len(labels)
    units = n if groups is None else int(groups.max()) + 1
    random = np.random.default_rng(seed)
    step = max(1, min(resamples, MOST_WEIGHTS // max(1, n)))
    found = np.empty((len(predicted), resamples))
    for begin in range(0, resamples, step):
        count = min(step, resamples - begin)
        weights = np.empty((n, count))
        for column in range(count):
            often = np.bincount(random.integers(0, units, units), minlength=units)
            weights[:, column] = often if groups is None else often[groups]
        for model, answers in enumerate(predicted):
            found[model, begin : begin + count] = _macro_f1(labels, answers, classes, weights)
    return found


def _macro_f1(
    labels: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    classes: int,
    weights: Weights,
) -> npt.NDArray[np.float64]:
    """`weights` has shape (n, resamples): how often each image was drawn."""
    right = labels == predicted
    support = _sums(labels, weights, classes)
    taken = _sums(predicted, weights, classes)
    hits = _sums(labels[right], weights[right], classes)
    present = support > 0
    f1 = np.divide(2 * hits, support + taken, out=np.zeros_like(hits), where=present)
    return np.asarray(f1.sum(axis=0) / present.sum(axis=0))


def _sums(groups: npt.NDArray[np.int64], weights: Weights, classes: int) -> Weights:
    """Sum of the weights of each class, shape (classes, resamples)."""
    if weights.shape[1] == 1:
        return np.asarray(np.bincount(groups, weights[:, 0], classes)[:, None], np.float64)
    from scipy.sparse import csr_array

    n = len(groups)
    indicator = csr_array((np.ones(n), (groups, np.arange(n))), shape=(classes, n))
    return np.asarray(indicator @ weights)

"""Linear discriminant analysis, out of fold, with one covariance for all classes.

The covariance is shrunk as by Ledoit & Wolf (2004), "A well-conditioned estimator for
large-dimensional covariance matrices". Whatever is estimated is a sum over images, so that features
are read in parts, and every image is used however many there are. The sums of each fold are
computed once; each training set is the total minus one fold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when they are first used
from scipy.linalg import cho_factor, cho_solve

from podium.features.scaling import Standardised, mean_of
from podium.runtime.large_array import LargeArray, Table, in_parts

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Sums:
    """Sums over the images of each fold.

    `squares`: products of the features, (folds, d, d); `of_class`: features, (folds, classes, d);
    `counts`: images, (folds, classes).
    """

    squares: Doubles
    of_class: Doubles
    counts: Doubles

    def means_without(self, fold: int) -> tuple[Doubles, Doubles]:
        """Means, (classes, d), and counts, (classes,), of the images that are not in a fold."""
        count = self.counts.sum(axis=0) - self.counts[fold]
        total = self.of_class.sum(axis=0) - self.of_class[fold]
        return total / np.maximum(count, 1)[:, None], count


@dataclass(frozen=True)
class _Classifier:
    """Linear in the features: `weights`, (d, classes), and `offset`, (classes,).

    `present`: the classes that it has learned, (classes,).
    """

    weights: Floats
    offset: Doubles
    present: Mask

    def scores(self, values: Floats) -> Doubles:
        """Log-posteriors, up to a constant for each image: (n, classes)."""
        scores = np.asarray(values @ self.weights + self.offset)
        # duplicates with several labels can keep a whole class in one fold: it cannot be judged
        # there, so it gets the benefit of the doubt
        scores[:, ~self.present] = scores[:, self.present].max(axis=1, keepdims=True)
        return scores


def out_of_fold_logits(features: Table, labels: Integers, fold: Integers) -> LargeArray:
    """Compute out-of-fold log-posteriors of each image, up to a constant.

    Args:
        features: float of shape (n, d).
        labels: of shape (n,), from 0 to classes - 1.
        fold: fold of each image, shape (n,), from 0.

    Returns:
        float32 of shape (n, classes).
    """
    classes, folds, size = int(labels.max()) + 1, int(fold.max()) + 1, features.shape[1]
    # float32 is precise enough for small numbers
    mean = mean_of(features).astype(np.float32)
    centred: Table = Standardised(features, mean, np.ones_like(mean))
    if len(features) < size:
        centred = _within_their_span(np.asarray(centred[:]))
    classifiers = _fitted(centred, labels, fold, folds, classes, size)
    logits = LargeArray(len(labels), (classes,), np.float32)
    for place, values in in_parts(centred):
        scores = np.empty((len(values), classes))
        for number, classifier in enumerate(classifiers):
            held = fold[place] == number
            scores[held] = classifier.scores(values[held])
        logits[place] = scores
    return logits


def _fitted(
    features: Table, labels: Integers, fold: Integers, folds: int, classes: int, size: int
) -> list[_Classifier]:
    """For each fold, the classifier of the images that are not in it."""
    sums = _sums(features, labels, fold, folds, classes)
    lengths = _mean_squared_lengths(features, labels, fold, sums)
    total = sums.squares.sum(axis=0)
    found = []
    for held, squared in enumerate(lengths):
        means, count = sums.means_without(held)
        within = total - sums.squares[held]
        within = (within - (means.T * count) @ means) / count.sum()
        shrunk = _shrink(within, squared, int(count.sum()), size)
        weights = cho_solve(cho_factor(shrunk), means.T)
        prior = np.log(np.maximum(count, 1) / count.sum())
        offset = prior - 0.5 * (means.T * weights).sum(axis=0)
        found.append(_Classifier(weights.astype(np.float32), offset, count > 0))
    return found


def _sums(features: Table, labels: Integers, fold: Integers, folds: int, classes: int) -> _Sums:
    size = features.shape[1]
    squares = np.zeros((folds, size, size))
    of_class = np.zeros((folds * classes, size))
    kinds = fold * classes + labels
    for place, values in in_parts(features):
        for number in range(folds):
            own = values[fold[place] == number]
            squares[number] += own.T @ own
        there, kind = np.unique(kinds[place], return_inverse=True)
        ones = np.ones(len(kind), dtype=np.float32)
        pick = scipy.sparse.csr_array((ones, (kind, np.arange(len(kind)))))
        of_class[there] += pick @ values
    counts = np.bincount(kinds, minlength=folds * classes).astype(np.float64)
    return _Sums(squares, of_class.reshape(folds, classes, size), counts.reshape(folds, classes))


def _mean_squared_lengths(
    features: Table, labels: Integers, fold: Integers, sums: _Sums
) -> list[float]:
    """For each fold, the mean fourth power of the distance of the others from their class's mean.

    Args:
        features: of shape (n, d).
        labels: of shape (n,).
        fold: of shape (n,).
        sums: over these images.
    """
    means = [sums.means_without(held)[0].astype(np.float32) for held in range(len(sums.counts))]
    squared_means = [np.square(one, dtype=np.float64).sum(axis=1) for one in means]
    total = np.zeros(len(means))
    for place, values in in_parts(features):
        length = np.einsum("nd,nd->n", values, values).astype(np.float64)
        for held, of_class in enumerate(means):
            train = fold[place] != held
            own = labels[place][train]
            nearness = np.einsum("nd,nd->n", values[train], of_class[own])
            apart = length[train] - 2.0 * nearness + squared_means[held][own]
            total[held] += np.square(apart).sum()
    return list(total / np.maximum(1, len(fold) - np.bincount(fold, minlength=len(means))))


def _within_their_span(centred: Floats) -> Floats:
    """Project few points onto the subspace that they span: the same distances, less work."""
    values, vectors = np.linalg.eigh(centred.astype(np.float64) @ centred.T)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)), dtype=np.float32)


def _shrink(covariance: Doubles, squared_lengths: float, count: int, size: int) -> Doubles:
    """Shrink a covariance towards a multiple of the identity (Ledoit & Wolf).

    Args:
        covariance: of shape (k, k).
        squared_lengths: mean over the residuals that the covariance is made of, of the square of
            their squared length.
        count: number of these residuals.
        size: dimensions of the features, including empty ones that the covariance leaves out.
    """
    mean = np.trace(covariance) / size
    total = float((covariance**2).sum())
    distance = total - size * mean**2  # squared, from the multiple of the identity
    noise = (squared_lengths - total) / count
    share = float(np.clip(noise / distance, 1e-4, 1)) if distance > 0 else 1.0
    shrunk = (1 - share) * covariance
    shrunk[np.diag_indices(len(shrunk))] += share * mean + 1e-12
    return shrunk

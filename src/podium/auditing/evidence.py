"""Whether the similarity of two images is evidence of a duplicate, given how this set varies.

Sports photographs have a similarity of 0.9 only if they show the same moment. Any two traffic
signs, digits or faces of one class may have it. So the mean of each class is subtracted first,
then each direction is scaled down by how much the images vary in it (a whitened correlation). A
pair counts if that correlation is higher than unrelated images reach. The threshold is estimated
from random pairs within the classes of this set: of the pairs that count, at most one in fifty is
expected to be unrelated, or one such pair in a hundred sets of this size.

docs/results.md reports how many pairs this keeps on several public sets, and how many are true.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from podium.auditing.similarity import WINDOWS, crop_grey, grey_fits, greys
from podium.runtime.large_array import Table

SIDE = 24  # side of the crops that are compared, pixels
SAMPLE = 4000  # images that the covariance is estimated from
PAIRS = 8000  # random pairs that show how similar unrelated images are
LEAST_PAIRS = 100  # with fewer there is no reference distribution: similarity alone decides
FLOOR = 0.3  # times the mean variance: added to every direction's, so that none is amplified
SHARED = 5.0  # pseudo-count: copies of the overall mean added to each class, for small classes
FALSE_PAIRS, FALSE_SHARE = 0.01, 0.02
"""Expected number of unrelated pairs that pass, or their expected share of the pairs that pass."""

TAIL = (0.9, 0.98)  # quantiles between which the tail's slope is estimated

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


class Evidence:
    """The statistics of one set of images, used to judge pairs of them.

    Args:
        thumbs: uint8, (n, THUMB, THUMB, 3); no two with the same pixels.
        labels: int, (n,), the class of each, from 0; each class's mean is not evidence.

    Attributes:
        unrelated: whitened correlations, -1 to 1, of random pairs of one class.
        chances: number of pairs in the set that could be similar by chance.
    """

    def __init__(self, thumbs: Table, labels: Integers) -> None:
        self.thumbs, self.labels = thumbs, labels
        self.means = _class_means(thumbs, labels)
        random = np.random.default_rng(0)
        n = len(thumbs)
        self.whiten = self._whitening(random.choice(n, min(n, SAMPLE), replace=False))
        i, j, chances = _random_pairs(labels, random)
        self.unrelated = self.correlation(i, j)
        self.chances = 2 * chances  # each pair is also compared mirrored

    def correlation(self, i: Integers, j: Integers, *, mirrored: bool = False) -> Floats:
        """Compute the whitened correlation of images i and j, -1 to 1.

        Args:
            i: first image of each pair; int, (pairs,).
            j: second image of each pair; int, (pairs,).
            mirrored: compare with the mirror image of the second image.
        """
        found = np.empty(len(i), dtype=np.float32)
        for start in range(0, len(i), 512):
            a, b = i[start : start + 512], j[start : start + 512]
            first, second = self.thumbs[a], self.thumbs[b]
            means, others = self.means[self.labels[a]], self.means[self.labels[b]]
            if mirrored:
                second, others = second[:, :, ::-1], others[:, :, ::-1]
            # subtract the same mean from both, or copies filed in two classes would differ
            common = (means + others) / 2
            own, other = _standard(first) - common, _standard(second) - common
            fit = grey_fits(greys(first), greys(second)).argmax(axis=0)
            swapped = (fit % 2 == 1)[:, None, None]
            part, whole = np.where(swapped, other, own), np.where(swapped, own, other)
            found[start : start + 512] = self._agree(part, whole, fit // 2)
        return found

    def sure(self, found: Floats) -> npt.NDArray[np.bool_]:
        """Select the pairs that agree more than unrelated images of the set do.

        Uses the step-up procedure of Benjamini and Hochberg (1995). The tail of Fisher's z of the
        unrelated pairs is assumed to decay exponentially, at the slope between two quantiles:
        far out there are no pairs to count, and true pairs among the random ones must not set
        the threshold.

        Args:
            found: correlations of all candidate pairs, (pairs,).

        Returns:
            bool, (pairs,); all True if the set is too small to judge.
        """
        if len(self.unrelated) < LEAST_PAIRS:
            return np.ones(len(found), dtype=np.bool_)
        z = _fisher(self.unrelated)
        low, high = np.quantile(z, TAIL)
        slope = max((high - low) / np.log((1 - TAIL[0]) / (1 - TAIL[1])), 1e-6)
        best_first = np.argsort(-found, kind="stable")
        beyond = _fisher(found[best_first]) - high
        expected = (1 - TAIL[1]) * self.chances * np.exp(-beyond / slope)
        allowed = np.maximum(FALSE_PAIRS, FALSE_SHARE * np.arange(1, len(found) + 1))
        passed = np.flatnonzero(expected <= allowed)
        sure = np.zeros(len(found), dtype=np.bool_)
        sure[best_first[: passed[-1] + 1 if len(passed) else 0]] = True
        return sure

    def _agree(self, part: Floats, whole: Floats, window: Integers) -> Floats:
        cropped = np.empty((len(part), SIDE, SIDE), dtype=np.float32)
        for chosen in np.unique(window):
            here = window == chosen
            cropped[here] = crop_grey(part[here], WINDOWS[chosen], SIDE)
        vectors = [
            images.reshape(len(images), -1) @ self.whiten
            for images in (cropped, crop_grey(whole, WINDOWS[0], SIDE))
        ]
        lengths = [np.linalg.norm(vector, axis=1).clip(1e-6) for vector in vectors]
        return np.asarray((vectors[0] * vectors[1]).sum(axis=1) / (lengths[0] * lengths[1]))

    def _whitening(self, sample: Integers) -> Floats:
        """Principal directions of the images, scaled to unit variance: (SIDE^2, SIDE^2)."""
        rest = _standard(self.thumbs[sample]) - self.means[self.labels[sample]]
        values = crop_grey(rest, WINDOWS[0], SIDE).reshape(len(sample), -1).astype(np.float64)
        variances, directions = np.linalg.eigh(values.T @ values / max(1, len(values)))
        variances = variances.clip(0)
        scale = np.sqrt(variances + FLOOR * variances.mean() + 1e-12)
        return np.asarray(directions / scale, dtype=np.float32)


def _standard(thumbs: Bytes) -> Floats:
    """Luminance with mean 0 and standard deviation 1: float32, (n, THUMB, THUMB)."""
    grey = greys(thumbs)
    grey -= grey.mean(axis=(1, 2), keepdims=True)
    deviation = np.sqrt(np.square(grey).mean(axis=(1, 2), keepdims=True))
    return np.asarray(grey / np.maximum(deviation, 1e-3), dtype=np.float32)


def _class_means(thumbs: Table, labels: Integers) -> Floats:
    """Smoothed mean image of each class: float32, (classes, THUMB, THUMB)."""
    counts = np.bincount(labels)
    sums = np.zeros((len(counts), *thumbs.shape[1:3]), dtype=np.float32)
    for start in range(0, len(thumbs), 2048):
        part = slice(start, start + 2048)
        np.add.at(sums, labels[part], _standard(thumbs[part]))
    overall = sums.sum(axis=0) / max(1, len(thumbs))
    return np.asarray((sums + SHARED * overall) / (counts + SHARED)[:, None, None], np.float32)


def _random_pairs(
    labels: Integers, random: np.random.Generator
) -> tuple[Integers, Integers, float]:
    """Draw pairs of different images of one class, and count all such pairs in the set.

    If the classes are too small for that, the pairs are of any class.
    """
    counts = np.bincount(labels).astype(np.float64)
    chances = float((counts * (counts - 1) / 2).sum())
    if chances < 2 * LEAST_PAIRS:
        labels = np.zeros_like(labels)
        counts = np.bincount(labels).astype(np.float64)
        chances = float((counts * (counts - 1) / 2).sum())
    order = np.argsort(labels, kind="stable")
    start = np.searchsorted(labels[order], np.arange(len(counts)))
    first = random.integers(len(labels), size=3 * PAIRS)
    place = (random.random(3 * PAIRS) * counts[labels[first]]).astype(np.int64)
    second = order[start[labels[first]] + place]
    pairs = np.stack([np.minimum(first, second), np.maximum(first, second)], axis=1)
    pairs = pairs[first != second]
    pairs = pairs[np.sort(np.unique(pairs, axis=0, return_index=True)[1])][:PAIRS]
    return pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64), chances


def _fisher(correlations: Floats) -> npt.NDArray[np.float64]:
    return np.arctanh(correlations.clip(-0.9999, 0.9999).astype(np.float64))

"""A run's top predictions for every test image, with their probabilities.

A softmax of 10,000 images over 10,000 classes takes 800 MB in double precision, so it is computed
in chunks and only what is shown is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from podium.runs.predictions import TopPredictions
from podium.statistics.losses import kept_moments

if TYPE_CHECKING:
    from podium.runs.predictions import Predictions

CHUNK = 4_000_000  # logits processed at a time


@dataclass(frozen=True, eq=False)
class TopClasses:
    """The `k` likeliest classes of each of n images, likeliest first.

    `top` has shape (n, k): indices into the class names. `share` (n, k) holds their probabilities,
    0..1; `own` (n,) that of the true class.
    """

    top: npt.NDArray[np.int64]
    share: npt.NDArray[np.float64]
    own: npt.NDArray[np.float64]


def top_classes(predictions: Predictions, k: int = 3, *, temperature: float) -> TopClasses:
    """The `k` likeliest classes of every image; ties go to the first class.

    Args:
        predictions: of a run.
        k: how many; at most the number of classes, or of logits that are kept of each image.
        temperature: divides the logits before softmax, above 0. The run's own: a reader compares
            these probabilities with those of `podium predict`.

    Raises:
        DataError: sums over all classes are kept at other temperatures alone.
    """
    n, classes = len(predictions), len(predictions.class_names)
    k = max(1, min(k, classes))
    if isinstance(predictions, TopPredictions):
        found = predictions.top
        total = found.logits[:, 0] / temperature + kept_moments(predictions, temperature).log_total
        share = np.exp(found.logits[:, :k] / temperature - total[:, None])
        own_share = np.exp(found.label / temperature - total)
        return TopClasses(found.classes[:, :k].astype(np.int64), share, own_share)
    top = np.zeros((n, k), np.int64)
    share, own = np.zeros((n, k)), np.zeros(n)
    rows = max(1, CHUNK // max(1, classes))
    for at in range(0, n, rows):
        part = slice(at, at + rows)
        logits = predictions.logits[part].astype(np.float64)
        logits = (logits - logits.max(axis=1, keepdims=True)) / temperature
        total = np.exp(logits).sum(axis=1)
        every = np.arange(len(logits))
        own[part] = np.exp(logits[every, predictions.labels[part]]) / total
        for place in range(k):
            best = logits.argmax(axis=1)
            top[part, place] = best
            share[part, place] = np.exp(logits[every, best]) / total
            logits[every, best] = -np.inf
    return TopClasses(top, share, own)

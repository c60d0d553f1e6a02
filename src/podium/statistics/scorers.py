"""Our metrics: functions of logits (float32, images x classes) and labels (int64, images)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from podium.statistics.contributions import auroc_contributions
from podium.statistics.resample import macro_f1

Logits = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Scorer = Callable[[Logits, Labels], Any]


def is_right(logits: Logits, labels: Labels) -> npt.NDArray[np.float64]:
    """1 for each image whose largest logit is that of its label, else 0."""
    return np.asarray(logits.argmax(axis=1) == labels, np.float64)


def mean_recall(logits: Logits, labels: Labels) -> float:
    """Mean recall of the classes that have images."""
    support = np.bincount(labels, minlength=logits.shape[1])
    hits = np.bincount(labels, is_right(logits, labels), logits.shape[1])
    return float((hits[support > 0] / support[support > 0]).mean())


def macro_f1_of(logits: Logits, labels: Labels) -> float:
    """Mean F1 of the classes."""
    return macro_f1(labels, logits.argmax(axis=1), logits.shape[1])


def matthews(logits: Logits, labels: Labels) -> float:
    """Gorodkin's (2004) R_K for several classes; 0 where a variance is 0, as in scikit-learn."""
    predicted, count, n = logits.argmax(axis=1), logits.shape[1], float(len(labels))
    true, taken = (np.bincount(one, minlength=count) / n for one in (labels, predicted))
    together = float((predicted == labels).mean()) - float(true @ taken)
    spread = (1 - float(true @ true)) * (1 - float(taken @ taken))
    return together / math.sqrt(spread) if spread > 1e-12 else 0.0


def log_losses(logits: Logits, labels: Labels) -> npt.NDArray[np.float64]:
    """Negative log likelihood of each image, nats."""
    rows = np.arange(len(labels))
    return _log_totals(logits) - logits[rows, labels].astype(np.float64)


def _log_totals(logits: Logits) -> npt.NDArray[np.float64]:
    """Log-sum-exp of each row, in double precision."""
    found = np.empty(len(logits))
    step = max(1, 4_000_000 // max(1, logits.shape[1]))
    for at in range(0, len(logits), step):
        part = logits[at : at + step].astype(np.float64)
        top = part.max(axis=1)
        found[at : at + step] = top + np.log(np.exp(part - top[:, None]).sum(axis=1))
    return found


def auroc(logits: Logits, labels: Labels) -> float:
    """Macro mean of the one-vs-rest area under the ROC curve.

    A class with no images, or with all of them, has no curve and is left out.
    """
    return float(auroc_values(logits, labels).mean())


def auroc_values(logits: Logits, labels: Labels) -> npt.NDArray[np.float64]:
    """Each image's contribution to the same, see `auroc_contributions`."""
    return auroc_contributions(np.exp(logits - _log_totals(logits)[:, None]), labels)


def among_top(k: int) -> Scorer:
    """Whether each label is among the `k` largest logits; ties go to the first class."""

    def per_image(logits: Logits, labels: Labels) -> npt.NDArray[np.float64]:
        own = logits[np.arange(len(labels)), labels][:, None]
        before = np.arange(logits.shape[1]) < labels[:, None]
        rank = (logits > own).sum(axis=1) + ((logits == own) & before).sum(axis=1)
        return np.asarray(rank < k, np.float64)

    return per_image

"""Multinomial logistic regression with an L2 penalty, solved to its optimum along a path.

The objective, over standardised features z (mean 0, standard deviation 1 on the training images):

    mean over images of -log softmax(W z + b)[label]  +  penalty / 2 * ||W||^2

It is convex, so there is one optimum, found by L-BFGS (Liu and Nocedal, 1989) on all images at
once. scikit-learn's `LogisticRegression(C=1 / (images * penalty))` minimises the same. From the
strongest penalty to the weakest every solution begins at the one before, which is near (Friedman
et al., 2010).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch.nn.functional import cross_entropy

__all__ = ["PENALTIES", "Solution", "logistic_path", "mean_loss_and_accuracy"]

PENALTIES = tuple(10.0 ** (-step / 2) for step in range(13))
"""From 1, where all classes are nearly equally likely, to 1e-6: two a decade."""

_CHUNK = 4_000_000  # logits in memory at a time
_DOUBLE_BELOW = 20_000_000  # images x features x classes for which double precision costs nothing
_MOST_STEPS = 1000


@dataclass(frozen=True)
class Solution:
    """The optimum for a penalty, for features as they come: logits = x @ weight.T + bias.

    `weight` is float64 of shape (classes, features), `bias` of shape (classes,); `steps` are
    evaluations of the objective.
    """

    penalty: float
    weight: torch.Tensor
    bias: torch.Tensor
    steps: int


def logistic_path(
    features: torch.Tensor,
    labels: torch.Tensor,
    classes: int,
    penalties: Sequence[float] = PENALTIES,
    *,
    tolerance: float = 1e-5,
) -> Iterator[Solution]:
    """Solve for each penalty in turn; a caller who has seen enough need not go on.

    Small problems are solved in double precision, large ones in single precision with sums over
    images in double: then the data, not the arithmetic, limits what the weights mean.

    Args:
        features: float of shape (n, d), on any device.
        labels: int64 of shape (n,), 0 to classes - 1.
        classes: how many there are.
        penalties: positive, from strong to weak.
        tolerance: the largest partial derivative at a solution.

    Yields:
        A solution for each penalty.
    """
    images, width = features.shape
    double = images * width * classes <= _DOUBLE_BELOW and features.device.type != "mps"
    kind = torch.float64 if double else torch.float32
    mean, deviation = _mean_and_deviation(features)
    z = ((features - mean.to(features)) / deviation.to(features)).to(kind)
    labels = labels.to(features.device)
    rows = max(1, _CHUNK // classes)

    def objective(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        wide = torch.from_numpy(flat).view(width + 1, classes)
        weight, bias = wide[:-1].to(z), wide[-1].to(z)
        loss, slope = 0.0, torch.zeros(width + 1, classes, dtype=torch.float64)
        for at in range(0, images, rows):
            part, target = z[at : at + rows], labels[at : at + rows, None]
            log_p = torch.log_softmax(torch.addmm(bias, part, weight), 1)
            loss -= float(log_p.gather(1, target).sum(dtype=_wide(z)))
            excess = log_p.exp_().scatter_add_(1, target, torch.full_like(log_p[:, :1], -1))
            slope[:-1] += (part.T @ excess).cpu()
            slope[-1] += excess.sum(0, dtype=_wide(z)).cpu()
        slope /= images
        slope[:-1] += penalty * wide[:-1]
        norm = float(wide[:-1].square().sum())
        return loss / images + penalty / 2 * norm, slope.flatten().numpy()

    at = np.zeros((width + 1) * classes)
    for penalty in penalties:
        found: Any = minimize(
            objective,
            at,
            jac=True,
            method="L-BFGS-B",
            options={
                "gtol": tolerance,
                # where sums can no longer show an improvement, it is found
                "ftol": 1e-15 if double else 1e-8,
                "maxiter": _MOST_STEPS,
                "maxfun": 2 * _MOST_STEPS,
            },
        )
        at = found.x
        wide = torch.from_numpy(at.copy()).view(width + 1, classes)
        weight = wide[:-1].T / deviation
        yield Solution(penalty, weight, wide[-1] - weight @ mean, int(found.nfev))


def mean_loss_and_accuracy(
    features: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy (0 to 1) of a linear classifier, a chunk at a time.

    Args:
        features: float of shape (n, d).
        labels: int64 of shape (n,).
        weight: of shape (classes, d).
        bias: of shape (classes,).
    """
    loss, right, rows = 0.0, 0, max(1, _CHUNK // len(bias))
    for at in range(0, len(features), rows):
        target = labels[at : at + rows]
        logits = features[at : at + rows].to(weight) @ weight.T + bias
        loss += float(cross_entropy(logits, target, reduction="sum"))
        right += int((logits.argmax(1) == target).sum())
    return loss / len(features), right / len(features)


def _wide(values: torch.Tensor) -> torch.dtype:
    return torch.float32 if values.device.type == "mps" else torch.float64


def _mean_and_deviation(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Float64 of shape (d,), on the CPU; a feature that hardly varies is not blown up."""
    total = torch.zeros(features.shape[1], dtype=_wide(features), device=features.device)
    for part in torch.split(features, 4096):
        total += part.sum(0, dtype=total.dtype)
    mean = total / len(features)
    squares = torch.zeros_like(mean)
    for part in torch.split(features, 4096):
        squares += (part - mean.to(part)).square().sum(0, dtype=total.dtype)
    deviation = (squares / len(features)).sqrt()
    floor = 1e-3 * deviation.square().mean().sqrt()
    safe = torch.where(deviation > floor, deviation, floor if floor > 0 else torch.ones_like(floor))
    return mean.double().cpu(), safe.double().cpu()

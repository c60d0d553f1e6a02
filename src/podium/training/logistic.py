"""Multinomial logistic regression with an L2 penalty, solved to its optimum.

The objective, over standardised features z (mean 0, standard deviation 1 on the training images):

    mean over images of -log softmax(W z + b)[label]  +  penalty / 2 * ||W||^2

where a class may have a weight, by which the loss of its images is multiplied. It is convex, so
there is one optimum, found by full-batch L-BFGS (Liu and Nocedal, 1989). scikit-learn's
`LogisticRegression(C=1 / (images * penalty), class_weight=...)` minimises the same objective. A
solution for a similar penalty is a good starting point (Friedman et al., 2010).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch.nn.functional import cross_entropy

_CHUNK = 4_000_000  # logits in memory at a time
_DOUBLE_BELOW = 20_000_000  # images x features x classes for which double precision costs nothing
_MOST_STEPS = 1000


@dataclass(frozen=True, eq=False)
class Solution:
    """The optimum for a penalty, for unscaled features: logits = x @ weight.T + bias.

    `weight` is float64 of shape (classes, features), `bias` of shape (classes,); `steps` is the
    number of evaluations of the objective; `point` is a starting point for the next solution,
    where solutions need one.
    """

    penalty: float
    weight: torch.Tensor
    bias: torch.Tensor
    steps: int
    point: npt.NDArray[np.float64] | None = None


class Standardised:
    """Features z with mean 0 and standard deviation 1, for a linear classifier of them.

    Args:
        features: float of shape (n, d), on any device; a standardised copy is kept.
        labels: int64 of shape (n,), 0 to classes - 1.
        classes: number of classes.
        class_weights: of shape (classes,), with a mean of 1 over the images; None: all weigh 1.
    """

    def __init__(
        self,
        features: torch.Tensor,
        labels: torch.Tensor,
        classes: int,
        class_weights: torch.Tensor | None = None,
    ) -> None:
        self.images, self.width = features.shape
        self.classes = classes
        few = self.images * self.width * classes <= _DOUBLE_BELOW
        self.double = few and features.device.type != "mps"
        self.mean, self.deviation = _mean_and_deviation(features)
        z = (features - self.mean.to(features)) / self.deviation.to(features)
        self.z = z.double() if self.double else z.float()
        self.labels = labels.to(features.device)
        self.weights = None if class_weights is None else class_weights.to(self.z)[self.labels]

    def solution(
        self, penalty: float, weight: torch.Tensor, bias: torch.Tensor, **found: Any
    ) -> Solution:
        """A classifier of z, for features that are not standardised.

        Args:
            penalty: that it was solved for.
            weight: float64 of shape (classes, d), on the CPU.
            bias: float64 of shape (classes,).
            found: `steps`, and the `point` if it is a start for the next.
        """
        weight = weight / self.deviation
        return Solution(penalty, weight, bias - weight @ self.mean, **found)


class Logistic(Standardised):
    """The objective on some images; `solve` it for one penalty after another.

    Small problems are solved in double precision, large ones in single precision with the losses
    summed in double: there the data, not the precision, limits the accuracy of the weights.
    """

    def solve(
        self,
        penalty: float,
        start: Solution | None = None,
        *,
        tolerance: float = 1e-5,
        improvement: float | None = None,
    ) -> Solution:
        """Find the optimum for a penalty.

        Args:
            penalty: positive.
            start: a solution for a similar penalty to start from; None: start from zero.
            tolerance: maximum partial derivative at a solution.
            improvement: stop after a step that lowers the objective by less, in nats; None: the
                smallest difference that this precision resolves.
        """
        shape = (self.width + 1, self.classes)
        found: Any = minimize(
            lambda flat: self._objective(torch.from_numpy(flat).view(shape), penalty),
            np.zeros(shape).ravel() if start is None or start.point is None else start.point,
            jac=True,
            method="L-BFGS-B",
            options={
                "gtol": tolerance,
                "ftol": improvement or (1e-15 if self.double else 1e-8),
                "maxiter": _MOST_STEPS,
                "maxfun": 2 * _MOST_STEPS,
            },
        )
        point = found.x.copy()
        wide = torch.from_numpy(point).view(shape)
        return self.solution(penalty, wide[:-1].T, wide[-1], steps=int(found.nfev), point=point)

    def _objective(
        self, wide: torch.Tensor, penalty: float
    ) -> tuple[float, npt.NDArray[np.float64]]:
        """Value and gradient at `wide`: weights of shape (d, classes), with the biases below."""
        z, rows = self.z, max(1, _CHUNK // self.classes)
        weight, bias = wide[:-1].to(z), wide[-1].to(z)
        loss, slope = 0.0, torch.zeros_like(wide)
        for at in range(0, self.images, rows):
            part, target = z[at : at + rows], self.labels[at : at + rows, None]
            log_p = torch.log_softmax(torch.addmm(bias, part, weight), 1)
            own = log_p.gather(1, target)
            excess = log_p.exp_().scatter_add_(1, target, torch.full_like(own, -1))
            if self.weights is not None:
                weights = self.weights[at : at + rows, None]
                own, excess = own * weights, excess * weights
            loss -= float(own.sum(dtype=_wide(z)))
            slope[:-1] += (part.T @ excess).cpu()
            slope[-1] += excess.sum(0, dtype=_wide(z)).cpu()
        slope /= self.images
        slope[:-1] += penalty * wide[:-1]
        norm = float(wide[:-1].square().sum())
        return loss / self.images + penalty / 2 * norm, slope.numpy().ravel()


def mean_loss_and_accuracy(
    features: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> tuple[float, float]:
    """Compute the mean cross-entropy (nats) and accuracy (0 to 1) of a linear classifier in chunks.

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
    """Float64 of shape (d,), on the CPU; a floor keeps near-constant features from blowing up."""
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

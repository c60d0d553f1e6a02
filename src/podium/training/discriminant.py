"""Linear discriminant analysis whose covariance is shrunk.

Each class is a Gaussian in the standardised features, all with one covariance S, that within the
classes. Shrinkage s in (0, 1) replaces S by (1 - s) S + s m I, m being its mean variance: with
fewer images than features S has no inverse (Friedman, 1989, *Regularized discriminant analysis*).
scikit-learn's `LinearDiscriminantAnalysis(solver="lsqr", shrinkage=s)` computes the same.
"""

from __future__ import annotations

import torch

from podium.training.logistic import Solution, Standardised

_CHUNK = 8192  # images whose features are in double precision at a time


class Discriminant(Standardised):
    """The Gaussians of some images; `solve` for one shrinkage after another.

    S is decomposed once: a solution then takes two matrix products.

    Args:
        features: float of shape (n, d), on any device; a standardised copy is kept.
        labels: int64 of shape (n,), 0 to classes - 1.
        classes: number of classes.
        class_weights: of shape (classes,), with a mean of 1 over the images; None: all weigh 1.
            They scale the classes' shares as well as their parts of S.
    """

    def __init__(
        self,
        features: torch.Tensor,
        labels: torch.Tensor,
        classes: int,
        class_weights: torch.Tensor | None = None,
    ) -> None:
        super().__init__(features, labels, classes)
        images, self.labels = self.images, self.labels.cpu()
        counts = torch.bincount(self.labels, minlength=classes).double()
        sums = torch.zeros(classes, self.width, dtype=torch.float64)
        parts = torch.split(torch.arange(images), _CHUNK)
        for rows in parts:
            sums.index_add_(0, self.labels[rows], self._part(rows))
        # a class without images keeps the mean of all, 0, and half an image's share
        self.means = sums / counts.clamp(min=1)[:, None]
        scale = torch.ones(classes) if class_weights is None else class_weights.cpu()
        self.log_share = (scale * counts.clamp(min=0.5) / images).log()
        within = torch.zeros(self.width, self.width, dtype=torch.float64)
        for rows in parts:
            apart = self._part(rows) - self.means[self.labels[rows]]
            apart *= scale[self.labels[rows], None].sqrt()
            within.addmm_(apart.T, apart)
        self.variances, self.axes = torch.linalg.eigh(within / images)
        self.level = float(self.variances.mean().clamp(min=torch.finfo(torch.float32).tiny))

    def _part(self, rows: torch.Tensor) -> torch.Tensor:
        return self.z[rows.to(self.z.device)].cpu().double()

    def solve(
        self,
        penalty: float,
        start: Solution | None = None,
        *,
        tolerance: float = 0.0,
        improvement: float | None = None,
    ) -> Solution:
        """The classifier for a shrinkage; closed, so that it needs no start.

        Args:
            penalty: positive: s / (1 - s), the weight of m I beside that of S.
            start: not used; as are `tolerance` and `improvement`.
            tolerance: of `Logistic`.
            improvement: of `Logistic`.
        """
        shrunk = (self.variances.clamp(min=0) + penalty * self.level) / (1 + penalty)
        weight = (self.means @ self.axes / shrunk) @ self.axes.T
        bias = self.log_share - (weight * self.means).sum(1) / 2
        return self.solution(penalty, weight, bias, steps=1)

"""Features with mean 0 and standard deviation 1, however many images there are.

The covariance of the audit's classifier is shrunk towards a single variance for all features, but
the stages of a network have different scales. docs/results.md has the accuracy with and without.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from podium.runtime.large_array import Integers, Table, in_parts

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Standardised:
    """An array with mean 0 and standard deviation 1 in each column, computed when it is read.

    Args:
        whole: the array, shape (n, d).
        mean: float32 of shape (d,).
        spread: the standard deviations; float32 of shape (d,).
    """

    whole: Table
    mean: Floats
    spread: Floats

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, those: slice | Integers) -> Floats:
        return np.asarray((self.whole[those] - self.mean) / self.spread, dtype=np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.whole.shape


def standardised(features: Table) -> Standardised:
    """Scale each feature to mean 0 and standard deviation 1; constant features become 0.

    Args:
        features: float32 of shape (n, d).
    """
    mean = mean_of(features)
    squares = np.zeros(features.shape[1])
    for _, part in in_parts(features):
        squares += np.square(part - mean, dtype=np.float64).sum(axis=0)
    spread = np.sqrt(squares / max(1, len(features)))
    spread[spread < 1e-6] = 1.0
    return Standardised(features, mean.astype(np.float32), spread.astype(np.float32))


def mean_of(features: Table) -> Doubles:
    """The mean of each column, float64 of shape (d,).

    Args:
        features: of shape (n, d).
    """
    total = np.zeros(features.shape[1])
    for _, part in in_parts(features):
        total += part.sum(axis=0, dtype=np.float64)
    return total / max(1, len(features))

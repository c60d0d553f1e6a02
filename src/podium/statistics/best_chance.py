"""How often each contender is first if the test images had been weighted otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from podium.statistics.paired import by_group

Values = npt.NDArray[np.float64]

LEAST_UNITS = 500
"""Images, or groups of images, from which the shares are shown: fewer say too little of it."""

DRAWS = 4_000
MOST_WEIGHTS = 4_000_000  # numbers in memory at a time


def chances_of_being_best(
    values: Sequence[Values],
    groups: npt.NDArray[np.int64] | None = None,
    *,
    greater_is_better: bool = True,
) -> list[float] | None:
    """The share of Bayesian bootstrap weightings (Rubin, 1981) in which each contender is first.

    Every image, or group of images, gets a random weight, the same for all contenders. That is the
    posterior probability of being best under a flat prior on the population of images, for these
    trained models. It is not a p-value: of two equal contenders, each may well have 97 %.

    Args:
        values: of each contender, the images' contributions to its score, shape (seeds, images).
        groups: group index of each image, from 0; None: images are independent.
        greater_is_better: of the score.

    Returns:
        0..1 in the order of `values`, with a sum of 1; equal scores share. None with fewer than
        500 images, or groups.

    Examples:
        >>> import numpy as np
        >>> from podium.statistics.best_chance import chances_of_being_best
        >>> first, second = np.ones((1, 600)), np.ones((1, 600))
        >>> first[0, :20], second[0, 10:50] = 0, 0
        >>> chances = chances_of_being_best([first, second])
        >>> chances[0] > 0.99
        True
        >>> chances_of_being_best([first[:, :300], second[:, :300]]) is None
        True
    """
    units = np.stack([by_group(one.mean(axis=0, keepdims=True), groups)[0] for one in values])
    count = units.shape[1]
    if count < LEAST_UNITS:
        return None
    units = units if greater_is_better else -units
    random, first = np.random.default_rng(0), np.zeros(len(values))
    step = max(1, MOST_WEIGHTS // count)
    for begin in range(0, DRAWS, step):
        weights = random.standard_exponential((min(step, DRAWS - begin), count))
        means = weights @ units.T / weights.sum(axis=1, keepdims=True)
        highest = means >= means.max(axis=1, keepdims=True) - 1e-12
        first += (highest / highest.sum(axis=1, keepdims=True)).sum(axis=0)
    return [float(share) for share in first / DRAWS]

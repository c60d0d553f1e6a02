"""What the best of k trials of a tuning is worth: expected, and for another search like it.

Reporting the best of many trials alone hides how many it took (Dodge et al., 2019). The expected
best of k is the mean over all ways to take k of the trials that were drawn: exact and unbiased for
independent trials (Tang et al., 2020), where resampling with replacement is too low. Its band
follows from a band of the distribution of scores, as in Lourie et al. (2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincinv

Numbers = npt.NDArray[np.float64]

LEVEL = 0.95
_DRAWS = 10_000  # simulated searches from which the width of a band is taken
_MOST = 2_000_000  # numbers of these searches, all together


@dataclass(frozen=True, eq=False)
class BestOfK:
    """The best score of the first k trials, for k from 1 to their number."""

    value: Numbers
    """Expected for independent trials; of trials that depend on one another, what it was."""
    low: Numbers | None = None
    """With `high`, a band that has the expectation for all k at once in at least 95 % of searches;
    None: the trials depend on one another, or none was drawn."""
    high: Numbers | None = None
    """Infinite where neither the trials nor the range of the metric limit it."""


def best_so_far(merits: Sequence[float]) -> BestOfK:
    """The best of the trials in their own order.

    Args:
        merits: score of each trial, higher is better.

    Examples:
        >>> best_so_far([0.5, 0.4, 0.7]).value.tolist()
        [0.5, 0.5, 0.7]
    """
    return BestOfK(np.maximum.accumulate(np.asarray(merits, dtype=np.float64)))


def expected_best(first: float, drawn: Sequence[float], most: float = math.inf) -> BestOfK:
    """The expected best of k trials: one that is always the first, and k - 1 independent draws.

    Args:
        first: score of the trial with the contender's own settings, higher is better.
        drawn: scores of the others.
        most: the highest possible score.

    Examples:
        >>> expected_best(0.5, [0.4, 0.9]).value.tolist()
        [0.5, 0.7, 0.9]
    """
    if not len(drawn):
        return BestOfK(np.array([first]))
    n = len(drawn)
    ordered = np.maximum(np.sort(np.asarray(drawn, dtype=np.float64)), first)
    value = np.array([first, *(_chances(n, m) @ ordered for m in range(1, n + 1))])
    below, above = _distribution_band(n)
    # bounds of the distribution function between one ordered score and the next
    knots = np.concatenate([[first], ordered])
    widths = np.diff(knots)
    powers = np.arange(n + 1)[:, None]
    low = ordered[-1] - (above[None, :n] ** powers) @ widths
    missed = (below[None, :n] ** powers) @ widths
    if math.isinf(most):
        rest = np.where(powers[:, 0] == 0, 0.0, math.inf)
    else:
        rest = (most - ordered[-1]) * (1 - below[n] ** powers[:, 0])
    return BestOfK(value, low, ordered[-1] - missed + rest)


def _chances(n: int, m: int) -> Numbers:
    """The chance that each of n ordered trials is the best of m taken without replacement."""
    ways = np.zeros(n)
    for at in range(m - 1, n):
        # exp of logarithms: the numbers of ways themselves are too large for many trials
        ways[at] = math.exp(_log_ways(at, m - 1) - _log_ways(n, m))
    return np.asarray(ways / ways.sum())


def _log_ways(n: int, m: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(m + 1) - math.lgamma(n - m + 1)


@lru_cache(maxsize=64)
def _distribution_band(n: int) -> tuple[Numbers, Numbers]:
    """Bounds of a distribution function between n ordered draws, at 95 % all at once.

    Its value at the i-th of n draws has a Beta distribution, whatever the distribution is. Each is
    cut at the same small chance on either side; that chance is set by simulation.

    Returns:
        `(below, above)`: shape (n + 1,) each; entry i holds from the i-th draw (0: from the start)
        up to the next.
    """
    ranks = np.arange(1, n + 1)
    rng = np.random.default_rng(0)
    draws = np.sort(rng.random((min(_DRAWS, max(1000, _MOST // n)), n)), axis=1)
    chances = betainc(ranks, n + 1 - ranks, draws)
    cut = np.quantile(np.minimum(chances, 1 - chances).min(axis=1), 1 - LEVEL)
    low, high = betaincinv(ranks, n + 1 - ranks, cut), betaincinv(ranks, n + 1 - ranks, 1 - cut)
    return np.concatenate([[0.0], low]), np.concatenate([high, [1.0]])

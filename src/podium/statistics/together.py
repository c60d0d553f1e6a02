"""What can be said of all contenders together: adjusted p, joint intervals, who may be the best.

Every pair has a p of its own. Several pairs together need more: the more are tested, the likelier
one is significant by chance. How much more depends on how similar the comparisons are, since pairs
share a contender and all share the images. In the jointly normal limit the covariance of the
contenders' means says it all (Hothorn, Bretz & Westfall, 2008), so nothing has to be resampled and
any p can be adjusted: exact, from sign flips, or from Student's t.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from podium.statistics.intervals import LEVEL

DRAWS = 2**14  # of quasi-random normal numbers: a p of 0.05 is off by about 0.0005
MOST_PARTITIONED = 10
"""With more contenders, partitions of them are too many to go through."""
FEW = 100  # draws: a smaller probability is replaced by its bound, the sum over pairs

Numbers = npt.NDArray[np.float64]
Draws = npt.NDArray[np.float32]


class Together:
    """The joint distribution of all pairs' standardised differences, if all contenders were equal.

    Examples:
        >>> import numpy as np
        >>> together = Together(np.diag([1.0, 1.0, 1.0]), ["a", "b", "c"])
        >>> round(together.level(), 3)  # Bonferroni's would be 0.017
        0.019
        >>> p_values = [0.001, 0.03, 0.4]  # of a and b, a and c, b and c
        >>> [round(p, 2) for p in together.adjusted(p_values)]
        [0.0, 0.03, 0.4]
        >>> together.possibly_best(p_values, np.array([3.0, 1.0, 2.0]))
        [True, False, False]
    """

    def __init__(self, covariance: Numbers, names: Sequence[str]) -> None:
        """Draw from it.

        Args:
            covariance: of the contenders' mean values, shape (contenders, contenders).
            names: of the contenders, all different; the draws go by them, so that the order of the
                contenders changes nothing.
        """
        self.count = len(names)
        self.pairs = list(combinations(range(self.count), 2))
        place = np.argsort(np.argsort(names))
        values, vectors = np.linalg.eigh(covariance)
        root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T  # the same in any order
        self._means = (root @ _normal(self.count)[place]).astype(np.float32)
        self._covariance = covariance

    def level(self, allowed: float = LEVEL) -> float:
        """The significance level of each pair at which all pairs together keep what is allowed.

        Args:
            allowed: probability that any of the pairs' intervals misses its difference, 0..1.
        """
        from scipy.special import ndtr

        if len(self.pairs) < 2:
            return allowed
        return float(2 * ndtr(-self._critical(range(self.count), allowed)))

    def adjusted(self, p_values: Sequence[float]) -> list[float]:
        """Step-down adjustment of p, with the probability of any false claim as what is controlled.

        The smallest p is compared with the extremes of all pairs; each next one with those of the
        pairs that can still be equal given the claims made before: once A is better than B, C
        cannot equal both (Shaffer, 1986; Westfall, 1997). With more than 10 contenders, with those
        of all pairs not yet claimed.

        Args:
            p_values: two-sided, one per pair, in the order of `itertools.combinations`.

        Returns:
            Adjusted p in the same order, never below the given ones.
        """
        if len(self.pairs) < 2:
            return list(p_values)
        reach = _reach(p_values)
        order = np.argsort(-reach, kind="stable")
        chances = self._by_partitions if self.count <= MOST_PARTITIONED else self._of_all_left
        highest, adjusted = 0.0, np.ones(len(order))
        for at, chance in zip(order, chances(reach, order), strict=False):
            highest = max(highest, chance, p_values[at])
            if highest >= 1:
                break  # so are all that follow
            adjusted[at] = highest
        return [float(p) for p in adjusted]

    def possibly_best(
        self, p_values: Sequence[float], merits: Numbers, beaten: Sequence[bool] | None = None
    ) -> list[bool]:
        """The contenders that may be the best: all that are belong to them in 95 % of studies.

        A model confidence set (Hansen, Lunde & Nason, 2011): as long as the difference between any
        two that are left is significant among all that are left, those that it shows to be worse
        are eliminated.

        Args:
            p_values: two-sided, one per pair, in the order of `itertools.combinations`.
            merits: of each contender, higher is better.
            beaten: contenders that are known to be worse than another; None: none is.

        Returns:
            Whether each contender may be the best; True for the one with the highest merit.
        """
        reach = dict(zip(self.pairs, _reach(p_values), strict=True))
        kept = [at for at in range(self.count) if beaten is None or not beaten[at]]
        while len(kept) > 1:
            critical = self._critical(kept)
            worse = {
                i if merits[i] < merits[j] else j
                for i, j in combinations(kept, 2)
                if reach[i, j] > critical and merits[i] != merits[j]
            }
            if not worse:
                break
            kept = [at for at in kept if at not in worse]
        return [at in kept for at in range(self.count)]

    def _apart(self, i: int, j: int) -> Draws:
        """The standardised difference of two contenders, without its sign, in every draw."""
        square = self._covariance[i, i] + self._covariance[j, j] - 2 * self._covariance[i, j]
        scale = self._covariance[i, i] + self._covariance[j, j]
        if square <= 1e-12 * scale:  # two that never differ
            return np.zeros(DRAWS, np.float32)
        apart = self._means[i] - self._means[j]
        return np.asarray(np.abs(apart) / square**0.5, np.float32)

    def _critical(self, among: Sequence[int], allowed: float = LEVEL) -> float:
        """What the largest of the standardised differences exceeds as often as is allowed."""
        from scipy.special import ndtri

        if len(among) == 2:
            return float(-ndtri(allowed / 2))
        largest = np.zeros(DRAWS, np.float32)
        for i, j in combinations(among, 2):
            np.maximum(largest, self._apart(i, j), out=largest)
        return float(np.quantile(largest, 1 - allowed))

    def _of_all_left(self, reach: Numbers, order: npt.NDArray[np.intp]) -> list[float]:
        """For each pair in `order`: how often it or a later one reaches as far by chance."""
        largest, chances = np.zeros(DRAWS, np.float32), []
        for left, at in enumerate(order[::-1], start=1):
            np.maximum(largest, self._apart(*self.pairs[at]), out=largest)
            hits = np.count_nonzero(largest >= reach[at])
            chances.append(float(_chance(hits, left, reach[at])))
        return chances[::-1]

    def _by_partitions(self, reach: Numbers, order: npt.NDArray[np.intp]) -> Iterator[float]:
        """The same, of the pairs that can be equal at once: those within the parts of a partition.

        Sets of contenders are bit masks here. The chance of a partition is the sum of its parts'.
        """
        everyone = 2**self.count - 1
        chances = self._chances_of_sets(reach[order])
        equal = np.ones(everyone + 1, bool)  # sets within which no pair was claimed so far
        sets = np.arange(everyone + 1)
        for step, at in enumerate(order):
            i, j = self.pairs[at]
            both = 1 << i | 1 << j
            chance = np.where(equal, chances[:, step], 0.0)
            rest = _best_partitions(everyone & ~both, chance)
            holds = sets[equal & (sets & both == both)]
            yield float((chance[holds] + rest[everyone & ~holds]).max())
            equal &= sets & both != both

    def _chances_of_sets(self, reach: Numbers) -> Numbers:
        """How often any pair within a set reaches so far, shape (sets, pairs); reach descends."""
        chances = np.zeros((2**self.count, len(reach)))
        # which value of `reach` a draw attains first, instead of the draw: whole numbers are fast
        falling = (-reach).astype(np.float32)
        steps = {
            (i, j): np.searchsorted(falling, -self._apart(i, j)).astype(np.uint8)
            for i, j in self.pairs
        }
        first: dict[int, npt.NDArray[np.uint8]] = {}
        for size in range(2, self.count + 1):
            smaller, first = first, {}
            for among in combinations(range(self.count), size):
                mask = sum(1 << at for at in among)
                step = steps[among[0], among[1]]
                if size > 2:  # every other pair lacks one of these two
                    for left_out in among[:2]:
                        step = np.minimum(step, smaller[mask & ~(1 << left_out)])
                first[mask] = step
                hits = np.cumsum(np.bincount(step, minlength=len(reach) + 1)[: len(reach)])
                chances[mask] = _chance(hits, size * (size - 1) // 2, reach)
        return chances


@lru_cache(maxsize=8)
def _normal(count: int) -> Numbers:
    """Independent standard normal numbers, shape (count, DRAWS), always the same."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    shares = qmc.Sobol(count, rng=np.random.default_rng(0)).random(DRAWS)
    return np.ascontiguousarray(ndtri(np.clip(shares, 1e-12, 1 - 1e-12)).T)


def _chance(hits: Any, pairs: int, reach: Any) -> Any:
    """The probability that any of so many pairs reaches so far, from how many draws did."""
    from scipy.special import ndtr

    bound = np.minimum(2 * pairs * ndtr(-reach), FEW / DRAWS)
    return np.where(hits < FEW, bound, hits / DRAWS)


def _reach(p_values: Sequence[float]) -> Numbers:
    """How many standard errors from 0 has the same two-sided p."""
    from scipy.special import ndtri

    return -np.asarray(ndtri(np.asarray(p_values) / 2), np.float64)


def _best_partitions(within: int, chance: Numbers) -> Numbers:
    """For every subset of a set of contenders, the largest sum of chances of a partition of it.

    Args:
        within: the set, as a bit mask.
        chance: of each set to be a part, 0 where it cannot be.
    """
    best = np.zeros(len(chance))
    for mask in _subsets(within)[1:].tolist():
        first = mask & -mask
        part = first | _subsets(mask & ~first)
        best[mask] = (chance[part] + best[mask & ~part]).max()
    return best


@lru_cache(maxsize=4_096)
def _subsets(mask: int) -> npt.NDArray[np.int64]:
    """All subsets of a bit mask, in ascending order, the empty one first."""
    found = np.zeros(1, np.int64)
    for bit in range(mask.bit_length()):
        if mask >> bit & 1:
            found = np.concatenate([found, found + (1 << bit)])
    return found

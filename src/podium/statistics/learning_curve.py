"""Learning curves: the accuracy by the number of training images, and what more of them bring.

The error is fitted by a power law with a floor, c + a n^-b (Hestness et al., 2017; Viering & Loog,
2022). Such laws extrapolate badly where they do not hold (Mahmood et al., 2022), so nothing is said
unless the law of the smaller sizes, up to half of the largest, foretells the accuracy at the
largest; and nothing far beyond the images that there are.
Intervals resample seeds, with the training images that each drew, and test images, or groups of
them, both with replacement (Owen, 2007). All sizes and contenders share the resamples: they were
trained on nested images and tested on the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from podium.statistics.paired import FEW_SEEDS, by_group

Numbers = npt.NDArray[np.float64]

RESAMPLES = 2_000
LEAST_SMALL = 4
"""Sizes up to half of the largest that it takes to check a law of three numbers."""

FAR = 5.0
"""Nothing is said beyond this many times the images that there are."""

EXPONENTS = np.geomspace(0.05, 2.0, 60)
_MOST = 8_000_000  # numbers in memory at a time

Silence = Literal["few_sizes", "few_seeds", "misfit", "flat"]


@dataclass(frozen=True)
class Extra:
    """How many more training images a gain in accuracy costs.

    A bound is None where it lies beyond `FAR` times the images that there are, or nowhere.
    """

    gain: float
    """0..1."""
    value: int | None
    low: int | None
    high: int | None


@dataclass(frozen=True)
class Foretold:
    """The accuracy at the largest size as the smaller ones foretell it, to check the law."""

    value: float
    low: float
    high: float
    """99 % interval of the accuracy that would be measured there."""
    measured: float

    @property
    def holds(self) -> bool:
        """Whether what was measured lies in the interval."""
        return self.low <= self.measured <= self.high


@dataclass(frozen=True, eq=False)
class Fit:
    """The law of a learning curve, as measured and for each resample.

    `laws` has shape (1 + resamples, 3): floor, factor and exponent; the first is of the data.
    """

    sizes: Numbers
    laws: Numbers
    foretold: Foretold | None
    """None: too few sizes."""
    silence: Silence | None
    """Why nothing is said beyond the sizes that were measured; None: something can be."""

    def accuracy(self, sizes: Numbers) -> Numbers:
        """Accuracies by the law of the data and of each resample.

        Args:
            sizes: numbers of training images, shape (m,).

        Returns:
            Shape (1 + resamples, m).
        """
        return 1 - _errors(self.laws, sizes)

    def extra(self, gain: float) -> Extra | None:
        """How many more training images a gain in accuracy costs; None: it cannot be said.

        Args:
            gain: 0..1.
        """
        if self.silence is not None:
            return None
        floor, factor, exponent = self.laws.T
        most = float(self.sizes[-1])
        wanted = _errors(self.laws, self.sizes[-1:])[:, 0] - gain - floor
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            needed = np.where(wanted > 0, (factor / wanted) ** (1 / exponent), np.inf) - most
        low, high = np.quantile(needed[1:], [0.025, 0.975], method="nearest")
        value, low, high = (
            round(float(one)) if one <= (FAR - 1) * most else None for one in (needed[0], low, high)
        )
        return Extra(gain, value, low, high)


def fit_curves(
    curves: Sequence[Sequence[Numbers]],
    sizes: Sequence[Numbers],
    groups: npt.NDArray[np.int64] | None = None,
    *,
    resamples: int = RESAMPLES,
) -> list[Fit]:
    """Fit the laws of several learning curves, with common resamples.

    Args:
        curves: of each contender, by size, 1 where an image is classified correctly and 0 where it
            is not; shape (seeds, images) each, the same for all.
        sizes: of each contender, the numbers of training images, ascending, shape (k,).
        groups: group index of each image, from 0; None: images are independent.
        resamples: of seeds and images.

    Examples:
        >>> import numpy as np
        >>> from podium.statistics.learning_curve import fit_curves
        >>> sizes = np.array([100, 200, 400, 800, 1600, 3200])
        >>> random = np.random.default_rng(0)
        >>> hard = random.random(4000)
        >>> rows = [np.tile(hard > 0.05 + 3 * n**-0.5, (5, 1)) * 1.0 for n in sizes]
        >>> fit = fit_curves([rows], [sizes])[0]
        >>> extra = fit.extra(0.01)
        >>> extra.low < 1700 < extra.high  # from 3,200 to 3 / (3 / 3200**0.5 - 0.01), squared
        True
    """
    counts = [len(one) for one in sizes]
    flat = np.concatenate([1 - np.stack(one) for one in curves])  # (all sizes, seeds, images)
    k, seeds, images = flat.shape
    units = by_group(flat.reshape(k * seeds, images), groups)
    errors = np.concatenate([flat.mean(axis=(1, 2))[None], _resampled(units, seeds, resamples)])
    ends = np.cumsum(counts)[:-1]
    return [
        _fit(np.asarray(own, np.float64), part, seeds)
        for own, part in zip(sizes, np.split(errors, ends, axis=1), strict=True)
    ]


@dataclass(frozen=True)
class Crossing:
    """Where a contender that learns faster overtakes another, by the laws of both."""

    first: int
    """The number of the contender that is ahead with fewer images."""
    size: int
    """Training images."""
    low: int
    high: int


def crossing(a: Fit, b: Fit) -> Crossing | None:
    """Where two learning curves cross; None: not within reach, or it cannot be said.

    Args:
        a: of a contender, numbered 0.
        b: of another, numbered 1, from the same call of `fit_curves`.
    """
    if a.silence is not None or b.silence is not None:
        return None
    low, high = max(a.sizes[0], b.sizes[0]), FAR * min(a.sizes[-1], b.sizes[-1])
    grid = np.geomspace(low, high, 400)
    ahead = a.accuracy(grid) > b.accuracy(grid)  # (1 + resamples, 400)
    turned = ahead != ahead[:, :1]
    crosses = turned.any(axis=1)
    same = crosses & (ahead[:, 0] == ahead[0, 0])  # the other contender is overtaken elsewhere
    if not crosses[0] or same[1:].mean() < 0.975:
        return None
    places = grid[turned.argmax(axis=1)]
    bounds = np.quantile(places[1:][same[1:]], [0.025, 0.975])
    return Crossing(0 if ahead[0, 0] else 1, *(round(float(one)) for one in (places[0], *bounds)))


def _resampled(units: Numbers, seeds: int, resamples: int) -> Numbers:
    """Means of resamples of seeds and units; shape (resamples, all sizes).

    Args:
        units: shape (all sizes x seeds, units).
        seeds: number of seeds.
        resamples: how many.
    """
    random = np.random.default_rng(0)
    rows, count = units.shape
    found = np.empty((resamples, rows // seeds))
    step = max(1, _MOST // max(count, rows))
    for begin in range(0, resamples, step):
        some = min(step, resamples - begin)
        of_units = random.multinomial(count, np.full(count, 1 / count), some) / count
        of_seeds = random.multinomial(seeds, np.full(seeds, 1 / seeds), some) / seeds
        means = (of_units @ units.T).reshape(some, -1, seeds)
        found[begin : begin + some] = np.einsum("rks,rs->rk", means, of_seeds)
    return found


def _fit(sizes: Numbers, errors: Numbers, seeds: int) -> Fit:
    """The law of each row of errors; the first row is of the data, the others of resamples."""
    variances = errors[1:].var(axis=0)
    weights = 1 / np.maximum(variances, max(1e-9, 1e-3 * float(variances.max())))
    laws = _laws(sizes, errors, weights)
    small = sizes <= sizes[-1] / 2
    if small.sum() < LEAST_SMALL:
        return Fit(sizes, laws, None, "few_sizes")
    said = _errors(_laws(sizes[small], errors[:, small], weights[small]), sizes[-1:])[:, 0]
    # paired: the same images; 99 %, since a few seeds show little of how much seeds differ
    apart = np.quantile((errors[:, -1] - said)[1:], [0.005, 0.995])
    low, high = (1 - errors[0, -1] + apart).tolist()
    foretold = Foretold(float(1 - said[0]), low, high, float(1 - errors[0, -1]))
    silence: Silence | None = None
    rises = _errors(laws, sizes[:1]) - _errors(laws, sizes[-1:]) > 1e-6
    if seeds < FEW_SEEDS:
        silence = "few_seeds"
    elif not foretold.holds:
        silence = "misfit"
    elif rises[1:].mean() < 0.975:
        silence = "flat"
    return Fit(sizes, laws, foretold, silence)


def _errors(laws: Numbers, sizes: Numbers) -> Numbers:
    floor, factor, exponent = laws.T[..., None]
    return np.asarray(floor + factor * sizes**-exponent)


def _laws(sizes: Numbers, errors: Numbers, weights: Numbers) -> Numbers:
    """Weighted least squares over a grid of exponents, with floor and factor of 0 or more.

    Args:
        sizes: shape (k,).
        errors: shape (rows, k).
        weights: shape (k,).

    Returns:
        Floor, factor and exponent of each row, shape (rows, 3).
    """
    best = np.full(len(errors), np.inf)
    found = np.zeros((len(errors), 3))
    w = weights / weights.sum()
    mean = errors @ w
    for exponent in EXPONENTS.tolist():
        x = sizes**-exponent
        middle = float(w @ x)
        spread = float(w @ (x - middle) ** 2)
        factor = np.maximum(0.0, (errors - mean[:, None]) @ (w * (x - middle)) / spread)
        floor = mean - factor * middle
        below = floor < 0
        through = np.maximum(0.0, errors @ (w * x) / float(w @ x**2))  # with a floor of 0
        factor, floor = np.where(below, through, factor), np.where(below, 0.0, floor)
        loss = (errors - floor[:, None] - factor[:, None] * x) ** 2 @ w
        better = loss < best
        best = np.where(better, loss, best)
        found[better] = np.stack([floor, factor, np.full_like(floor, exponent)], axis=1)[better]
    return found

"""Slices in which a contender is worse than elsewhere: found on half of the images, then confirmed.

The weakest of many slices looks weak by chance alone. So the search, over all slices and all
intersections of two, sees one half of the images, and the other half is asked only about what was
found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from podium.statistics.families import holm
from podium.statistics.intervals import LEVEL, Interval, mean_accuracy
from podium.statistics.paired import design_effect
from podium.statistics.slicing import LEAST_IMAGES, Inside, Slice, Slicing
from podium.statistics.table import PredictionTable

MOST_FOUND = 3
"""Slices per contender that the second half is asked about: each makes the others harder to
confirm."""
SUSPICIOUS = 0.1
"""p in the first half above which a slice is not suspected."""

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class WeakSlice:
    """A slice that a contender was weak in on the first half of the images.

    Accuracies are of the second half, which chose nothing: they are not too low by selection.
    """

    contender: str
    slices: tuple[Slice, ...]
    """One, or the two that it is the intersection of."""
    n: int
    """Its images in the second half."""
    accuracy: Interval
    """In the slice, on the second half."""
    elsewhere: float
    """Accuracy on the other images of the second half."""
    found_at: float
    """Accuracy in the slice on the first half."""
    p: float
    """One-sided, of "not worse than elsewhere", on the second half."""
    p_adjusted: float
    """Holm's, over all that were found."""

    @property
    def is_confirmed(self) -> bool:
        """Whether the second half shows it as well, at 5 % over all that were found."""
        return self.p_adjusted < LEVEL


@dataclass(frozen=True)
class WeakSlices:
    """The search and its outcome."""

    halves: tuple[int, int]
    """Images in the half that was searched, and in the other."""
    searched: int
    """Slices and intersections that were large enough to be searched."""
    found: tuple[WeakSlice, ...]
    """What was found, the confirmed ones first."""

    @property
    def confirmed(self) -> list[WeakSlice]:
        """The slices that both halves show."""
        return [one for one in self.found if one.is_confirmed]


def weak_slices(table: PredictionTable, slicing: Slicing, seed: int = 0) -> WeakSlices:
    """Find slices in which a contender is wrong more often than elsewhere, and confirm them.

    Whole groups are in one half. It is about correct and wrong predictions, whatever the study's
    metric, and about these trained models: with several seeds, about their mean.

    Args:
        table: the predictions of all contenders.
        slicing: of its images.
        seed: of the halves.

    Examples:
        >>> import numpy as np, podium
        >>> from podium.statistics.slicing import slices_of
        >>> from podium.statistics.table import table_of
        >>> labels, paths = np.zeros(400, np.int64), tuple(f"{n}.jpg" for n in range(400))
        >>> night = np.arange(400) % 4 == 0
        >>> wrong = night & (np.arange(400) % 8 == 0)  # half of what was taken at night
        >>> logits = np.where(wrong[:, None], [0, 1], [1, 0]).astype(np.float32)
        >>> answers = podium.Predictions(("cat", "dog"), paths, labels, logits)
        >>> table = table_of([("small", "Small", None, None, {0: answers})])
        >>> slicing = slices_of({"time": np.where(night, "night", "day").tolist()}, labels, paths)
        >>> [(one.slices[0].value, one.elsewhere) for one in weak_slices(table, slicing).confirmed]
        [('night', 1.0)]
    """
    first = _half(len(table), table.groups, seed)
    right = {
        one.name: (one.predicted == table.labels).astype(np.float64) for one in table.contenders
    }
    searched = [one for one in _areas(slicing) if _is_large(one[1], first)]
    suspects = [
        (name, *area)
        for name, hits in right.items()
        for area in _suspects(hits, searched, first, table.groups)
    ]
    second = ~first
    tests = [
        _p_of_weakness(right[name][:, second], area[second], _part(table.groups, second))
        for name, _, area in suspects
    ]
    found = [
        WeakSlice(
            name,
            slices,
            int(np.count_nonzero(area & second)),
            mean_accuracy(
                right[name][:, area & second],
                _part(table.groups, area & second),
                table.seed_level,
            ),
            float(right[name][:, second & ~area].mean()),
            float(right[name][:, area & first].mean()),
            p,
            p_adjusted,
        )
        for (name, slices, area), p, p_adjusted in zip(suspects, tests, holm(tests), strict=True)
    ]
    found.sort(key=lambda one: (not one.is_confirmed, one.p))
    halves = int(np.count_nonzero(first)), int(np.count_nonzero(second))
    return WeakSlices(halves, len(searched), tuple(found))


def _half(n: int, groups: Indices | None, seed: int) -> Inside:
    """True for the images of the half that is searched, shape (images,)."""
    units = np.arange(n) if groups is None else groups
    order = np.random.default_rng(seed).permutation(int(units.max(initial=-1)) + 1)
    sizes = np.bincount(units, minlength=len(order))[order]
    begun = np.cumsum(sizes) - sizes  # images before each group
    chosen = np.zeros(len(order), np.bool_)
    chosen[order[begun + sizes / 2 <= n / 2]] = True
    return np.asarray(chosen[units], np.bool_)


def _areas(slicing: Slicing) -> list[tuple[tuple[Slice, ...], Inside]]:
    """The slices, and the intersections of two of different columns."""
    alone: list[tuple[tuple[Slice, ...], Inside]] = [((one,), one.inside) for one in slicing.slices]
    both = [
        ((a, b), np.asarray(a.inside & b.inside))
        for a, b in combinations(slicing.slices, 2)
        if a.column != b.column
    ]
    return alone + [
        (slices, area)
        for slices, area in both
        if all(np.count_nonzero(area) <= one.n - LEAST_IMAGES for one in slices)
    ]


def _is_large(area: Inside, first: Inside) -> bool:
    """Whether each half has enough images in it, and outside of it."""
    return all(
        min(np.count_nonzero(area & half), np.count_nonzero(~area & half)) >= LEAST_IMAGES / 2
        for half in (first, ~first)
    )


def _suspects(
    right: Values,
    searched: Sequence[tuple[tuple[Slice, ...], Inside]],
    first: Inside,
    groups: Indices | None,
) -> list[tuple[tuple[Slice, ...], Inside]]:
    """The slices that a contender seems weakest in; of nested ones the most significant."""
    hits, units = right[:, first], _part(groups, first)
    ordered = sorted(
        ((_p_of_weakness(hits, area[first], units), at) for at, (_, area) in enumerate(searched))
    )
    kept: list[int] = []
    for p, at in ordered:
        of = {(one.column, one.value) for one in searched[at][0]}
        nested = any(
            of <= other or other <= of
            for other in ({(one.column, one.value) for one in searched[k][0]} for k in kept)
        )
        if p < SUSPICIOUS and not nested and len(kept) < MOST_FOUND:
            kept.append(at)
    return [searched[at] for at in kept]


def _p_of_weakness(right: Values, area: Inside, groups: Indices | None) -> float:
    """One-sided p of "no less accurate in the area": Fisher's exact test of effective numbers.

    Counts are divided by the design effect of groups (Rao & Scott, 1992), as for classes.

    Args:
        right: shape (seeds, images).
        area: True for the images in it, shape (images,).
        groups: group index of each image; None: images are independent.
    """
    from scipy.stats import hypergeom

    hits = right.mean(axis=0)
    cells = None
    if groups is not None:
        cells = np.unique(2 * groups + area, return_inverse=True)[1].astype(np.int64)
    alike = design_effect(hits, cells)
    counts = []
    for part in (area, ~area):
        effective = round(np.count_nonzero(part) / alike)
        counts.append((round(effective * float(hits[part].mean())), effective))
    (own, size), (rest, others) = counts
    return float(hypergeom.cdf(own, size + others, own + rest, size))


def _part(groups: Indices | None, inside: Inside) -> Indices | None:
    if groups is None:
        return None
    return np.unique(groups[inside], return_inverse=True)[1].astype(np.int64)

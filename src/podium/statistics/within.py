"""Contenders compared within slices of the images, and whether their difference depends on these.

That one of two contenders wins in camera A and neither does in camera B says nothing about the
cameras: the second may only have fewer images. So the change itself is tested, the difference in a
slice minus the difference elsewhere (Gelman & Stern, 2006, *The difference between "significant"
and "not significant" is not itself statistically significant*).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from podium.errors import DataError
from podium.statistics.f1_difference import SamplingUnits
from podium.statistics.families import Tested, Tests, adjusted_together, p_of
from podium.statistics.fold_tests import FoldScores, mean_effect
from podium.statistics.influence import Influence, influences, units_to_leave_out
from podium.statistics.intervals import Interval, bounded, mean_accuracy
from podium.statistics.pair_tests import Judged, joint_intervals, p_values, pair_tests
from podium.statistics.paired import design_effect
from podium.statistics.scoring import ACCURACY, Metric
from podium.statistics.slicing import Inside, Slice, Slicing
from podium.statistics.table import PredictionTable

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SlicePair:
    """Two contenders in a slice; differences are `first` minus `second`, in the metric's units."""

    first: str
    second: str
    difference: Tested
    """Within the slice."""
    elsewhere: float
    """The difference on all other images."""
    change: Tested
    """The difference within the slice minus that elsewhere."""

    @property
    def turns(self) -> bool:
        """Whether the difference depends on the slice, and has the opposite sign there."""
        return self.change.is_significant and self.difference.interval.value * self.elsewhere < 0


@dataclass(frozen=True)
class SliceScores:
    """The contenders on the images of a slice."""

    slice: Slice
    groups: int | None
    """Number of groups that its images belong to; None: images are independent."""
    scores: tuple[Interval, ...]
    """Of each contender in the order of the table, each with an interval of its own."""
    pairs: tuple[SlicePair, ...]
    """Every pair, in the order of `itertools.combinations`."""


@dataclass(frozen=True)
class Within:
    """All contenders in all slices."""

    metric: Metric
    """What scores and differences are about: the study's metric, or accuracy where that has no
    value in every slice."""
    slices: tuple[SliceScores, ...]
    uncompared: tuple[Slice, ...]
    """Slices whose images are all of one fold."""

    @property
    def changed(self) -> list[tuple[SliceScores, SlicePair]]:
        """The pairs whose difference depends on a slice, those that turn first."""
        found = [
            (one, pair) for one in self.slices for pair in one.pairs if pair.change.is_significant
        ]
        return sorted(found, key=lambda each: (not each[1].turns, each[1].change.p))

    @property
    def decided(self) -> list[tuple[SliceScores, SlicePair]]:
        """The pairs that differ significantly within a slice, in the order of the slices."""
        return [
            (one, pair)
            for one in self.slices
            for pair in one.pairs
            if pair.difference.is_significant
        ]


def compare_within(table: PredictionTable, slicing: Slicing) -> Within:
    """Compare every pair of contenders within every slice, and with the same pair elsewhere.

    Tests are those of the whole set of images (seeds, groups, folds, metric). Differences within
    slices are adjusted over slices x pairs by Holm's method, which takes no assumption on how
    slices overlap; changes likewise, as a family of their own.

    Args:
        table: the predictions of all contenders.
        slicing: of its images.

    Raises:
        DataError: the contenders are cross-validated with different folds.
    """
    metric = _metric_in(table, slicing)
    if metric != table.metric:
        table = replace(table, metric=metric)
    found: list[tuple[Slice, _Parts]] = []
    uncompared = []
    for one in slicing.slices:
        try:
            found.append((one, _parts(table, one.inside)))
        except DataError:  # all of its images are of one fold
            uncompared.append(one)
    differences = adjusted_together([parts.differences for _, parts in found])
    changes = _changes(found)
    names = list(combinations([one.name for one in table.contenders], 2))
    slices = [
        SliceScores(
            one,
            parts.groups,
            parts.scores,
            tuple(
                SlicePair(first, second, here, here.interval.value - change.interval.value, change)
                for (first, second), here, change in zip(names, *of_pairs, strict=True)
            ),
        )
        for (one, parts), *of_pairs in zip(found, differences, changes, strict=True)
    ]
    return Within(metric, tuple(slices), tuple(uncompared))


def _metric_in(table: PredictionTable, slicing: Slicing) -> Metric:
    """The table's metric, or accuracy where it has no value in some slice or outside of it."""
    if table.metric.is_accuracy:
        return ACCURACY
    for one in slicing.slices:
        for inside in (one.inside, ~one.inside):
            part = table.take(inside)
            if table.contenders[0].folds is None and isinstance(influences(part), str):
                return ACCURACY
            if table.contenders[0].folds is not None and FoldScores(part).why_accuracy:
                return ACCURACY
    return table.metric


class _Parts(NamedTuple):
    """A slice before the adjustment; tests are in the order of `itertools.combinations`."""

    groups: int | None
    scores: tuple[Interval, ...]
    differences: Tests
    changes: Tests


def _parts(table: PredictionTable, inside: Inside) -> _Parts:
    own, rest = table.take(inside), table.take(~inside)
    groups = None if table.groups is None else len(np.unique(table.groups[inside]))
    if table.contenders[0].folds is not None:
        return _Parts(groups, *_over_folds(table, inside, FoldScores(own), FoldScores(rest)))
    (scores, here), (_, there) = _scored(own), _scored(rest)
    tests = pair_tests(own, here)[0]
    changes = pair_tests(table, _contrast(table, inside, here, there))[0]
    # sign flips know nothing of images that no contender is wrong about: few hardly vary by chance
    p_changes = [
        max(p, p_of(one.fixed, one.least_variance))
        for one, p in zip(changes, p_values(changes), strict=True)
    ]
    return _Parts(
        groups,
        scores,
        Tests(p_values(tests), partial(joint_intervals, tests)),
        Tests(p_changes, partial(joint_intervals, changes)),
    )


def _scored(table: PredictionTable) -> tuple[tuple[Interval, ...], Judged]:
    """The contenders' scores on some images, and what they are compared by."""
    level = table.seed_level
    drawn, scored = SamplingUnits(table.labels, table.groups, level), influences(table)
    if isinstance(scored, Influence):
        scores = tuple(scored.score(at) for at in range(len(table.contenders)))
        return scores, scored.judged(drawn)
    right = [(one.predicted == table.labels).astype(np.float64) for one in table.contenders]
    scores = tuple(mean_accuracy(one, table.groups, level) for one in right)
    return scores, Judged(right, table.groups, drawn.least, counted=True, seed_level=level)


def _contrast(table: PredictionTable, inside: Inside, here: Judged, there: Judged) -> Judged:
    """What the change is judged by: values whose mean is the score here minus that elsewhere."""
    swapped = [
        _spread(inside, a * np.count_nonzero(~inside), -b * np.count_nonzero(inside))
        for a, b in zip(here.swapped or here.values, there.swapped or there.values, strict=True)
    ]  # whole numbers stay whole, so that sign flips are counted, not drawn
    groups = table.groups
    if units_to_leave_out(table.metric, len(table), groups) is not groups:  # blocks, of each part
        blocks = [
            np.arange(one.values[0].shape[1]) if one.groups is None else one.groups
            for one in (here, there)
        ]
        groups = _spread(inside, blocks[0], blocks[1] + blocks[0].max() + 1)
    return Judged(
        [_contributions(inside, a, b) for a, b in zip(here.values, there.values, strict=True)],
        groups,
        here.least + there.least,
        here.most + there.most,
        freedom=min(here.freedom, there.freedom),
        swapped=swapped,
        seed_level=here.seed_level,
    )


def _contributions(inside: Inside, here: Values, there: Values) -> Values:
    """Values of all images whose mean is that of `here` minus that of `there`, in every row.

    Their variance is that of the difference of two means: each is centred, since how many images
    a slice has is not what the difference is about.
    """
    n = len(inside)
    means = [one.mean(axis=1, keepdims=True) for one in (here, there)]
    parts = [
        sign * (one - mean) * n / one.shape[1]
        for sign, one, mean in zip((1, -1), (here, there), means, strict=True)
    ]
    return np.asarray(_spread(inside, *parts) + means[0] - means[1], np.float64)


def _spread(inside: Inside, here: npt.NDArray[Any], there: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values of the images in the slice and elsewhere, in the order of all images."""
    found = np.empty((*here.shape[:-1], len(inside)), here.dtype)
    found[..., inside], found[..., ~inside] = here, there
    return found


def _over_folds(
    table: PredictionTable, inside: Inside, here: FoldScores, there: FoldScores
) -> tuple[tuple[Interval, ...], Tests, Tests]:
    """Scores, differences and changes of cross-validated contenders."""
    tests = here.tests()
    scores = tuple(here.score(at) or here.accuracy(at) for at in range(len(table.contenders)))
    folds = FoldScores(replace(table, metric=ACCURACY)).folds
    values = [
        _contributions(inside, a, b)
        for a, b in zip(here.values or here.right, there.values or there.right, strict=True)
    ]
    width = 1.0 if here.values is None else table.metric.bounds[1] - table.metric.bounds[0]
    swing = width**2 if math.isfinite(width) else 0.0
    least = swing * sum(SamplingUnits(one.table.labels, None).least for one in (here, there))
    effects = [
        (
            mean_effect(values[i] - values[j], folds, table.groups),
            least * design_effect((values[i] - values[j]).mean(axis=0), table.groups) ** 2,
        )
        for i, j in combinations(range(len(values)), 2)
    ]
    return (
        scores,
        Tests([one.p for one in tests], lambda level: [one.interval(1 - level) for one in tests]),
        Tests(
            [p_of(*one) for one in effects],
            lambda level: [
                bounded(effect, spare, 2 * width, 1 - level) for effect, spare in effects
            ],
        ),
    )


def _changes(found: Sequence[tuple[Slice, _Parts]]) -> list[list[Tested]]:
    """The changes of all slices; of two slices that make up all images, they are one question."""
    inside = [one.inside for one, _ in found]
    mirrors = [
        next((i for i, other in enumerate(inside[:at]) if (one != other).all()), None)
        for at, one in enumerate(inside)
    ]
    pairs = zip(found, mirrors, strict=True)
    asked = [parts.changes for (_, parts), mirror in pairs if mirror is None]
    answers = iter(adjusted_together(asked))
    changes: list[list[Tested]] = []
    for mirror in mirrors:
        changes.append(
            next(answers) if mirror is None else [one.turned() for one in changes[mirror]]
        )
    return changes

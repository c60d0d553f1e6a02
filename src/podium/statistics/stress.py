"""Contenders on corrupted images: how much each loses, and whether their ranking turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
import numpy.typing as npt

from podium.runs.stress import Condition
from podium.statistics.f1_difference import SamplingUnits
from podium.statistics.families import Tested, Tests, adjusted_together, p_of
from podium.statistics.intervals import Interval, mean_accuracy
from podium.statistics.pair_tests import Judged, joint_intervals, p_values, pair_tests
from podium.statistics.table import ContenderPredictions, PredictionTable

Indices = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

EVERY = "every"


@dataclass(frozen=True)
class StressPair:
    """Two contenders under a corruption, or under all; differences are `first` minus `second`."""

    corruption: str
    """`every`: the mean over all."""
    first: str
    second: str
    clean: float
    """Difference in accuracy on the images as they are, -1..1."""
    stressed: Tested
    """The difference in mean accuracy over the strengths."""
    change: Tested
    """The difference under corruption minus that on the same images as they are."""

    @property
    def turns(self) -> bool:
        """Whether corruption significantly changes the difference, to the opposite sign."""
        return self.change.is_significant and self.stressed.interval.value * self.clean < 0


@dataclass(frozen=True)
class Stressed:
    """All contenders in all conditions."""

    n: int
    groups: int | None
    """Number of groups that the images belong to; None: images are independent."""
    labels: Mapping[str, str]
    """Display name of each contender, by name."""
    conditions: tuple[Condition, ...]
    """The images as they are, then (corruption, strength from 1, its value) of each."""
    curves: Mapping[str, tuple[Interval, ...]]
    """Contender -> accuracy in each condition, each with an interval of its own."""
    means: Mapping[str, float]
    """Contender -> mean accuracy over all corruptions and strengths."""
    pairs: tuple[StressPair, ...]
    """First those of every corruption together, then corruption by corruption."""

    @property
    def corruptions(self) -> list[str]:
        """Names of the corruptions, in the order of the conditions."""
        return list(dict.fromkeys(name for name, strength, _ in self.conditions if strength))

    @property
    def changed(self) -> list[StressPair]:
        """The pairs whose difference corruption changes, those that turn first."""
        found = [pair for pair in self.pairs if pair.change.is_significant]
        return sorted(found, key=lambda pair: (pair.corruption != EVERY, not pair.turns))


def compare_stressed(
    contenders: Mapping[str, tuple[str, Mapping[int, Indices]]],
    labels: Indices,
    conditions: Sequence[Condition],
    groups: Indices | None = None,
) -> Stressed:
    """Compare contenders on the same images in several conditions.

    An image's value is the share of strengths in which it is classified correctly; seeds and
    groups of images count as in all verdicts. Corruptions together are one family of tests (Holm),
    each corruption by itself a second.

    Args:
        contenders: name -> (display name, seed -> predicted classes of shape (conditions, images)).
        labels: class index of each image.
        conditions: the images as they are, then each corruption in each strength.
        groups: group index of each image, from 0; None: images are independent.
    """
    right = {
        name: np.stack([(one == labels) for one in by_seed.values()]).astype(np.float64)
        for name, (_, by_seed) in contenders.items()
    }  # (seeds, conditions, images)
    table = PredictionTable(
        class_names=(),
        paths=tuple(str(at) for at in range(len(labels))),
        labels=labels,
        contenders=tuple(
            ContenderPredictions(
                name, label, tuple(by_seed), np.stack([one[0] for one in by_seed.values()])
            )
            for name, (label, by_seed) in contenders.items()
        ),
        groups=groups,
    )
    rows = {
        name: [at for at, one in enumerate(conditions) if one[0] == name]
        for name in dict.fromkeys(one[0] for one in conditions[1:])
    }
    every = list(range(1, len(conditions)))
    together = _pairs(table, right, {EVERY: every})
    alone = _pairs(table, right, rows)
    return Stressed(
        n=len(labels),
        groups=None if groups is None else int(groups.max()) + 1,
        labels={name: label for name, (label, _) in contenders.items()},
        conditions=tuple(conditions),
        curves={
            name: tuple(mean_accuracy(one[:, at], groups) for at in range(len(conditions)))
            for name, one in right.items()
        },
        means={name: float(one[:, every].mean()) for name, one in right.items()},
        pairs=(*together, *alone),
    )


def _pairs(
    table: PredictionTable, right: Mapping[str, Values], rows: Mapping[str, Sequence[int]]
) -> list[StressPair]:
    """Every pair in every group of conditions, adjusted together."""
    least = SamplingUnits(table.labels, table.groups).least
    stressed, changes = [], []
    for those in rows.values():
        counts = [one[:, those].sum(axis=1) for one in right.values()]  # sign flips count these
        means = [one / len(those) for one in counts]
        clean = [one[:, 0] for one in right.values()]
        losses = [one - of for one, of in zip(means, clean, strict=True)]
        lost = [one - len(those) * of for one, of in zip(counts, clean, strict=True)]
        stressed.append(_tests(table, Judged(means, table.groups, least, swapped=counts)))
        changes.append(_tests(table, Judged(losses, table.groups, 2 * least, 2.0, swapped=lost)))
    pairs = []
    unchanged = {name: float(one[:, 0].mean()) for name, one in right.items()}
    for name, *found in zip(
        rows, adjusted_together(stressed), adjusted_together(changes), strict=True
    ):
        for (first, second), *tested in zip(combinations(right, 2), *found, strict=True):
            apart = unchanged[first] - unchanged[second]
            pairs.append(StressPair(name, first, second, apart, *tested))
    return pairs


def _tests(table: PredictionTable, judged: Judged) -> Tests:
    tests = pair_tests(table, judged)[0]
    # as for slices: images that nobody is wrong about tell sign flips nothing
    p = [
        max(p, p_of(one.fixed, one.least_variance))
        for one, p in zip(tests, p_values(tests), strict=True)
    ]
    return Tests(p, partial(joint_intervals, tests))

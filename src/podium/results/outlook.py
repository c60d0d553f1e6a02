"""What a study's test images could show at all, and what others could, whatever they did show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median_low

import numpy as np

from podium.statistics.assumptions import MOST_IMAGES, Assumptions, observed
from podium.statistics.power import images_needed, power_at, smallest_difference
from podium.statistics.table import PredictionTable
from podium.statistics.verdicts import Pair, Verdicts

TIMES = (0.5, 1, 2, 3, 5, 10, 20, 50, 100)
"""Numbers of test images that are tried, times the study's own."""
SEEDS = (1, 3, 5, 10)
"""Seeds per contender that are tried besides the study's own; with two, hardly anything is."""
MOST_PAIRS = 45
"""Of ten contenders: 2 s of one core, with several seeds. More would make a report much slower."""


@dataclass(frozen=True)
class Outlook:
    """The power of a study's test images, as `podium power --like` computes it."""

    given: Assumptions
    """What power depends on, as observed in this study."""
    seeds: int
    """Of most contenders: one that lacks a seed does not speak for the others."""
    smallest: float | None
    """The smallest difference in accuracy that is found with the target power; None: none is."""
    gap: float
    """Difference in accuracy between the two best contenders, as measured."""
    images: int | None
    """Test images that find a true difference of `gap`; None: no number does, or there is no need
    to know, since the two best are told apart or measured as equal."""


def outlook(table: PredictionTable | None, verdicts: Verdicts | None) -> Outlook | None:
    """The power of a study's test images.

    Args:
        table: the predictions of its contenders; None: their test images differ.
        verdicts: of its contenders; None: likewise.

    Returns:
        The outlook; None for fewer than two contenders or images, for contenders that are always
        or never right, and for folds, whose test has a power that depends on what no study shows:
        how alike models are that share training images; nor for `seeds: auto`, whose looks tell
        more (`podium.statistics.stopping`).
    """
    if table is None or verdicts is None or not verdicts.pairs or verdicts.folds is not None:
        return None
    if table.seed_level < 1:
        return None
    given = replace(observed(table), contenders=len(table.contenders))
    if len(table) < 2 or not 0 < given.accuracy < 1:
        return None
    seeds = median_low(len(one.seeds) for one in table.contenders)
    by_accuracy = sorted(verdicts.standings, key=lambda one: -one.accuracy.value)
    first, second = by_accuracy[:2]
    gap = first.accuracy.value - second.accuracy.value
    undecided = verdicts.pair(first.name, second.name).winner is None
    return Outlook(
        given,
        seeds,
        smallest_difference(len(table), seeds, given),
        gap,
        images_needed(gap, seeds, given) if undecided and gap > 0 else None,
    )


@dataclass(frozen=True)
class PairPower:
    """How likely studies of other sizes are to tell a pair apart, if it differs as measured."""

    pair: Pair
    """The better contender first."""
    points: float
    """The measured difference in accuracy, in percentage points to two decimals, 0..100."""
    disagreement: float
    """Images that exactly one of the two gets right, in percent to two decimals, 0..100."""
    power: tuple[tuple[float, ...], ...] | None
    """For each number of seeds and each number of images; None: no difference was measured."""


@dataclass(frozen=True)
class OtherSizes:
    """The power of a study like this one with other numbers of test images and seeds.

    Differences and disagreements are rounded as `podium power` takes them on its command line, so
    that it prints the same numbers.
    """

    given: Assumptions
    """What power depends on besides, as observed; its disagreement is each pair's own."""
    images: tuple[int, ...]
    seeds: tuple[int, ...]
    own: tuple[int, int]
    """The study's own number of images and of seeds, which are among those."""
    pairs: tuple[PairPower, ...]


def other_sizes(
    found: Outlook | None, verdicts: Verdicts | None, pairs: Sequence[Pair]
) -> OtherSizes | None:
    """What studies of other sizes could decide, if every pair differs as much as measured.

    Args:
        found: of the study.
        verdicts: of its contenders.
        pairs: all of them, the better contender first.

    Returns:
        None where the power of this study is unknown, where verdicts are about another metric than
        accuracy, which is what power is about, and for more than `MOST_PAIRS` pairs.
    """
    if found is None or verdicts is None or not verdicts.metric.is_accuracy:
        return None
    if len(pairs) > MOST_PAIRS:
        return None
    n = verdicts.n
    images = tuple(round(n * times) for times in TIMES if 2 <= round(n * times) <= MOST_IMAGES)
    seeds = tuple(sorted({*SEEDS, found.seeds}))
    points = [round(100 * abs(pair.accuracy.value), 2) for pair in pairs]
    apart = [round(100 * (pair.only_first + pair.only_second) / n, 2) for pair in pairs]
    # pairs innermost: those of one size share their random draws
    power = np.array(
        [
            [
                [
                    power_at(count, gap / 100, of, replace(given, disagreement=share / 100))
                    if gap
                    else np.nan
                    for gap, share in zip(points, apart, strict=True)
                ]
                for count, given in ((count, found.given.for_images(count)) for count in images)
            ]
            for of in seeds
        ]
    )
    return OtherSizes(
        found.given,
        images,
        seeds,
        (n, found.seeds),
        tuple(
            PairPower(pair, gap, share, tuple(map(tuple, power[..., at].tolist())) if gap else None)
            for at, (pair, gap, share) in enumerate(zip(pairs, points, apart, strict=True))
        ),
    )

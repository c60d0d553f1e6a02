"""Paired tests of every two contenders, and the resulting standings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt

from podium.errors import DataError
from podium.statistics.best_chance import chances_of_being_best
from podium.statistics.f1_difference import MacroF1, SamplingUnits, f1_difference
from podium.statistics.fold_tests import FoldDesign
from podium.statistics.grouping import Grouping, grouping_of
from podium.statistics.influence import Influence, influences
from podium.statistics.intervals import LEVEL, Interval, bounded, mean_accuracy
from podium.statistics.margins import EQUIVALENCE, NO_MARGIN, Margin, judge_margin
from podium.statistics.pair_tests import Judged, PairTest, joint_intervals, p_values, pair_tests
from podium.statistics.recall_difference import recall_difference
from podium.statistics.scoring import ACCURACY, Metric
from podium.statistics.table import ContenderPredictions, PredictionTable
from podium.statistics.together import Together

Shares = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """Two contenders on the same images; differences are `first` minus `second`, -1..1."""

    first: str
    second: str
    claim: Literal["models", "methods"]
    """What a verdict is about: these trained models, or the recipes that trained them."""
    n: int
    seeds: tuple[tuple[int, int], ...]
    """The seeds that were paired, as (first's, second's): seed by seed where both contenders have
    the same seeds, otherwise every seed of one with every seed of the other."""
    accuracy: Interval
    macro_f1: Interval | None
    """None without resamples."""
    macro_recall: Interval
    """The difference in mean recall over the classes (balanced accuracy)."""
    only_first: float
    """Images that only the first gets right; a mean over `seeds`."""
    only_second: float
    """Images that only the second gets right; a mean over `seeds`."""
    p: float
    """McNemar's mid-p test for models (sign-flip test of the totals with groups, or with several
    seeds of one of the two); for methods a t-like test over seeds and images, never below that."""
    p_adjusted: float
    """`p` adjusted for all compared pairs."""
    joint: Interval
    """The difference in the metric being tested, with an interval that holds together with those
    of all other pairs: in 95 % of studies, every one contains its true difference."""
    score: Interval | None = None
    """The same, with the interval of this pair by itself; None: the metric is accuracy."""
    metric: Metric = ACCURACY
    """The metric that p and the verdict are about."""
    within: float = math.inf
    """How much the two differ at most, whichever is better, in units of the metric: in 95 % of
    studies this holds of all pairs."""
    equivalent: bool = False
    """Whether that is less than `Verdicts.margin`."""

    @property
    def verdict(self) -> Literal["better", "equivalent", "undecided"]:
        """`better`: one is, see `winner`; `equivalent`: within the margin; `undecided`: these
        images show neither."""
        if self.winner is not None:
            return "better"
        return "equivalent" if self.equivalent else "undecided"

    @property
    def seed_counts(self) -> tuple[int, int]:
        """The number of seeds of the first and of the second."""
        first, second = (set(column) for column in zip(*self.seeds, strict=True))
        return len(first), len(second)

    @property
    def winner(self) -> str | None:
        """The significantly better contender, at 5 % over all pairs; None: they are tied."""
        if self.p_adjusted >= LEVEL or self.judged.value == 0:
            return None
        ahead = (self.judged.value > 0) == self.metric.greater_is_better
        return self.first if ahead else self.second

    @property
    def judged(self) -> Interval:
        """The difference that the verdict is about, in the study's metric."""
        return self.accuracy if self.score is None else self.score


@dataclass(frozen=True)
class Standing:
    """A contender's place: any place from `best` to `worst` is possible."""

    name: str
    label: str
    accuracy: Interval
    macro_f1: float
    n: int
    seeds: int
    best: int
    worst: int
    tied: tuple[str, ...]
    """Names of the contenders that do not differ significantly from it."""
    may_be_best: bool
    """Whether it belongs to those that may be the best: in 95 % of studies, every contender that
    truly is the best belongs to them."""
    score: Interval | None = None
    """The score that places are based on; None: it is accuracy."""
    behind: float = math.inf
    """How much worse than the best it is at most, whichever that is, in units of the metric: in
    95 % of studies this holds of all contenders."""
    chance_of_best: float | None = None
    """Share of random weightings of the images in which it is first; None: too few images, no
    resamples, or folds. See `podium.statistics.best_chance`."""

    @property
    def judged(self) -> Interval:
        """The score that the place is based on, in the study's metric."""
        return self.accuracy if self.score is None else self.score


@dataclass(frozen=True)
class Verdicts:
    """All pairs and the standings, best in the study's metric first.

    Examples:
        >>> import numpy as np
        >>> import podium
        >>> from podium.statistics.table import table_of
        >>> from podium.statistics.verdicts import compare_contenders
        >>> labels, paths = np.zeros(100, np.int64), tuple(f"{n}.jpg" for n in range(100))
        >>> def predictions(right):
        ...     logits = np.tile(np.array([0, 1], np.float32), (100, 1))
        ...     logits[:right] = [1, 0]
        ...     return podium.Predictions(("cat", "dog"), paths, labels, logits)
        >>> table = table_of(
        ...     [
        ...         ("small", "Small", None, None, {0: predictions(right=70)}),
        ...         ("large", "Large", None, None, {0: predictions(right=90)}),
        ...     ]
        ... )
        >>> verdicts = compare_contenders(table, resamples=0)
        >>> [standing.name for standing in verdicts.leaders]
        ['large']
        >>> verdicts.pair("large", "small").accuracy.value
        0.2
    """

    n: int
    """Number of images that all contenders were compared on."""
    standings: tuple[Standing, ...]
    """One per contender, with its place, accuracy and ties."""
    pairs: tuple[Pair, ...]
    """Every pair, with difference, interval, p and winner."""
    notices: tuple[str, ...] = ()
    """What a reader should know, one sentence each."""
    metric: Metric = ACCURACY
    """The metric that places, p and verdicts are based on."""
    why_accuracy: str = ""
    """Why they are based on accuracy where the study has another metric."""
    grouping: Grouping | None = None
    """The groups of images that are the sampling units; None: single images are."""
    folds: FoldDesign | None = None
    """The cross-validation that the contenders were scored in; None: a test split."""
    margin: Margin = NO_MARGIN
    """The difference below which two contenders are equivalent."""
    level: float = LEVEL
    """A pair with a p below it is decided, whatever all the others show."""
    seed_level: float = 1.0
    """The part of any level that the seeds get, where their number depends on earlier looks."""

    def pair(self, first: str, second: str) -> Pair:
        """The pair of two contenders, seen from `first`.

        Args:
            first: name of a contender.
            second: name of another contender.

        Raises:
            KeyError: they were not compared.
        """
        for pair in self.pairs:
            if (pair.first, pair.second) == (first, second):
                return pair
            if (pair.first, pair.second) == (second, first):
                return _turned(pair)
        raise KeyError(f"{first} and {second} were not compared")

    @property
    def labels(self) -> dict[str, str]:
        """Display name of each contender, by name."""
        return {standing.name: standing.label for standing in self.standings}

    @property
    def leaders(self) -> tuple[Standing, ...]:
        """The contenders that may be the best: the winner, or all that may share first place.

        No pair's verdict goes against them. They can be fewer than those with 1 as best place:
        which contender is the best takes fewer comparisons than how all pairs compare.
        """
        return tuple(standing for standing in self.standings if standing.may_be_best)


def compare_contenders(
    table: PredictionTable, *, resamples: int = 2000, seed: int = 0, margin: float | None = None
) -> Verdicts:
    """Compare every pair of contenders on the images of a table.

    Where either contender has a single seed, the pair compares trained models: McNemar's test,
    Tango's interval. With several seeds of both it compares recipes: seeds and images are both
    random samples, see `podium.statistics.paired.SeedEffect`. Every pair uses all seeds of both, as
    the standings do. With groups, groups instead of images are the sampling units. What is said of
    all pairs together is adjusted for their number, see `podium.statistics.together`.

    Where the table has a metric other than accuracy, places, p and verdicts are about that metric:
    each image's contribution to it (`podium.statistics.influence`) replaces correct or wrong, and
    sign flips of the contributions replace McNemar's test.

    Args:
        table: the predictions of all contenders, as returned by `read_table`.
        resamples: of the images, for macro F1; 0: no intervals of macro F1, nor chances of being
            best.
        seed: of the resamples.
        margin: difference below which two contenders are equivalent, in units of the metric (a
            share in 0..1); None: what these images can show, see `podium.statistics.margins`.

    Raises:
        DataError: there are no images.
    """
    assert all(one.folds is None for one in table.contenders)  # never pool the answers of folds
    if not len(table):
        raise DataError("Expected predictions of at least one image, got none: nothing to compare.")
    right = [(answers.predicted == table.labels).astype(np.float64) for answers in table.contenders]
    drawn = SamplingUnits(table.labels, table.groups, table.seed_level)
    found = influences(table)
    scored = found if isinstance(found, Influence) else None
    metric = ACCURACY if scored is None else scored.metric
    f1 = [MacroF1(table, answers, resamples, seed) for answers in table.contenders]
    counted = Judged(right, table.groups, drawn.least, counted=True, seed_level=table.seed_level)
    accuracy, covariance = pair_tests(table, counted)
    tests = accuracy
    if scored is not None:
        tests, covariance = pair_tests(table, scored.judged(drawn))
    found_p = p_values(tests)
    together = Together(covariance, [answers.name for answers in table.contenders])
    values = (
        accuracy,
        tests,
        found_p,
        together.adjusted(found_p),
        joint_intervals(tests, together.level()),
    )
    pairs = [
        _pair(table.labels, right, (f1[i], f1[j]), drawn, metric, (i, j), *one)
        for (i, j), *one in zip(combinations(range(len(right)), 2), *values, strict=True)
    ]
    standings = [
        _standing(answers, hits, scores, drawn, pairs)
        for answers, hits, scores in zip(table.contenders, right, f1, strict=True)
    ]
    if scored is not None:
        standings = [replace(one, score=scored.score(at)) for at, one in enumerate(standings)]
    merits = np.array([metric.merit(one.judged.value) for one in standings])
    best = together.possibly_best(found_p, merits, [one.best > 1 for one in standings])
    standings = [replace(one, may_be_best=may) for one, may in zip(standings, best, strict=True)]
    standings.sort(key=lambda one: -metric.merit(one.judged.value))  # stable: ties keep the order
    said = judge_margin(
        margin if metric == table.metric else None,  # it is in units of the table's metric
        {one.names: one.interval for one in tests},
        joint_intervals(tests, together.level(EQUIVALENCE), EQUIVALENCE),
        [one.name for one in standings],
        metric,
    )
    pairs = [
        replace(one, within=within, equivalent=equivalent)
        for one, within, equivalent in zip(pairs, said.within, said.equivalent, strict=True)
    ]
    chances = None
    if resamples:
        chances = chances_of_being_best(
            right if scored is None else scored.values,
            table.groups if scored is None else scored.groups,
            greater_is_better=metric.greater_is_better,
        )
    by_name = dict(zip([one.name for one in table.contenders], chances or [], strict=False))
    standings = [
        replace(one, behind=said.behind[one.name], chance_of_best=by_name.get(one.name))
        for one in standings
    ]
    why = found if isinstance(found, str) else ""
    grouping = grouping_of(table.groups, right)
    return Verdicts(
        len(table),
        tuple(standings),
        tuple(pairs),
        table.notices,
        metric,
        why,
        grouping,
        margin=said.margin,
        level=together.level(),
        seed_level=table.seed_level,
    )


def _pair(
    labels: npt.NDArray[np.int64],
    right: Sequence[Shares],
    f1: tuple[MacroF1, MacroF1],
    drawn: SamplingUnits,
    metric: Metric,
    at: tuple[int, int],
    accuracy: PairTest,
    test: PairTest,
    p: float,
    p_adjusted: float,
    joint: Interval,
) -> Pair:
    rows, single = accuracy.rows, accuracy.unpaired is None
    a, b = (right[number][own] for number, own in zip(at, rows, strict=True))
    same, both = accuracy.paired is not None, (right[at[0]], right[at[1]])
    f1_effect = f1_difference(f1, rows, drawn, accuracy.alike, same=same, single=single)
    return Pair(
        first=accuracy.names[0],
        second=accuracy.names[1],
        claim="models" if single else "methods",
        n=a.shape[1],
        seeds=accuracy.seeds,
        accuracy=accuracy.interval(),
        macro_f1=None if f1_effect is None else bounded(*f1_effect),
        macro_recall=recall_difference(
            both, rows, labels, drawn, accuracy.alike, same=same, single=single
        ),
        only_first=float((a * (1 - b)).sum() / len(a)),
        only_second=float((b * (1 - a)).sum() / len(a)),
        p=p,
        p_adjusted=p_adjusted,
        joint=joint,
        score=None if test is accuracy else test.interval(),
        metric=metric,
    )


def _standing(
    answers: ContenderPredictions,
    right: Shares,
    f1: MacroF1,
    drawn: SamplingUnits,
    pairs: Sequence[Pair],
) -> Standing:
    seeds, n = right.shape
    own = [pair for pair in pairs if answers.name in (pair.first, pair.second)]
    lost = sum(pair.winner not in (None, answers.name) for pair in own)
    won = sum(pair.winner == answers.name for pair in own)
    tied = [
        pair.second if pair.first == answers.name else pair.first
        for pair in own
        if pair.winner is None
    ]
    return Standing(
        name=answers.name,
        label=answers.label,
        accuracy=mean_accuracy(right, drawn.groups, drawn.seed_level),
        macro_f1=float(f1.plain.mean()),
        n=n,
        seeds=seeds,
        best=1 + lost,
        worst=1 + len(own) - won,
        tied=tuple(tied),
        may_be_best=lost == 0,
    )


def _turned(pair: Pair) -> Pair:
    def minus(interval: Interval) -> Interval:
        return Interval(-interval.value, -interval.high, -interval.low)

    return replace(
        pair,
        first=pair.second,
        second=pair.first,
        seeds=tuple((j, i) for i, j in pair.seeds),
        accuracy=minus(pair.accuracy),
        macro_f1=None if pair.macro_f1 is None else minus(pair.macro_f1),
        macro_recall=minus(pair.macro_recall),
        joint=minus(pair.joint),
        score=None if pair.score is None else minus(pair.score),
        only_first=pair.only_second,
        only_second=pair.only_first,
    )

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
from podium.statistics.f1_difference import MacroF1, SamplingUnits, f1_difference
from podium.statistics.fold_tests import FoldDesign
from podium.statistics.grouping import Grouping, grouping_of
from podium.statistics.influence import Influence, influences
from podium.statistics.intervals import (
    CONFIDENCE,
    LEVEL,
    Interval,
    accuracy_interval,
    bounded,
    score_interval,
)
from podium.statistics.margins import Margin, judge_margin
from podium.statistics.metrics import wilson_interval
from podium.statistics.paired import (
    SeedEffect,
    design_effect,
    flipped_at_random,
    holm,
    mcnemar_exact,
    paired_interval,
    seed_effect,
    sign_flip,
    unpaired_effect,
)
from podium.statistics.scoring import ACCURACY, Metric
from podium.statistics.table import ContenderPredictions, PredictionTable, matched_seeds

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
    only_first: float
    """Images that only the first gets right; a mean over `seeds`."""
    only_second: float
    """Images that only the second gets right; a mean over `seeds`."""
    p: float
    """Exact McNemar test for models (sign-flip test of the totals with groups, or with several
    seeds of one of the two); for methods a t-like test over seeds and images, never below that."""
    p_holm: float
    """`p` adjusted for all compared pairs."""
    score: Interval | None = None
    """The difference in the metric being tested; None: the metric is accuracy."""
    metric: Metric = ACCURACY
    """The metric that p and the verdict are about."""
    p_equivalent: float = 1.0
    """p of "they differ by the margin or more", adjusted for all pairs; see `Verdicts.margin`."""

    @property
    def verdict(self) -> Literal["better", "equivalent", "undecided"]:
        """`better`: one is, see `winner`; `equivalent`: within the margin; `undecided`: these
        images show neither."""
        if self.winner is not None:
            return "better"
        return "equivalent" if self.p_equivalent < LEVEL else "undecided"

    @property
    def seed_counts(self) -> tuple[int, int]:
        """The number of seeds of the first and of the second."""
        first, second = (set(column) for column in zip(*self.seeds, strict=True))
        return len(first), len(second)

    @property
    def winner(self) -> str | None:
        """The significantly better contender, at 5 % over all pairs; None: they are tied."""
        if self.p_holm >= LEVEL or self.judged.value == 0:
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
    score: Interval | None = None
    """The score that places are based on; None: it is accuracy."""
    behind: float = math.inf
    """How much worse than the best it is at most, whichever that is, in units of the metric: in
    95 % of studies this holds of all contenders."""

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
    margin: Margin = Margin(math.inf, False)
    """The difference below which two contenders are equivalent."""

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
        """The contenders that none beats: the winner, or all that are tied for first place."""
        return tuple(standing for standing in self.standings if standing.best == 1)


def compare_contenders(
    table: PredictionTable, *, resamples: int = 2000, seed: int = 0, margin: float | None = None
) -> Verdicts:
    """Compare every pair of contenders on the images of a table.

    Where either contender has a single seed, the pair compares trained models: exact McNemar test,
    Tango's interval. With several seeds of both it compares recipes: seeds and images are both
    random samples, see `podium.statistics.paired.SeedEffect`. Every pair uses all seeds of both, as
    the standings do. With groups, groups instead of images are the sampling units. p is adjusted
    by Holm over all pairs.

    Where the table has a metric other than accuracy, places, p and verdicts are about that metric:
    each image's contribution to it (`podium.statistics.influence`) replaces correct or wrong, and
    sign flips of the contributions replace McNemar's test.

    Args:
        table: the predictions of all contenders, as returned by `read_table`.
        resamples: of the images, for macro F1; 0: no intervals of macro F1.
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
    drawn = SamplingUnits(table.labels, table.groups)
    alone = [seed_effect(one, table.groups) for one in right]
    found = influences(table)
    scored = found if isinstance(found, Influence) else None
    f1 = [MacroF1(table, answers, resamples, seed) for answers in table.contenders]
    made = [
        _pair(table, drawn, (i, j), (right[i], right[j]), (alone[i], alone[j]), (f1[i], f1[j]))
        for i, j in combinations(range(len(right)), 2)
    ]
    if scored is not None:
        made = [
            _scored(one, scored, at, table, drawn)
            for one, at in zip(made, combinations(range(len(right)), 2), strict=True)
        ]
    p_values = _p_values(made)
    pairs = [
        replace(one.pair, p=p, p_holm=adjusted)
        for one, p, adjusted in zip(made, p_values, holm(p_values), strict=True)
    ]
    standings = [
        _standing(answers, hits, effect, scores, drawn, pairs)
        for answers, hits, effect, scores in zip(table.contenders, right, alone, f1, strict=True)
    ]
    if scored is not None:
        standings = [
            replace(one, score=score_interval(scored, values, len(table)))
            for one, values in zip(standings, scored.values, strict=True)
        ]
    metric = ACCURACY if scored is None else scored.metric
    standings.sort(key=lambda one: -metric.merit(one.judged.value))  # stable: ties keep the order
    said = judge_margin(
        margin if metric == table.metric else None,  # it is in units of the table's metric
        [(one.first, one.second) for one in pairs],
        [one.interval for one in made],
        [one.name for one in standings],
        metric,
    )
    pairs = [replace(one, p_equivalent=p) for one, p in zip(pairs, said.p_equivalent, strict=True)]
    standings = [replace(one, behind=said.behind[one.name]) for one in standings]
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
    )


@dataclass(frozen=True)
class _Made:
    """A pair with its p for fixed seeds, and the effects from which p over seeds is computed."""

    pair: Pair
    paired: SeedEffect | None
    """None where the two have different seeds."""
    unpaired: SeedEffect | None
    """None where one of the two has a single seed."""
    effect: SeedEffect
    """What the interval is of, with the least variance of it and the largest possible value."""
    least: float
    most: float
    only: tuple[int, int] | None
    """Images that only one of two models gets right, where the interval is Tango's."""

    def interval(self, confidence: float) -> Interval:
        """The interval of the difference that the verdict is about, at a confidence of 0..1."""
        if self.only is not None:
            low, high = paired_interval(*self.only, self.pair.n, confidence)
            return Interval(self.effect.mean, low, high)
        return bounded(self.effect, self.least, self.most, confidence)


def _p_values(made: Sequence[_Made]) -> list[float]:
    """p of each pair; for two recipes, the largest of three.

    - seeds fixed: a claim about recipes is never more certain than one about their models;
    - seed variance pooled over all pairs with the same seeds;
    - each contender's own seed variance, where it was pooled: the pairs of a contender that varies
      far more than the others would otherwise look too certain.
    """
    over: dict[tuple[tuple[int, int], ...], list[_Made]] = {}
    for one in made:
        over.setdefault(tuple(sorted(one.pair.seeds)), []).append(one)
    found = []
    for one in made:
        p = one.pair.p
        alike = over[tuple(sorted(one.pair.seeds))]
        if one.paired is not None:
            names = {name for other in alike for name in (other.pair.first, other.pair.second)}
            squares = [other.paired.seed_square for other in alike if other.paired is not None]
            freedom = (len(names) - 1) * (one.paired.seeds - 1)
            p = max(p, one.paired.p_value(sum(squares) / len(squares), freedom))
        if one.unpaired is not None and (one.paired is None or len(alike) > 1):
            p = max(p, one.unpaired.p_value())
        found.append(p)
    return found


def _pair(
    table: PredictionTable,
    drawn: SamplingUnits,
    at: tuple[int, int],
    right: tuple[Shares, Shares],
    alone: tuple[SeedEffect, SeedEffect],
    f1: tuple[MacroF1, MacroF1],
) -> _Made:
    """The pair with its p for fixed seeds, and the effects from which p over seeds is computed."""
    first, second = (table.contenders[number] for number in at)
    rows = matched_seeds(first, second)
    a, b = right[0][rows[0]], right[1][rows[1]]
    n, single = len(table), min(len(first.seeds), len(second.seeds)) == 1
    same = not single and len(a) == len(first.seeds)
    only = float((a * (1 - b)).sum() / len(a)), float((b * (1 - a)).sum() / len(a))
    fixed = seed_effect((a - b).mean(axis=0, keepdims=True), table.groups)
    paired = seed_effect(a - b, table.groups) if same else None
    unpaired = None if single else unpaired_effect(*alone, fixed)
    alike = design_effect((a - b).mean(axis=0), table.groups)
    effect, counts = paired or unpaired or fixed, None
    if len(a) == 1 and table.groups is None:
        counts = round(only[0]), round(only[1])
        accuracy = Interval(fixed.mean, *paired_interval(*counts, n, CONFIDENCE))
        p = mcnemar_exact(*counts)
    else:
        accuracy = bounded(effect, alike**2 * drawn.least)
        totals = np.rint((a - b).sum(axis=0)).astype(np.int64)
        if table.groups is not None:
            totals = np.rint(np.bincount(table.groups, totals)).astype(np.int64)
        p = sign_flip(totals)
    f1_effect = f1_difference(f1, rows, drawn, alike, same=same, single=single)
    pair = Pair(
        first=first.name,
        second=second.name,
        claim="models" if single else "methods",
        n=n,
        seeds=tuple((first.seeds[i], second.seeds[j]) for i, j in zip(*rows, strict=True)),
        accuracy=accuracy,
        macro_f1=None if f1_effect is None else bounded(*f1_effect),
        only_first=only[0],
        only_second=only[1],
        p=p,
        p_holm=p,
    )
    return _Made(pair, paired, unpaired, effect, alike**2 * drawn.least, 1.0, counts)


def _scored(
    made: _Made, found: Influence, at: tuple[int, int], table: PredictionTable, drawn: SamplingUnits
) -> _Made:
    """The same pair judged by the table's metric: the images' contributions to it replace correct
    and wrong predictions."""
    rows = matched_seeds(*(table.contenders[number] for number in at))
    ours = [found.values[number] for number in at]
    apart = ours[0][rows[0]] - ours[1][rows[1]]
    together = apart.mean(axis=0, keepdims=True)
    fixed = seed_effect(together, found.groups)
    paired = None if made.paired is None else seed_effect(apart, found.groups)
    unpaired = made.unpaired
    if unpaired is not None:
        alone = [seed_effect(one, found.groups) for one in ours]
        unpaired = unpaired_effect(alone[0], alone[1], fixed)
    low, high = found.metric.bounds
    least = drawn.least_f1 * (high - low) ** 2 if math.isfinite(high - low) else 0.0
    alike = design_effect(together[0], table.groups)
    effect = paired or unpaired or fixed
    pair = replace(
        made.pair,
        score=bounded(effect, alike**2 * least, high - low),
        metric=found.metric,
        p=_flips(apart.sum(axis=0), found.groups),
    )
    return _Made(pair, paired, unpaired, effect, alike**2 * least, high - low, None)


def _flips(totals: Shares, groups: npt.NDArray[np.int64] | None) -> float:
    if groups is not None:
        totals = np.bincount(groups, totals).astype(np.float64)
    if (totals == np.rint(totals)).all():  # exact where possible, as for top-k accuracy
        return sign_flip(totals.astype(np.int64))
    return flipped_at_random(totals)


def _standing(
    answers: ContenderPredictions,
    right: Shares,
    effect: SeedEffect,
    f1: MacroF1,
    drawn: SamplingUnits,
    pairs: Sequence[Pair],
) -> Standing:
    seeds, n = right.shape
    if seeds == 1 and drawn.groups is None:
        accuracy = Interval(effect.mean, *wilson_interval(int(right.sum()), n, CONFIDENCE))
    else:
        accuracy = accuracy_interval(effect, n / design_effect(right.mean(axis=0), drawn.groups))
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
        accuracy=accuracy,
        macro_f1=float(f1.plain.mean()),
        n=n,
        seeds=seeds,
        best=1 + lost,
        worst=1 + len(own) - won,
        tied=tuple(tied),
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
        score=None if pair.score is None else minus(pair.score),
        only_first=pair.only_second,
        only_second=pair.only_first,
    )

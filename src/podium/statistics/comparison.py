"""Compare all contenders of a table: on a test split, or fold by fold in a cross-validation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from podium.errors import ConfigError, DataError
from podium.runs.predictions import SplitName
from podium.statistics.fold_tests import FoldScores
from podium.statistics.grouping import grouping_of
from podium.statistics.margins import EQUIVALENCE, judge_margin
from podium.statistics.resample import macro_f1
from podium.statistics.scoring import ACCURACY
from podium.statistics.table import (
    ContenderPredictions,
    PredictionTable,
    matched_seeds,
    read_table,
)
from podium.statistics.together import Together
from podium.statistics.verdicts import Pair, Standing, Verdicts, compare_contenders


def compare_sources(
    sources: Iterable[str | Path],
    *,
    split: str,
    shared: bool,
    resamples: int,
    margin: float | None = None,
) -> tuple[PredictionTable, Verdicts]:
    """Compare finished runs or predictions, and return the predictions as well.

    Args:
        sources: folders of studies, contenders or runs, or CSV files of predictions.
        split: split of the runs to compare on, `test` or `valid`.
        shared: compare on the images that all sources have in common, if they differ.
        resamples: number of bootstrap resamples for the intervals of macro F1; 0: no intervals.
        margin: of equivalence, in points or units of the metric; None: chosen.

    Returns:
        `(table, verdicts)`: the predictions that were compared, and the result.

    Raises:
        RunFolderError: a folder holds no finished run.
        DataError: images or labels do not agree, or a CSV file is not as described.
        ConfigError: `split` or `resamples` is invalid.
    """
    if split not in ("test", "valid"):
        raise ConfigError(f"--split {split!r}: expected test or valid.")
    if not 0 <= resamples <= 1_000_000 or resamples == 1:
        raise ConfigError(f"--resamples {resamples}: expected 0, or 2 to 1,000,000.")
    table = read_table(sources, split=cast(SplitName, split), shared=shared)
    size = table.metric.in_units(margin)
    return table, compare_table(table, resamples=resamples, margin=size)


def compare_table(
    table: PredictionTable, *, resamples: int = 2000, margin: float | None = None
) -> Verdicts:
    """Compare every pair of contenders of a table.

    On a test split: see `podium.statistics.verdicts.compare_contenders`. With folds the verdicts
    are about recipes: each fold gives a score, and the corrected resampled t-test compares them
    (`podium.statistics.folds`). Predictions of all folds are never pooled for a test: the models
    share training images, so pooled tests find winners where there are none.

    Args:
        table: the predictions of all contenders, as returned by `read_table`.
        resamples: of the images, for intervals of macro F1 on a test split; 0: none.
        margin: difference below which two contenders are equivalent, in units of the metric (a
            share in 0..1); None: the table's, or what these images can show.

    Raises:
        DataError: there are no images, or the contenders have not the same folds.
    """
    margin = table.margin if margin is None else margin
    if all(one.folds is None for one in table.contenders):
        return compare_contenders(table, resamples=resamples, margin=margin)
    if not len(table):
        raise DataError("Expected predictions of at least one image, got none: nothing to compare.")
    scores = FoldScores(table)
    metric = ACCURACY if scores.values is None else table.metric
    pairs = []
    tests = scores.tests()
    found_p = [test.p for test in tests]
    together = Together(scores.covariance, [one.name for one in table.contenders])
    level, outer = together.level(), together.level(EQUIVALENCE)
    for test, p in zip(tests, together.adjusted(found_p), strict=True):
        joint = test.interval(1 - level)
        first, second = (table.contenders[number] for number in test.at)
        rows = matched_seeds(first, second)
        pairs.append(
            Pair(
                first=first.name,
                second=second.name,
                claim="methods",
                n=len(table),
                seeds=tuple((first.seeds[i], second.seeds[j]) for i, j in zip(*rows, strict=True)),
                accuracy=test.accuracy,
                macro_f1=None,
                macro_recall=test.macro_recall,
                only_first=test.only_first,
                only_second=test.only_second,
                p=test.p,
                p_adjusted=p,
                joint=joint,
                score=test.interval() if test.by_metric else None,
                metric=metric,
            )
        )
    standings = [
        _standing(one, table, scores, at, pairs) for at, one in enumerate(table.contenders)
    ]
    merits = np.array([metric.merit(one.judged.value) for one in standings])
    best = together.possibly_best(found_p, merits, [one.best > 1 for one in standings])
    standings = [replace(one, may_be_best=may) for one, may in zip(standings, best, strict=True)]
    said = judge_margin(
        margin if metric == table.metric else None,  # it is in units of the table's metric
        {(one.first, one.second): test.interval for one, test in zip(pairs, tests, strict=True)},
        [test.interval(1 - outer) for test in tests],
        [one.name for one in standings],
        metric,
    )
    pairs = [
        replace(one, within=within, equivalent=equivalent)
        for one, within, equivalent in zip(pairs, said.within, said.equivalent, strict=True)
    ]
    standings = [replace(one, behind=said.behind[one.name]) for one in standings]
    standings.sort(key=lambda one: -metric.merit(one.judged.value))  # stable: ties keep the order
    return Verdicts(
        n=len(table),
        standings=tuple(standings),
        pairs=tuple(pairs),
        notices=table.notices,
        metric=metric,
        why_accuracy=scores.why_accuracy,
        grouping=grouping_of(table.groups, scores.right),
        folds=scores.design,
        margin=said.margin,
        level=level,
    )


def _standing(
    contender: ContenderPredictions,
    table: PredictionTable,
    scores: FoldScores,
    at: int,
    pairs: Sequence[Pair],
) -> Standing:
    own = [pair for pair in pairs if contender.name in (pair.first, pair.second)]
    classes = len(table.class_names)
    f1 = [macro_f1(table.labels, answers, classes) for answers in contender.predicted]
    tied = [pair for pair in own if pair.winner is None]
    won = sum(pair.winner == contender.name for pair in own)
    return Standing(
        name=contender.name,
        label=contender.label,
        accuracy=scores.accuracy(at),
        macro_f1=float(np.mean(f1)),
        n=len(table),
        seeds=len(contender.seeds) // scores.folds.repeats,
        best=1 + len(own) - won - len(tied),
        worst=1 + len(own) - won,
        may_be_best=len(own) == won + len(tied),
        tied=tuple(pair.second if pair.first == contender.name else pair.first for pair in tied),
        score=scores.score(at),
    )

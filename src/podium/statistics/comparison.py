"""Compare all contenders of a table: on a test split, or fold by fold in a cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from podium.errors import DataError
from podium.statistics.fold_tests import FoldScores
from podium.statistics.grouping import grouping_of
from podium.statistics.paired import holm
from podium.statistics.resample import macro_f1
from podium.statistics.scoring import ACCURACY
from podium.statistics.table import ContenderPredictions, PredictionTable, matched_seeds
from podium.statistics.verdicts import Pair, Standing, Verdicts, compare_contenders


def compare_table(table: PredictionTable, *, resamples: int = 2000) -> Verdicts:
    """Compare every pair of contenders of a table.

    On a test split: see `podium.statistics.verdicts.compare_contenders`. With folds the verdicts
    are about recipes: each fold gives a score, and the corrected resampled t-test compares them
    (`podium.statistics.folds`). Predictions of all folds are never pooled for a test: the models
    share training images, so pooled tests find winners where there are none.

    Args:
        table: the predictions of all contenders, as returned by `read_table`.
        resamples: of the images, for intervals of macro F1 on a test split; 0: none.

    Raises:
        DataError: there are no images, or the contenders have not the same folds.
    """
    if all(one.folds is None for one in table.contenders):
        return compare_contenders(table, resamples=resamples)
    if not len(table):
        raise DataError("Expected predictions of at least one image, got none: nothing to compare.")
    scores = FoldScores(table)
    metric = ACCURACY if scores.scores is None else table.metric
    pairs = []
    for test in scores.tests():
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
                only_first=test.only_first,
                only_second=test.only_second,
                p=test.p,
                p_holm=test.p,
                score=test.score,
                metric=metric,
            )
        )
    adjusted = holm([pair.p for pair in pairs])
    pairs = [replace(pair, p_holm=p) for pair, p in zip(pairs, adjusted, strict=True)]
    standings = [
        _standing(one, table, scores, at, pairs) for at, one in enumerate(table.contenders)
    ]
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
        tied=tuple(pair.second if pair.first == contender.name else pair.first for pair in tied),
        score=scores.score(at),
    )

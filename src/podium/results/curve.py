"""The learning curves of a study whose contenders differ in their share of training images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from podium.config.curve import without_share
from podium.errors import RunFolderError
from podium.results.study import StudyResults
from podium.statistics.comparison import compare_table
from podium.statistics.families import holm
from podium.statistics.intervals import LEVEL, Interval
from podium.statistics.learning_curve import Crossing, Fit, crossing, fit_curves
from podium.statistics.scoring import ACCURACY
from podium.statistics.table import PredictionTable


@dataclass(frozen=True)
class Point:
    """A contender with one share of the training images."""

    contender: str
    share: float
    images: int
    """Training images: of each run, the mean over folds."""
    accuracy: Interval
    """Over seeds and images, as in the standings."""
    seeds: int


@dataclass(frozen=True, eq=False)
class Curve:
    """A contender's accuracy by the number of training images."""

    label: str
    points: tuple[Point, ...]
    """By ascending share."""
    fit: Fit


@dataclass(frozen=True)
class Rivals:
    """Two contenders along their curves."""

    first: int
    """Numbers of their curves."""
    second: int
    leads: tuple[tuple[float, int | None], ...]
    """By share that both have: the number of the curve that is ahead, at 5 % over all shares and
    pairs; None: undecided."""
    crossing: Crossing | None
    """Where their laws cross; its `first` is 0 or 1: the first or the second of the two."""


@dataclass(frozen=True)
class CurveResults:
    """Everything that a page of learning curves is built from."""

    study: StudyResults
    curves: tuple[Curve, ...]
    rivals: tuple[Rivals, ...]
    n: int
    """Images that the contenders are scored on."""


def read_curves(results: StudyResults) -> CurveResults:
    """The learning curves of a study.

    Args:
        results: the study.

    Raises:
        RunFolderError: it is not a study of shares of training images, or its runs are not done.
    """
    table, verdicts = results.table, results.verdicts
    if table is None or verdicts is None:
        raise RunFolderError(f"{results.folder.path}: its contenders have different images.")
    families: dict[str, dict[float, str]] = {}
    for name, recipe in results.recipes.items():
        key = without_share(recipe).model_dump_json()
        families.setdefault(key, {})[recipe.train_share] = name
    curves = [dict(sorted(one.items())) for one in families.values() if len(one) > 1]
    if not curves:
        raise RunFolderError(
            f"{results.folder.path} has no learning curve: expected a study by `podium curve` with "
            "finished runs of at least two shares of the training images."
        )
    # resamples are common to all, so all must have the same seeds and images
    seeds = set.intersection(*(set(one.seeds) for one in table.contenders))
    if not seeds:
        raise RunFolderError(
            f"{results.folder.path}: no seed is finished for all contenders. `podium curve` with "
            "the same study goes on with what is missing."
        )
    right = {
        one.name: np.stack(
            [one.predicted[one.seeds.index(seed)] == table.labels for seed in sorted(seeds)]
        ).astype(np.float64)
        for one in table.contenders
    }
    pool = _training_images(results)
    sizes = [np.array([share * pool for share in one]) for one in curves]
    fits = fit_curves(
        [[right[name] for name in one.values()] for one in curves], sizes, table.groups
    )
    standings = {one.name: one for one in verdicts.standings}
    found = tuple(
        Curve(
            results.spec.label(one[max(one)]),
            tuple(
                Point(
                    name,
                    share,
                    round(share * pool),
                    standings[name].accuracy,
                    standings[name].seeds,
                )
                for share, name in one.items()
            ),
            fit,
        )
        for one, fit in zip(curves, fits, strict=True)
    )
    return CurveResults(results, found, tuple(_rivals(curves, fits, table)), len(table))


def _training_images(results: StudyResults) -> float:
    """Training images of a run with a share of 1; with folds, the mean over them."""
    totals = results.data["totals"]
    data = results.spec.data
    if data.folds is None:
        return float(totals["train"])
    return float(totals["test"]) * (1 - 1 / data.folds) * (1 - data.valid_fraction)


def _rivals(
    curves: list[dict[float, str]], fits: list[Fit], table: PredictionTable
) -> list[Rivals]:
    """Who is ahead at each share, adjusted for all pairs of all shares."""
    members = {one.name: one for one in table.contenders}
    asked: list[tuple[int, int, float, float, int | None]] = []  # curves, share, p, who is ahead
    for share in sorted({share for one in curves for share in one}):
        there = [number for number, one in enumerate(curves) if share in one]
        if len(there) < 2:
            continue
        some = tuple(members[curves[number][share]] for number in there)
        verdicts = compare_table(replace(table, contenders=some, metric=ACCURACY), resamples=0)
        for i, j in combinations(there, 2):
            pair = verdicts.pair(curves[i][share], curves[j][share])
            value = pair.accuracy.value
            asked.append((i, j, share, pair.p, None if value == 0 else i if value > 0 else j))
    adjusted = holm([p for _, _, _, p, _ in asked])
    found = []
    for i, j in combinations(range(len(curves)), 2):
        leads = tuple(
            (share, ahead if p < LEVEL else None)
            for (a, b, share, _, ahead), p in zip(asked, adjusted, strict=True)
            if (a, b) == (i, j)
        )
        if leads:
            found.append(Rivals(i, j, leads, crossing(fits[i], fits[j])))
    return found

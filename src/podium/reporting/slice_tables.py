"""The slices as CSV: scores, pairs and weak slices."""

from __future__ import annotations

from podium.config.text import words
from podium.results.slices import StudySlices
from podium.runtime.csv_text import csv_text
from podium.statistics.families import Tested
from podium.statistics.intervals import Interval
from podium.statistics.table import PredictionTable
from podium.statistics.weak_slices import WeakSlice
from podium.statistics.within import SlicePair, SliceScores

SCORE_COLUMNS = words("column value images groups contender metric score low high")
PAIR_COLUMNS = words(
    "column value images first second metric difference low high p p_adjusted elsewhere change "
    "change_low change_high change_p change_p_adjusted turns"
)
WEAK_COLUMNS = words(
    "contender slice images accuracy low high elsewhere accuracy_first_half p p_adjusted confirmed"
)


def slice_tables(found: StudySlices, table: PredictionTable) -> dict[str, str]:
    """The tables of slices by the name of their file.

    As in all CSV files, shares are in 0..1, with '.' as decimal point, in every language.

    Args:
        found: of the study.
        table: the predictions of all contenders.
    """
    within = found.within
    if not within.slices:
        return {}
    names = [one.name for one in table.contenders]
    files = {
        "slices.csv": csv_text(
            SCORE_COLUMNS,
            (
                (*_slice(one), one.groups, name, within.metric.name, *_bounds(score))
                for one in within.slices
                for name, score in zip(names, one.scores, strict=True)
            ),
        )
    }
    if len(names) > 1:
        rows = ((one, pair) for one in within.slices for pair in one.pairs)
        files["slice-pairs.csv"] = csv_text(
            PAIR_COLUMNS, (_pair_row(one, pair, within.metric.name) for one, pair in rows)
        )
    files["weak-slices.csv"] = csv_text(WEAK_COLUMNS, map(_weak_row, found.weak.found))
    return files


def _slice(one: SliceScores) -> tuple[object, ...]:
    return one.slice.column, one.slice.value, one.slice.n


def _bounds(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


def _tested(one: Tested) -> tuple[float, ...]:
    return *_bounds(one.interval), one.p, one.p_adjusted


def _pair_row(one: SliceScores, pair: SlicePair, metric: str) -> tuple[object, ...]:
    who = *_slice(one), pair.first, pair.second, metric
    turns = "yes" if pair.turns else "no"
    return *who, *_tested(pair.difference), pair.elsewhere, *_tested(pair.change), turns


def _weak_row(one: WeakSlice) -> tuple[object, ...]:
    slices = " & ".join(f"{part.column}={part.value}" for part in one.slices)
    figures = *_bounds(one.accuracy), one.elsewhere, one.found_at, one.p, one.p_adjusted
    return one.contender, slices, one.n, *figures, "yes" if one.is_confirmed else "no"

"""The slices of the test images on the page: scores, changes and weak slices."""

from __future__ import annotations

from typing import Any

from podium.config.text import words
from podium.reporting.words.labels import Labels
from podium.reporting.words.metric_words import (
    metric_interval,
    metric_title,
    metric_value,
    signed,
    signed_interval,
)
from podium.reporting.words.slice_words import (
    MOST_SAID,
    change_sentence,
    columns_words,
    left_out_sentence,
    slice_name,
    unit_words,
)
from podium.reporting.words.verdict_words import p_words
from podium.results.slices import StudySlices
from podium.results.study import StudyResults
from podium.statistics.weak_slices import MOST_FOUND, WeakSlice
from podium.statistics.within import SlicePair, SliceScores, Within

PAIR_KEYS = words(
    "slices_col_slice v_col_pair slices_col_difference v_col_p_adjusted slices_col_elsewhere "
    "slices_col_change slices_col_p_change"
)
WEAK_KEYS = words(
    "slices_col_slice col_contender slices_col_images weak_col_accuracy slices_col_elsewhere "
    "weak_col_found v_col_p_adjusted v_col_verdict"
)

Row = list[tuple[str, float]]
"""Text and sort key of each cell."""


def slice_section(results: StudyResults, say: Labels) -> dict[str, Any] | None:
    """The template values of the slices; None where there are none.

    Args:
        results: the study.
        say: the language.
    """
    found = results.slices
    if found is None or results.table is None:
        return None
    within, labels = found.within, {one.name: one.label for one in results.table.contenders}
    changed = within.changed
    pairs = sum(len(one.pairs) for one in within.slices)
    shown = [
        (one, pair)
        for one in within.slices
        for pair in one.pairs
        if pair.difference.is_significant or pair.change.is_significant
    ]
    grouped = results.table.groups is not None
    score_keys = ["slices_col_slice", "slices_col_images", *["slices_col_groups"] * grouped]
    return {
        "intro": _intro(found, results, say),
        "changes": [
            (change_sentence(*one, within, labels, say), one[1].turns)
            for one in changed[:MOST_SAID]
        ],
        "nothing": say("slices_same", slices=len(within.slices)) if pairs and not changed else "",
        "family": say("slices_family", count=pairs, slices=len(within.slices)) if pairs else "",
        "headings": [*map(say, score_keys), *labels.values()],
        "rows": [(_score_row(one, within, say, grouped=grouped), True) for one in within.slices],
        "pair_headings": [*map(say, PAIR_KEYS)],
        "pairs": [(_pair_row(*each, within, labels, say), each[1].turns) for each in shown],
        "undecided": say("slices_undecided") if pairs and not shown else "",
        "weak": _weak(found, labels, say) if within.slices else None,
        "left_out": left_out_sentence(found, say),
    }


def _intro(found: StudySlices, results: StudyResults, say: Labels) -> str:
    within = found.within
    if not within.slices:
        return say("slices_nothing")
    told = [say("slices_intro", columns=columns_words(within, say))]
    if within.metric != results.metric:
        told.append(say("slices_accuracy", metric=metric_title(results.metric, say)))
    return " ".join(told)


def _score_row(one: SliceScores, within: Within, say: Labels, *, grouped: bool) -> Row:
    metric = within.metric
    scores = [
        (f"{metric_value(metric, score.value, say)} ({metric_interval(metric, score, say)})",
         score.value)
        for score in one.scores
    ]  # fmt: skip
    count = [(say.count(one.groups), float(one.groups or 0))] if grouped else []
    name = slice_name([one.slice], say)
    return [(name, 0.0), (say.count(one.slice.n), float(one.slice.n)), *count, *scores]


def _pair_row(
    one: SliceScores, pair: SlicePair, within: Within, labels: dict[str, str], say: Labels
) -> Row:
    metric, unit = within.metric, unit_words(within, say)
    name = f"{labels[pair.first]} – {labels[pair.second]}"
    cells: Row = [(slice_name([one.slice], say), 0.0), (name, 0.0)]
    for tested in (pair.difference, pair.change):
        value = tested.interval.value
        text = (
            f"{signed(metric, value, say)}{unit} ({signed_interval(metric, tested.interval, say)})"
        )
        p = p_words(tested.p_adjusted, say).removeprefix("p = ").removeprefix("p ")
        cells += [(text, value), (p, tested.p_adjusted)]
    elsewhere = f"{signed(metric, pair.elsewhere, say)}{unit}"
    return [*cells[:4], (elsewhere, pair.elsewhere), *cells[4:]]


def _weak(found: StudySlices, labels: dict[str, str], say: Labels) -> dict[str, Any]:
    weak = found.weak
    first, second = map(say.count, weak.halves)
    hint = say(
        "weak_hint", searched=say.count(weak.searched), first=first, second=second, most=MOST_FOUND
    )
    return {
        "hint": hint,
        "headings": [*map(say, WEAK_KEYS)],
        "nothing": "" if weak.found else say("weak_nothing"),
        "rows": [(_weak_row(one, labels, say), one.is_confirmed) for one in weak.found],
    }


def _weak_row(one: WeakSlice, labels: dict[str, str], say: Labels) -> Row:
    low, high = one.accuracy.low, one.accuracy.high
    return [
        (slice_name(one.slices, say), 0.0),
        (labels[one.contender], 0.0),
        (say.count(one.n), float(one.n)),
        (f"{say.percent(one.accuracy.value, 1)} ({say.interval((low, high))})", one.accuracy.value),
        (say.percent(one.elsewhere, 1), one.elsewhere),
        (say.percent(one.found_at, 1), one.found_at),
        (p_words(one.p_adjusted, say).removeprefix("p = ").removeprefix("p "), one.p_adjusted),
        (say("weak_yes" if one.is_confirmed else "weak_no"), 0.0),
    ]

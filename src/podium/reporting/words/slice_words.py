"""Slices of the test images in words: what changes in one, and where a contender is weak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from podium.reporting.words.labels import Labels
from podium.reporting.words.metric_words import signed, signed_interval, sized
from podium.reporting.words.verdict_words import listed_names, p_words
from podium.results.slices import StudySlices
from podium.statistics.slicing import LEAST_IMAGES, LeftOut, Slice
from podium.statistics.weak_slices import WeakSlice
from podium.statistics.within import SlicePair, SliceScores, Within

MOST_SAID = 8  # sentences about changes; the table has the others


def slice_name(slices: Sequence[Slice], say: Labels) -> str:
    """A slice, or the intersection of several, such as `camera: B, time: night`.

    Args:
        slices: one or more.
        say: the language.
    """
    return ", ".join(f"{one.column}: {one.value or say('slices_none')}" for one in slices)


def slice_sentences(found: StudySlices, labels: Mapping[str, str], say: Labels) -> list[str]:
    """What significantly depends on a slice, and which weak slices both halves show.

    Args:
        found: of the study.
        labels: display names of the contenders by name.
        say: the language.

    Returns:
        One sentence each, changes of the winner first; empty: nothing is significant.
    """
    changes = [change_sentence(*one, found.within, labels, say) for one in found.within.changed]
    return [
        *changes[:MOST_SAID],
        *(weak_sentence(one, labels, say) for one in found.weak.confirmed),
    ]


def change_sentence(
    where: SliceScores, pair: SlicePair, within: Within, labels: Mapping[str, str], say: Labels
) -> str:
    """How the difference of two contenders in a slice differs from that elsewhere.

    Args:
        where: the slice.
        pair: of contenders, whose change is significant.
        within: all slices.
        labels: display names of the contenders by name.
        say: the language.
    """
    metric, here = within.metric, pair.difference.interval.value
    change = say(
        "slices_change",
        change=signed(metric, pair.change.interval.value, say),
        unit=unit_words(within, say),
        interval=signed_interval(metric, pair.change.interval, say),
        p=p_words(pair.change.p_adjusted, say),
    )
    first, second = labels[pair.first], labels[pair.second]
    if pair.turns:
        ahead = (here > 0) == metric.greater_is_better
        text = say(
            "slices_turns",
            slice=slice_name([where.slice], say),
            ahead=first if ahead else second,
            behind=second if ahead else first,
            here=sized(metric, here, say),
            elsewhere=sized(metric, pair.elsewhere, say),
            unit=unit_words(within, say),
        )
    else:
        text = say(
            "slices_differs",
            slice=slice_name([where.slice], say),
            first=first,
            second=second,
            here=signed(metric, here, say),
            elsewhere=signed(metric, pair.elsewhere, say),
            unit=unit_words(within, say),
        )
    return f"{text} {change}"


def weak_sentence(one: WeakSlice, labels: Mapping[str, str], say: Labels) -> str:
    """Where a contender is weak, on both halves of the test images.

    Args:
        one: the slice.
        labels: display names of the contenders by name.
        say: the language.
    """
    return say(
        "weak_sentence",
        name=labels[one.contender],
        slice=slice_name(one.slices, say),
        accuracy=say.percent(one.accuracy.value, 1),
        interval=say.interval((one.accuracy.low, one.accuracy.high)),
        elsewhere=say.percent(one.elsewhere, 1),
        p=p_words(one.p_adjusted, say),
    )


def unit_words(within: Within, say: Labels) -> str:
    """` points` after a difference of shares; empty for another metric.

    Args:
        within: all slices.
        say: the language.
    """
    return f" {say('v_points')}" if within.metric.percent else ""


def left_out_sentence(found: StudySlices, say: Labels) -> str:
    """What gives no slice, and why; empty where everything does.

    Args:
        found: of the study.
        say: the language.
    """
    told = [_left_out(one, say) for one in found.left_out]
    told += [
        say("slices_left_folds", slice=slice_name([one], say)) for one in found.within.uncompared
    ]
    return say("slices_left", what="; ".join(told)) if told else ""


def columns_words(within: Within, say: Labels) -> str:
    """The columns that slices are made by, in a sentence.

    Args:
        within: all slices.
        say: the language.
    """
    return listed_names(list(dict.fromkeys(one.slice.column for one in within.slices)), say)


def _left_out(one: LeftOut, say: Labels) -> str:
    return say(
        f"slices_left_{one.why}",
        column=one.column,
        values=say.count(one.values),
        images=say.count(one.images),
        least=LEAST_IMAGES,
    )

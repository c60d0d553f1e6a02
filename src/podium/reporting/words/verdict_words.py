"""Verdicts as plain sentences and table cells, for the report and the command line."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from podium.config.settings import RunSpec
from podium.config.titles import model_title
from podium.reporting.words.cost_words import difference_words
from podium.reporting.words.design_words import folds_claim
from podium.reporting.words.labels import Labels
from podium.reporting.words.metric_words import say_by, signed, signed_interval, sized
from podium.reporting.words.recipes import setting_value, setting_words
from podium.statistics.intervals import Interval
from podium.statistics.paired import FEW_SEEDS
from podium.statistics.questions import Question
from podium.statistics.scoring import ACCURACY, Metric
from podium.statistics.verdicts import Pair, Standing, Verdicts

ENOUGH_SEEDS = 30  # includes, with a probability of 96 %, a failure that occurs one time in ten
SURE = 0.001  # smaller p are shown as "p < 0.001"
MOST_LEADERS = 3  # named in the headline; places and podium show who they are
MOST_NAMED = 8  # names in a sentence; the rest is counted


@dataclass(frozen=True)
class Answer:
    """The answer of a study to one question."""

    question: Question
    topic: str
    text: str
    caveat: str
    """What else differs between the two; empty: nothing else differs."""
    decided: bool


def points(share: float, say: Labels, digits: int = 1) -> str:
    """Format a difference of shares in percentage points, with its sign.

    Args:
        share: the difference, -1..1.
        say: the language.
        digits: decimals.
    """
    value = 100 * share
    text = say.number(abs(value), digits)
    if not any(digit in text for digit in "123456789"):
        return text
    return f"{'+' if value > 0 else '−'}{text}"


def points_interval(interval: Interval, say: Labels, digits: int = 1) -> str:
    """Format the interval of a difference of shares, in percentage points.

    Args:
        interval: of the difference.
        say: the language.
        digits: decimals.
    """
    low, high = (points(bound, say, digits) for bound in (interval.low, interval.high))
    return say("v_to", low=low, high=high)


def p_words(p: float, say: Labels) -> str:
    """Format a p-value: 'p = 0.043', 'p < 0.001'.

    Args:
        p: 0..1.
        say: the language.
    """
    if p < SURE:
        return f"p < {say.number(SURE, 3)}"
    return f"p = {say.number(p, 3 if p < 0.1 else 2)}"


def place_words(standing: Standing, say: Labels) -> str:
    """A place, or the range of possible places.

    Args:
        standing: of a contender.
        say: the language.
    """
    if standing.best == standing.worst:
        return say.count(standing.best)
    return f"{standing.best}–{standing.worst}"


def tied_words(standing: Standing, labels: Mapping[str, str], say: Labels) -> str:
    """The contenders with which a contender is tied; empty where there are none.

    Args:
        standing: of the contender.
        labels: display names by name.
        say: the language.
    """
    if not standing.tied:
        return ""
    if len(standing.tied) == len(labels) - 1 > 1:
        return say("v_tied_with_all")
    return say("v_tied_with", names=listed_names([labels[name] for name in standing.tied], say))


def headline(verdicts: Verdicts, say: Labels) -> str:
    """The winner, or between which contenders the images do not decide.

    Contenders are said to be equivalent only within a margin that was chosen: the one that is
    assumed otherwise is what the images can show, so that it says as much about them.

    Args:
        verdicts: of the contenders.
        say: the language.
    """
    if len(verdicts.standings) < 2:
        return ""
    leaders = verdicts.leaders
    n = say.count(verdicts.n)
    if len(leaders) == 1:
        return say("v_winner", name=leaders[0].label, n=n)
    names = listed_names([one.label for one in leaders], say)
    every = len(leaders) == len(verdicts.standings)
    of_leaders = {one.name for one in leaders}
    between = [pair for pair in verdicts.pairs if {pair.first, pair.second} <= of_leaders]
    if verdicts.margin.chosen and all(pair.verdict == "equivalent" for pair in between):
        margin = difference_words(verdicts.metric, verdicts.margin.size, say)
        rest = "" if every else say("v_others_are_not")
        return f"{say('v_equal', names=names, n=n, margin=margin)} {rest}".strip()
    few = "v_few"
    if verdicts.folds is not None:
        few = "v_few_folds"
    elif any(pair.claim == "methods" for pair in between):
        few = "v_few_seeds"
    key = "v_leaders" if len(leaders) <= MOST_LEADERS else "v_leaders_many"
    if every:
        key = "v_all_tied" if len(leaders) == 2 else "v_none_apart"
    of = len(verdicts.standings)
    return say(key, few=say(few), names=names, n=n, count=len(leaders), of=of)


def places_sentence(verdicts: Verdicts, say: Labels) -> str:
    """Why places leave first place open that the headline closes; empty where none does.

    Args:
        verdicts: of the contenders.
        say: the language.
    """
    out = [one.label for one in verdicts.standings if one.best == 1 and not one.may_be_best]
    return say("v_ruled_out", names=listed_names(out, say)) if out else ""


def claim_sentence(verdicts: Verdicts, say: Labels) -> str:
    """What the verdicts are about, trained models or the recipes behind them, and how to read them.

    Args:
        verdicts: of the contenders.
        say: the language.
    """
    pairs = verdicts.pairs
    if not pairs:
        return ""
    shared = [
        say("v_together", count=len(pairs)) if len(pairs) > 1 else "",
        say("v_zero") if any(_includes_zero(pair) for pair in pairs) else "",
        say("v_looks") if verdicts.seed_level < 1 else "",
        say("v_curse") if any(pair.winner for pair in pairs) else "",
    ]
    if verdicts.folds is not None:
        return " ".join(filter(None, [folds_claim(verdicts.folds, say), *shared]))
    if all(pair.seed_counts == (1, 1) for pair in pairs):
        return " ".join(filter(None, [say("v_claim_models"), *shared]))
    parts = []
    counts = [count for pair in pairs if pair.claim == "methods" for count in pair.seed_counts]
    if counts:
        fewest, most = min(counts), max(counts)
        seeds = str(fewest) if fewest == most else f"{fewest}–{most}"
        parts.append(say("v_claim_methods", seeds=seeds))
        if fewest < FEW_SEEDS:
            parts.append(say("v_two_seeds"))
        if fewest < ENOUGH_SEEDS:
            parts.append(say("v_even_seeds"))
    if any(pair.claim == "models" for pair in pairs):
        parts.append(say("v_claim_mixed"))
    return " ".join(filter(None, [*parts, *shared]))


def answers(
    verdicts: Verdicts,
    asked: Sequence[Question],
    recipes: Mapping[str, RunSpec],
    say: Labels,
    titles: Mapping[str, str] | None = None,
) -> list[Answer]:
    """One plain sentence for each question of a study.

    Args:
        verdicts: of its contenders.
        asked: the questions, as returned by `podium.statistics.questions.questions`.
        recipes: of the contenders, by name.
        say: the language.
        titles: display names of models that are not built in; None: there are none.
    """
    labels, titles = verdicts.labels, titles or {}
    asked = [one for one in asked if {one.first, one.second} <= set(labels)]  # have finished runs
    models = [
        tuple(
            titles.get(recipes[name].model) or model_title(recipes[name].model)
            for name in (one.first, one.second)
        )
        for one in asked
    ]
    alike = Counter((one.kind, names) for one, names in zip(asked, models, strict=True))
    found = []
    for question, names in zip(asked, models, strict=True):
        pair = verdicts.pair(question.first, question.second)
        first, second = recipes[question.first], recipes[question.second]
        topic = say(f"v_topic_{question.kind}", first=names[0], second=names[1])
        if alike[question.kind, names] > 1:  # as with and without augmentation
            topic += f" ({labels[question.first]})"
        also = _differences(question, first, second, say, titles)
        found.append(
            Answer(
                question,
                topic,
                " ".join([pair_sentence(pair, labels, say), *_besides(question, pair, say)]),
                say("v_also", settings=also) if also else "",
                pair.winner is not None,
            )
        )
    return found


def pair_sentence(pair: Pair, labels: Mapping[str, str], say: Labels) -> str:
    """A sentence about whether the first of a pair is better than the second.

    Args:
        pair: the pair.
        labels: display names by name.
        say: the language.
    """
    metric, judged = pair.metric, pair.joint
    better = (judged.value > 0) == metric.greater_is_better
    undecided = {"equivalent": "v_equivalent", "undecided": "v_tied"}
    key = undecided.get(pair.verdict) or ("v_better" if better else "v_worse")
    interval = signed_interval(metric, judged, say)
    if pair.winner is not None:  # the sentence gives the direction, so the interval has no sign
        ends = sorted((abs(judged.low), abs(judged.high)))
        if judged.low * judged.high > 0:
            low, high = (sized(metric, end, say) for end in ends)
            interval = say("v_to", low=low, high=high)
        elif _includes_zero(pair):
            interval = say("v_interval_zero", interval=interval)
    unit = "" if metric.percent is False else f" {say('v_points')}"
    return say_by(
        key,
        metric,
        say,
        **({} if metric.is_accuracy else {"unit": unit}),
        first=labels[pair.first],
        second=labels[pair.second],
        size=sized(metric, judged.value, say),
        difference=signed(metric, judged.value, say),
        interval=interval,
        within=sized(metric, pair.within, say),
        p=p_words(pair.p_adjusted, say),
        n=say.count(pair.n),
    )


def _includes_zero(pair: Pair) -> bool:
    """Whether the interval beside a winner includes 0, as only one for several pairs can."""
    zero = pair.joint.low <= 0 <= pair.joint.high
    return pair.winner is not None and zero and pair.joint != pair.judged


def _besides(question: Question, pair: Pair, say: Labels) -> list[str]:
    """What one number would hide of a remedy for unequal classes: accuracy counts common classes
    more, balanced accuracy all the same."""
    if question.kind != "imbalance" or math.isclose(
        pair.accuracy.value, pair.macro_recall.value, abs_tol=1e-9
    ):
        return []  # with equally many test images of every class, they are the same
    others = {"accuracy": pair.accuracy, "balanced_accuracy": pair.macro_recall}
    others.pop(pair.metric.name, None)
    return [
        say(
            f"v_besides_{name}",
            difference=points(found.value, say),
            interval=points_interval(found, say),
        )
        for name, found in others.items()
    ]


def _differences(
    question: Question, first: RunSpec, second: RunSpec, say: Labels, titles: Mapping[str, str]
) -> str:
    parts = [
        f"{setting_words(key, say)} ({setting_value(first, key, say, titles)} / "
        f"{setting_value(second, key, say, titles)})"
        for key in question.also
    ]
    return ", ".join(parts)


def ordered_pairs(verdicts: Verdicts) -> list[Pair]:
    """All pairs, the better contender first in each, the leader's pairs first.

    Args:
        verdicts: of the contenders.
    """
    order = {standing.name: place for place, standing in enumerate(verdicts.standings)}
    pairs = [
        pair if order[pair.first] < order[pair.second] else verdicts.pair(pair.second, pair.first)
        for pair in verdicts.pairs
    ]
    return sorted(pairs, key=lambda pair: (order[pair.first], order[pair.second]))


def pair_headings(say: Labels, metric: Metric = ACCURACY) -> list[str]:
    """Headings of the table of pairs, in the order of `pair_cells`.

    Args:
        say: the language.
        metric: of the verdicts.
    """
    keys = ("interval", "only", "f1", "p", "p_adjusted", "verdict")
    return [
        say("v_col_first"),
        say("v_col_second"),
        say_by("v_col_difference", metric, say),
        *(say(f"v_col_{key}") for key in keys),
    ]


def pair_cells(pair: Pair, labels: Mapping[str, str], say: Labels) -> list[str]:
    """One row of the table of pairs.

    Args:
        pair: the pair, the better contender first.
        labels: display names by name.
        say: the language.
    """
    first, second = labels[pair.first], labels[pair.second]
    f1 = "–"
    if pair.macro_f1 is not None:
        f1 = f"{points(pair.macro_f1.value, say)} ({points_interval(pair.macro_f1, say)})"
    winner = pair.winner
    digits = 0 if pair.claim == "models" else 1
    return [
        first,
        second,
        signed(pair.metric, pair.judged.value, say),
        signed_interval(pair.metric, pair.joint, say),
        f"{say.number(pair.only_first, digits)} / {say.number(pair.only_second, digits)}",
        f1,
        p_words(pair.p, say).removeprefix("p = ").removeprefix("p "),
        p_words(pair.p_adjusted, say).removeprefix("p = ").removeprefix("p "),
        say("v_verdict_wins", name=labels[winner])
        if winner is not None
        else say(f"v_verdict_{pair.verdict}", within=sized(pair.metric, pair.within, say)),
    ]


def listed_names(names: Sequence[str], say: Labels) -> str:
    """Names in a sentence, as in 'a, b and c'; of many, the rest is counted.

    Args:
        names: one or more.
        say: the language.
    """
    if len(names) > MOST_NAMED:
        left = say.count(len(names) - MOST_NAMED + 1)
        names = [*names[: MOST_NAMED - 1], say("v_others", count=left)]
    if len(names) == 1:
        return names[0]
    comma = "; " if any("," in name for name in names) else ", "
    return f"{comma.join(names[:-1])} {say('and')} {names[-1]}"

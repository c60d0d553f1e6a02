"""The page's leaderboard: one row per contender, and those of its seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import mean, stdev
from typing import Any, NamedTuple

from podium.reporting.page.panel import anchor
from podium.reporting.words.labels import NOTHING, Labels
from podium.reporting.words.metric_words import metric_interval, metric_title, metric_value
from podium.reporting.words.recipes import (
    augmentation,
    model_words,
    pretraining,
    recipe_in_words,
    seed_name,
)
from podium.reporting.words.verdict_words import place_words, tied_words
from podium.results.run import RunResult
from podium.results.study import Contender, StudyResults
from podium.statistics.costs import cost_of, mean_cost
from podium.statistics.verdicts import Standing


class Value(NamedTuple):
    """A cell: its text, its sort key, and the standard deviation over seeds."""

    text: str
    key: float
    deviation: str = ""


@dataclass(frozen=True)
class Entry:
    """One row of the leaderboard: a contender, or one of its seeds."""

    anchor: str
    label: str
    figures: tuple[Value, ...]
    scores: tuple[Value, ...]  # of a metric other than accuracy
    low: float  # of the interval, in % of the bar
    high: float
    dot: float
    recipe: str = ""
    runs: str = ""  # which seeds it shows, where the study has several
    place: str = ""
    place_key: float = 0.0
    tied: str = ""
    facets: Mapping[str, str] = field(default_factory=dict)  # for the page's filter
    seeds: tuple[Entry, ...] = ()  # a row each, below the contender's


def metric_heads(results: StudyResults, say: Labels) -> list[tuple[str, str]]:
    """Headings of the study's metric, each with its best-first sort order; none for accuracy.

    Args:
        results: the study.
        say: the language.
    """
    metric = results.metric
    if metric.is_accuracy:
        return []
    title = metric_title(metric, say)
    first = "descending" if metric.greater_is_better else "ascending"
    interval = f"{title}: {say('v_col_interval')}"  # accuracy has one too
    names = (f"{say('test')}: {title}", interval, f"{say('valid')}: {title}")
    return [(name, first) for name in names]


def leaderboard(results: StudyResults, say: Labels) -> list[Entry]:
    """The contenders with finished runs, best first.

    Args:
        results: the study.
        say: the language.
    """
    bounds = [bound for run in results.runs for bound in run.interval]
    low, high = max(0.0, min(bounds) - 0.01), min(1.0, max(bounds) + 0.01)

    def place(share: float) -> float:
        return min(100.0, max(0.0, round(100 * (share - low) / (high - low), 2)))

    verdicts = results.verdicts if results.verdicts and results.verdicts.pairs else None
    standings = {one.name: one for one in verdicts.standings} if verdicts else {}
    labels = verdicts.labels if verdicts else {}
    entries = []
    for contender in results.ranking:
        first, standing = contender.runs[0], standings.get(contender.name)
        seeds = tuple(_seed(results, run, place, say) for run in contender.runs)
        if len(seeds) > 1:
            entry = _mean(results, contender, standing, place, say)
        else:
            (entry,), seeds = seeds, ()
            known = first.noted
            own = _scores(results, known.test, known.valid, standing, say)
            entry = replace(entry, label=contender.label, runs=seed_name(first, say), scores=own)
        if standing is not None:
            entry = replace(
                entry,
                place=place_words(standing, say),
                place_key=standing.best + standing.worst / 1000,
                tied=tied_words(standing, labels, say),
            )
        recipe, facets = recipe_in_words(first, say), _facets(first, say)
        entries.append(replace(entry, recipe=recipe, facets=facets, seeds=seeds))
    return entries


def _seed(
    results: StudyResults, run: RunResult, place: Callable[[float], float], say: Labels
) -> Entry:
    """The row of one run."""
    score, done = run.scores, run.done
    epochs = done.get("epochs") or len(run.history) or None
    best = f"{say.count(run.best_epoch)} / {say.count(epochs)}"
    shares = (run.valid_accuracy, score.macro_precision, score.macro_recall, score.macro_f1)
    return Entry(
        anchor=anchor(run),
        label=seed_name(run, say),
        figures=(
            Value(_hundred(score.accuracy, say), score.accuracy),
            _interval(run.interval, say),
            *(Value(_hundred(share, say), _key(share)) for share in shares),
            _millions(done.get("parameters"), say),
            Value(NOTHING if run.members else best, _key(run.best_epoch)),
            Value(say.duration(done.get("seconds")), _key(done.get("seconds"))),
        ),
        scores=_scores(results, run.noted.test, run.noted.valid, None, say),
        low=place(run.interval[0]),
        high=place(run.interval[1]),
        dot=place(score.accuracy),
    )


def _mean(
    results: StudyResults,
    contender: Contender,
    standing: Standing | None,
    place: Callable[[float], float],
    say: Labels,
) -> Entry:
    """The row of a contender with several seeds."""

    def spread(values: Iterable[float | None]) -> Value:
        known = [value for value in values if value is not None]
        if len(known) < 2:
            return Value(NOTHING, -1.0)
        middle = mean(known)
        return Value(_hundred(middle, say), middle, f"± {say.number(100 * stdev(known))}")

    runs, nothing = contender.runs, Value("", -1.0)
    seconds = mean_cost([cost_of(run.done, None) for run in runs]).seconds
    valid = contender.valid_merit
    means = contender.score, None if valid is None else results.metric.merit(valid)
    dot = place(contender.accuracy)
    low, high, interval = dot, dot, nothing
    if standing is not None:
        bounds = (standing.accuracy.low, standing.accuracy.high)
        low, high, interval = *map(place, bounds), _interval(bounds, say)
    return Entry(
        anchor=anchor(runs[0]),
        label=contender.label,
        runs=say("mean_row", count=len(runs)),
        figures=(
            spread(run.scores.accuracy for run in runs),
            interval,
            spread(run.valid_accuracy for run in runs),
            spread(run.scores.macro_precision for run in runs),
            spread(run.scores.macro_recall for run in runs),
            spread(run.scores.macro_f1 for run in runs),
            _millions(runs[0].done.get("parameters"), say),
            nothing,
            Value(say.duration(seconds), _key(seconds)),
        ),
        scores=_scores(results, *means, standing, say),
        low=low,
        high=high,
        dot=dot,
    )


def _scores(
    results: StudyResults,
    test: float | None,
    valid: float | None,
    standing: Standing | None,
    say: Labels,
) -> tuple[Value, ...]:
    metric = results.metric
    if metric.is_accuracy:
        return ()
    interval = None if standing is None else standing.score
    low = None if interval is None else interval.low
    return (
        Value(metric_value(metric, test, say), _key(test)),
        Value(metric_interval(metric, interval, say), _key(low)),
        Value(metric_value(metric, valid, say), _key(valid)),
    )


def _interval(bounds: tuple[float, float], say: Labels) -> Value:
    return Value(say.interval(bounds).removesuffix(" %"), bounds[0])


def _facets(run: RunResult, say: Labels) -> dict[str, str]:
    return {
        "model": model_words(run, say),
        "augmentation": augmentation(run, say),
        "pretraining": pretraining(run.recipe, say),
    }


def _hundred(share: float | None, say: Labels) -> str:
    return say.number(None if share is None else 100 * share)


def _millions(count: int | None, say: Labels) -> Value:
    if count is None:
        return Value(NOTHING, -1.0)
    return Value(f"{say.number(count / 1e6)} M", float(count))


def _key(value: Any) -> float:
    return float(value) if value is not None else -1.0

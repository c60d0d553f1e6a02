"""The page's leaderboard: one entry per run, and means over seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from podium.reporting.page.panel import anchor
from podium.reporting.words.labels import NOTHING, Labels
from podium.reporting.words.metric_words import metric_interval, metric_title, metric_value
from podium.reporting.words.recipes import augmentation, pretraining, recipe_in_words
from podium.reporting.words.verdict_words import place_words, tied_words
from podium.results.run import RunResult
from podium.results.study import Contender, StudyResults
from podium.statistics.verdicts import Standing


@dataclass(frozen=True)
class Entry:
    """One row of the leaderboard."""

    anchor: str
    label: str
    recipe: str
    place: str
    place_key: float
    tied: str
    seed: str
    is_mean: bool
    facets: dict[str, str]  # for the page's filter
    figures: tuple[tuple[str, float], ...]  # text and sort key
    scores: tuple[tuple[str, float], ...]  # text and sort key of a metric other than accuracy
    low: float  # of the interval, in % of the bar
    high: float
    dot: float


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


def _scores(
    results: StudyResults,
    test: float | None,
    valid: float | None,
    standing: Standing | None,
    say: Labels,
) -> tuple[tuple[str, float], ...]:
    metric = results.metric
    if metric.is_accuracy:
        return ()
    interval = None if standing is None else standing.score
    return (
        (metric_value(metric, test, say), _key(test)),
        (metric_interval(metric, interval, say), _key(None if interval is None else interval.low)),
        (metric_value(metric, valid, say), _key(valid)),
    )


def leaderboard(results: StudyResults, say: Labels) -> list[Entry]:
    """The entries of all finished runs, best contender first.

    Args:
        results: the study.
        say: the language.
    """
    bounds = [bound for run in results.runs for bound in run.interval]
    low, high = max(0.0, min(bounds) - 0.01), min(1.0, max(bounds) + 0.01)

    def place(share: float) -> float:
        return round(100 * (share - low) / (high - low), 2)

    entries = []
    verdicts = results.verdicts if results.verdicts and results.verdicts.pairs else None
    standings = {one.name: one for one in verdicts.standings} if verdicts else {}
    labels = verdicts.labels if verdicts else {}
    for contender in results.ranking:
        standing = standings.get(contender.name)
        where = ("", 0.0, "")
        if standing is not None:
            key = standing.best + standing.worst / 1000
            where = (place_words(standing, say), key, tied_words(standing, labels, say))
        if len(contender.runs) > 1:
            valid = contender.valid_merit
            means = contender.score, None if valid is None else results.metric.merit(valid)
            own = _scores(results, *means, standing, say)
            entries.append(_mean_entry(contender, standing, where, place, own, say))
            where = ("", where[1], "")  # the place is the contender's, not a seed's
        for run in contender.runs:
            score, done = run.scores, run.done
            epochs = done.get("epochs") or len(run.history) or None
            shown = f"{say.count(run.best_epoch)} / {say.count(epochs)}"
            shares = (run.valid_accuracy, score.macro_precision, score.macro_recall)
            figures = [
                (_hundred(score.accuracy, say), score.accuracy),
                (say.interval(run.interval).removesuffix(" %"), run.interval[0]),
                *((_hundred(share, say), _key(share)) for share in (*shares, score.macro_f1)),
                _millions(done.get("parameters"), say),
                (shown, _key(run.best_epoch)),
                (say.duration(done.get("seconds")), _key(done.get("seconds"))),
            ]
            entries.append(
                Entry(
                    anchor=anchor(run),
                    label=run.label,
                    recipe=recipe_in_words(run, say),
                    place=where[0],
                    place_key=where[1],
                    tied=where[2],
                    seed=str(run.folder.seed),
                    is_mean=False,
                    facets=_facets(run, say),
                    figures=tuple(figures),
                    scores=_scores(
                        results,
                        run.noted.test,
                        run.noted.valid,
                        standing if len(contender.runs) == 1 else None,
                        say,
                    ),
                    low=place(run.interval[0]),
                    high=place(run.interval[1]),
                    dot=place(score.accuracy),
                )
            )
    return entries


def _mean_entry(
    contender: Contender,
    standing: Standing | None,
    where: tuple[str, float, str],
    place: Callable[[float], float],
    scores: tuple[tuple[str, float], ...],
    say: Labels,
) -> Entry:
    def spread(values: list[float | None]) -> tuple[str, float]:
        known = [value for value in values if value is not None]
        if len(known) < 2:
            return NOTHING, -1.0
        middle = mean(known)
        return f"{_hundred(middle, say)} ± {say.number(100 * stdev(known))}", middle

    runs = contender.runs
    nothing = ("", -1.0)
    dot = place(contender.accuracy)
    low, high, interval = dot, dot, nothing
    if standing is not None:
        bounds = (standing.accuracy.low, standing.accuracy.high)
        interval = (say.interval(bounds).removesuffix(" %"), bounds[0])
        low, high = (min(100.0, max(0.0, place(bound))) for bound in bounds)
    return Entry(
        anchor=anchor(runs[0]),
        label=contender.label,
        recipe=recipe_in_words(runs[0], say),
        place=where[0],
        place_key=where[1],
        tied=where[2],
        seed=say("mean_row", count=len(runs)),
        is_mean=True,
        facets=_facets(runs[0], say),
        figures=(
            spread([run.scores.accuracy for run in runs]),
            interval,
            spread([run.valid_accuracy for run in runs]),
            spread([run.scores.macro_precision for run in runs]),
            spread([run.scores.macro_recall for run in runs]),
            spread([run.scores.macro_f1 for run in runs]),
            _millions(runs[0].done.get("parameters"), say),
            nothing,
            nothing,
        ),
        scores=scores,
        low=low,
        high=high,
        dot=dot,
    )


def _facets(run: RunResult, say: Labels) -> dict[str, str]:
    return {
        "model": run.model,
        "augmentation": augmentation(run, say),
        "pretraining": pretraining(run.recipe, say),
    }


def _hundred(share: float | None, say: Labels) -> str:
    return say.number(None if share is None else 100 * share)


def _millions(count: int | None, say: Labels) -> tuple[str, float]:
    return (NOTHING, -1.0) if count is None else (f"{say.number(count / 1e6)} M", float(count))


def _key(value: Any) -> float:
    return float(value) if value is not None else -1.0

"""What a study ends with, in words: the podium, what its images could show, what to do next.

The terminal and the head of the report say it with these sentences, and no other.
"""

from __future__ import annotations

import math
import shlex

from podium.reporting.words.labels import Labels
from podium.reporting.words.metric_words import metric_interval, metric_title, metric_value
from podium.reporting.words.verdict_words import headline, listed_names
from podium.results.study import Contender, StudyResults
from podium.statistics.intervals import Interval
from podium.statistics.verdicts import Standing


def verdict_sentence(results: StudyResults, say: Labels) -> str:
    """The one sentence of a study: who won, or that it does not show; or the only score.

    Args:
        results: the study.
        say: the language.
    """
    verdicts = results.verdicts
    if verdicts is None or not verdicts.pairs:
        return score_sentence(results, say)
    judged = ""
    if not results.metric.is_accuracy:  # also where its code is not allowed, and accuracy judges
        judged = say("v_judged", metric=metric_title(verdicts.metric, say))
    return f"{judged} {headline(verdicts, say)}".strip()


def score_sentence(results: StudyResults, say: Labels) -> str:
    """The best score of a study, as measured.

    Args:
        results: the study.
        say: the language.
    """
    ranking, metric = results.ranking, results.metric
    best = ranking[0]
    alike = [one for one in ranking if one.score == best.score]
    names = listed_names([one.label for one in alike], say)
    values = {"name": names, "n": say.count(best.runs[0].scores.n), "seeds": len(best.runs)}
    if not metric.is_accuracy:
        key = "headline_metric_only" if len(ranking) == 1 else "headline_metric"
        more = say("headline_metric_mean", seeds=len(best.runs)) if len(best.runs) > 1 else ""
        values |= {
            "names": names,
            "metric": _title(results, say),
            "value": metric_value(metric, best.score, say),
            "more": f" ({more})" if more else "",
        }
        return say("headline_metric_tie" if len(alike) > 1 else key, **values)
    values["accuracy"] = say.percent(best.accuracy)
    if len(alike) > 1:
        return say("headline_tie", names=names, **values)
    key = "headline_seeds" if len(best.runs) > 1 else "headline_one"
    if len(ranking) == 1:
        key = "headline_seeds_only" if len(best.runs) > 1 else "headline_only"
    values["correct"] = say.count(best.runs[0].scores.correct)
    values["interval"] = say.interval(best.runs[0].interval)
    return say(key, **values)


def outlook_sentence(results: StudyResults, say: Labels) -> str:
    """What the test images could show at all; empty where that is unknown.

    Args:
        results: the study.
        say: the language.
    """
    found = results.outlook
    if found is None or results.verdicts is None:
        return ""
    size = {"n": say.count(results.verdicts.n), "seeds": found.seeds}
    power = f"{100 * found.given.target:.0f} %"
    several = "_seeds" if found.seeds > 1 else ""
    if found.smallest is None:
        return say(f"outlook_nothing{several}", power=power, **size)
    points = say.number(100 * found.smallest, 1)
    return say(f"outlook{several}", points=points, power=power, **size)


def needed_sentence(results: StudyResults, say: Labels) -> str:
    """How many test images would tell the two best apart; empty where they are, or none would.

    Args:
        results: the study.
        say: the language.
    """
    found = results.outlook
    if found is None or found.images is None:
        return ""
    first, second = results.ranking[:2]
    return say(
        "outlook_needed",
        first=first.label,
        second=second.label,
        points=say.number(100 * found.gap, 1),
        images=say.count(_rounded(found.images)),
    )


def steps(results: StudyResults) -> list[list[Contender]]:
    """The contenders by step of the podium, best first; those that are tied share a step.

    The first step holds all that may be the best, as the headline says. Below it, contenders
    share a step if the best place that they may have is the same.

    Args:
        results: the study.
    """
    standings = standings_by_name(results)
    if not standings:
        return [[one] for one in results.ranking]
    by_step: dict[int, list[Contender]] = {}
    for one in results.ranking:
        standing = standings[one.name]
        step = 1 if standing.may_be_best else max(2, standing.best)
        by_step.setdefault(step, []).append(one)
    return [by_step[step] for step in sorted(by_step)]


def standings_by_name(results: StudyResults) -> dict[str, Standing]:
    """The standing of each contender by name; empty where nothing is compared.

    Args:
        results: the study.
    """
    verdicts = results.verdicts
    return {one.name: one for one in verdicts.standings} if verdicts and verdicts.pairs else {}


def score_words(results: StudyResults, one: Contender, say: Labels) -> tuple[str, str]:
    """A contender's test score in the study's metric, and its 95 % interval.

    Args:
        results: the study.
        one: the contender.
        say: the language.

    Returns:
        `(value, interval)`; the interval is empty where none is known.
    """
    metric, found = results.metric, bounds(results, one)
    value = metric_value(metric, one.score, say)
    if found is None or one.score is None:
        return value, ""
    return value, metric_interval(metric, Interval(one.score, *found), say)


def bounds(results: StudyResults, one: Contender) -> tuple[float, float] | None:
    """The 95 % interval of a contender's test score in the study's metric; None: unknown.

    Args:
        results: the study.
        one: the contender.
    """
    metric, verdicts = results.metric, results.verdicts
    standing = standings_by_name(results).get(one.name)
    if standing is not None and verdicts is not None and verdicts.metric == metric:
        return standing.judged.low, standing.judged.high
    if metric.is_accuracy and len(one.runs) == 1:
        return one.runs[0].interval
    return None


def next_commands(results: StudyResults, say: Labels) -> list[tuple[str, str]]:
    """Three commands that one may want next, each with what it does.

    Where the images are too few to decide, the first plans a study that can; else it exports the
    winner.

    Args:
        results: the study.
        say: the language.
    """
    study = shlex.quote(str(results.folder.path))
    best = shlex.quote(str(results.ranking[0].runs[0].folder.path))
    found = results.outlook
    verdicts = results.verdicts
    first = (f"podium export {best}", say("next_export"))
    if verdicts is not None and len(verdicts.leaders) > 1 and found is not None:
        points = f"{max(1.0, round(100 * found.gap, 1)):g}"
        first = (
            f"podium power --n {verdicts.n} --difference {points} "
            f"--contenders {found.given.contenders} --seeds {found.seeds} --like {study}",
            say("next_power"),
        )
    return [
        first,
        (f"podium predict {best} photo.jpg", say("next_predict")),
        (f"podium serve {study}", say("next_serve")),
    ]


def _title(results: StudyResults, say: Labels) -> str:
    return metric_title(results.metric, say)


def _rounded(count: int) -> int:
    """Two significant digits: more would claim to be exact."""
    step: int = 10 ** max(0, math.floor(math.log10(count)) - 1)
    return math.ceil(count / step) * step

"""What accuracy costs, in words: equivalence within the margin, trade-offs, a table of costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from podium.reporting.words.labels import NOTHING, Labels
from podium.reporting.words.metric_words import metric_title, metric_value, sized
from podium.statistics.costs import Cost, pareto_front
from podium.statistics.scoring import Metric
from podium.statistics.verdicts import Standing, Verdicts

MOST_TRADED = 3  # sentences; the table has the rest
LEAST_GAIN = 1.1  # times as fast; less is within the noise of a measurement

Cells = list[tuple[str, float | None]]
"""Text and sort key of each cell; None: sorted by its text."""


def margin_sentence(verdicts: Verdicts, say: Labels) -> str:
    """What counts as equivalent here, and who is; empty where nothing is compared.

    Args:
        verdicts: of the contenders.
        say: the language.
    """
    margin = verdicts.margin
    if math.isinf(margin.size):
        return ""
    key = "v_margin_chosen" if margin.chosen else "v_margin_shown"
    count = sum(pair.verdict == "equivalent" for pair in verdicts.pairs)
    found = {
        "margin": difference_words(verdicts.metric, margin.size, say),
        "count": say.count(count),
        "pairs": say.count(len(verdicts.pairs)),
    }
    keys = (key, "v_equivalent_count", *(["v_equivalent_within"] if count else []))
    return " ".join(say(one, **found) for one in keys)


def trade_offs(verdicts: Verdicts, costs: Mapping[str, Cost], say: Labels) -> list[str]:
    """A sentence for each contender that is faster than every better one.

    Args:
        verdicts: of the contenders.
        costs: of each, by name.
        say: the language.
    """
    devices = {one.device for one in costs.values()}
    if len(verdicts.standings) < 2 or len(devices) != 1:  # times of different machines
        return []
    times = {name: one.latency for name, one in costs.items()}
    by_name = {one.name: one for one in verdicts.standings}
    first = verdicts.standings[0]
    told = []
    front = [name for name in pareto_front(_merits(verdicts), times) if name != first.name]
    for name in front[:MOST_TRADED]:
        slow, fast = times[first.name], times[name]
        if slow is None or fast is None or slow / fast < LEAST_GAIN:
            continue
        one = by_name[name]
        told.append(
            say(
                "v_trade_off",
                name=one.label,
                behind=difference_words(verdicts.metric, one.behind, say),
                times=say.number(slow / fast, 1 if slow / fast < 10 else 0),
                best=first.label,
            )
        )
    return told


def cost_headings(verdicts: Verdicts, costs: Mapping[str, Cost], say: Labels) -> list[str]:
    """Headings of the table of costs, in the order of `cost_rows`.

    Args:
        verdicts: of the contenders.
        costs: of each, by name; a cost that is unknown of all has no column.
        say: the language.
    """
    title = metric_title(verdicts.metric, say)
    return [
        say("col_contender"),
        title[:1].upper() + title[1:],
        say("cost_behind"),
        *([say("cost_chance")] if _chances(verdicts) else []),
        *(say(f"cost_{key}") for key in _known(costs)),
    ]


def cost_hint(verdicts: Verdicts, costs: Mapping[str, Cost], say: Labels) -> str:
    """What the columns of the table of costs mean.

    Args:
        verdicts: of the contenders.
        costs: of each, by name.
        say: the language.
    """
    times = say("cost_hint_times") if "latency" in _known(costs) else ""
    chance = say("cost_chance_hint") if _chances(verdicts) else ""
    return " ".join(filter(None, [say("cost_hint"), times, chance]))


def cost_rows(verdicts: Verdicts, costs: Mapping[str, Cost], say: Labels) -> list[Cells]:
    """One row per contender, best first; none where no cost is known, as for other tools' tables.

    Args:
        verdicts: of the contenders.
        costs: of each, by name.
        say: the language.
    """
    if all(one.parameters is None and one.latency is None for one in costs.values()):
        return []
    front = pareto_front(_merits(verdicts), {name: one.latency for name, one in costs.items()})
    known = _known(costs)
    return [
        _row(one, verdicts, costs[one.name], one.name in front, known, say)
        for one in verdicts.standings
    ]


def _known(costs: Mapping[str, Cost]) -> list[str]:
    """The columns of which something is known; the Pareto front needs times."""
    columns = {"latency": "latency", "parameters": "parameters", "megabytes": "megabytes",
               "seconds": "seconds", "front": "latency"}  # fmt: skip
    return [
        column
        for column, field in columns.items()
        if any(getattr(one, field) is not None for one in costs.values())
    ]


def _row(
    one: Standing,
    verdicts: Verdicts,
    cost: Cost,
    front: bool,
    known: Sequence[str],
    say: Labels,
) -> Cells:
    metric, parameters = verdicts.metric, cost.parameters
    millions = None if parameters is None else parameters / 1e6
    cells = {
        "latency": (say.number(cost.latency, 1), cost.latency),
        "parameters": (NOTHING if millions is None else f"{say.number(millions, 2)} M", parameters),
        "megabytes": (say.number(cost.megabytes, 1), cost.megabytes),
        "seconds": (say.duration(cost.seconds), cost.seconds),
        "front": ("✓" if front else "", float(front)),
    }
    return [
        (one.label, None),
        (metric_value(metric, one.judged.value, say), one.judged.value),
        (difference_words(metric, one.behind, say), one.behind),
        *(
            [(say.percent(one.chance_of_best or 0.0), one.chance_of_best)]
            if _chances(verdicts)
            else []
        ),
        *(cells[column] for column in known),
    ]


def _chances(verdicts: Verdicts) -> bool:
    return all(one.chance_of_best is not None for one in verdicts.standings)


def _merits(verdicts: Verdicts) -> dict[str, float]:
    metric = verdicts.metric
    return {one.name: metric.merit(one.judged.value) for one in verdicts.standings}


def difference_words(metric: Metric, size: float, say: Labels) -> str:
    """Format the size of a difference with its unit.

    Args:
        metric: the metric.
        size: of the difference; infinite: unknown, a dash.
        say: the language.
    """
    if math.isinf(size):
        return NOTHING
    unit = f" {say('v_points')}" if metric.percent else ""
    return f"{sized(metric, size, say)}{unit}"

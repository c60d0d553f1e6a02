"""What a contender costs to run and to train, and which contenders no other beats on all counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Cost:
    """What a trained contender costs; None: unknown, as for predictions of another tool.

    Means over its runs. Times are measured on the machine that trained it, and compare only with
    those of the same machine.
    """

    latency: float | None = None
    """Milliseconds for one image, without decoding."""
    parameters: float | None = None
    megabytes: float | None = None
    """Size of the weights, in 10^6 bytes."""
    seconds: float | None = None
    """Time of training."""
    device: str | None = None
    """What the times were measured on; None: unknown, or not the same for all runs."""


NO_COST = Cost()
"""Of predictions of other tools."""

AXES = tuple(field.name for field in fields(Cost) if field.name != "device")
TIMES = ("latency", "seconds")
"""Axes that mean something for one device only."""


def cost_of(done: Mapping[str, Any], size: int | None) -> Cost:
    """The cost of one run.

    Args:
        done: the run's closing record; those of earlier versions lack some values.
        size: of the file with the weights, in bytes; None: it is not there.
    """

    def number(key: str) -> float | None:
        value = done.get(key)
        return float(value) if isinstance(value, int | float) and value > 0 else None

    return Cost(
        latency=number("latency_ms"),
        parameters=number("parameters"),
        megabytes=None if size is None else size / 1e6,
        seconds=number("seconds"),
        device=str(done["device"]) if done.get("device") else None,
    )


def mean_cost(costs: list[Cost]) -> Cost:
    """The mean over the runs of a contender; a value that one of them lacks is unknown.

    So are times of runs on different devices: their mean would be the time of none.

    Args:
        costs: of its runs, one or more.
    """
    devices = {one.device for one in costs}

    def mean(axis: str) -> float | None:
        if axis in TIMES and len(devices) > 1:
            return None
        found: list[float | None] = [getattr(one, axis) for one in costs]
        known = [value for value in found if value is not None]
        return sum(known) / len(known) if len(known) == len(found) else None

    device = next(iter(devices)) if len(devices) == 1 else None
    return Cost(**{axis: mean(axis) for axis in AXES}, device=device)


def pareto_front(merits: Mapping[str, float], costs: Mapping[str, float | None]) -> list[str]:
    """The contenders that no other beats in both score and cost, best score first.

    Scores and costs are as measured: being on the front is no claim of significance.

    Args:
        merits: score of each contender by name, higher is better.
        costs: one cost of each, lower is better; a contender of unknown cost is not on the front.

    Examples:
        >>> pareto_front({"a": 0.9, "b": 0.89, "c": 0.88}, {"a": 50.0, "b": 5.0, "c": 6.0})
        ['a', 'b']
    """
    known = {name: cost for name, cost in costs.items() if cost is not None}
    front, cheapest = [], math.inf
    for name in sorted(known, key=lambda one: (-merits[one], known[one])):
        if known[name] < cheapest:
            front.append(name)
            cheapest = known[name]
    return front

"""The nodes of a Ray cluster: what they have, which are gone, and the options of tasks for them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from podium.config.machine import Machine
from podium.errors import ConfigError
from podium.study.engines.shares import Node, room

LOOK_EVERY = 5.0
"""Seconds between two looks at the list of nodes."""


class Nodes:
    """The nodes of a cluster.

    Args:
        ray: the package, connected.
    """

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        self._listed: list[Mapping[str, Any]] = []
        self._looked = float("-inf")

    def have(self) -> list[Node]:
        """What each node has that is a part of the cluster: they come and go."""
        return [_has(node) for node in self._list() if node["Alive"]]

    def gone(self) -> frozenset[str]:
        """The numbers of the nodes that were a part of the cluster.

        Ray gives up a node that was cut off, but goes on waiting for its tasks.
        """
        return frozenset(node["NodeID"] for node in self._list() if not node["Alive"])

    def options(self, cpus: int, gpus: float, avoid: frozenset[str]) -> dict[str, Any]:
        """The options of a task.

        Args:
            cpus: cores that it asks for.
            gpus: GPUs.
            avoid: numbers of the nodes that are to be used only if there is no other.
        """
        # a lost task is begun again by what started it, on another node
        found: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": 0}
        if avoid:
            self._looked = float("-inf")
            others = [_has(one) for one in self._list() if one["NodeID"] not in avoid]
            if room(others, cpus, gpus):
                selected = {"ray.io/node-id": f"!in({','.join(sorted(avoid))})"}
                found["label_selector"] = selected
        return found

    def refuse_misfit(self, what: str, machine: Machine, cpus: int, gpus: float) -> None:
        """Refuse what no node can take, and a device that tasks would not get.

        Args:
            what: that is to be computed, such as `a cell`.
            machine: settings of the machine: `device`.
            cpus: cores of each.
            gpus: GPUs of each.

        Raises:
            ConfigError: there is no such node, or the device and the GPUs contradict each other.
        """
        nodes = self.have()
        cores, total = max((one.cores for one in nodes), default=0), sum(one.gpus for one in nodes)
        there = f"The largest has {cores} CPUs, and all {len(nodes)} together {total} GPUs."
        kind, given = machine.device.partition(":")[0], "cuda" if gpus else "cpu"
        if kind in ("cuda", "cpu") and kind != given:
            raise ConfigError(
                f"--device {machine.device} --gpus {gpus:g}: {what} is computed on a "
                f"{'GPU' if gpus else 'CPU'} then. {there} Omit --device, or say "
                f"--gpus {0 if gpus else 1}."
            )
        if not room(nodes, cpus, gpus):
            raise ConfigError(
                f"No node of the cluster has what {what} asks for: --cpus {cpus} "
                f"--gpus {gpus:g}. {there}"
            )

    def _list(self) -> list[Mapping[str, Any]]:
        if time.monotonic() - self._looked >= LOOK_EVERY:
            self._looked, self._listed = time.monotonic(), self.ray.nodes()
        return self._listed


def _has(node: Mapping[str, Any]) -> Node:
    has = node["Resources"] if node["Alive"] else {}
    return Node(int(has.get("CPU", 0)), int(has.get("GPU", 0)))


def result_of(reference: Any) -> Any:
    """On a node: wait for a result, without giving up the cores of this task meanwhile.

    `ray.get` would lend them to another task.

    Args:
        reference: to the result.
    """
    return reference.future().result()


def in_words(error: BaseException) -> str:
    """How a task was lost, from the error that Ray raised.

    Args:
        error: of Ray.
    """
    cause = getattr(error, "cause", None) or error
    first, _, _ = " ".join(str(cause).split()).partition(". ")  # Ray's hints follow it
    return f"{type(cause).__name__}: {first}" if first else type(cause).__name__

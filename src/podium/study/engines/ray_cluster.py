"""Cells as tasks of a Ray cluster. Only Ray's core is used: tasks, resources, nodes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from podium.config.machine import Machine
from podium.config.registry import allowed, sources_of
from podium.errors import ConfigError
from podium.runs.folder import StudyFolder
from podium.runtime.lock import note_of
from podium.runtime.parts import Parts
from podium.study.cells import Cell
from podium.study.engines.driver import Engine, ProcessExecutor, Task
from podium.study.engines.elsewhere import train_elsewhere
from podium.study.engines.files import NODE
from podium.study.engines.keeper import Keeper
from podium.study.engines.link import FEATURES, place_of_weights
from podium.study.engines.local import ending, kill_with_children
from podium.study.engines.ray_connection import (
    LOCAL,
    LOOK_EVERY,
    connected,
    elsewhere_than,
    in_words,
    suits,
)
from podium.study.engines.ray_parts import parts_on
from podium.study.engines.shares import share
from podium.study.work import Work

_MOST = 10_000  # tasks handed over at a time: Ray queues them
_MOST_REQUESTS = 64  # of cells, that are answered at a time


class Ray(ProcessExecutor):
    """Trains cells as tasks of a Ray cluster: a given one, or one of this machine alone."""

    @contextlib.contextmanager
    def open(self, work: Work, cells: Sequence[Cell]) -> Iterator[tuple[Engine, Machine]]:
        with connected(work.machine) as (ray, address):
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            cores = [int(node.get("CPU", 0)) for node in nodes]
            gpus = sum(int(node.get("GPU", 0)) for node in nodes)
            machine = share(
                work.machine,
                work.folder,
                cells=len(cells),
                cores=sum(cores),
                most=max(cores),
                gpus=gpus,
            )
            assert machine.cpus is not None
            assert machine.gpus is not None
            if not any(
                node.get("CPU", 0) >= machine.cpus and node.get("GPU", 0) >= machine.gpus
                for node in nodes
            ):
                raise ConfigError(
                    f"No node of the cluster has what a cell asks for: --cpus {machine.cpus} "
                    f"--gpus {machine.gpus:g}. The largest has {max(cores)} CPUs, and all "
                    f"{len(nodes)} together {gpus} GPUs."
                )
            # nobody joins a cluster of this machine alone
            keeper = None if address == LOCAL else _keeper(ray, work)
            yield _Tasks(ray, machine, work.folder.path, keeper), machine

    def parts(self, machine: Machine) -> contextlib.AbstractContextManager[Parts | None]:
        return parts_on(machine, here_too=False)


def _keeper(ray: Any, work: Work) -> Any:
    """Start what keeps the study's folder for nodes that do not see it, on the driver's node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from podium.features.disk import feature_folder
    from podium.models.weights import weight_caches

    here = ray.get_runtime_context().get_node_id()
    options: dict[str, Any] = {
        "num_cpus": 0,
        "max_restarts": -1,
        "max_concurrency": _MOST_REQUESTS,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=here, soft=False),
    }
    modules = allowed().items()
    code = {str(Path(folder, module)): sources_of(module) for module, folder in modules}
    folder = StudyFolder(work.folder.path.resolve())
    given = {argument: files for argument, files in code.items() if files}
    named = {
        place_of_weights(name): recipe.weights.absolute().parent
        for name, recipe in work.spec.contenders.items()
        if recipe.weights is not None
    }
    caches = {**weight_caches(), FEATURES: feature_folder(), **named}
    return ray.remote(Keeper).options(**options).remote(folder, given, caches)


class _Tasks:
    """Tasks of a cluster; a handle is the reference to a task's result.

    Args:
        ray: the package, connected.
        machine: settings of the machine, with `cpus` and `gpus`.
        study: the study's folder.
        keeper: the actor that keeps it for nodes that do not see it; None: all nodes see it.
    """

    capacity = _MOST

    def __init__(self, ray: Any, machine: Machine, study: Path, keeper: Any = None) -> None:
        self.ray, self.machine, self.keeper = ray, machine, keeper
        self.study, self.sign = study.resolve(), _sign(study)
        self.train = ray.remote(_train)
        self.looked, self.gone = 0.0, frozenset[str]()

    def start(self, tasks: Sequence[Task]) -> list[Any]:
        return [self._start(task) for task in tasks]

    def _start(self, task: Task) -> Any:
        options: dict[str, Any] = {
            "num_cpus": self.machine.cpus,
            "num_gpus": self.machine.gpus,
            "max_retries": 0,  # the driver begins a lost cell again, under a new number
            "name": str(task.cell),
        }
        needs = {"CPU": self.machine.cpus or 0, "GPU": self.machine.gpus or 0}
        if task.avoid and any(suits(node, needs, task.avoid) for node in self.ray.nodes()):
            options |= elsewhere_than(task.avoid)
        return self.train.options(**options).remote(task, self.study, self.sign, self.keeper)

    def ended(self, running: Mapping[Any, str]) -> Mapping[Any, str]:
        if not running:
            return {}
        # Ray gives up a node that was cut off, but goes on waiting for its tasks
        found = {
            handle: "its node cannot be reached"
            for handle, node in running.items()
            if node in self._given_up()
        }
        ready, _ = self.ray.wait(list(running), num_returns=len(running), timeout=0)
        return found | {handle: self._ending(handle) for handle in ready}

    def _given_up(self) -> frozenset[str]:
        """The nodes that were a part of the cluster."""
        if time.monotonic() - self.looked >= LOOK_EVERY:
            self.looked = time.monotonic()
            self.gone = frozenset(node["NodeID"] for node in self.ray.nodes() if not node["Alive"])
        return self.gone

    def _ending(self, handle: Any) -> str:
        try:
            return ending(self.ray.get(handle))
        except self.ray.exceptions.RayError as error:
            return in_words(error)

    def kill(self, handles: Sequence[Any]) -> None:
        for handle in handles:
            self.ray.cancel(handle, force=True)


def _sign(study: Path) -> bytes:
    """What only a machine that sees a study's folder can read: who drives its cells, since when."""
    try:
        return note_of(StudyFolder(study).processes).read_bytes()
    except OSError:
        return b""


def _train(task: Task, study: Path, sign: bytes, keeper: Any) -> int:
    """On a node: run the process of a cell to its end, and return its exit code."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    environment = {**os.environ, **task.environment, NODE: node}
    shares = _sign(study) == sign and task.folder.is_dir()
    if keeper is not None and not shares:
        return train_elsewhere(task, study, environment, keeper)
    with open(task.output, "wb") as file:
        process = subprocess.Popen(
            [sys.executable, *task.command[1:]],
            cwd=task.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        return process.wait()
    finally:
        kill_with_children([process])

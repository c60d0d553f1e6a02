"""Cells as tasks of a Ray cluster. Only Ray's core is used: tasks, resources, nodes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from podium.config.machine import Machine
from podium.config.registry import allowed, sources_of
from podium.runs.folder import StudyFolder
from podium.runtime.lock import note_of
from podium.runtime.parts import Parts
from podium.study.cells import Cell
from podium.study.engines.children import ending, running
from podium.study.engines.driver import Engine, ProcessExecutor, Task
from podium.study.engines.elsewhere import lending, train_elsewhere
from podium.study.engines.files import NODE
from podium.study.engines.keeper import Keeper
from podium.study.engines.link import FEATURES, LENDER, place_of_weights
from podium.study.engines.ray_connection import LOCAL, connected
from podium.study.engines.ray_nodes import Nodes, in_words
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
            nodes = Nodes(ray)
            machine = share(work.machine, work.folder, cells=len(cells), nodes=nodes.have())
            assert machine.cpus is not None
            assert machine.gpus is not None
            nodes.refuse_misfit("a cell", machine, machine.cpus, machine.gpus)
            # nobody joins a cluster of this machine alone
            keeper = None if address == LOCAL else _keeper(ray, work)
            yield _Tasks(nodes, machine, work.folder.path, keeper), machine

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
        nodes: of the cluster.
        machine: settings of the machine, with `cpus` and `gpus`.
        study: the study's folder.
        keeper: the actor that keeps it for nodes that do not see it; None: all nodes see it.
    """

    capacity = _MOST

    def __init__(self, nodes: Nodes, machine: Machine, study: Path, keeper: Any = None) -> None:
        self.ray, self.nodes, self.machine, self.keeper = nodes.ray, nodes, machine, keeper
        self.study, self.sign = study.resolve(), _sign(study)
        self.train = self.ray.remote(_train)

    def start(self, tasks: Sequence[Task]) -> list[Any]:
        return [self._start(task) for task in tasks]

    def _start(self, task: Task) -> Any:
        options = self.nodes.options(self.machine.cpus or 1, self.machine.gpus or 0, task.avoid)
        train = self.train.options(name=str(task.cell), **options)
        return train.remote(task, self.study, self.sign, self.keeper)

    def ended(self, running: Mapping[Any, str]) -> Mapping[Any, str]:
        if not running:
            return {}
        gone = self.nodes.gone()
        found = {
            handle: "its node cannot be reached" for handle, node in running.items() if node in gone
        }
        ready, _ = self.ray.wait(list(running), num_returns=len(running), timeout=0)
        return found | {handle: self._ending(handle) for handle in ready}

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
    shares = _sign(study) == sign and task.folder.is_dir()
    if keeper is not None and not shares:
        return train_elsewhere(task, study, node, keeper)
    variables = {NODE: node}
    with contextlib.ExitStack() as stack:
        if keeper is not None:  # the caches may not be shared
            variables[LENDER] = stack.enter_context(lending(task, keeper))
        return stack.enter_context(running(task, **variables)).wait()

"""Parts of a piece of work as tasks of a Ray cluster: features, predictions.

A part depends on nothing but the work and its item, so a lost one is begun again, on another node
if there is one, and which machine computed it decides nothing.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeVar

from podium.config.machine import Machine
from podium.config.registry import allow, allowed, sources_of, write_sources
from podium.config.studyfile import machine_settings
from podium.errors import ConfigError, PodiumError
from podium.runtime.memory import recycled_memory
from podium.runtime.threads import GRANTED
from podium.study.engines.driver import MOST_LOSSES
from podium.study.engines.ray_connection import LOCAL, address_of, connected
from podium.study.engines.ray_nodes import Nodes, in_words, result_of
from podium.study.engines.shares import gpus_of_each, room

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 2  # parts under way for each that computes: a slow one does not stall the others at once
_WAIT = 0.2  # seconds for something to happen, before Ctrl-C is noticed


@contextlib.contextmanager
def parts_on(machine: Machine, *, here_too: bool) -> Iterator[RayParts | None]:
    """What computes parts on the Ray cluster that the settings name, as long as it is needed.

    Args:
        machine: settings of the machine, for `--on ray`.
        here_too: also use a cluster of this machine alone; otherwise there is None then, since
            this process can use its cores as well.

    Raises:
        ConfigError: there is no such cluster, or no node has what a part asks for.
    """
    if address_of(machine) == LOCAL and not here_too:
        yield None
        return
    with connected(machine) as (ray, _):
        yield RayParts(ray, machine)


@contextlib.contextmanager
def parts_named(
    on: str,
    *,
    device: str = "auto",
    cpus: int | None = None,
    gpus: float | None = None,
    insecure: bool = False,
) -> Iterator[RayParts | None]:
    """What computes parts of work that has no study, as long as it is needed; None: this process.

    Args:
        on: `serial`: this process; `ray` or `ray:HOST:PORT`: a cluster.
        device: kind of the devices that compute.
        cpus: cores of a part; None: all of a node.
        gpus: GPUs of a part; None: one where there are any.
        insecure: use a cluster that has no token.

    Raises:
        ConfigError: it is something else, or the cluster cannot be used.
    """
    name, _, address = on.partition(":")
    if name not in ("serial", "ray") or (address and name != "ray"):
        raise ConfigError(f"--on {on}: expected serial (this machine), ray or ray:HOST:PORT.")
    if name == "serial":
        given = {"--cpus": cpus is not None, "--gpus": gpus is not None, "--insecure": insecure}
        if wrong := [flag for flag, is_set in given.items() if is_set]:
            raise ConfigError(f"{wrong[0]} applies to --on ray: also give that.")
        yield None
        return
    machine = machine_settings(
        executor=name, address=address, device=device, cpus=cpus, gpus=gpus, insecure=insecure
    )
    with parts_on(machine, here_too=True) as parts:
        yield parts


@dataclass
class _Part:
    """An item that was sent."""

    item: Any
    answers: Any = None
    """First the node that computes, then the result."""
    node: str = ""
    result: Any = None
    losses: int = 0
    avoid: frozenset[str] = frozenset()


class RayParts:
    """Computes parts as tasks of a cluster; see `podium.runtime.parts.Parts`.

    Args:
        ray: the package, connected.
        machine: settings of the machine: `cpus` and `gpus` of a task, and `device`. If they say
            nothing of GPUs, one is taken where there are any; if they say nothing of cores, so
            many that no node has an idle one.
    """

    def __init__(self, ray: Any, machine: Machine) -> None:
        self.ray, self.nodes = ray, Nodes(ray)
        nodes = self.nodes.have()
        self.gpus = min(gpus_of_each(machine, nodes), 1.0)  # a part computes on one device
        self.device = "cuda" if self.gpus else "cpu"
        each = [
            node.cores // (room([node], 1, self.gpus) if self.gpus else 1)
            for node in nodes
            if room([node], 1, self.gpus)
        ]
        self.cpus = machine.cpus or min(each, default=1)
        self.nodes.refuse_misfit("a part", machine, self.cpus, self.gpus)

    @property
    def at_a_time(self) -> int:
        """Number of parts that the cluster computes at a time now."""
        return room(self.nodes.have(), self.cpus, self.gpus)

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item]
    ) -> Generator[Result, None, None]:
        yield from _Computing(self, work).results(iter(items))


class _Computing:
    """One piece of work.

    Args:
        parts: what computes it.
        work: called with each item.
    """

    numbers = count()

    def __init__(self, parts: RayParts, work: Callable[..., Any]) -> None:
        self.parts, self.ray = parts, parts.ray
        self.task, self.sent = self.ray.remote(_compute), self.ray.put(_Sent.of(work, parts))
        self.key = f"{os.getpid()}-{next(self.numbers)}"
        self.under_way = deque[_Part]()

    def results(self, items: Iterator[Any]) -> Generator[Any, None, None]:
        """The result of each item, in their order.

        Args:
            items: consumed as the work proceeds.
        """
        try:
            while True:
                free = max(1, _AHEAD * self.parts.at_a_time) - len(self.under_way)
                for item in islice(items, max(0, free)):
                    self.under_way.append(self._begin(_Part(item)))
                if not self.under_way:
                    return
                self._look()
                yield from self._first()
        finally:
            for part in self.under_way:
                self.ray.cancel(part.answers, force=True)

    def _begin(self, part: _Part) -> _Part:
        nodes, cpus, gpus = self.parts.nodes, self.parts.cpus, self.parts.gpus
        task = self.task.options(**nodes.options(cpus, gpus, part.avoid))
        # in a list, the reference itself is sent, and not what it stands for
        part.answers = task.remote(self.key, [self.sent], part.item)
        part.node, part.result = "", None
        return part

    def _look(self) -> None:
        """See what has become of the parts under way, and begin lost ones again."""
        open_ = [part for part in self.under_way if part.result is None]
        streams = [part.answers for part in open_]
        if self.under_way[0].result is None:  # nothing can be given on before something happens
            self.ray.wait(streams, timeout=_WAIT)
        ready = self.ray.wait(streams, num_returns=len(open_), timeout=0)[0] if open_ else ()
        for part in open_:
            if part.answers in ready:
                with self._or_lost(part):  # its next answer: the node, or the result
                    answer = next(part.answers)
                    if part.node:
                        part.result = answer
                    else:
                        part.node = self.ray.get(answer)
        gone = self.parts.nodes.gone()
        for part in self.under_way:
            if part.node in gone:
                self._lost(part, "its node cannot be reached")

    def _first(self) -> list[Any]:
        """The result of the first part, which is over then; empty: it is not there yet."""
        first = self.under_way[0]
        if first.result is not None:
            with self._or_lost(first):
                found = [self.ray.get(first.result)]
                self.under_way.popleft()
                return found
        return []

    @contextlib.contextmanager
    def _or_lost(self, part: _Part) -> Iterator[None]:
        """What the work raised is raised; a part whose process or node was lost is begun again."""
        try:
            yield
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(cause := getattr(error, "cause", None), BaseException):
                raise cause from None
            raise PodiumError(in_words(error)) from None
        except self.ray.exceptions.RayError as error:
            self._lost(part, in_words(error))

    def _lost(self, part: _Part, why: str) -> None:
        """Begin a part again, on another node if there is one.

        Raises:
            PodiumError: it was lost too often.
        """
        part.losses += 1
        if part.losses >= MOST_LOSSES:
            raise PodiumError(
                f"A part of the work was lost {MOST_LOSSES} times on the cluster, at last: {why}. "
                "If a node runs out of memory, let it compute less at a time: give each part more "
                "cores (--cpus)."
            )
        self.ray.cancel(part.answers, force=True)
        part.avoid |= frozenset(filter(None, [part.node]))
        self._begin(part)


@dataclass(frozen=True)
class _Sent:
    """What a process that computes needs, besides items."""

    folder: str
    """The current one, which relative paths begin from."""
    code: Mapping[str, Mapping[str, bytes]]
    """Modules of the user's, as `sources_of` returns them."""
    work: bytes
    cores: int
    device: str

    @classmethod
    def of(cls, work: Callable[..., Any], parts: RayParts) -> _Sent:
        code = {module: sources_of(module) for module in allowed()}
        pickled = parts.ray.cloudpickle.dumps(work)
        return cls(str(Path.cwd()), code, pickled, parts.cpus, parts.device)

    def unpacked(self) -> Callable[[Any], Any]:
        """On a node: the function that computes."""
        from podium.runtime.device import choose_device

        os.environ[GRANTED] = str(self.cores)
        choose_device(Machine(device=self.device))  # there is one; it rounds as in other processes
        with contextlib.suppress(OSError):  # then only addresses and whole paths can be read
            os.chdir(self.folder)
        for module, files in self.code.items():
            if module in allowed():  # with the work before
                continue
            if not files:  # an installed package
                allow(module)
                continue
            # Ray ends its processes without asking them: what would be removed at the end stays
            with tempfile.TemporaryDirectory(prefix="podium-") as folder:
                write_sources(files, Path(folder))
                allow(module, folder)
                for name in files:  # also what is imported only when it is called
                    with contextlib.suppress(ImportError):
                        importlib.import_module(_dotted(name))
        found: Callable[[Any], Any] = pickle.loads(self.work)  # from the command, by Ray's channel
        return found


def _dotted(name: str) -> str:
    """The module of a file: `nets/parts.py` is `nets.parts`."""
    parts = Path(name).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


_kept: dict[str, Callable[[Any], Any]] = {}
"""In a process of Ray's: the work that it did last, by its key."""


def _compute(key: str, sent: Sequence[Any], item: Any) -> Iterator[Any]:
    """On a node: say which it is, then compute a part."""
    import ray

    yield ray.get_runtime_context().get_node_id()
    if key not in _kept:
        _kept.clear()
        _kept[key] = result_of(sent[0]).unpacked()
    with recycled_memory():
        found = _kept[key](item)
    yield found

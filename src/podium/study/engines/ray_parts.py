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
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from podium.config.machine import Machine
from podium.config.registry import allow, allowed, sources_of
from podium.errors import ConfigError, PodiumError
from podium.runtime.threads import GRANTED
from podium.study.engines.driver import MOST_LOSSES
from podium.study.engines.ray_connection import (
    LOCAL,
    LOOK_EVERY,
    address_of,
    connected,
    elsewhere_than,
    in_words,
    suits,
)

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
        self.ray = ray
        nodes = self._nodes()
        gpus, kind = machine.gpus, machine.device.partition(":")[0]
        if gpus is None:
            gpus = float(kind != "cpu" and any(node.get("GPU", 0) for node in nodes))
        self.device = "cuda" if gpus else "cpu"
        if kind not in ("auto", self.device):
            raise ConfigError(
                f"--device {machine.device} --gpus {gpus:g}: nodes compute parts on "
                f"{'GPUs' if gpus else 'CPUs'} then. Omit --device, or say --gpus 1 or --gpus 0."
            )
        having = [node for node in nodes if node.get("GPU", 0) >= gpus and node.get("CPU", 0) >= 1]
        at_a_time = [int(node["GPU"] / gpus) if gpus else 1 for node in having]
        each = [int(node["CPU"]) // n for node, n in zip(having, at_a_time, strict=True)]
        self.needs = {"CPU": machine.cpus or max(1, min(each, default=1)), "GPU": gpus}
        if not self.at_a_time:
            raise ConfigError(
                f"No node of the cluster has what a part asks for: --cpus {self.needs['CPU']} "
                f"--gpus {gpus:g}. The largest has "
                f"{max((int(node.get('CPU', 0)) for node in nodes), default=0)} CPUs, and all "
                f"{len(nodes)} together {sum(int(node.get('GPU', 0)) for node in nodes)} GPUs."
            )

    @property
    def at_a_time(self) -> int:
        """Number of parts that the cluster computes at a time now."""
        needs = [(what, needed) for what, needed in self.needs.items() if needed]
        return sum(
            int(min(node.get(what, 0) / needed for what, needed in needs)) for node in self._nodes()
        )

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item]
    ) -> Generator[Result, None, None]:
        compute = _Computing(self, self.ray.put(_Sent.of(work, int(self.needs["CPU"]), self.ray)))
        rest, most, looked = iter(items), 0, float("-inf")
        under_way: deque[_Part] = deque()
        try:
            while True:
                if time.monotonic() - looked >= LOOK_EVERY:  # nodes come and go
                    looked, most = time.monotonic(), max(1, _AHEAD * self.at_a_time)
                while len(under_way) < most:
                    try:
                        under_way.append(compute.begin(_Part(next(rest))))
                    except StopIteration:
                        break
                if not under_way:
                    return
                compute.look(under_way)
                if under_way[0].result is not None:
                    try:
                        found = self.ray.get(under_way[0].result)
                    except self.ray.exceptions.RayTaskError as error:
                        raise _cause(error) from None
                    except self.ray.exceptions.RayError as error:
                        compute.lost(under_way[0], in_words(error))
                        continue
                    under_way.popleft()
                    yield found
        finally:
            for part in under_way:
                self.ray.cancel(part.answers, force=True)

    def _nodes(self) -> list[Mapping[str, float]]:
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]


class _Computing:
    """The tasks of one piece of work."""

    numbers = count()

    def __init__(self, parts: RayParts, sent: Any) -> None:
        self.ray, self.needs, self.sent = parts.ray, parts.needs, sent
        self.task = self.ray.remote(_compute)
        self.key = f"{os.getpid()}-{next(self.numbers)}"
        self.looked, self.gone = 0.0, frozenset[str]()

    def begin(self, part: _Part) -> _Part:
        options: dict[str, Any] = {
            "num_cpus": self.needs["CPU"],
            "num_gpus": self.needs["GPU"],
            "max_retries": 0,  # a lost part is begun again here, on another node
        }
        avoid = part.avoid
        if avoid and any(suits(one, self.needs, avoid) for one in self.ray.nodes()):
            options |= elsewhere_than(avoid)
        # in a list, the reference itself is sent, and not what it stands for
        part.answers = self.task.options(**options).remote(self.key, [self.sent], part.item)
        part.node, part.result = "", None
        return part

    def look(self, parts: Sequence[_Part]) -> None:
        """See what has become of parts, and begin lost ones again."""
        open_ = [part for part in parts if part.result is None]
        streams = [part.answers for part in open_]
        if parts[0].result is None:  # nothing can be given on before something happens
            self.ray.wait(streams, timeout=_WAIT)
        ready = self.ray.wait(streams, num_returns=len(open_), timeout=0)[0] if open_ else ()
        for part in open_:
            if part.answers in ready:
                self._take(part)
        if time.monotonic() - self.looked >= LOOK_EVERY:
            self.looked = time.monotonic()
            self.gone = frozenset(one["NodeID"] for one in self.ray.nodes() if not one["Alive"])
        for part in parts:  # Ray gives up a node that was cut off, but waits for its tasks
            if part.node in self.gone:
                self.lost(part, "its node cannot be reached")

    def _take(self, part: _Part) -> None:
        """Take the next answer: the node, or the result."""
        try:
            answer = next(part.answers)
            if part.node:
                part.result = answer
            else:
                part.node = self.ray.get(answer)
        except self.ray.exceptions.RayTaskError as error:
            raise _cause(error) from None
        except self.ray.exceptions.RayError as error:
            self.lost(part, in_words(error))

    def lost(self, part: _Part, why: str) -> None:
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
        self.begin(part)


@dataclass(frozen=True)
class _Sent:
    """What a process that computes needs, besides items."""

    folder: str
    """The current one, which relative paths begin from."""
    code: Mapping[str, Mapping[str, bytes]]
    """Modules of the user's, as `sources_of` returns them."""
    work: bytes
    cores: int

    @classmethod
    def of(cls, work: Callable[..., Any], cores: int, ray: Any) -> _Sent:
        code = {module: sources_of(module) for module in allowed()}
        return cls(str(Path.cwd()), code, ray.cloudpickle.dumps(work), cores)

    def unpacked(self) -> Callable[[Any], Any]:
        """On a node: the function that computes."""
        os.environ[GRANTED] = str(self.cores)
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
                for name, content in files.items():
                    path = Path(folder, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
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
        # not ray.get, which would lend this task's cores to another one while it waits
        _kept[key] = sent[0].future().result().unpacked()
    yield _kept[key](item)


def _cause(error: Any) -> BaseException:
    """What a task raised."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else PodiumError(in_words(error))

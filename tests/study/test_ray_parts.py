"""Parts of work as tasks of Ray: order, losses, errors; on a stand-in for Ray, then on Ray."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from podium.config.machine import Machine
from podium.config.registry import allow
from podium.errors import ConfigError, DataError, PodiumError
from podium.runtime.threads import GRANTED
from podium.study.engines import ray_nodes, ray_parts
from podium.study.engines.ray_parts import RayParts, _Sent
from tests.parts import double, refuse
from tests.users_code import forgotten


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause: BaseException) -> None:
        self.cause = cause


class WorkerCrashedError(RayError):
    pass


class Stream:
    """The answers of a task."""

    def __init__(self, node: str, answers: Iterator[Any], crashes: bool, silent: bool) -> None:
        self.node, self.crashes, self.silent = node, crashes, silent
        self.answers, self.next, self.began = answers, deque[Any](), False

    def __next__(self) -> Any:
        return self.next.popleft()


class Cluster:
    """Stands in for the package, connected to nodes of two cores each.

    Args:
        names: of the nodes.
        gpus: of each node.
        crash: given an item and its attempt, from 1: whether the worker dies.
        silent: given the same: whether no result ever comes.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
    cloudpickle = pickle

    def __init__(
        self,
        *names: str,
        gpus: float = 0,
        crash: Callable[[Any, int], bool] = lambda *_: False,
        silent: Callable[[Any, int], bool] = lambda *_: False,
    ) -> None:
        self.alive = dict.fromkeys(names, True)
        self.gpus, self.crash, self.silent = gpus, crash, silent
        self.begun = list[tuple[Any, str, dict[str, Any]]]()
        self.cancelled = list[Stream]()
        self.turn, self.now = count(), ""

    def nodes(self) -> list[dict[str, Any]]:
        has = {"CPU": 2.0, "GPU": self.gpus}
        return [
            {"NodeID": name, "Alive": alive, "Resources": has} for name, alive in self.alive.items()
        ]

    def put(self, value: Any) -> Any:
        sent = pickle.dumps(value)
        answer = SimpleNamespace(result=lambda: pickle.loads(sent))
        return SimpleNamespace(future=lambda: answer)

    def remote(self, function: Callable[..., Iterator[Any]]) -> Any:
        def options(**given: Any) -> Any:
            return SimpleNamespace(remote=lambda *sent: self._begin(function, given, *sent))

        return SimpleNamespace(options=options)

    def _begin(
        self, function: Any, given: dict[str, Any], key: str, sent: Any, item: Any
    ) -> Stream:
        avoid = given.get("label_selector", {}).get("ray.io/node-id", "")
        able = [name for name, alive in self.alive.items() if alive and name not in avoid]
        node = able[next(self.turn) % len(able)]
        self.begun.append((item, node, given))
        attempt = sum(one == item for one, *_ in self.begun)
        found = function(f"{key}-{node}", sent, pickle.loads(pickle.dumps(item)))
        return Stream(node, found, self.crash(item, attempt), self.silent(item, attempt))

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: self.now)

    def wait(
        self, streams: list[Stream], num_returns: int = 1, timeout: float = 0
    ) -> tuple[list[Stream], list[Stream]]:
        ready = [one for one in streams if one.next or self._goes_on(one)][:num_returns]
        return ready, [one for one in streams if one not in ready]

    def _goes_on(self, stream: Stream) -> bool:
        self.now = stream.node
        if stream.began and (stream.silent or not self.alive[stream.node]):
            return False
        try:
            answer = next(stream.answers)
        except PodiumError as error:
            answer = RayTaskError(error)
        if stream.began and stream.crashes:
            answer = WorkerCrashedError("It died. Hints follow")
        stream.began = True
        stream.next.append(answer)
        return True

    def get(self, answer: Any) -> Any:
        if isinstance(answer, RayError):
            raise answer
        return answer

    def cancel(self, stream: Stream, force: bool) -> None:
        self.cancelled.append(stream)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Cluster, RayParts]]]:
    """Makes a cluster and what computes there; nobody waits."""
    monkeypatch.setattr(ray_nodes, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(ray_parts, "allowed", dict)  # what other tests have registered
    monkeypatch.setenv(GRANTED, "2")
    monkeypatch.chdir(Path.cwd())

    def make(*names: str, cpus: int | None = 1, **behaviour: Any) -> tuple[Cluster, RayParts]:
        ray = Cluster(*names, **behaviour)
        monkeypatch.setitem(sys.modules, "ray", ray)
        return ray, RayParts(ray, Machine(executor="ray", cpus=cpus))

    yield make
    ray_parts._kept.clear()


def test_results_come_in_order_and_few_are_under_way(on: Any) -> None:
    ray, parts = on("a", "b")
    taken, given = list[int](), list[int]()

    def items() -> Iterator[int]:
        for item in range(50):
            taken.append(item)
            yield item

    for found in parts.map(double, items()):
        given.append(found)
        assert len(taken) - len(given) < 2 * 4  # two for each of four cores
    assert given == [2 * item for item in range(50)]
    assert {given["num_cpus"] for *_, given in ray.begun} == {1}
    assert {given["max_retries"] for *_, given in ray.begun} == {0}


def test_a_lost_part_is_begun_again_on_another_node(on: Any) -> None:
    ray, parts = on("a", "b", crash=lambda item, attempt: item == 5 and attempt == 1)
    assert list(parts.map(double, range(8))) == [*range(0, 16, 2)]
    (_, first, _), (_, second, options) = (one for one in ray.begun if one[0] == 5)
    assert first != second
    assert options["label_selector"] == {"ray.io/node-id": f"!in({first})"}
    assert len(ray.begun) == 9


def test_where_there_is_one_node_it_is_begun_again_there(on: Any) -> None:
    ray, parts = on("a", crash=lambda item, attempt: attempt == 1)
    assert list(parts.map(double, range(3))) == [0, 2, 4]
    assert all("label_selector" not in options for *_, options in ray.begun)


def test_a_part_that_is_lost_again_and_again_ends_the_work(on: Any) -> None:
    ray, parts = on("a", "b", crash=lambda item, attempt: item == 1)
    with pytest.raises(PodiumError, match=r"lost 3 times .* It died\. If a node"):
        list(parts.map(double, range(4)))
    assert [item for item, *_ in ray.begun].count(1) == 3


def test_parts_on_a_node_that_was_given_up_are_begun_again_though_ray_waits(on: Any) -> None:
    ray, parts = on("a", "b", silent=lambda item, attempt: item == 2 and attempt == 1)
    found = list[int]()
    for one in parts.map(double, range(6)):
        found.append(one)
        if one == 2:  # the next one never comes
            ray.alive[next(node for item, node, _ in ray.begun if item == 2)] = False
    assert found == [0, 2, 4, 6, 8, 10]


def test_an_error_of_the_work_is_raised_as_it_is_and_not_tried_again(on: Any) -> None:
    ray, parts = on("a", "b")
    found = list[int]()
    with pytest.raises(DataError, match=r"^a sentence$"):
        found.extend(iter(parts.map(refuse, range(9))))
    assert [item for item, *_ in ray.begun].count(3) == 1
    assert ray.cancelled


def test_what_is_under_way_is_cancelled_when_the_work_is_stopped(on: Any) -> None:
    ray, parts = on("a")
    results = parts.map(double, range(100))
    assert next(results) == 0
    results.close()
    assert len(ray.cancelled) == len(ray.begun) - 1


def test_a_part_gets_the_cores_of_a_node_unless_the_user_says_more(on: Any) -> None:
    _, parts = on("a", "b", cpus=None)
    assert (parts.cpus, parts.gpus, parts.at_a_time, parts.device) == (2, 0, 2, "cpu")
    with pytest.raises(ConfigError, match=r"^--device cuda --gpus 0: a part is computed on a CPU"):
        RayParts(sys.modules["ray"], Machine(executor="ray", device="cuda"))
    with pytest.raises(ConfigError, match=r"--cpus 3 --gpus 0\. The largest has 2 CPUs"):
        on("a", "b", cpus=3)


def test_a_part_gets_one_gpu_and_a_node_without_one_says_so(on: Any) -> None:
    """Ray counts GPUs, which need not be there."""
    _, parts = on("a", "b", cpus=None, gpus=2.0)
    assert (parts.cpus, parts.gpus, parts.at_a_time, parts.device) == (1, 1, 4, "cuda")
    shared = RayParts(sys.modules["ray"], Machine(executor="ray", gpus=0.5))
    assert (shared.cpus, shared.gpus, shared.at_a_time) == (1, 0.5, 4)  # of two cores each
    assert RayParts(sys.modules["ray"], Machine(executor="ray", gpus=2)).gpus == 1
    if not torch.cuda.device_count():
        with pytest.raises(ConfigError, match=r"^--device cuda: PyTorch finds no CUDA device on"):
            list(parts.map(double, [1]))


def test_the_users_code_goes_with_the_work(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    lines = ("def triple(item):", "    import beside_a_part", "    return beside_a_part.n * item")
    (code / "code_of_a_part.py").write_text("\n".join(lines))
    (code / "beside_a_part.py").write_text("n = 3\n")
    with forgotten(code):
        allow("code_of_a_part", code)
        work = sys.modules["code_of_a_part"].triple
        parts: Any = SimpleNamespace(ray=SimpleNamespace(cloudpickle=pickle), cpus=1, device="cpu")
        sent = _Sent.of(work, parts)
    shutil.rmtree(code)
    with forgotten(tmp_path), pytest.MonkeyPatch.context() as patch:
        patch.setenv(GRANTED, "1")
        patch.chdir(Path.cwd())
        patch.setattr(tempfile, "tempdir", str(tmp_path))
        for _ in range(2):  # a process does several pieces of work
            assert sent.unpacked()(4) == 12
    assert not [*tmp_path.glob("podium-*")]


def test_on_ray_itself(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    root = str(Path(__file__).parents[2])
    asked = f"import tests.parts as t, pathlib; t.try_on_ray(pathlib.Path({str(tmp_path)!r}))"
    given = {"RAY_ADDRESS": "local", "HOME": str(tmp_path), "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", asked],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""Threads and precision: settled by a study's first cell, followed by the others."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from podium.config.machine import Machine
from podium.errors import RunFolderError
from podium.runs.folder import StudyFolder
from podium.runtime.device import Device
from podium.runtime.events import Event, Message, WarningMessage
from podium.study import contender
from podium.study.arithmetic import Arithmetic, keep, settle, settled_threads
from podium.study.engines.shares import Node, share


class Here:
    """A machine that chooses, and counts how often it had to."""

    def __init__(self, folder: Path, threads: int, precision: str = "bf16") -> None:
        self.folder, self.threads, self.precision = StudyFolder(folder), threads, precision
        self.chosen: list[int] = []
        self.told: list[Event] = []

    def settle(self, contender: str = "fast", kind: str = "cpu", **machine: object) -> Arithmetic:
        def choose(threads: int) -> tuple[str, str]:
            self.chosen.append(threads)
            return self.precision, f"as {self.precision} is here"

        settings = Machine.model_validate(machine)
        return settle(
            partial(keep, self.folder.run(contender, 0)),
            contender,
            settings,
            kind,
            threads=self.threads,
            precision=choose,
            notify=self.told.append,
        )


def test_the_first_cell_settles_and_another_machine_follows(tmp_path: Path) -> None:
    first = Here(tmp_path, 2)
    assert settled_threads(first.folder, "cpu") is None
    assert first.settle() == Arithmetic(2, "bf16", "as bf16 is here")
    assert (first.chosen, first.told) == ([2], [])
    other = Here(tmp_path, 16, "fp32")
    assert other.settle() == Arithmetic(2, "bf16", "as bf16 is here")
    assert other.chosen == []
    (told,) = other.told
    assert isinstance(told, Message)
    assert "2 threads, as the study was begun" in told.text
    assert other.settle("slow") == Arithmetic(2, "fp32", "as fp32 is here")  # chosen with 2 threads
    assert other.chosen == [2]
    assert settled_threads(first.folder, "cpu") == 2


def test_of_two_cells_that_choose_at_a_time_the_first_to_answer_settles_it(tmp_path: Path) -> None:
    slow, fast = Here(tmp_path, 2, "fp32"), Here(tmp_path, 16, "bf16")

    def choose(threads: int) -> tuple[str, str]:
        fast.settle()  # it is not waited for: a check of bf16 takes seconds
        return "fp32", "as fp32 is here"

    found = settle(
        partial(keep, slow.folder.run("fast", 0)),
        "fast",
        Machine(),
        "cpu",
        threads=2,
        precision=choose,
        notify=slow.told.append,
    )
    assert found == Arithmetic(2, "bf16", "as bf16 is here")
    assert fast.chosen == [2]
    assert json.loads(slow.folder.plan.read_text())["cpu"] == {
        "threads": 2,
        "precision": {"fast": {"precision": "bf16", "reason": "as bf16 is here"}},
    }


def test_what_the_user_says_wins_and_is_warned_of(tmp_path: Path) -> None:
    Here(tmp_path, 1).settle()
    other = Here(tmp_path, 8, "fp32")
    assert other.settle(cpus=4, precision="fp32") == Arithmetic(4, "fp32", "as fp32 is here")
    (told,) = other.told
    assert isinstance(told, WarningMessage)
    assert "begun with 1 thread for each cell and continues with 4" in told.text
    assert Here(tmp_path, 8).settle().threads == 1  # it did not change the study


def test_another_kind_of_device_is_settled_apart_and_warned_of(tmp_path: Path) -> None:
    Here(tmp_path, 2).settle()
    other = Here(tmp_path, 8, "fp16")
    assert other.settle(kind="cuda") == Arithmetic(8, "fp16", "as fp16 is here")
    (told,) = other.told
    assert isinstance(told, WarningMessage)
    assert "begun on cpu and continues on cuda" in told.text
    assert other.settle(kind="cuda").precision == "fp16"
    assert len(other.told) == 1


def test_a_damaged_plan_is_refused(tmp_path: Path) -> None:
    StudyFolder(tmp_path).plan.write_text('{"cpu": 3}')
    with pytest.raises(RunFolderError, match=r"plan\.json is damaged.*Remove it"):
        Here(tmp_path, 2).settle()


@pytest.mark.parametrize(
    ("precision", "fast", "warned"), [("auto", False, 1), ("auto", True, 0), ("bf16", False, 0)]
)
def test_a_device_that_emulates_bf16_says_so_where_others_have_settled_it(
    precision: str, fast: bool, warned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contender, "has_fast_bf16", lambda kind: fast)
    given: Any = SimpleNamespace(
        settle=lambda *_: Arithmetic(torch.get_num_threads(), "bf16", "as there"),
        machine=Machine.model_validate({"precision": precision}),
    )
    told = list[Event]()
    contender.settled(given, Device("cpu", 0, 1), lambda threads: ("fp32", ""), told.append)
    assert [type(one) for one in told[1:]] == [WarningMessage] * warned


@pytest.mark.parametrize(
    ("machine", "cells", "nodes", "cpus", "of_cell", "device"),
    [
        ({}, 4, [(2, 0)], 1, 0, "cpu"),  # more cells than cores
        ({}, 2, [(8, 0)], 4, 0, "cpu"),
        ({}, 1, [(16, 0), (16, 0)], 16, 0, "cpu"),  # no cell is larger than a node
        ({}, 2, [(8, 0), (32, 0)], 16, 0, "cpu"),  # both at a time
        ({}, 3, [(8, 0), (32, 0)], 10, 0, "cpu"),
        ({"cpus": 3}, 4, [(8, 0)], 3, 0, "cpu"),
        ({}, 8, [(16, 4)], 4, 1, "cuda"),
        ({}, 8, [(64, 0), (8, 4)], 2, 1, "cuda"),  # cores without a GPU are of no use
        ({}, 8, [(8, 1), (32, 1)], 8, 1, "cuda"),  # both GPUs are used
        ({"devices": 2}, 8, [(16, 4)], 8, 2, "cuda"),
        ({"gpus": 0.5}, 8, [(16, 4)], 2, 0.5, "cuda"),
        ({"gpus": 1}, 2, [(8, 0)], 1, 1, "cuda"),  # which the engine refuses
        ({"device": "cpu"}, 2, [(16, 4)], 8, 0, "cpu"),
        ({"gpus": 0}, 2, [(16, 4)], 8, 0, "cpu"),
        ({"device": "cuda:1"}, 2, [(8, 1)], 8, 1, "cuda"),
    ],
)
def test_cores_and_gpus_are_shared_out(
    tmp_path: Path,
    machine: dict[str, object],
    cells: int,
    nodes: list[tuple[int, int]],
    cpus: int,
    of_cell: float,
    device: str,
) -> None:
    given = Machine.model_validate(machine)
    have = [Node(*one) for one in nodes]
    found = share(given, StudyFolder(tmp_path), cells=cells, nodes=have)
    assert (found.cpus, found.gpus, found.device) == (cpus, of_cell, device)


def test_a_study_keeps_its_threads_on_a_larger_machine(tmp_path: Path) -> None:
    Here(tmp_path, 2).settle()
    found = share(Machine(), StudyFolder(tmp_path), cells=4, nodes=[Node(64, 0)])
    assert found.cpus == 2

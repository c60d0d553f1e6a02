"""What makes starts quick, and must change nothing else: helpers, remembered checks, the pause."""

from __future__ import annotations

import functools
import gc
import json
import operator
import os
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import podium.runtime.device
from podium.config.machine import Machine
from podium.reporting.build import build_report
from podium.reporting.figures.helpers import Helpers, helpers_that_pay
from podium.runtime.device import Device, choose_precision
from podium.runtime.imports import collection_paused
from tests.conftest import reports_undrawn
from tests.fake_study import fake_study

CPU = Device("cpu", 0, 1)


def files(folder: Path) -> dict[str, bytes]:
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    del found["index.html"]  # it has the time of day in it
    return found


def test_helpers_draw_the_same_files(tmp_path: Path) -> None:
    names = [f"sport {number}" for number in range(8)]
    study = fake_study(tmp_path / "study", names, contenders=1, epochs=3, per_class=2)
    with reports_undrawn(but={"compare", "curves", "matrix", "gallery"}):
        build_report(study, out=tmp_path / "alone", dpi=50, helpers=0)
        build_report(study, out=tmp_path / "helped", dpi=50, helpers=2)
    assert files(tmp_path / "alone") == files(tmp_path / "helped")
    pages = [(tmp_path / name / "index.html").read_text("utf-8") for name in ("alone", "helped")]
    assert pages[0].count("<svg") == pages[1].count("<svg")
    assert len(pages[0]) == len(pages[1])


def _pid() -> int:
    time.sleep(0.2)  # long enough that nobody gets all of them
    return os.getpid()


def test_tasks_are_shared_and_results_keep_their_order() -> None:
    told: list[int] = []
    tasks = [functools.partial(operator.mul, number, 3) for number in range(50)]
    with Helpers(2) as helpers:
        assert helpers.call_all(tasks, told.append) == [3 * number for number in range(50)]
        assert told == sorted(told)
        time.sleep(3)  # until they have started, on a slow machine
        assert len(set(helpers.call_all([_pid] * 12, told.append))) > 1
        processes = list(helpers.processes)
    assert all(process.poll() is not None for process in processes)


def _only_here(parent: int) -> str:
    if os.getpid() != parent:
        os._exit(3)  # as if it had been killed for memory
    time.sleep(0.05)
    return "drawn"


def test_what_a_helper_dies_of_is_done_here() -> None:
    tasks = [functools.partial(_only_here, os.getpid())] * 8
    with Helpers(1) as helpers:
        assert helpers.call_all(tasks, lambda done: None) == ["drawn"] * 8


def test_an_error_is_raised_here_and_no_process_stays() -> None:
    tasks = [functools.partial(operator.truediv, 1, number) for number in (2, 1, 0)]
    with pytest.raises(ZeroDivisionError), Helpers(1) as helpers:
        helpers.call_all(tasks, lambda done: None)
    assert all(process.poll() is not None for process in helpers.processes)


def test_few_or_coarse_figures_are_drawn_without_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3})
    else:
        monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert helpers_that_pay(5, 400) == 0
    assert helpers_that_pay(60, 100) == 0
    assert helpers_that_pay(12, 400) == 2
    assert helpers_that_pay(60, 400) == 3


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The checks of bf16 that were really made, on a machine that has it."""
    made: list[str] = []
    check = podium.runtime.device.worst_bf16_error

    def counted(
        module: nn.Module, device: torch.device, image_size: int, channels: int
    ) -> tuple[float, str]:
        made.append(f"{image_size}")
        return check(module, device, image_size, channels)

    monkeypatch.setattr(podium.runtime.device, "worst_bf16_error", counted)
    monkeypatch.setattr(podium.runtime.device, "has_fast_bf16", lambda kind: True)
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path))
    return made


def small(width: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.Flatten(), nn.LazyLinear(2))


def built(width: int = 4, side: int = 8) -> nn.Module:
    model = small(width)
    with torch.no_grad():
        model(torch.zeros(1, 3, side, side))
    return model


def test_the_check_of_bf16_is_remembered(checks: list[str]) -> None:
    first = choose_precision(Machine(), CPU, built(), 8)
    assert choose_precision(Machine(), CPU, built(), 8) == first
    assert checks == ["8"]
    choose_precision(Machine(), CPU, built(5), 8)  # another model
    choose_precision(Machine(), CPU, built(4, 10), 10)  # another size
    assert checks == ["8", "8", "10"]


def test_another_machine_or_torch_is_checked_anew(
    checks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_precision(Machine(), CPU, built(), 8)
    monkeypatch.setattr("platform.node", lambda: "another")
    choose_precision(Machine(), CPU, built(), 8)
    monkeypatch.setattr(torch, "__version__", "99.0")
    choose_precision(Machine(), CPU, built(), 8)
    assert len(checks) == 3


@pytest.mark.parametrize("text", ["", "{", "[]", '{"error": "x", "layer": 1}', '{"layer": "0"}'])
def test_a_damaged_record_costs_a_check(checks: list[str], tmp_path: Path, text: str) -> None:
    first = choose_precision(Machine(), CPU, built(), 8)
    (record,) = (tmp_path / "bf16").iterdir()
    record.write_text(text, encoding="utf-8")
    assert choose_precision(Machine(), CPU, built(), 8) == first
    assert len(checks) == 2
    assert set(json.loads(record.read_text(encoding="utf-8"))) == {"error", "layer"}


def test_the_collector_is_back_after_the_pause() -> None:
    def fail() -> None:
        with collection_paused():
            assert not gc.isenabled()
            raise KeyError

    assert gc.isenabled()
    with pytest.raises(KeyError):
        fail()
    assert gc.isenabled()
    gc.disable()
    try:
        with collection_paused():
            pass
        assert not gc.isenabled()  # the caller's choice is kept
    finally:
        gc.enable()

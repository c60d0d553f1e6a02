"""Cells in processes on this machine, as many at a time as its cores or its GPUs allow."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from podium.config.machine import Machine
from podium.errors import ConfigError
from podium.runtime.threads import usable_cores
from podium.study.cells import Cell
from podium.study.engines.children import ending, kill_with_children, start
from podium.study.engines.driver import Engine, ProcessExecutor, Task
from podium.study.engines.shares import Node, share
from podium.study.work import Work

VISIBLE = "CUDA_VISIBLE_DEVICES"


class Local(ProcessExecutor):
    """Trains cells in processes on this machine."""

    @contextlib.contextmanager
    def open(self, work: Work, cells: Sequence[Cell]) -> Iterator[tuple[Engine, Machine]]:
        cores, devices = usable_cores(), _gpus(work.machine)
        here = Node(cores, len(devices))
        machine = share(work.machine, work.folder, cells=len(cells), nodes=[here])
        yield Processes(machine, cores, devices), machine


class Processes:
    """Processes of this machine; a handle is the process.

    Args:
        machine: settings of the machine, with `cpus` and `gpus`.
        cores: number of cores to share out.
        devices: the GPUs to share out, as CUDA names them.
    """

    def __init__(self, machine: Machine, cores: int, devices: Sequence[str]) -> None:
        assert machine.cpus is not None
        assert machine.gpus is not None
        self.free = _slots(machine.gpus, devices)
        self.capacity = len(self.free) or max(1, cores // machine.cpus)
        self.used: dict[subprocess.Popen[bytes], str] = {}

    def start(self, tasks: Sequence[Task]) -> list[subprocess.Popen[bytes]]:
        started = []
        for task in tasks:
            slot = self.free.pop(0) if self.free else None
            process = start(task, **({} if slot is None else {VISIBLE: slot}))
            if slot is not None:
                self.used[process] = slot
            started.append(process)
        return started

    def ended(self, running: Mapping[Any, str]) -> Mapping[Any, str]:
        found = {
            process: ending(code) for process in running if (code := process.poll()) is not None
        }
        self.free += [self.used.pop(process) for process in found if process in self.used]
        return found

    def kill(self, handles: Sequence[subprocess.Popen[bytes]]) -> None:
        kill_with_children(handles)


def _gpus(machine: Machine) -> list[str]:
    """The GPUs of this machine that the settings allow, as CUDA names them."""
    if machine.gpus == 0 or machine.device.partition(":")[0] not in ("auto", "cuda"):
        return []
    from podium.runtime.device import count_gpus

    _, _, number = machine.device.partition(":")
    visible = [name for name in os.environ.get(VISIBLE, "").split(",") if name]
    names = visible or [str(index) for index in range(count_gpus())]
    return [names[int(number)]] if number else names


def _slots(gpus: float, devices: Sequence[str]) -> list[str]:
    """What `CUDA_VISIBLE_DEVICES` is for each of the cells that train at a time."""
    if not gpus:
        return []
    if gpus < 1:
        slots = [name for _ in range(int(1 / gpus)) for name in devices]
    else:
        whole = int(gpus)
        starts = range(0, len(devices) - whole + 1, whole)
        slots = [",".join(devices[start : start + whole]) for start in starts]
    if not slots:
        raise ConfigError(
            f"--gpus {gpus:g}: this machine has {len(devices)}. Ask for fewer, or use --gpus 0."
        )
    return slots

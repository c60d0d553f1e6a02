"""How many cores and GPUs a cell gets, if the user does not say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from podium.config.machine import Machine
from podium.runs.folder import StudyFolder
from podium.study.arithmetic import settled_threads


class Node(NamedTuple):
    """What a machine has for cells."""

    cores: int
    gpus: int


def room(nodes: Sequence[Node], cpus: int, gpus: float) -> int:
    """Number of cells that machines train at a time.

    Args:
        nodes: the machines.
        cpus: cores of each cell.
        gpus: GPUs of each cell; below 1: that share of one.

    Examples:
        >>> room([Node(8, 1), Node(32, 2)], 4, 0), room([Node(8, 1), Node(32, 2)], 4, 0.5)
        (10, 6)
    """
    return sum(
        min(node.cores // cpus, int(node.gpus / gpus) if gpus else node.cores) for node in nodes
    )


def gpus_of_each(machine: Machine, nodes: Sequence[Node]) -> float:
    """The GPUs of each cell: if the user does not say, one for each of its processes.

    Args:
        machine: settings of the machine.
        nodes: where cells are trained; without GPUs, a cell gets none.
    """
    if machine.gpus is not None:
        return machine.gpus
    wanted = machine.device.partition(":")[0] in ("auto", "cuda")
    return float(machine.devices * (wanted and any(node.gpus for node in nodes)))


def share(machine: Machine, folder: StudyFolder, *, cells: int, nodes: Sequence[Node]) -> Machine:
    """Settle the cores, the GPUs and the device of each cell.

    As many cells train at a time as there are GPUs, or else cores: the arithmetic of one cell gains
    less from a second core than a second cell does. Each gets the most cores with which that is so.
    Their number is also that of threads, and a study that was begun with another keeps that.

    Args:
        machine: settings of the machine; what is set is kept.
        folder: the study's folder.
        cells: number of cells to train.
        nodes: the machines that train them.

    Returns:
        The settings with `cpus`, `gpus` and `device`.
    """
    gpus, kind = gpus_of_each(machine, nodes), machine.device.partition(":")[0]
    if kind == "auto":  # one that is chosen on each machine could differ from cell to cell
        kind = "cuda" if gpus else "cpu"
    wanted = max(1, min(cells, room(nodes, 1, gpus)))
    most = max((node.cores for node in nodes), default=1)
    own = next((cpus for cpus in range(most, 1, -1) if room(nodes, cpus, gpus) >= wanted), 1)
    cpus = machine.cpus or settled_threads(folder, kind) or own
    # the engine shows each cell its own GPU, as the first
    return machine.model_copy(update={"cpus": cpus, "gpus": gpus, "device": kind})

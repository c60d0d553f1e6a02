"""How many cores and GPUs a cell gets, if the user does not say."""

from __future__ import annotations

from podium.config.machine import Machine
from podium.runs.folder import StudyFolder
from podium.study.arithmetic import settled_threads


def share(
    machine: Machine, folder: StudyFolder, *, cells: int, cores: int, most: int, gpus: int
) -> Machine:
    """Settle the cores, the GPUs and the device of each cell.

    Cells on GPUs get one each, and share the cores out among as many as there are GPUs. Cells on
    CPUs share the cores out among all of them, so that all train at a time where that is possible:
    the arithmetic of one cell gains less from a second core than a second cell does. The number of
    cores is also that of threads, and a study that was begun with another number keeps that.

    Args:
        machine: settings of the machine; what is set is kept.
        folder: the study's folder.
        cells: number of cells to train.
        cores: of all machines together.
        most: of the largest machine.
        gpus: of all machines together.

    Returns:
        The settings with `cpus`, `gpus` and `device`.
    """
    of_cell = machine.gpus
    if of_cell is None:
        wanted = machine.device == "auto" or machine.device.startswith("cuda")
        of_cell = float(bool(gpus) and wanted)
    device = machine.device
    if device == "auto":  # one that is chosen on each machine could differ from cell to cell
        device = "cuda" if of_cell else "cpu"
    kind = device.partition(":")[0]  # the engine shows each cell its own GPU, as the first
    device = kind
    at_a_time = cells if not of_cell else max(1, min(cells, int(gpus / of_cell)))
    own = min(max(1, cores // max(1, at_a_time)), most)
    cpus = machine.cpus or settled_threads(folder, kind) or own
    return machine.model_copy(update={"cpus": cpus, "gpus": of_cell, "device": device})

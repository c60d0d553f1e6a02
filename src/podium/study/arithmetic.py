"""What decides the last bits of a study's runs, settled once for all of its cells: `plan.json`.

The number of threads and the precision are chosen by the first cell that needs them, on its
machine. Cells that are trained later, elsewhere, follow, so that contenders differ by what the
study compares and not by where they were trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from podium.config.machine import Machine
from podium.errors import RunFolderError
from podium.runs.folder import StudyFolder
from podium.runtime.events import Message, Notify, WarningMessage
from podium.runtime.files import read_json, write_json


@dataclass(frozen=True)
class Arithmetic:
    """How a cell computes."""

    threads: int
    """Threads of one training, all its processes together."""
    precision: str
    """fp32, bf16 or fp16."""
    reason: str
    """Why that precision."""


def settled_threads(folder: StudyFolder, kind: str) -> int | None:
    """The number of threads that the study's cells compute with; None: not settled yet.

    Args:
        folder: the study's folder.
        kind: of the device: cpu, cuda or mps.
    """
    threads = _read(folder).get(kind, {}).get("threads")
    return None if threads is None else int(threads)


def settle(
    folder: StudyFolder,
    contender: str,
    machine: Machine,
    kind: str,
    *,
    threads: int,
    precision: Callable[[int], tuple[str, str]],
    notify: Notify,
) -> Arithmetic:
    """Settle how a contender's cells compute, or follow what is settled.

    Settings that the user gives win, with a warning; only `auto` follows. Call it as the only
    writer of the study's folder.

    Args:
        folder: the study's folder.
        contender: key of the contender in the study.
        machine: settings of the machine: `cpus` and `precision`.
        kind: of the device: cpu, cuda or mps.
        threads: number of threads if nothing else decides it.
        precision: chooses `(precision, reason)` on this machine, for a number of threads; called
            only if it is needed.
        notify: called with a message if this differs from what was settled or is usual here.
    """
    kept = _read(folder)
    ours = kept.setdefault(kind, {})
    if len(kept) > 1 and not ours:
        others = " and ".join(sorted(set(kept) - {kind}))
        notify(
            WarningMessage(
                f"The study was begun on {others} and continues on {kind}: results of the two "
                "differ by rounding."
            )
        )
    before = ours.setdefault("threads", machine.cpus or threads)
    used = machine.cpus or int(before)
    if used != before:
        notify(
            WarningMessage(
                f"The study was begun with {_counted(before)} for each cell and continues with "
                f"{used}: results of the two differ by rounding."
            )
        )
    elif used != threads and machine.cpus is None:
        notify(Message(f"computes with {_counted(used)}, as the study was begun (--cpus)"))
    if machine.precision == "auto":
        of = ours.setdefault("precision", {})
        if contender not in of:
            chosen, why = precision(used)
            of[contender] = {"precision": chosen, "reason": why}
        chosen, why = str(of[contender]["precision"]), str(of[contender]["reason"])
    else:
        chosen, why = precision(used)
    if kept != _read(folder):
        write_json(folder.plan, kept)
    return Arithmetic(used, chosen, why)


def _counted(threads: int) -> str:
    return f"{threads} thread{'s' * (threads != 1)}"


def _read(folder: StudyFolder) -> dict[str, Any]:
    """What is settled, by kind of device; empty for a study of an earlier version."""
    if not folder.plan.is_file():
        return {}
    values = read_json(folder.plan)
    if not isinstance(values, dict) or not all(isinstance(one, dict) for one in values.values()):
        raise RunFolderError(
            f"{folder.plan} is damaged; expected what Podium settled for the study. Remove it: the "
            "next cell writes it again."
        )
    return values

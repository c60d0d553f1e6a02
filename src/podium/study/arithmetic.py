"""What decides the last bits of a study's runs, settled once for all of its cells: `plan.json`.

The number of threads and the precision are chosen by the first cell that needs them, on its
machine. Cells that are trained later, elsewhere, follow, so that contenders differ by what the
study compares and not by where they were trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from podium.config.machine import Machine
from podium.errors import RunFolderError
from podium.runs.folder import RunFolder, StudyFolder
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
    keep: Callable[[str, Mapping[str, Any]], dict[str, Any]],
    contender: str,
    machine: Machine,
    kind: str,
    *,
    threads: int,
    precision: Callable[[int], tuple[str, str]],
    notify: Notify,
) -> Arithmetic:
    """Settle how a contender's cells compute, or follow what is settled.

    Settings that the user gives win, with a warning; only `auto` follows.

    Args:
        keep: calls this module's `keep` for the study, from a kind and values.
        contender: key of the contender in the study.
        machine: settings of the machine: `cpus` and `precision`.
        kind: of the device: cpu, cuda or mps.
        threads: number of threads if nothing else decides it.
        precision: chooses `(precision, reason)` on this machine, for a number of threads; called
            only if it is needed.
        notify: called with a message if this differs from what was settled or is usual here.
    """
    own = {"threads": machine.cpus or threads}
    settled = keep(kind, own)
    if others := sorted(set(settled) - {kind}) if kind not in settled else []:
        notify(
            WarningMessage(
                f"The study was begun on {' and '.join(others)} and continues on {kind}: results "
                "of the two differ by rounding."
            )
        )
    before = int(settled.get(kind, own).get("threads", own["threads"]))
    used = machine.cpus or before
    if used != before:
        notify(
            WarningMessage(
                f"The study was begun with {_counted(before)} for each cell and continues with "
                f"{used}: results of the two differ by rounding."
            )
        )
    elif used != threads and machine.cpus is None:
        notify(Message(f"computes with {_counted(used)}, as the study was begun (--cpus)"))
    if machine.precision != "auto":
        return Arithmetic(used, *precision(used))
    found = settled.get(kind, {}).get("precision", {}).get(contender)
    if found is None:
        chosen, why = precision(used)
        ours = {"precision": chosen, "reason": why}
        # another cell may have settled it meanwhile
        settled = keep(kind, {**own, "precision": {contender: ours}})
        found = settled.get(kind, {}).get("precision", {}).get(contender, ours)
    return Arithmetic(used, str(found["precision"]), str(found["reason"]))


def keep(run: RunFolder, kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Keep values for all cells of a study, unless they are settled already.

    Call it as the only writer of the study's folder.

    Args:
        run: any run of the study.
        kind: of the device: cpu, cuda or mps.
        values: `threads`, and perhaps `precision` by contender.

    Returns:
        What was settled before, by kind of device.
    """
    folder = run.study
    settled, now = _read(folder), _read(folder)
    ours = now.setdefault(kind, {})
    for name, value in values.items():
        if isinstance(value, Mapping):
            there = ours.get(name, {})
            ours[name] = {**there, **value, **there}
        else:
            ours.setdefault(name, value)
    if now != settled:
        write_json(folder.plan, now)
    return settled


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

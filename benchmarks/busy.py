"""Training beside other programs: what is left of the pace, and how OpenMP's threads should wait.

    python -m benchmarks.busy --timm-script PATH/train.py

At the end of every parallel region the threads of a step wait for the slowest. GNU's OpenMP, which
PyTorch brings on Linux, lets them spin for some milliseconds first. Alone on a machine that saves
a system call; where another program has taken one of the cores, the others burn theirs until the
scheduler gives it back. How long they spin is fixed when PyTorch is loaded, by the environment.

Each measurement is a process of its own that trains for a few seconds, beside as many processes
that only count; all take their turns, so that what drifts meets all alike. First whole programs,
as `benchmarks.training` runs them; then bare steps by each way to wait.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import training
from benchmarks.common import (
    ROOT,
    add_output_options,
    interleaved,
    new_record,
    publish,
    run_logged,
    spread,
    table,
)
from benchmarks.contenders import CONTENDERS
from podium.runtime.threads import usable_cores

__all__ = ["PROGRAMS", "WAYS", "main", "render"]

WAYS: dict[str, dict[str, str]] = {
    "PyTorch's default": {},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=3000": {"GOMP_SPINCOUNT": "3000"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "GOMP_SPINCOUNT=30000": {"GOMP_SPINCOUNT": "30000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
"""What to measure -> the environment that makes it."""

CASES = {"small": ("simple_resnet", 64, 32), "large": ("simple_resnet", 128, 128)}
"""Name -> model, side of its images in pixels, images per step."""

PROGRAMS = ("podium:simple_resnet", "paper:simple_resnet", "podium", "timm")
"""Contenders of `benchmarks.training`; those of one group are compared."""

_COMPETITOR = "while True: pass"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and publish; with `--one`, train for a while and say how fast that was."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--programs", nargs="*", choices=CONTENDERS, default=list(PROGRAMS))
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS), metavar="WAY")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument(
        "--beside", nargs="+", type=int, default=[0, 1, 2, 4], help="busy processes"
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    training.add_contender_options(parser)
    add_output_options(parser, "busy")
    given = parser.parse_args(arguments)
    if given.one:
        given.result.write_text(json.dumps(_train(given.one, given.seconds)), encoding="utf-8")
        return 0
    told = ("seconds", "rounds", "beside", "programs", "ways", "cases")
    settings = {name: getattr(given, name) for name in told} | {"cores": usable_cores()}
    record = new_record("busy", settings)
    record["values"] = _programs(given) | _ways(given)
    publish(record, render(record), given.json, given.out)
    return 0


def _programs(given: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """ "PROGRAM | BESIDE" -> its measurements; nothing for a program that cannot run here."""
    if not given.programs:
        return {}
    with tempfile.TemporaryDirectory(prefix="podium-bench-") as folder:
        place, images = training.find_place(given, Path(folder))
        missing = {name: CONTENDERS[name].missing(place) for name in given.programs}
        for name in [name for name, why in missing.items() if why]:
            print(f"{name}: left out, {missing[name]}")
        names = {
            f"{name} | {beside}": (name, beside)
            for beside, name in itertools.product(given.beside, given.programs)
            if not missing[name]
        }

        def timed(key: str) -> dict[str, float]:
            name, beside = names[key]
            with _competitors(beside):
                return training.measure(name, given, place, images)

        found = interleaved(list(names), timed, given.rounds)
    return {key: [value for value in values if value] for key, values in found.items()}


def _ways(given: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """ "WAY | CASE | BESIDE" -> its measurements."""
    names = {
        f"{way} | {case} | {beside}": (way, case, beside)
        for case, beside, way in itertools.product(given.cases, given.beside, given.ways)
    }
    return interleaved(
        list(names), lambda name: _measure(*names[name], given.seconds), given.rounds
    )


def render(record: Mapping[str, Any]) -> str:
    """A table for each group of programs and each case of the ways, by what runs beside them."""
    settings, values = record["settings"], record["values"]
    head = [
        "alone" if not n else f"beside {n} busy process{'es' * (n > 1)}" for n in settings["beside"]
    ]

    def rates(name: str, beside: int) -> list[float]:
        return [one["images_per_second"] for one in values.get(f"{name} | {beside}", [])]

    parts = []
    for group in dict.fromkeys(CONTENDERS[name].group for name in settings["programs"]):
        rows = []
        for name in settings["programs"]:
            if CONTENDERS[name].group == group:
                cells = [
                    _cell(rates(name, n), rates(name, 0), _fair_share(n, settings["cores"]))
                    for n in settings["beside"]
                ]
                rows.append([CONTENDERS[name].label, *cells])
        parts.append(f"**{group}: images/s, and how much that is of the fair share**\n\n"
                     f"{table(['', *head], rows)}")  # fmt: skip
    for case in settings["cases"] if settings["ways"] else ():
        model, size, batch = CASES[case]
        rows = [
            [way, *(_cell(rates(f"{way} | {case}", n)) for n in settings["beside"])]
            for way in settings["ways"]
        ]
        parts.append(f"**{model} at {size} px, batch {batch}: images/s**\n\n"
                     f"{table(['how threads wait', *head], rows)}")  # fmt: skip
    return "\n\n".join(parts)


def _fair_share(beside: int, cores: int) -> float:
    """What a just scheduler leaves of the pace to a program of a thread per core."""
    return min(1.0, cores / (cores + beside))


def _cell(rates: Sequence[float], alone: Sequence[float] = (), share: float = 1.0) -> str:
    """Median, of several with range; beside others also the part of `share` of the pace alone."""
    if not rates:
        return "not measured"
    middle, least, most = spread(rates)
    text = f"{middle:.1f} ({least:.1f} to {most:.1f})" if len(rates) > 1 else f"{middle:.1f}"
    if share < 1 and alone:
        text += f", {100 * middle / (share * spread(alone)[0]):.0f} %"
    return text


def _measure(way: str, case: str, beside: int, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.busy", "--one", case, "--seconds", str(seconds)]
    with tempfile.TemporaryDirectory() as folder, _competitors(beside):
        result = Path(folder, "rate.json")
        command += ["--result", str(result)]
        log = Path(folder, "log")
        run_logged(command, log, timeout=600, environment=WAYS[way], cwd=ROOT)
        return {"images_per_second": json.loads(result.read_text(encoding="utf-8"))}


@contextlib.contextmanager
def _competitors(count: int) -> Iterator[None]:
    busy = [subprocess.Popen([sys.executable, "-c", _COMPETITOR]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def _train(case: str, seconds: float) -> float:
    """Images per second of real steps, on images in memory."""
    import torch

    from benchmarks.gpu import Bench, Step
    from podium.runtime.memory import recycled_memory

    model, size, batch = CASES[case]
    bench = Bench(torch.device("cpu"), toy=False, data=None, seconds=seconds)
    with recycled_memory():
        step = Step(bench, model, size, batch, precision="fp32", fused=False)
        for _ in range(3):
            step.take()
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            step.take()
            steps += 1
        return steps * batch / (time.perf_counter() - began)


if __name__ == "__main__":
    raise SystemExit(main())

"""Training beside other programs: how OpenMP's threads should wait for one another.

    python -m benchmarks.busy

At the end of every parallel region the threads of a step wait for the slowest. GNU's OpenMP, which
PyTorch brings on Linux, lets them spin for some milliseconds first. Alone on a machine that saves
a system call; where another program has taken one of the cores, the others burn theirs until the
scheduler gives it back. How long they spin is fixed when PyTorch is loaded, by the environment.

Each measurement is a process of its own that trains for a few seconds, beside as many processes
that only count; all ways to wait take their turns, so that what drifts meets all alike.
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

__all__ = ["WAYS", "main", "render"]

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

_COMPETITOR = "while True: pass"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and publish; with `--one`, train for a while and say how fast that was."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--beside", nargs="+", type=int, default=[0, 1, 2], help="busy processes")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    add_output_options(parser, "busy")
    given = parser.parse_args(arguments)
    if given.one:
        given.result.write_text(json.dumps(_train(given.one, given.seconds)), encoding="utf-8")
        return 0
    names = {
        f"{way} | {case} | {beside}": (way, case, beside)
        for case, beside, way in itertools.product(given.cases, given.beside, given.ways)
    }
    settings = {"seconds": given.seconds, "rounds": given.rounds, "beside": given.beside}
    record = new_record("busy", settings | {"ways": given.ways, "cases": given.cases})
    record["values"] = interleaved(
        list(names), lambda name: _measure(*names[name], given.seconds), given.rounds
    )
    publish(record, render(record), given.json, given.out)
    return 0


def render(record: Mapping[str, Any]) -> str:
    """One table per case: images per second of each way, by what runs beside it."""
    settings, parts = record["settings"], []
    for case in settings["cases"]:
        model, size, batch = CASES[case]
        rows = []
        for way in settings["ways"]:
            found = [record["values"].get(f"{way} | {case} | {n}", []) for n in settings["beside"]]
            cells = [_cell([one["images_per_second"] for one in values]) for values in found]
            rows.append([way, *cells])
        head = [
            "alone" if not n else f"beside {n} busy process{'es' * (n > 1)}"
            for n in settings["beside"]
        ]
        parts.append(f"**{model} at {size} px, batch {batch}: images/s**\n\n"
                     f"{table(['how threads wait', *head], rows)}")  # fmt: skip
    return "\n\n".join(parts)


def _cell(rates: Sequence[float]) -> str:
    if not rates:
        return "not measured"
    middle, least, most = spread(rates)
    return f"{middle:.1f} ({least:.1f} to {most:.1f})"


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
            step.eager()
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            step.eager()
            steps += 1
        return steps * batch / (time.perf_counter() - began)


if __name__ == "__main__":
    raise SystemExit(main())

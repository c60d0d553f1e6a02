"""How fast Podium starts: its commands, its report, and a run up to its first training step.

    python -m benchmarks.startup                        # commands and report, a made-up study
    python -m benchmarks.startup --study runs/sports100 # ... a real one
    python -m benchmarks.startup --data sports100       # a run on a folder of images, too

Every figure is of a process of its own, from its start; files are in the system's cache after
one start that is not counted. A run is measured twice where `--cold` is given: with an empty
cache of Podium's (files checked, no audit), then as a second study on the same folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.common import add_output_options, new_record, publish, table

__all__ = ["main"]

Rows = dict[str, list[float]]

NOTE = (
    "Seconds from the start of the process. A run's parts add up to its first training step; its "
    "files are checked and decoded before, where the cache is warm."
)

# Runs `podium report` until the study's own file is read and checked, tells when, and ends.
OPENED = """
import os, sys
from podium.runs.folder import StudyFolder
read = StudyFolder.read_spec
def opened(self):
    read(self)
    os._exit(0)
StudyFolder.read_spec = opened
from podium.cli.app import main
sys.exit(main(["report", *sys.argv[1:]]))
"""

# Runs `podium report` until the first figure is about to be drawn: everything is imported, all
# predictions are read and judged.
DRAWING = """
import os, sys
import podium.reporting.build as build
def drawing(*given, **more):
    os._exit(0)
build._write = drawing
from podium.cli.app import main
sys.exit(main(["report", *sys.argv[1:]]))
"""

# Runs `podium run` until the first training step is done and prints when its parts ended. What
# is timed is wrapped by name; what is not there in this version is left out.
FIRST_STEP = """
import json, os, sys, time
import podium
began, parts = float(sys.argv.pop(1)), []
def timed(holder, name, part):
    inner = getattr(holder, name, None)
    if inner is None:
        return
    def outer(*given, **more):
        start = time.time()
        try:
            return inner(*given, **more)
        finally:
            parts.append((part, time.time() - start))
    setattr(holder, name, outer)
import podium.cli.app, podium.cli.progress, podium.study.study
parts.append(("interpreter, command, study", time.time() - began))
from podium.study.work import Work
timed(podium.study.study, "find_images", "index of the images")
timed(podium.study.study, "audit_study", "audit, from the cache or made")
timed(podium.study.study, "preflight", "imports of torch and others, weights check")
one = Work._train
def first(self, *given):
    start = time.time()
    import podium.study.contender, podium.training.fit
    parts.append(("imports of the training", time.time() - start))
    timed(podium.study.contender, "build_model", "model for the check of bf16")
    timed(podium.study.contender, "choose_precision", "check of bf16")
    timed(podium.training.fit, "prepare", "model, optimizer, loaders")
    return one(self, *given)
Work._train = first
show, at = podium.cli.progress.StudyProgress.notify, {}
def notify(self, event):
    at.setdefault(type(event).__name__, time.time())
    if isinstance(event, podium.BatchDone):
        parts.append(("first batch and step", at["BatchDone"] - at["EpochStarted"]))
        total = at["BatchDone"] - began
        parts.append(("everything else", total - sum(seconds for _, seconds in parts)))
        parts.append(("to the first step", total))
        print(json.dumps(parts), flush=True)
        os._exit(0)
    show(self, event)
podium.cli.progress.StudyProgress.notify = notify
sys.exit(podium.cli.app.main(["run", *sys.argv[1:]]))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and publish; an exit with words where something did not run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=10, help="starts of each command")
    parser.add_argument("--study", type=Path, help="a finished study; empty: one is made up")
    parser.add_argument("--data", help="a folder of images: measure a run's start-up, too")
    parser.add_argument("--recipe", default="sports100", help="the study that is run on them")
    parser.add_argument("--runs", type=int, default=3, help="starts of the run")
    parser.add_argument("--cold", action="store_true", help="one with an empty cache first")
    parser.add_argument("--set", action="append", default=[], help="passed on to podium run")
    parser.add_argument("--only", choices=("commands", "report", "run"), help="this part alone")
    add_output_options(parser, "startup")
    given = parser.parse_args(arguments)
    parts: dict[str, Rows] = {}
    with tempfile.TemporaryDirectory(prefix="podium-startup-") as place:
        scratch = Path(place)
        if given.only in (None, "commands"):
            parts["command"] = _commands(given.repeat)
        if given.only in (None, "report"):
            study = given.study or _made_up(scratch)
            parts["report"] = _report(study, scratch, given.repeat)
        if given.data and given.only in (None, "run"):
            parts |= _run(given, scratch)
    settings = {"data": given.data and Path(given.data).name, "recipe": given.recipe}
    record = new_record("startup", settings) | {"values": parts}
    body = "\n\n".join(_table(head, rows) for head, rows in parts.items())
    publish(record, f"{body}\n\n{NOTE}", given.json, given.out)
    return 0


def _commands(repeat: int) -> Rows:
    words = [["--version"], ["--help"], *([*name, "--help"] for name in _command_names())]
    return {f"podium {' '.join(word)}": _times(repeat, [*_podium(), *word]) for word in words}


def _command_names() -> list[list[str]]:
    code = (
        "import json, typer; from podium.cli.app import app; "
        "walk = lambda c, at: [at, *(n for k, v in getattr(c, 'commands', {}).items() "
        "for n in walk(v, [*at, k]))]; print(json.dumps(walk(typer.main.get_command(app), [])))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return [name for name in json.loads(found.stdout) if name]


def _report(study: Path, scratch: Path, repeat: int) -> Rows:
    given = [str(study), "--to", str(scratch / "report")]

    def code(text: str) -> list[str]:
        return [sys.executable, "-c", text, *given]

    return {
        "podium report: study opened": _times(repeat, code(OPENED)),
        "podium report: first figure begins": _times(repeat, code(DRAWING)),
        "podium report: whole": _times(max(1, repeat // 5), [*_podium(), "report", *given]),
    }


def _made_up(scratch: Path) -> Path:
    """A study of two contenders, 100 classes and 500 test images, without a training."""
    from tests.fake_study import fake_study

    names = [f"class {number:03d}" for number in range(100)]
    return fake_study(scratch / "study", names, contenders=2).path


def _run(given: argparse.Namespace, scratch: Path) -> dict[str, Rows]:
    caches = {"warm": Path(os.environ["PODIUM_CACHE"])} if "PODIUM_CACHE" in os.environ else {}
    if given.cold or not caches:
        caches = {"cold": scratch / "cache", "warm": scratch / "cache"}
    found: dict[str, list[list[tuple[str, float]]]] = {}
    _first_step(given, scratch, scratch / "no-cache-of-ours", ["--no-audit"])  # files into memory
    for state, cache in caches.items():
        for _ in range(1 if state == "cold" else given.runs + 1):
            found.setdefault(state, []).append(_first_step(given, scratch, cache, []))
        if state == "warm":
            found[state] = found[state][1:]  # the first one filled what was still missing
    parts = {}
    for state, starts in found.items():
        names = dict.fromkeys(name for start in starts for name, _ in start)
        parts[f"podium run {given.recipe}, {state} cache"] = {
            name: [sum(s for n, s in start if n == name) for start in starts] for name in names
        }
    return parts


def _first_step(
    given: argparse.Namespace, scratch: Path, cache: Path, more: list[str]
) -> list[tuple[str, float]]:
    runs = scratch / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    settings = [word for one in given.set for word in ("--set", one)]
    words = [given.recipe, "--data", given.data, "--runs", str(runs), *settings, *more]
    done = subprocess.run(
        [sys.executable, "-c", FIRST_STEP, str(time.time()), *words],
        env={**os.environ, "PODIUM_CACHE": str(cache)},
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("[[")]
    if not lines:
        raise SystemExit(f"podium run ended before its first step:\n{done.stderr[-2000:]}")
    return [(str(name), float(seconds)) for name, seconds in json.loads(lines[-1])]


def _podium() -> list[str]:
    return [sys.executable, "-m", "podium"]


def _times(repeat: int, words: list[str]) -> list[float]:
    """Seconds of `repeat` starts, after one that is not counted."""
    return [_seconds(words) for _ in range(repeat + 1)][1:]


def _seconds(words: list[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(words[:4])}...: exit code {done.returncode}\n{done.stderr}")
    return seconds


def _table(head: str, rows: Rows) -> str:
    parts: tuple[Callable[[list[float]], float], ...] = (statistics.median, min, max)
    lines = [
        [name, *(f"{part(seconds):.2f}" for part in parts), str(len(seconds))]
        for name, seconds in rows.items()
    ]
    return table([head, "s, median", "min", "max", "n"], lines)


if __name__ == "__main__":
    sys.exit(main())

"""Train a study on clusters that break: all files must be those of a run in turn.

A study of two contenders and two seeds is trained in turn once. Then, on each cluster, once for
each way of breaking it; every file is compared, and every look at the test images counted. The
cells save their state after each step, and what is killed is killed in mid-epoch.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from podium.runs.folder import StudyFolder
from podium.runs.ledger import LEDGER
from podium.study.engines.driver import log_of
from podium.training.checkpoint import read_checkpoint
from torture.nodes import RayNodes, SlurmNodes, wait_for
from torture.studies import digests, write_images

__all__ = ["CLUSTERS", "Trial", "torture_cluster"]

AWAY = 120.0  # seconds for which a node is cut off, or frozen
_SAVING = 60.0  # seconds that a Ctrl-C may take
_SHOW_TIMES = {"cells.log", "report/index.html", "report/tables/table1.md"}
"""Files that are not compared; what else the page and the table show is in files that are."""
_LINE = re.compile(r" (\S+) attempt \d+: (\w+)(?: as process (\d+))?")  # of cells.log
_RECIPE = {"model": "simple_resnet", "batch_size": 8, "image_size": 32}


@dataclass
class Trial:
    """One study on a cluster, and what went wrong."""

    cluster: str
    what: str
    again: int = 0
    """Attempts beyond the first of each cell."""
    files: int = 0
    """Number of files compared."""
    differing: list[str] = field(default_factory=list)
    looks: int = 0
    """Number of looks at the test images."""
    cells: int = 0
    failed: str = ""
    """Why the trial did not run as it should; empty string: it did."""
    note: str = ""
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        """Whether all files are the same, and each cell looked at the test images once."""
        return not (self.differing or self.failed) and self.looks == self.cells


class Nodes(Protocol):
    """A cluster to break."""

    engine: str
    on: list[str]
    environment: Mapping[str, str]

    def command(self, words: Sequence[str]) -> list[str]: ...
    def where(self, pid: int) -> str: ...


class Here:
    """Ray on this machine alone, started by the command itself."""

    engine = "ray, one machine"

    def __init__(self, folder: Path) -> None:
        self.on = ["--on", "ray", "--cpus", "1"]
        self.environment = {**os.environ, "RAY_ADDRESS": "local", "HOME": str(folder)}

    @staticmethod
    def missing() -> str:
        """Why it cannot be tried; empty string: it can."""
        try:
            import ray  # noqa: F401
        except ImportError:
            return "Ray is not installed"
        return ""

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def command(self, words: Sequence[str]) -> list[str]:
        """Words that run a command."""
        return list(words)

    def where(self, pid: int) -> str:
        """The node of a process: there is one."""
        return "a"


class _Run:
    """`podium run` of one trial, in a process of its own."""

    def __init__(self, place: Path, nodes: Nodes | None, name: str, *only: str) -> None:
        self.runs, self.only = place / name, [word for one in only for word in ("--only", one)]
        self.folder = StudyFolder(self.runs / "study")
        self.nodes, self.place, self.output = nodes, place, place / f"{name}.txt"
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {
            **(nodes.environment if nodes else os.environ),
            "PODIUM_CACHE": str(place / "cache"),
            "PODIUM_CORES": "2",
            "OMP_NUM_THREADS": "1",
        }

    def start(self, *on: str) -> None:
        """Give the command."""
        words = [sys.executable, "-m", "podium", "run", str(self.place / "study.yaml")]
        words += ["--runs", str(self.runs), "--no-audit", "--workers", "0", "--precision", "fp32"]
        words += ["--checkpoint-every", "0", *self.only, *on]
        with open(self.output, "ab") as output:
            self.process = subprocess.Popen(
                self.nodes.command(words) if self.nodes else words,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def end(self, code: int = 0, seconds: float = 900.0) -> float:
        """Wait for its end; returns the seconds that it took."""
        assert self.process is not None
        began = time.monotonic()
        try:
            found = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(f"podium run had not ended after {seconds:.0f} s") from None
        if found != code:
            raise RuntimeError(f"podium run: exit code {found}: {self._said()}")
        return time.monotonic() - began

    def kill(self) -> None:
        """End it, if it is running."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def log(self) -> str:
        """The lines of `cells.log`."""
        try:
            return log_of(self.folder).read_text()
        except OSError:
            return ""

    def in_mid_epoch(self, node: str = "") -> tuple[str, int]:
        """Wait until a cell is in the midst of its second epoch or a later one.

        Args:
            node: on which; empty string: on any.

        Returns:
            the cell, and its process.
        """

        def look() -> tuple[str, int] | None:
            self._goes_on()
            begun: dict[str, int] = {}
            for cell, what, pid in re.findall(
                r" (\S+) attempt \d+: (\w+)(?: as process (\d+))?", self.log()
            ):
                begun.pop(cell, None)
                if what == "started":
                    begun[cell] = int(pid)
            for cell, pid in begun.items():
                with contextlib.suppress(OSError, RuntimeError):  # it may have ended just now
                    if node and self.nodes and self.nodes.where(pid) != node:
                        continue
                    last = self.folder.path / cell / "last.ckpt"
                    if last.is_file():
                        state = read_checkpoint(last)
                        if state["rows"] and state["epoch_under_way"][0] > 0:
                            return cell, pid
            return None

        found: tuple[str, int] = wait_for(f"a cell in mid-epoch {node}".rstrip(), look)
        return found

    def until_log(self, text: str) -> None:
        """Wait for a text in `cells.log`."""

        def look() -> bool:
            self._goes_on()
            return text in self.log()

        wait_for(f"{text!r} in cells.log", look, 900)

    def _goes_on(self) -> None:
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(f"podium run ended too early: {self._said()}")

    def _said(self) -> str:
        """The last line that the command printed."""
        lines = self.output.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing"


# --- ways to break a cluster: each starts the command, and leaves the study done


def _undisturbed(run: _Run, nodes: Any) -> str:
    run.start(*nodes.on)
    run.end()
    return ""


def _process_killed(run: _Run, nodes: Any) -> str:
    run.start(*nodes.on)
    _, pid = run.in_mid_epoch()
    os.kill(pid, signal.SIGKILL)
    run.end()
    return ""


def _worker_killed(run: _Run, nodes: Any) -> str:
    import psutil

    run.start(*nodes.on)
    _, pid = run.in_mid_epoch()
    psutil.Process(pid).parent().kill()
    _wait_for_end(pid)
    run.end()
    return "its cell noticed, and ended"


def _node_killed(run: _Run, nodes: Any) -> str:
    run.start(*nodes.on)
    run.in_mid_epoch("b")
    nodes.signal("b", signal.SIGKILL)
    try:
        if nodes.engine == "slurm":  # a node that comes back: its job is queued again by Slurm
            time.sleep(5)
        else:
            run.end()
    finally:
        nodes.start("b")
    if nodes.engine == "slurm":
        run.end()
        return "slurmd and its job; slurmd came back after 5 s"
    return "the node stayed away"


def _joins_late(run: _Run, nodes: Any) -> str:
    nodes.signal("b", signal.SIGKILL)
    try:
        run.start(*nodes.on)
        run.in_mid_epoch("a")
    finally:
        nodes.start("b")
    _, pid = run.in_mid_epoch("b")
    run.end()
    return "cells were begun on it" if pid else ""


def _ctrl_c(run: _Run, nodes: Any) -> str:
    run.start(*nodes.on)
    run.in_mid_epoch()
    assert run.process is not None
    os.killpg(run.process.pid, signal.SIGINT)
    took = run.end(130, _SAVING)
    run.start("--cpus", "1")  # goes on with what the cluster began
    run.end()
    return f"all ended after {took:.0f} s; went on without --on"


def _cut_off(run: _Run, nodes: Any) -> str:
    run.start(*nodes.on)
    cell, pid = run.in_mid_epoch("b")
    nodes.cut("b", True)
    try:
        time.sleep(AWAY)
    finally:
        nodes.cut("b", False)
    _wait_for_end(pid)
    run.end()
    nodes.signal("b", signal.SIGKILL)
    nodes.start("b")
    if f"{cell} attempt 2: started" in run.log():
        return "begun again elsewhere; its process noticed, and ended"
    return "its cell was done before Ray gave the node up"


def _frozen(run: _Run, nodes: Any) -> str:
    run.start(*nodes.on)
    cell, pid = run.in_mid_epoch("b")
    nodes.cut("b", True)
    nodes.signal("b", signal.SIGSTOP)
    began = time.monotonic()
    try:
        run.until_log(f"{cell} attempt 2: started")
        time.sleep(max(0.0, AWAY - (time.monotonic() - began)))
    finally:
        nodes.cut("b", False)
        nodes.signal("b", signal.SIGCONT)
    _wait_for_end(pid)
    run.end()
    nodes.signal("b", signal.SIGKILL)
    nodes.start("b")
    return "begun again elsewhere meanwhile; its process came back, wrote nothing and ended"


def _wait_for_end(pid: int) -> None:
    """Wait for the end of a cell's process that nobody kills."""
    wait_for(f"the end of process {pid}", lambda: not Path(f"/proc/{pid}").exists(), 120)


def _requeued(run: _Run, nodes: Any) -> str:
    run.start(*nodes.on)
    run.in_mid_epoch("b")
    nodes.requeue(nodes.running_on("b"))
    run.end()
    return "by scontrol requeue; under the same number"


def _not_shared(act: Callable[[_Run, Any], str]) -> Callable[[_Run, Any], str]:
    """The same on nodes that do not see the folder of the runs."""

    def way(run: _Run, nodes: Any) -> str:
        run.runs.mkdir()
        _start_again(nodes, run.runs)
        try:
            note = act(run, nodes)
            for name in "ab":
                if found := [*Path(f"{nodes.roots[name]}{run.runs}").iterdir()]:
                    raise RuntimeError(f"node {name} saw or wrote {found[0].name}")
            return note or "each cell in a folder of its node"
        finally:
            _start_again(nodes, None)

    return way


def _start_again(nodes: Any, hidden: Path | None) -> None:
    nodes.hidden = hidden
    for name in "ab":
        nodes.signal(name, signal.SIGKILL)
        nodes.start(name)


_BREAK = {
    "nothing": _undisturbed,
    "a cell's process killed": _process_killed,
    "Ray's worker killed": _worker_killed,
    "a node killed": _node_killed,
    "a node joins late": _joins_late,
    "Ctrl-C": _ctrl_c,
    "a node cut off for 2 minutes": _cut_off,
    "a node cut off and frozen for 2 minutes": _frozen,
    "no shared file system; nothing": _not_shared(_undisturbed),
    "no shared file system; a cell's process killed": _not_shared(_process_killed),
    "no shared file system; a node killed": _not_shared(_node_killed),
    "no shared file system; Ctrl-C": _not_shared(_ctrl_c),
    "no shared file system; a node cut off and frozen for 2 minutes": _not_shared(_frozen),
    "a job queued again": _requeued,
}
CLUSTERS: Mapping[str, tuple[Any, tuple[str, ...]]] = {
    "ray-here": (Here, ("a cell's process killed",)),
    "ray": (RayNodes, tuple(name for name in _BREAK if "job" not in name)),
    "slurm": (
        SlurmNodes,
        ("nothing", "a cell's process killed", "a node killed", "a job queued again", "Ctrl-C"),
    ),
}
"""Name -> what starts it, and the ways in which it is broken."""


def torture_cluster(place: Path, name: str, *, only: str = "", brief: bool = False) -> list[Trial]:
    """Train a study on a cluster that breaks.

    Args:
        place: an empty folder for images, cache and runs.
        name: a key of `CLUSTERS`; its class says what is `missing` to try it.
        only: a text that the way of breaking must contain.
        brief: train one cell for three epochs, and write no report.

    Returns:
        the trials.
    """
    write_images(place / "data", each=24)
    recipe = {**_RECIPE, "epochs": 3 if brief else 5}
    study = {
        "name": "study",
        "data": str(place / "data"),
        "seeds": [0] if brief else [0, 1],
        "contenders": {
            "plain": {**recipe, "augmentation": "autoaugment", "lr": 1e-3},
            "other": {**recipe, "augmentation": "randaugment", "lr": 2e-3},
        },
    }
    (place / "study.yaml").write_text(json.dumps(study))  # YAML as well
    cells = ["plain"] if brief else []
    in_turn = _Run(place, None, "in-turn", *cells)
    in_turn.start("--cpus", "1")
    in_turn.end()
    expected, trials = digests(in_turn.folder.path), list[Trial]()
    make, ways = CLUSTERS[name]
    short = Path(tempfile.mkdtemp(prefix="pod"))  # the names of its sockets must be short
    try:
        with make(short) as nodes:
            for way in (way for way in ways if only in way):
                trial = Trial(nodes.engine, way, cells=1 if brief else 4)
                run = _Run(place, nodes, f"trial-{len(trials)}", *cells)
                _try(trial, run, nodes, expected)
                trials.append(trial)
                print(f"cluster-{name}: {way}: {trial.seconds:.0f} s", flush=True)
    finally:
        shutil.rmtree(short, ignore_errors=True)
    return trials


def _try(trial: Trial, run: _Run, nodes: Any, expected: Mapping[str, str]) -> None:
    """Run a trial, and record what came of it."""
    began = time.monotonic()
    act: Callable[[_Run, Any], str] = _BREAK[trial.what]
    try:
        trial.note = act(run, nodes)
    except (OSError, RuntimeError) as error:  # TimeoutError is an OSError
        trial.failed = f"{type(error).__name__}: {error}"
    finally:
        run.kill()
    trial.seconds = time.monotonic() - began
    trial.again = len(re.findall(r"attempt (?:[2-9]|\d\d+): started", run.log()))
    ledger = run.runs / LEDGER
    trial.looks = len(ledger.read_text().splitlines()) if ledger.is_file() else 0
    found = digests(run.folder.path) if run.folder.path.is_dir() else {}
    names = sorted((expected.keys() | found.keys()) - _SHOW_TIMES)
    trial.files = len(names)
    if not trial.failed:
        trial.differing = [name for name in names if expected.get(name) != found.get(name)]

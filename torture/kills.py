"""Kill a study repeatedly: no file may be torn, and the final state must be the same.

Every attempt is a separate process that runs `Study.run` and is ended by SIGKILL: at its k-th write
step (before a file is created, synced, renamed or removed), or at a random moment. After each kill
every existing file must be readable; once the study is left to finish, all bytes must equal those
of an uninterrupted study.

The processes are forked from this one, which has imported PyTorch but never computes with it: that
saves importing it 200 times.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torture.studies import KINDS, Kind, digests, write_images

__all__ = ["KillResult", "finished_study", "torture_kills"]

SECONDS = 300.0  # allowed for one attempt


@dataclass
class KillResult:
    """Results of the kills of one kind of training."""

    kind: str
    about: str
    write_steps: int = 0
    """Number of write steps in an uninterrupted study."""
    at_write_steps: int = 0
    at_random: int = 0
    studies: int = 0
    """Number of killed studies that were then run to completion."""
    unreadable: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)
    """Temporary files that remain at the end."""
    failed: list[str] = field(default_factory=list)
    """Attempts that failed with an error instead of being killed."""
    seconds: float = 0.0

    @property
    def kills(self) -> int:
        return self.at_write_steps + self.at_random

    @property
    def sound(self) -> bool:
        return not (self.unreadable or self.differing or self.left_behind or self.failed)


def torture_kills(folder: Path, name: str, steps: int, instants: int, seed: int = 0) -> KillResult:
    """Kill the studies of one kind.

    Args:
        folder: an empty folder for images, cache and runs.
        name: kind of training, a key of `torture.studies.KINDS`.
        steps: number of kills at write steps, spread evenly; at most one per step.
        instants: number of kills at random moments.
        seed: random seed of the moments.

    Returns:
        counts of kills and studies, and everything that went wrong.
    """
    began, kind = time.monotonic(), KINDS[name]
    result = KillResult(name, kind.about)
    write_images(folder / "data")
    _warm_up()
    forge = _Forge(folder, kind)
    whole = folder / "whole"
    took, count = forge.undisturbed(whole)
    result.write_steps = count
    expected = forge.digests(whole)

    def end(runs: Path) -> None:
        """Run the study to completion, and compare its files."""
        code, _ = forge.attempt(runs)
        if code != 0:
            result.failed.append(f"{runs.name}: {forge.said()}")
        found = forge.digests(runs)
        for path in sorted(expected.keys() | found.keys()):
            if found.get(path) != expected.get(path):
                result.differing.append(f"{runs.name}: {path}")
        result.left_behind += [f"{runs.name}: {p.name}" for p in runs.rglob(".*.tmp")]
        result.studies += 1
        shutil.rmtree(runs)

    def look(runs: Path) -> None:
        for what in forge.unreadable(runs):
            result.unreadable.append(f"{runs.name}: {what}")

    killed = min(steps, count)
    for number in [i * count // killed + 1 for i in range(killed)]:
        runs = folder / f"step-{number}"
        shutil.rmtree(forge.cache, ignore_errors=True)  # its write steps count, too
        code, _ = forge.attempt(runs, kill_at_write=number)
        if code == -signal.SIGKILL:
            result.at_write_steps += 1
            look(runs)
        elif code != 0:
            result.failed.append(f"{runs.name}: {forge.said()}")
        end(runs)
    chance, study = random.Random(seed), 0
    while result.at_random < instants:
        study += 1
        runs = folder / f"random-{study}"
        if chance.random() < 0.25:
            shutil.rmtree(forge.cache, ignore_errors=True)  # filling it is interrupted, too
        for _ in range(4):  # a study is killed several times before it finishes
            if result.at_random == instants:
                break
            code, _ = forge.attempt(runs, kill_after=chance.uniform(0.0, took))
            if code == -signal.SIGKILL:
                result.at_random += 1
                look(runs)
            elif code == 0:
                break
            else:
                result.failed.append(f"{runs.name}: {forge.said()}")
                break
        end(runs)
    result.seconds = time.monotonic() - began
    return result


def finished_study(folder: Path, name: str = "scratch") -> Path:
    """Run a study of one kind to completion.

    Args:
        folder: for images, cache and runs.
        name: kind of training, a key of `torture.studies.KINDS`.

    Returns:
        the study's folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_images(folder / "data")
    _Forge(folder, KINDS[name]).undisturbed(folder / "runs")
    return folder / "runs" / "study"


def _warm_up() -> None:
    """Import what the attempts need, without computing anything: threads do not survive a fork.

    PyArrow, and scikit-learn, which imports it, are left out: PyArrow starts a thread.
    """
    for name in (
        "timm",
        "podium.study.contender",
        "podium.study.study",
        "podium.auditing.run",
        "podium.study.explain",
        "podium.evaluation.inference",
        "scipy.stats",
        "matplotlib.axes",
    ):
        importlib.import_module(name)


class _Forge:
    """Starts attempts, kills them, and checks the files they leave; each in a forked process."""

    def __init__(self, folder: Path, kind: Kind) -> None:
        self.kind, self.data, self.cache = kind, folder / "data", folder / "cache"
        self.log, self.answer = folder / "log", folder / "answer.json"

    def attempt(
        self, runs: Path, *, kill_at_write: int = 0, kill_after: float | None = None
    ) -> tuple[int, float]:
        """Run the study; returns the exit code (negative: a signal) and the seconds taken."""

        def study() -> None:
            counter = _count_writes(kill_at_write)
            _run_study(self.kind, self.data, runs)
            self.answer.write_text(json.dumps(counter()))

        return self._forked(study, kill_after)

    def undisturbed(self, runs: Path) -> tuple[float, int]:
        code, took = self.attempt(runs)
        if code != 0:
            raise RuntimeError(f"the undisturbed study failed: {self.said()}")
        return took, int(json.loads(self.answer.read_text()))

    def digests(self, runs: Path) -> dict[str, str]:
        if not (runs / "study").is_dir():
            return {}
        code, _ = self._forked(lambda: _answer(self.answer, digests(runs / "study")))
        return dict(json.loads(self.answer.read_text())) if code == 0 else {"?": self.said()}

    def unreadable(self, runs: Path) -> list[str]:
        """Files of a killed study that cannot be read."""
        code, _ = self._forked(lambda: _answer(self.answer, _unreadable(runs)))
        return list(json.loads(self.answer.read_text())) if code == 0 else [self.said()]

    def said(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing"

    def _forked(
        self, work: Callable[[], object], kill_after: float | None = None
    ) -> tuple[int, float]:
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            self._child(work)
        until = began + (SECONDS if kill_after is None else kill_after)
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            if time.monotonic() >= until:
                os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                break
            time.sleep(0.002)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # its workers
        took = time.monotonic() - began
        return os.waitstatus_to_exitcode(status), took

    def _child(self, work: Callable[[], object]) -> None:
        code = 1
        try:
            os.setpgid(0, 0)
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.environ["PODIUM_CACHE"] = str(self.cache)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _answer(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def _run_study(kind: Kind, data: Path, runs: Path) -> None:
    import torch

    from podium.config.studyfile import load_study, machine_settings
    from podium.study.study import Study

    torch.set_num_threads(1)  # it is tiny
    spec = load_study(
        {"name": "study", "data": str(data), "contenders": {"one": dict(kind.recipe)}}
    )
    machine = machine_settings(device="cpu", checkpoint_every=0, **kind.machine)
    study = Study(spec, runs=runs, machine=machine, audit=kind.audit)
    result = study.run()
    if result.failed:
        raise RuntimeError(result.failed[0].error)


def _count_writes(kill_at: int) -> Callable[[], int]:
    """Count the write steps of this process, and kill it right before step `kill_at`."""
    count = 0

    def before(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **settings: Any) -> Any:
            nonlocal count
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **settings)

        return step

    import tempfile

    for module, names in ((os, ("fsync", "replace", "rename", "unlink", "mkdir", "write")),
                          (tempfile, ("mkstemp",))):  # fmt: skip
        for name in names:
            setattr(module, name, before(getattr(module, name)))
    return lambda: count


def _unreadable(runs: Path) -> list[str]:
    from podium.evaluation.trained import load_run
    from podium.runs.folder import RunFolder, StudyFolder
    from podium.runs.pictures import read_pictures
    from podium.runtime.files import read_json
    from podium.training.checkpoint import read_checkpoint

    found: list[str] = []

    def check(path: Path, read: Callable[[], object]) -> None:
        if path.exists():
            try:
                read()
            except Exception as error:
                found.append(f"{path.name}: {error}")

    folder = StudyFolder(runs / "study")
    run = RunFolder(folder.path / "one" / "seed-0", "one", 0)
    check(folder.spec, folder.read_spec)
    for path in (folder.data, folder.audit, run.done, run.model):
        check(path, partial(read_json, path))
    for path in (folder.thumbnails, folder.audit_pictures):
        check(path, partial(read_pictures, path))
    check(run.config, run.read_config)
    check(run.history, run.read_history)
    check(run.last, lambda: read_checkpoint(run.last))
    if run.model.exists():  # written after the weights
        check(run.best, lambda: load_run(run))
    check(run.predictions("valid"), lambda: run.read_predictions("valid"))
    check(run.predictions("test"), lambda: run.read_predictions("test"))
    return found

"""Executors: ours, and ones that are added from outside the package, in each of the three ways."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import podium
from podium.cli.app import app, main, take_imports
from podium.config import registry
from podium.config.machine import Machine
from podium.config.registry import EXECUTORS
from podium.config.studyfile import machine_settings
from podium.errors import ConfigError, StorageError
from podium.runs.folder import StudyFolder
from podium.runtime.events import Event, RunStarted
from podium.study.cells import Cell
from podium.study.executors import Serial, executor_named, outcomes_of
from podium.study.outcome import Outcome
from podium.study.study import Study
from tests.study.test_study import write_study

TINY = {
    "contenders": {
        "plain": {"model": "simple_resnet", "epochs": 1},
        "other": {"model": "simple_resnet", "epochs": 1, "lr": 0.002},
    }
}

POOL = '''
import subprocess

import podium


class TwoAtATime:
    """Two processes at a time, each with one cell."""

    def map(self, cells, work):
        waiting, running = list(cells), []
        try:
            while waiting or running:
                while waiting and len(running) < 2:
                    cell = waiting.pop(0)
                    running.append((cell, subprocess.Popen(work.command(cell))))
                cell, process = running.pop(0)
                process.wait()
                yield work.outcome(cell)
        finally:
            for _, process in running:
                process.terminate()
                process.wait()


@podium.register_executor("backwards")
class Backwards:
    def map(self, cells, work):
        for cell in reversed(cells):
            yield work.train(cell)
'''


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Modules, permissions and executors of a test are gone after it."""
    path, modules, before = list(sys.path), set(sys.modules), registry.allowed()
    found, origin = dict(EXECUTORS._found), dict(EXECUTORS._origin)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name in ("pools", "queues"):
            del sys.modules[name]
    registry._ALLOWED.clear()
    registry._ALLOWED.update(before)
    EXECUTORS._found, EXECUTORS._origin = found, origin


def results(folder: Path) -> dict[str, bytes]:
    """The bytes of weights and predictions."""
    files = [*folder.rglob("predictions-*.parquet"), *folder.rglob("best.safetensors")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> dict[str, bytes]:
    """What the serial executor comes to."""
    folder = tmp_path_factory.mktemp("serial")
    study = write_study(folder, pictures, **TINY)
    assert not Study.load(study, runs=folder, workers=0, audit=False).run().failed
    found = results(folder / "tiny")
    assert len(found) == 6
    return found


def test_ours_are_those_that_settings_know() -> None:
    ours = [name for name, thing in EXECUTORS._found.items() if name not in EXECUTORS._origin]
    assert ours == list(EXECUTORS.built_in) == ["serial", "local", "ray", "slurm"]
    assert isinstance(executor_named("serial"), Serial)
    with pytest.raises(ConfigError, match=r"--on: there is no executor 'seriel'.*serial"):
        machine_settings(executor="seriel")


def test_processes_of_a_file_of_the_users_come_to_the_same_bits(
    in_turn: dict[str, bytes],
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pools.py").write_text(POOL)
    plain = {"plain": TINY["contenders"]["plain"]}  # two processes: test_engines.py
    write_study(tmp_path, pictures, contenders=plain)
    words = "run tiny.yaml --no-audit --workers 0 --executor pools:TwoAtATime"
    assert main(shlex.split(words)) == 0
    folder = StudyFolder(tmp_path / "runs" / "tiny")
    found = results(folder.path)
    assert found == {name: in_turn[name] for name in in_turn if name.startswith("plain/")}
    assert (folder.report / "index.html").is_file()
    told = capfd.readouterr()
    assert told.out.count("Report:") == 1  # of the study, none of a cell
    assert not list(folder.path.rglob("*.tmp"))


def test_a_decorated_class_trains_in_another_order_to_the_same_bits(
    in_turn: dict[str, bytes], pictures: Path, tmp_path: Path
) -> None:
    exec(POOL, {"__name__": "a_notebook"})
    study = write_study(tmp_path, pictures, **TINY)
    begun: list[str] = []

    def notify(event: Event) -> None:
        begun.extend([event.title] if isinstance(event, RunStarted) else [])

    done = Study.load(study, runs=tmp_path, workers=0, audit=False, executor="backwards")
    result = done.run(notify)
    assert begun == ["other", "plain"]
    assert [outcome.run.contender for outcome in result.outcomes] == ["plain", "other"]
    assert results(done.folder.path) == in_turn


def test_an_installed_package_offers_an_executor(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    info = site / "queues-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: queues\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[podium.executors]\nqueue = queues:Queue\n")
    (site / "queues.py").write_text(
        textwrap.dedent("""
            class Queue:
                def map(self, cells, work):
                    for cell in cells[:1]:
                        yield work.train(cell)
        """)
    )
    monkeypatch.syspath_prepend(str(site))
    assert "queue" in EXECUTORS.names()
    study = Study.load(
        write_study(tmp_path, pictures, **TINY), runs=tmp_path, workers=0, executor="queue",
        audit=False,
    )  # fmt: skip
    first, second = study.run().outcomes
    assert (first.error, first.skipped) == ("", False)
    assert "other/seed-0 did not finish" in second.error  # it gave no outcome of it


@pytest.mark.parametrize(
    ("offered", "told"),
    [
        (3, r"a method map\(cells, work\).*got 3"),
        (Cell, r"Cell\(\) failed .*takes no arguments"),
        (type("Idle", (), {}), "a method map"),
    ],
)
def test_what_is_no_executor_is_refused(offered: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        podium.register_executor("mine")(offered)
    assert "mine" not in EXECUTORS.names()


class _Bench:
    """Stands in for `Work`, where nothing is to be trained."""

    def __init__(self, folder: Path) -> None:
        self.folder = StudyFolder(folder)

    def run(self, cell: Cell) -> podium.RunFolder:
        return self.folder.run(cell.contender, cell.seed)

    def outcome(self, cell: Cell) -> Outcome:
        return Outcome(self.run(cell), error="nothing there")


def test_what_an_executor_gives_is_checked_and_it_is_closed(tmp_path: Path) -> None:
    cells = [Cell("a", 0, "a", 1), Cell("a", 1, "a", 1)]
    bench: Any = _Bench(tmp_path)
    closed: list[bool] = []

    class Odd:
        def __init__(self, given: Any) -> None:
            self.given = given

        def map(self, cells: Any, work: Any) -> Iterator[Any]:
            try:
                yield self.given
            finally:
                closed.append(True)

    for given in ("done", None, Outcome(bench.folder.run("b", 0))):
        with pytest.raises(ConfigError, match=r"The executor .*Odd gave .*Expected the result"):
            outcomes_of(Odd(given), cells, bench)
    assert closed == [True] * 3
    last = Outcome(bench.run(cells[1]))
    assert outcomes_of(Odd(last), cells, bench) == {
        cells[0]: Outcome(bench.run(cells[0]), error="nothing there"),
        cells[1]: last,
    }


def test_an_error_that_ends_a_study_ends_the_executor(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError(tmp_path, OSError(28, "No space left on device"))

    study = Study.load(write_study(tmp_path, pictures, **TINY), runs=tmp_path, workers=0)
    study.audit = False
    monkeypatch.setattr("podium.study.preflight.write_text", full)
    with pytest.raises(StorageError, match="No space left"):
        study.run()


def test_every_setting_of_the_machine_is_a_flag_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from podium.study.work import OF_A_CELL, Work

    odd: dict[str, Any] = {
        "device": "cpu", "precision": "fp32", "devices": 2, "workers": 1, "cache_limit": 2.5,
        "checkpoint_every": 7.0, "tensorboard": True, "trackers": ("tensorboard",), "cpus": 3,
    }  # fmt: skip
    assert odd.keys() == set(OF_A_CELL)
    where = {"executor", "address", "gpus", "slurm", "insecure"}
    assert odd.keys() | where == set(Machine.model_fields)
    commands: Any = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    flags = {option for one in commands["run"].params for option in one.opts}
    known = {name.replace("_", "-") for name in {*odd, *where} - {"trackers", "address"}}
    assert {f"--{name}" for name in known} <= flags
    work = Work.__new__(Work)
    work.folder = StudyFolder(tmp_path / "tiny")
    work.machine = Machine(**odd, executor="local")
    monkeypatch.setattr("podium.study.work.allowed", lambda: {"my_networks": "/code"})
    words = work.command(Cell("fast", 1, "Fast", 1, fold=4))
    words, modules = take_imports(words)  # it may stand anywhere, and `main` takes it out
    assert modules == ["/code/my_networks"]
    assert words[:4] == [sys.executable, "-m", "podium", "cell"]
    given = commands["cell"].make_context("cell", words[4:]).params
    given["trackers"] = tuple(given.pop("tracker"))
    assert given | odd == given
    assert (given["contender"], given["seed"], given["fold"]) == ("fast", 1, 4)
    assert Path(given["study"]) == work.folder.path

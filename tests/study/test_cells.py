"""Cells: named, chosen, trained alone, and shared by processes that run one study."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from podium.cli.app import main
from podium.data.index import DataIndex
from podium.errors import ConfigError, RunFolderError, TrainingError
from podium.runs.folder import StudyFolder
from podium.runs.ledger import LEDGER
from podium.runtime.events import Event, Message, RunStarted
from podium.runtime.lock import sole_owner
from podium.study.cells import cells_of, chosen
from podium.study.images import find_images
from podium.study.outcome import record_failure
from podium.study.study import Study
from tests.study.test_executors import results
from tests.study.test_study import write_study

ROOT = Path(__file__).resolve().parents[2]
ONE = {"seeds": [0, 1], "contenders": {"plain": {"model": "simple_resnet", "epochs": 1}}}


def a_study(folder: Path, pictures: Path, **changes: object) -> Study:
    """A tiny one, not audited."""
    path = write_study(folder, pictures, **{**ONE, **changes})
    return Study.load(path, runs=folder / "runs", workers=0, audit=False)


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> dict[str, bytes]:
    """What one process comes to that runs the whole study."""
    study = a_study(tmp_path_factory.mktemp("serial"), pictures)
    assert not study.run().failed
    return results(study.folder.path)


def test_cells_are_named_and_chosen(tmp_path: Path, pictures: Path) -> None:
    contenders = {"fast": {"model": "simple_resnet", "label": "Fast!"},
                  "slow": {"model": "simple_resnet", "epochs": 5, "image_size": 64}}  # fmt: skip
    study = a_study(tmp_path, pictures, contenders=contenders)
    cells = study.cells()
    assert [str(cell) for cell in cells] == [
        "fast/seed-0", "fast/seed-1", "slow/seed-0", "slow/seed-1",
    ]  # fmt: skip
    assert [cell.title for cell in cells][:2] == ["Fast!, seed 0", "Fast!, seed 1"]
    assert (cells[0].cost, cells[2].cost) == (2 * 32**2, 5 * 64**2)
    assert chosen(cells, ()) == cells
    assert chosen(cells, ["slow/seed-1", "fast"]) == (cells[0], cells[1], cells[3])
    assert chosen(cells, "slow") == cells[2:]
    with pytest.raises(ConfigError, match=r"Did you mean slow/seed-0\?.*Its cells are: fast/se"):
        chosen(cells, ["slow/seed0"])
    with pytest.raises(ConfigError, match="has no such cell"):
        study.run(only=["fast/seed-2"])
    assert not study.folder.path.exists()
    assert cells_of(study.spec.model_copy(update={"seeds": (0,)}))[0].title == "Fast!"


def test_cells_alone_are_trained_and_no_report_is_written(
    in_turn: dict[str, bytes], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path, pictures, **ONE)
    runs = tmp_path / "runs"
    command = ["run", str(study), "--runs", str(runs), "--workers", "0", "--no-audit", "--only"]
    assert main([*command, "plain/seed-9"]) == 2
    assert "Its cells are: plain/seed-0, plain/seed-1." in capsys.readouterr().err
    assert main([*command, "plain/seed-1"]) == 0
    assert (
        "1 of 2 cells of the study are done. Once all are, `podium rep" in capsys.readouterr().err
    )
    folder = StudyFolder(runs / "tiny")
    assert not folder.report.exists()
    assert not (folder.path / "plain" / "seed-0").exists()
    assert folder.read_spec().seeds == (0, 1)
    assert main([*command, "plain"]) == 0
    told = capsys.readouterr()
    assert f"2 of 2 cells of the study are done. `podium report {folder.path}`" in told.err
    assert "Report:" not in told.out
    assert not folder.report.exists()
    assert results(folder.path) == in_turn


PODIUM = [sys.executable, "-m", "podium"]


def test_a_killed_cell_goes_on(in_turn: dict[str, bytes], pictures: Path, tmp_path: Path) -> None:
    study = write_study(tmp_path, pictures, **ONE)
    words = f"run {study} --runs {tmp_path}/runs --workers 0 --no-audit --only plain/seed-1 "
    process = subprocess.Popen([*PODIUM, *shlex.split(words), "--checkpoint-every", "0"])
    run = StudyFolder(tmp_path / "runs" / "tiny").run("plain", 1)
    until = time.monotonic() + 120
    while not run.last.is_file() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run.last.is_file()
    assert main(shlex.split(words)) == 0
    found = results(run.path)
    assert found == {
        name: in_turn[f"plain/seed-1/{name}"]
        for name in ("best.safetensors", "predictions-test.parquet", "predictions-valid.parquet")
    }


COUNTING = """
import sys
import podium.auditing.run as audits
from podium.cli.app import main
from tests.conftest import reports_undrawn

look = audits.inspect_all

def counted(*given, **options):
    with open(sys.argv[1], "a") as file:
        file.write("audited\\n")
    return look(*given, **options)

audits.inspect_all = counted
with reports_undrawn():
    sys.exit(main(sys.argv[2:]))
"""


def test_two_processes_share_a_study(
    in_turn: dict[str, bytes], pictures: Path, tmp_path: Path
) -> None:
    """Started at the same time, with all cells each: all is trained once, and audited once."""
    study = write_study(tmp_path, pictures, **ONE)
    counted = tmp_path / "audits"
    words = [sys.executable, "-c", COUNTING, str(counted), "run", str(study)]
    words += ["--runs", str(tmp_path / "runs"), "--workers", "0"]
    environment = {**os.environ, "PODIUM_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    told = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    folder = StudyFolder(tmp_path / "runs" / "tiny")
    assert results(folder.path) == in_turn
    looks = (tmp_path / "runs" / LEDGER).read_text(encoding="utf-8").splitlines()
    assert sorted(json.loads(line)["seed"] for line in looks) == [0, 1]
    assert sum(text.count("best epoch: valid") for text in told) == 2
    assert counted.read_text() == "audited\n"
    for run in folder.runs(folder.read_spec()):
        assert run.explanations.is_file()
    assert (folder.report / "index.html").is_file()
    assert not list(folder.path.rglob("*.tmp"))


def test_a_cell_in_use_is_waited_for_and_not_trained_twice(
    in_turn: dict[str, bytes], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = a_study(tmp_path, pictures)
    run = study.folder.run("plain", 0)
    order: list[str] = []
    other = sole_owner(run.path)
    other.__enter__()

    def pause(seconds: float) -> None:
        order.append("pause")
        if order.count("pause") == 2:
            record_failure(run, ValueError("of the other"), "plain", lambda event: None)
            other.__exit__(None, None, None)

    def notify(event: Event) -> None:
        if isinstance(event, RunStarted):
            order.append(event.title)
        elif isinstance(event, Message) and "fp32" not in event.text:
            order.append(event.text)

    monkeypatch.setattr("podium.study.study.time.sleep", pause)
    first, second = study.run(notify).outcomes
    assert (second.error, second.skipped) == ("", False)
    assert first.error == "ValueError: of the other"  # it is told, and not tried again
    here = f"process {os.getpid()} on "
    assert order.pop(0).startswith("3 classes, images: 72 train, 27 valid, 36 test; ")
    assert order[0] == "plain, seed 1"
    assert order[1].startswith(f"plain/seed-0 is being trained by {here}")
    assert order[1].endswith("; waiting")
    assert order[2:] == ["pause", "pause"]
    (again,) = study.run(only="plain/seed-0").outcomes  # asked for anew, it is tried
    assert not again.error
    assert results(study.folder.path) == in_turn


def test_one_who_waits_for_a_cell_can_be_stopped(tmp_path: Path, pictures: Path) -> None:
    import threading

    study, stop = a_study(tmp_path, pictures), threading.Event()
    stop.set()
    run = study.folder.run("plain", 0)
    with sole_owner(run.path), pytest.raises(KeyboardInterrupt):
        study.run(stop=stop, only="plain/seed-0")


def test_what_another_process_began_with_is_kept(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another recipe under the same name, begun while this one looked at its images."""
    study = a_study(tmp_path, pictures)
    other = a_study(tmp_path, pictures, contenders={"plain": {"model": "simple_resnet", "lr": 1}})

    def look_late(*given: Any) -> DataIndex:
        index = find_images(*given)
        run = other.folder.run("plain", 0)
        run.path.mkdir(parents=True)
        recipe = other.spec.contenders["plain"].model_dump(mode="json")
        run.config.write_text(yaml.safe_dump({"recipe": recipe}))
        return index

    monkeypatch.setattr("podium.study.study.find_images", look_late)
    with pytest.raises(RunFolderError, match=r"another recipe \(.*lr: 1\.0 -> 0\.001"):
        study.run(only="plain/seed-0")


def test_a_lost_gpu_ends_the_process_not_the_study(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an assertion on a device every later call fails: it is told once, and nothing lost."""
    study, begun = a_study(tmp_path, pictures), []

    def lost(*_: Any) -> None:
        begun.append(1)
        try:
            raise torch.AcceleratorError("CUDA error: device-side assert triggered\nSearch for")
        except RuntimeError as error:
            raise ValueError("of the code around it") from error

    with monkeypatch.context() as patched:
        patched.setattr("podium.study.contender.train_and_score", lost)
        with pytest.raises(TrainingError, match=r"GPU stopped \(CUDA error: .*same command again"):
            study.run()
    assert begun == [1]  # the second seed would have failed in the same way
    failed = json.loads(study.folder.run("plain", 0).failed.read_text())
    assert failed["reason"] == "ValueError"
    again = study.run()
    assert not again.failed
    assert len(again.outcomes) == 2

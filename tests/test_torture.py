"""A short form of `make torture`, so that no change breaks what it promises."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from torture.__main__ import main
from torture.crowd import torture_crowd
from torture.kills import _run_study
from torture.mutate import mutate_bytes, mutate_text
from torture.pictures import sound_pictures, torture_pictures
from torture.studies import KINDS, digests, write_images

ROOT = Path(__file__).resolve().parents[1]


def torture(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: the kills fork, which one that has computed must not."""
    return subprocess.run(
        [sys.executable, "-m", "torture", "--no-write", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_killed_studies_end_like_others() -> None:
    done = torture("--only", "kills", "--kills", "6", "--kinds", "workers")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 kills in" in done.stdout  # 5 at write steps, 1 at a random instant
    assert "0 unreadable files, 0 files that differ at the end" in done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was never disturbed; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("finished")
    write_images(folder / "data")
    _run_study(KINDS["scratch"], folder / "data", folder / "runs")
    return folder / "runs" / "study"


def test_a_change_of_the_end_would_be_seen(finished: Path, tmp_path: Path) -> None:
    """The comparison sees a single bit, in every file that it looks at."""
    study = tmp_path / "study"
    shutil.copytree(finished, study)
    before = digests(study)
    run = study / "one" / "seed-0"
    assert {"one/seed-0/last.ckpt", "one/seed-0/history.csv", "audit.json"} <= before.keys()
    for path in (run / "best.safetensors", run / "predictions-test.parquet"):
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
    history = (run / "history.csv").read_text()
    (run / "history.csv").write_text(history.replace("\n1,0.001,", "\n1,0.0010001,"))
    after = digests(study)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {
        "one/seed-0/best.safetensors",
        "one/seed-0/predictions-test.parquet",
        "one/seed-0/history.csv",
    }


def test_damaged_pictures_are_named(tmp_path: Path) -> None:
    found = torture_pictures(tmp_path, 520)
    assert (found.crashes, found.hangs, found.lost) == (0, 0, ())
    assert found.named + found.decoded == 520
    assert found.named > 100
    assert found.decoded > 50
    assert 30 < found.peak_mib < 2048


def test_damaged_studies_and_run_folders_are_refused_in_words(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torture.__main__.finished_study", lambda folder: finished)
    code = main(["--no-write", "--only", "documents", "--documents", "280"])
    said = capsys.readouterr()
    assert code == 0, said.out + said.err
    assert "| damaged run folders | 28 |" in said.out
    (row,) = re.findall(r"damaged studies \| 280 \| (\d+) \| (\d+) \| 0 \|", said.out)
    used, refused = map(int, row)
    assert used > 10
    assert refused > 90


def test_faults_are_told_and_nothing_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    """A killed worker: tests/training/test_faults.py, to the bit."""
    code = main(["--no-write", "--only", "faults", "--faults", "image_deleted", "disk_full"])
    said = capsys.readouterr()
    assert code == 0, said.out + said.err
    assert said.out.count("| yes |") == 2


def test_cells_on_ray_end_like_others_when_one_is_killed() -> None:
    pytest.importorskip("ray")
    done = torture("--only", "cluster-ray", "--one-machine")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(
        r"\| a cell's process killed \| 1 of 1 cells \| 0 of \d\d \| 1 of 1 ", done.stdout
    )


def test_the_driver_is_steady_with_many_cells(tmp_path: Path) -> None:
    found = torture_crowd(tmp_path, 40, at_a_time=20)
    assert found.sound
    assert found.done == 40
    assert found.bars > 20


def test_the_same_seed_does_the_same_damage() -> None:
    content = sound_pictures()["plain.jpg"]
    one, same, other = (mutate_bytes(content, random.Random(seed)) for seed in (1, 1, 2))
    assert one == same != other
    assert one != content
    text = "a: 1\nb: [2, 3]\n"
    assert mutate_text(text, random.Random(1)) == mutate_text(text, random.Random(1))
    assert sound_pictures() == sound_pictures()

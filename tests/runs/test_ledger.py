"""The record of looks at test images: written at every scoring, found again, shown."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from podium.cli.app import main
from podium.config.settings import RunSpec
from podium.data.indexing import build_index
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.ledger import LEDGER, keep_copy, read_scorings, record, rescorings
from tests.conftest import write_pictures
from tests.study.test_study import write_study

ROOT = Path(__file__).resolve().parents[2]
RECIPE = RunSpec(model="simple_resnet", epochs=2)


def a_run(root: Path, study: str, weights: bytes, contender: str = "plain") -> RunFolder:
    run = StudyFolder(root / study).run(contender, 0)
    run.path.mkdir(parents=True, exist_ok=True)
    run.best.write_bytes(weights)
    return run


def look(run: RunFolder, at: str, accuracy: float, recipe: RunSpec = RECIPE) -> None:
    record(
        run, images="i" * 64, n=36, accuracy=accuracy, at=at,
        recipe=recipe.model_dump(mode="json"), by="run",
    )  # fmt: skip


def test_a_changed_contender_is_found_with_what_changed(tmp_path: Path) -> None:
    look(a_run(tmp_path, "first", b"a"), "2026-01-01T00:00:00+00:00", 0.5)
    look(a_run(tmp_path, "first", b"other", "varied"), "2026-01-02T00:00:00+00:00", 0.6)
    changed = RECIPE.model_copy(update={"lr": 3e-4})
    look(a_run(tmp_path, "second", b"b"), "2026-01-03T00:00:00+00:00", 0.7, changed)
    scorings = read_scorings(tmp_path / "second", "i" * 64)
    assert [one.study for one in scorings] == ["first", "first", "second"]
    (found,) = rescorings(scorings, "second")
    assert (found.before.accuracy, found.now.accuracy) == (0.5, 0.7)
    assert found.changes == ("lr: 0.0001 -> 0.0003",)
    assert rescorings(scorings, "first") == []  # what came later did not touch it


def test_the_same_weights_looked_at_twice_are_no_change(tmp_path: Path) -> None:
    run = a_run(tmp_path, "first", b"a")
    look(run, "2026-01-01T00:00:00+00:00", 0.5)
    look(run, "2026-01-02T00:00:00+00:00", 0.5)
    scorings = read_scorings(tmp_path / "first", "i" * 64)
    assert len(scorings) == 2
    assert rescorings(scorings, "first") == []


def test_other_images_and_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    look(a_run(tmp_path, "first", b"a"), "2026-01-01T00:00:00+00:00", 0.5)
    with open(tmp_path / LEDGER, "a", encoding="utf-8") as file:
        file.write('{"at": "2026\n[]\n\n' + json.dumps({"future": 1}) + "\n")
    assert len(read_scorings(tmp_path / "first", "i" * 64)) == 1
    assert read_scorings(tmp_path / "first", "j" * 64) == []


def test_the_copy_speaks_where_the_ledger_is_gone(tmp_path: Path) -> None:
    look(a_run(tmp_path, "first", b"a"), "2026-01-01T00:00:00+00:00", 0.5)
    look(a_run(tmp_path, "second", b"b"), "2026-01-02T00:00:00+00:00", 0.5)
    keep_copy(tmp_path / "second", "i" * 64)
    shutil.copytree(tmp_path / "second", tmp_path / "elsewhere" / "second")
    found = read_scorings(tmp_path / "elsewhere" / "second", "i" * 64)
    assert [one.study for one in found] == ["first", "second"]


def test_the_fingerprint_is_of_content_not_of_place(tmp_path: Path) -> None:
    counts = {"train": 3, "valid": 2, "test": 2}
    first = build_index(write_pictures(tmp_path / "a", counts))
    moved = build_index(write_pictures(tmp_path / "b", counts))
    assert first.split_fingerprint("test") == moved.split_fingerprint("test")
    assert first.split_fingerprint("test") != first.split_fingerprint("valid")
    picture = next((tmp_path / "b" / "test").rglob("*.png"))
    picture.unlink()
    assert build_index(tmp_path / "b").split_fingerprint("test") != moved.split_fingerprint("test")


@pytest.mark.usefixtures("undrawn")
def test_scoring_a_changed_contender_again_is_shown_in_the_report(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contenders = {"plain": {"model": "simple_resnet", "epochs": 1}}
    study = write_study(tmp_path, pictures, contenders=contenders)
    command = ["run", str(study), "--runs", str(tmp_path / "runs"), "--workers", "0", "--no-audit"]
    assert main(command) == 0
    page = tmp_path / "runs" / "tiny" / "report" / "index.html"
    assert "was scored once on these test images" in page.read_text(encoding="utf-8")
    run = tmp_path / "runs" / "tiny" / "plain" / "seed-0"
    assert main(["evaluate", str(run), "--data", str(pictures)]) == 0
    lines = (tmp_path / "runs" / LEDGER).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["by"] for line in lines] == ["run", "evaluate"]

    shutil.rmtree(run)  # as the message about another recipe says
    assert main([*command, "--lr", "0.002"]) == 0
    text = page.read_text(encoding="utf-8")
    assert "1 of the scorings in this report followed an earlier scoring" in text
    assert "lr: 0.001 -&gt; 0.002" in text
    assert "2 trained models have been scored on these 36 test images" in text
    capsys.readouterr()


APPEND = """
import sys
from pathlib import Path
from tests.runs.test_ledger import a_run, look
root, number = Path(sys.argv[1]), sys.argv[2]
run = a_run(root, "study" + number, number.encode() * 1000)
for at in range(50):
    look(run, f"2026-01-01T00:{number}0:{at:02}+00:00", 0.5)
"""


def test_four_processes_write_at_a_time(tmp_path: Path) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", APPEND, str(tmp_path), str(number)], cwd=ROOT)
        for number in range(4)
    ]
    assert [process.wait() for process in started] == [0] * 4
    lines = (tmp_path / LEDGER).read_text(encoding="utf-8").splitlines()
    found = [(one["study"], one["at"]) for one in map(json.loads, lines)]
    assert len(found) == len(set(found)) == 200
    assert len(read_scorings(tmp_path / "study0", "i" * 64)) == 200

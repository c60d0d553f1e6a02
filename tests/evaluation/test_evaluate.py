"""`podium.evaluate`: every labelled picture is scored, or is named; none that was learned is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import podium
from podium.cli.app import main
from podium.errors import DataError
from podium.runs.folder import RunFolder
from podium.runtime.events import Event, Message, WarningMessage
from tests.conftest import write_pictures


def scored(run: RunFolder, data: Path, split: str = "test") -> list[str]:
    found = podium.evaluate(run, data, split=split, device="cpu", workers=0)
    for path, label in zip(found.paths, found.labels, strict=True):
        assert found.class_names[label] in Path(path).parts
    return list(found.paths)


def test_all_of_an_unsplit_folder_is_scored(small_run: RunFolder, tmp_path: Path) -> None:
    root = write_pictures(tmp_path, {"": 20}, seed=1)
    assert scored(small_run, root) == sorted(
        path.relative_to(root).as_posix() for path in root.rglob("*.png")
    )
    assert len(scored(small_run, root, "valid")) == 60


def test_a_folder_of_others_is_read_once(
    small_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lacks the files that the run was scored on, so it cannot be the study's own."""

    def refuse(*arguments: Any, **more: Any) -> None:
        raise AssertionError("read to be compared with the study's")

    monkeypatch.setattr("podium.data.indexing.build_index", refuse)
    assert len(scored(small_run, write_pictures(tmp_path, {"": 4}, seed=1))) == 12


def test_a_test_folder_alone_is_scored(small_run: RunFolder, tmp_path: Path) -> None:
    root = write_pictures(tmp_path, {"test": 20}, seed=1)
    assert len(scored(small_run, root)) == 60
    with pytest.raises(DataError, match="has test images, but none for valid"):
        scored(small_run, root, "valid")


def test_one_class_and_classes_of_one_picture_are_enough(
    small_run: RunFolder, tmp_path: Path
) -> None:
    root = write_pictures(tmp_path, {"": 1}, seed=1)
    assert len(scored(small_run, root)) == 3
    shutil.rmtree(root / "noise")
    shutil.rmtree(root / "stripes")
    assert scored(small_run, root) == ["circle/0.png"]


def test_the_split_that_is_there_is_scored(
    small_run: RunFolder, pictures: Path, tmp_path: Path
) -> None:
    known = small_run.read_predictions("test")
    again = podium.evaluate(small_run, pictures, device="cpu", workers=0)
    assert again.paths == known.paths
    np.testing.assert_allclose(again.logits, known.logits, atol=1e-5)
    shutil.copytree(pictures / "train", tmp_path / "train")
    with pytest.raises(DataError, match="has train images, but none for test"):
        scored(small_run, tmp_path)  # held out of them, those would have been trained on


def test_what_is_left_out_is_told(small_run: RunFolder, tmp_path: Path) -> None:
    root = write_pictures(tmp_path, {"": 4}, seed=1)
    (root / "circle" / "torn.png").write_bytes(b"words")
    (root / "circle" / "raw.nef").write_bytes(b"words")
    told: list[Event] = []
    podium.evaluate(small_run, root, device="cpu", workers=0, notify=told.append)
    said = " ".join(event.text for event in told if isinstance(event, Message))
    assert "left out, unreadable: circle/torn.png" in said
    assert "1 file cannot be read and is left out" in said
    assert "1 *.nef" in said


def test_images_that_were_trained_on_are_left_out_unless_they_come_as_a_split(
    small_run: RunFolder, pictures: Path, tmp_path: Path
) -> None:
    """Whoever gives a test split may mean all of it; class folders alone may hold anything."""
    shutil.copytree(pictures / "train", tmp_path / "mixed")
    shutil.copy(pictures / "test" / "circle" / "0.png", tmp_path / "mixed" / "circle" / "new.png")
    told: list[Event] = []
    found = podium.evaluate(
        small_run, tmp_path / "mixed", device="cpu", workers=0, notify=told.append
    )
    assert found.paths == ("circle/new.png",)
    said = " ".join(event.text for event in told if isinstance(event, WarningMessage))
    assert "left out: 72 images" in said
    shutil.copytree(tmp_path / "mixed", tmp_path / "split" / "test")
    told.clear()
    found = podium.evaluate(
        small_run, tmp_path / "split", device="cpu", workers=0, notify=told.append
    )
    assert len(found.paths) == 73
    said = " ".join(event.text for event in told if isinstance(event, WarningMessage))
    assert "72 of 73 images of test" in said


def test_strange_classes_are_refused(small_run: RunFolder, tmp_path: Path) -> None:
    write_pictures(tmp_path, {"": 2}, ("circle", "square"))
    with pytest.raises(DataError, match="square is not among them"):
        scored(small_run, tmp_path)


def test_of_the_images_that_a_study_split_itself_the_held_out_ones_are_scored(
    tmp_path: Path,
) -> None:
    root = write_pictures(tmp_path / "set", {"": 10})
    study = {
        "name": "s",
        "data": {"path": str(root), "split_seed": 5, "test_fraction": 0.3},
        "contenders": {"p": {"model": "simple_resnet", "epochs": 1, "image_size": 32}},
    }
    machine: dict[str, Any] = {"device": "cpu", "workers": 0, "precision": "fp32"}
    path = tmp_path / "s.yaml"
    path.write_text(str(study))
    result = podium.Study.load(path, runs=tmp_path / "runs", audit=False, **machine).run()
    (run,) = [one.run for one in result.outcomes]
    held_out = list(run.read_predictions("test").paths)
    assert len(held_out) == 9
    assert scored(run, root) == held_out
    copied = shutil.copytree(root, tmp_path / "elsewhere")
    assert scored(run, copied) == held_out
    (copied / "circle" / "0.png").unlink()  # another set, but of images that were trained on
    assert scored(run, copied) == [path for path in held_out if path != "circle/0.png"]
    for name in held_out:
        (copied / name).unlink(missing_ok=True)
    with pytest.raises(DataError, match="All images of"):
        podium.evaluate(run, copied, workers=0)


def test_the_command_says_how_many_were_scored_and_what_was_not(
    small_run: RunFolder, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = write_pictures(tmp_path, {"test": 20}, seed=1)
    (root / "test" / "circle" / "torn.png").write_bytes(b"words")
    line = ["evaluate", str(small_run.path), "--data", str(root), "--device", "cpu"]
    assert main([*line, "--workers", "0"]) == 0
    said = capfd.readouterr()
    assert "% of 60 images" in said.out
    assert "left out, unreadable: test/circle/torn.png" in " ".join(said.err.split())
    assert main([*line, "--split", "valid"]) == 2
    assert "none for valid" in " ".join(capfd.readouterr().err.split())

"""The heat maps that a study keeps for its report."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from podium.cli.app import main
from podium.config.machine import Machine
from podium.data.images import load_rgb, thumbnail_jpeg
from podium.deploy.predictor import load_predictor
from podium.errors import UserError
from podium.evaluation.gradcam import grad_cam, overlay
from podium.evaluation.trained import load_run
from podium.results.pictures import confident_mistakes, random_pictures
from podium.results.study import gather
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.pictures import read_pictures
from podium.runtime.events import Event, WarningMessage
from podium.runtime.files import write_json
from podium.study import explain
from podium.study.study import Study
from tests.conftest import device


@pytest.fixture
def study(small_run: RunFolder, tmp_path: Path) -> tuple[StudyFolder, RunFolder]:
    """A copy of the small run's study, which may be spoiled."""
    folder = StudyFolder(tmp_path / "study")
    shutil.copytree(small_run.path.parent.parent, folder.path)
    return folder, folder.run(small_run.contender, small_run.seed)


def test_a_run_explains_what_the_galleries_show(small_run: RunFolder, pictures: Path) -> None:
    stored = read_pictures(small_run.explanations)
    predictions = small_run.read_predictions("test")
    study = StudyFolder(small_run.path.parent.parent)
    thumbnails = study.read_thumbnails()
    said = gather(study).runs[0].top_classes
    shown = [
        *random_pictures(predictions, thumbnails, said),
        *confident_mistakes(predictions, thumbnails, said),
    ]
    wrong = {one.path for one in shown if not one.right}
    assert wrong  # two epochs are not enough
    assert set(stored) == {one.path for one in shown} | {f"{path}#label" for path in wrong}
    predictor, model = load_predictor(small_run, device=device())
    for key, jpeg in stored.items():
        path, _, label = key.partition("#")
        number = predictions.paths.index(path)
        target = (predictions.labels if label else predictions.predicted)[number : number + 1]
        picture = load_rgb(pictures / path)
        heat, _ = grad_cam(model, predictor.pixels(picture)[None], target)
        wanted, found = (
            np.asarray(Image.open(io.BytesIO(one))).astype(int)
            for one in (thumbnail_jpeg(overlay(picture, heat[0])), jpeg)
        )
        assert found.shape == wanted.shape == (40, 40, 3)  # nothing is made larger than it is
        assert np.abs(found - wanted).mean() < 0.5


def test_they_are_made_again_to_the_last_bit_without_a_training(
    study: tuple[StudyFolder, RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run = study
    before = run.explanations.read_bytes()
    kept = {path: path.read_bytes() for path in run.path.iterdir() if path != run.explanations}
    assert main(["explain", str(folder.path)]) == 0
    assert "has its heat maps" in " ".join(capsys.readouterr().err.split())
    run.explanations.unlink()
    assert main(["explain", str(folder.path)]) == 0
    assert str(run.explanations) in capsys.readouterr().out
    assert run.explanations.read_bytes() == before
    run.explanations.unlink()  # as a kill leaves it: the same command makes it
    spec = folder.read_spec().model_copy(update={"name": folder.path.name})
    machine = Machine(device="cpu", precision="fp32", workers=0)
    result = Study(spec, runs=folder.path.parent, machine=machine, audit=False).run()
    assert [outcome.skipped for outcome in result.outcomes] == [True]
    assert run.explanations.read_bytes() == before
    assert {path: path.read_bytes() for path in kept} == kept


def test_images_that_moved_are_given_and_other_images_are_left_out(
    study: tuple[StudyFolder, RunFolder], pictures: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder, run = study
    before = read_pictures(run.explanations)
    run.explanations.unlink()
    moved = tmp_path / "elsewhere" / "pictures"
    shutil.copytree(pictures, moved)
    write_json(folder.data, {**folder.read_data(), "root": str(tmp_path / "gone")})
    spec = folder.spec.read_text("utf-8").replace(str(pictures), str(tmp_path / "gone"))
    folder.spec.write_text(spec, "utf-8")
    assert main(["explain", str(folder.path)]) == 2
    assert "--data FOLDER" in " ".join(capsys.readouterr().err.split())
    gone, other = sorted({key.partition("#")[0] for key in before})[:2]
    (moved / gone).unlink()
    Image.new("RGB", (40, 40), (0, 255, 0)).save(moved / other)
    assert main(["explain", str(folder.path), "--data", str(moved.parent)]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert gone in said
    assert other in said
    assert read_pictures(run.explanations) == {
        key: jpeg for key, jpeg in before.items() if key.partition("#")[0] not in (gone, other)
    }


def warned(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, WarningMessage)]


def test_a_model_that_cannot_be_explained_fails_no_run(
    study: tuple[StudyFolder, RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, run = study
    run.explanations.unlink()

    def refuse(*given: object) -> None:
        raise UserError("no layer keeps places")

    monkeypatch.setattr(explain, "grad_cam", refuse)
    events: list[Event] = []
    assert explain.explain(folder, notify=events.append) == []
    assert "no layer keeps places" in warned(events)[0]
    assert len(events) == 1
    assert run.is_done()
    assert not run.explanations.exists()
    run.best.unlink()
    assert explain.explain(folder, notify=events.append) == []
    assert "no longer holds weights" in warned(events)[-1]


@pytest.mark.parametrize("words", [["nowhere"], ["{study}", "--data", "nowhere"]])
def test_mistakes_end_with_two(
    words: list[str], study: tuple[StudyFolder, RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run = study
    run.explanations.unlink()
    assert main(["explain", *(word.format(study=folder.path) for word in words)]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert load_run(run).class_names  # nothing was touched

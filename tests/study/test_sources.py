"""A study of an archive: everything that needs its images afterwards finds them there, too."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from podium.api import evaluate, train
from podium.cli.app import main
from podium.data.recorded import study_source
from podium.data.source import Reader
from podium.deploy.export.images import calibration_images, check_images
from podium.errors import ConfigError, DataError
from podium.runs.folder import RunFolder
from tests.conftest import device, reports_undrawn, write_pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources") / "shapes"
    return write_pictures(root, {"train": 6, "valid": 3, "test": 3}, side=32)


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    place = tmp_path_factory.mktemp("packed")
    archive = shutil.make_archive(str(place / "shapes"), "zip", folder.parent, folder.name)
    machine = {"device": device(), "precision": "fp32", "workers": 0}
    with reports_undrawn():
        return train(archive, runs=place / "runs", epochs=1, image_size=32, machine=machine)


def test_its_images_are_found_where_they_were_and_where_they_went(
    run: RunFolder, folder: Path, tmp_path: Path
) -> None:
    path = run.read_predictions("test").paths[0]
    content = (folder / path).read_bytes()
    moved = shutil.make_archive(str(tmp_path / "moved"), "gztar", folder.parent, folder.name)
    for given in (None, folder, folder.parent, moved):
        assert Reader(study_source(run.study, given)).read(path) == content
    with pytest.raises(DataError, match=r"no\.zip does not exist"):
        study_source(run.study, tmp_path / "no.zip")


def test_scoring_it_again_gives_the_same(run: RunFolder) -> None:
    archive = run.study.read_spec().data.path
    again = evaluate(run.path, archive, workers=0, device="cpu")
    assert np.allclose(again.logits, run.read_predictions("test").logits, atol=1e-4)


def test_an_export_is_checked_and_calibrated_on_it(run: RunFolder, folder: Path) -> None:
    names = run.read_predictions("valid").class_names
    sample = check_images(run, names, 32, None)
    assert sample.told == "the study's validation images"
    assert np.array_equal(sample.pixels, check_images(run, names, 32, folder).pixels)
    pixels = calibration_images(run, 32, None, None)
    assert len(pixels) == 18
    assert np.array_equal(pixels, calibration_images(run, 32, None, folder))
    other = check_images(run, names, 32, folder / "test" / "circle")  # images in one folder
    assert (other.told, other.recorded) == ("images of circle", None)
    with pytest.raises(DataError, match="There is no folder"):
        check_images(run, names, 32, "nowhere")


def test_heat_maps_are_made_of_it(
    run: RunFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = run.explanations.read_bytes() if run.explanations.is_file() else b""
    run.explanations.unlink(missing_ok=True)
    assert main(["explain", str(run.study.path), "--device", "cpu"]) == 0
    made = run.explanations.read_bytes()
    assert made
    assert before in (b"", made)
    archive = Path(run.study.read_spec().data.path)
    away = archive.rename(tmp_path / "away.zip")
    try:
        run.explanations.unlink()
        assert main(["explain", str(run.study.path), "--device", "cpu"]) == 2
        assert "--data" in capsys.readouterr().err
        with pytest.raises(ConfigError, match="are missing"):
            check_images(run, ["circle"], 32, None)
        assert main(["explain", str(run.study.path), "--data", str(away), "--device", "cpu"]) == 0
        assert run.explanations.read_bytes() == made
    finally:
        away.rename(archive)

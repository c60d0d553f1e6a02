"""Learning curves through the command: nested shares, no test image, resumed, and its page."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import podium
from podium.cli.app import main
from podium.config.curve import curve_study
from podium.config.studyfile import load_study
from podium.data.indexing import build_index
from podium.errors import ConfigError
from podium.reporting.growth import build_growth_page
from podium.results.curve import read_curves
from podium.results.study import gather
from podium.runs.folder import StudyFolder
from podium.runs.ledger import LEDGER

SHARES = "0.2,0.5,1"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """Two probes on the features of a small network that has not learned anything."""
    folder = tmp_path_factory.mktemp("study")
    file = folder / "weights.pth"
    torch.save(podium.build_model("test_resnet", 3, seed=5).module.state_dict(), file)
    frozen = {"model": "test_resnet", "weights": str(file), "freeze": "backbone", "image_size": 32}
    values = {
        "name": "probes",
        "data": {"path": str(pictures), "valid_fraction": 0.25},
        "defaults": {**frozen, "epochs": 1},
        "contenders": {
            "logistic": {"linear_probe": True, "label": "Logistic"},
            "lda": {"linear_probe": "lda"},
        },
    }
    path = folder / "probes.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def measured(study: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    runs = tmp_path_factory.mktemp("runs")
    seeds = ("--seed", "0", "--seed", "1", "--seed", "2")
    words = ["curve", str(study), "--shares", SHARES, *seeds, "--runs", str(runs)]
    assert main([*words, "--workers", "0", "--only", "lda-at-20"]) == 0  # a part of it first
    assert not (runs / "probes-curve" / "curve").exists()
    assert main([*words, "--workers", "0"]) == 0
    return StudyFolder(runs / "probes-curve")


def test_every_contender_has_every_share(measured: StudyFolder) -> None:
    spec = measured.read_spec()
    assert list(spec.contenders) == [
        f"{name}-at-{share}" for name in ("logistic", "lda") for share in (20, 50, 100)
    ]
    assert spec.label("logistic-at-20") == "Logistic, 20 %"
    assert all(run.is_done() for run in measured.runs(spec))
    found = read_curves(gather(measured))
    assert [curve.label for curve in found.curves] == ["Logistic", "lda"]
    for curve in found.curves:
        assert [point.images for point in curve.points] == [11, 27, 54]
        for point in curve.points:
            runs = [measured.run(point.contender, seed) for seed in range(3)]
            accuracies = [run.read_done()["test_accuracy"] for run in runs]
            assert point.accuracy.value == pytest.approx(np.mean(accuracies))
            assert point.accuracy.low <= point.accuracy.value <= point.accuracy.high
        assert curve.fit.silence == "few_sizes"
    # with all images, the seeds have nothing to differ by
    whole = [measured.run("lda-at-100", seed).read_predictions("test").logits for seed in range(3)]
    assert np.array_equal(whole[0], whole[2])
    part = [measured.run("lda-at-20", seed).read_predictions("test").logits for seed in range(3)]
    assert not np.array_equal(part[0], part[2])


def test_no_test_image_was_looked_at(measured: StudyFolder, pictures: Path) -> None:
    images = build_index(pictures)
    lines = (measured.path.parent / LEDGER).read_text(encoding="utf-8").splitlines()
    looked = {json.loads(line)["images"] for line in lines}
    assert looked == {images.split_fingerprint("valid")}
    paths = measured.run("lda-at-50", 0).read_predictions("test").paths
    assert {path.split("/")[0] for path in paths} == {"valid"}


def test_the_same_command_trains_nothing_again(
    measured: StudyFolder, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {run.path: run.done.stat().st_mtime_ns for run in measured.runs(measured.read_spec())}
    words = ["curve", str(study), "--shares", SHARES, "--runs", str(measured.path.parent)]
    assert main([*words, "--seed", "0", "--seed", "1", "--seed", "2", "--lang", "pt"]) == 0
    after = {run.path: run.done.stat().st_mtime_ns for run in measured.runs(measured.read_spec())}
    assert before == after
    told = capsys.readouterr().out
    assert "nenhuma do conjunto de teste" in told
    assert "São precisas quatro frações" in told


def test_its_page_table_and_figure(
    measured: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["curve", str(measured.path), "--gain", "3"]) == 0  # of an earlier curve
    told = capsys.readouterr().out
    place = measured.path / "curve"
    assert {file.name for file in place.iterdir()} == {
        "index.html",
        "learning-curve.csv",
        "learning-curve.png",
        "learning-curve.pdf",
    }
    page = (place / "index.html").read_text(encoding="utf-8")
    for text in ("what 3 points more would cost cannot be said", "18 runs on nested shares"):
        assert text in " ".join(told.split())
        assert text in page
    assert "<svg" in page
    with open(place / "learning-curve.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["training_images"]) for row in rows] == [11, 27, 54] * 2
    for row in rows:
        assert float(row["low"]) <= float(row["accuracy"]) <= float(row["high"])
    assert podium.compare(measured.path, resamples=0).n == 27


def test_folds_of_all_but_the_test_images(study: Path, tmp_path: Path) -> None:
    values = yaml.safe_load(study.read_text(encoding="utf-8"))
    values["contenders"].pop("lda")
    path = tmp_path / "one.yaml"
    path.write_text(yaml.safe_dump({**values, "name": "one"}), encoding="utf-8")
    words = ["curve", str(path), "--shares", "0.1,0.2,0.35,0.5,1", "--runs", str(tmp_path)]
    words += ["--folds", "2", "--seed", "0", "--seed", "1", "--workers", "0"]
    assert main([*words, "--only", "logistic"]) == 2  # the curve's are logistic-at-10...
    assert main(words) == 0
    folder = StudyFolder(tmp_path / "one-curve")
    spec = folder.read_spec()
    assert (spec.data.folds, spec.final_model) == (2, "ensemble")
    made = build_growth_page(folder, dpi=50)
    assert made.found.n == 99  # all but the test images, each in a fold
    curve = made.found.curves[0]
    assert curve.fit.foretold is not None  # there are enough shares, and too few seeds
    assert curve.fit.silence == "few_seeds"
    assert "three seeds or more" in made.lines[1]
    assert [point.images for point in curve.points][-1] == round(99 / 2 * 0.75)
    assert f"{curve.label}: " in made.lines[1]
    assert "2 folds of 99 images" in made.lines[0]


def test_mistakes_are_named(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = load_study(study)
    for shares, said in (([0.0, 1.0], "above 0 and at most 1"), ([1.0], "two or more")):
        with pytest.raises(ConfigError, match=said):
            curve_study(spec, shares)
    with pytest.raises(ConfigError, match="train_share already"):
        curve_study(curve_study(spec))
    mean = {**yaml.safe_load(spec.to_yaml())}
    mean["contenders"]["both"] = {"mean_of": ["logistic", "lda"]}
    with pytest.raises(ConfigError, match="both trains nothing"):
        curve_study(load_study(mean))
    assert main(["curve", str(study), "--shares", "some", "--runs", str(tmp_path)]) == 2
    assert "expected numbers with commas" in " ".join(capsys.readouterr().err.split())
    assert main(["curve", str(tmp_path / "nothing.yaml")]) == 2
    ordinary = tmp_path / "plain"
    ordinary.mkdir()
    (ordinary / "study.yaml").write_text(spec.to_yaml(), encoding="utf-8")
    assert main(["curve", str(ordinary)]) == 2

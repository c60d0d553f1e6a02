"""Contenders that are the mean of others, through the real command: made, scored, told, used."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import podium
from podium.cli.app import main
from podium.data.index import DataIndex
from podium.deploy.predictor import load_predictor
from podium.deploy.publish.pack import pack
from podium.evaluation.ensemble import Ensemble
from podium.evaluation.gradcam import grad_cam
from podium.evaluation.trained import load_run
from podium.results.study import gather
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.ledger import read_scorings
from podium.runs.predictions import SplitName, softmax
from podium.runtime.events import EvaluateProgress, Event, RunFailed
from podium.statistics.calibration import fit_temperature
from podium.study.cells import cells_of
from podium.study.study import Study
from podium.training import fit as fitting
from tests.conftest import reports_undrawn, write_pictures

pytestmark = pytest.mark.usefixtures("undrawn")

DEFAULTS = {"epochs": 1, "image_size": 32, "batch_size": 16, "lr": 1e-3}
NOT_OF_A_MEAN = ("history.csv", "last.ckpt", "probe.csv", "failed.json")


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Networks of two sizes and normalisations; one is mirrored, one a probe on random features."""
    file = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(podium.build_model("resnet18", 3, seed=5).module.state_dict(), file)
    probe = {"model": "resnet18", "weights": str(file), "freeze": "backbone", "pooling": "stages"}
    return {
        "plain": {"model": "simple_resnet", "flip_test": True, "label": "Plain"},
        "probe": {**probe, "linear_probe": True},
        "large": {"model": "simple_resnet", "image_size": 48},
    }


def a_study(folder: Path, images: Path, contenders: dict[str, Any], **changes: Any) -> Path:
    study = {
        "name": "means",
        "data": str(images),
        "defaults": DEFAULTS,
        "contenders": contenders,
        **changes,
    }
    path = folder / "means.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    return path


def run(study: Path, *words: str) -> int:
    place = ["--runs", str(study.parent / "runs"), "--workers", "0", "--precision", "fp32"]
    return main(["run", str(study), *place, "--no-audit", "--device", "cpu", *words])


def folder_of(study: Path) -> StudyFolder:
    return StudyFolder(study.parent / "runs" / "means")


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, pictures: Path, members: dict[str, Any]
) -> StudyFolder:
    """A study with two means, listed before their members; tests that change it take a copy."""
    means = {
        "same": {"mean_of": ["plain", "probe"], "label": "Both"},
        "sizes": {"mean_of": ["large", "plain"]},
    }
    study = a_study(tmp_path_factory.mktemp("made"), pictures, {**means, **members})
    told = io.StringIO()
    with reports_undrawn(), contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        assert run(study, "--epochs", "1") == 0  # of all that are trained
    (study.parent / "told.txt").write_text(told.getvalue(), encoding="utf-8")
    return folder_of(study)


def copied(made: StudyFolder, place: Path) -> Path:
    """A copy of the study's runs, and the study file for it."""
    shutil.copytree(made.path.parent, place / "runs")
    return Path(shutil.copy(made.path.parent.parent / "means.yaml", place))


def by_hand(members: Sequence[RunFolder], split: SplitName) -> np.ndarray[Any, Any]:
    """The mean of the members' calibrated probabilities, from their prediction files."""
    found = []
    for one in members:
        temperature = json.loads(one.model.read_text())["temperature"]
        found.append(softmax(one.read_predictions(split).logits, temperature))
    return np.asarray(np.mean(found, axis=0))


@pytest.mark.parametrize("split", ["valid", "test"])
def test_it_is_the_mean_of_its_members_probabilities(made: StudyFolder, split: SplitName) -> None:
    plain, probe, large = (made.run(name, 0) for name in ("plain", "probe", "large"))
    same, sizes = made.run("same", 0).read_predictions(split), made.run("sizes", 0)
    assert same.paths == plain.read_predictions(split).paths
    np.testing.assert_allclose(softmax(same.logits, 1.0), by_hand([plain, probe], split), atol=1e-5)
    found = softmax(sizes.read_predictions(split).logits, 1.0)
    expected = by_hand([large, plain], split)
    assert 0 < np.abs(found - expected).max() < 0.02  # Pillow's rounding is all that differs


def test_its_record_is_that_of_what_was_scored(made: StudyFolder) -> None:
    run, plain, probe = (made.run(name, 0) for name in ("same", "plain", "probe"))
    done, valid = run.read_done(), run.read_predictions("valid")
    assert not [name for name in NOT_OF_A_MEAN if (run.path / name).exists()]
    assert done["temperature"] == pytest.approx(fit_temperature(valid))
    assert done["temperature"] == json.loads(run.model.read_text())["temperature"]
    own = [one.read_done() for one in (plain, probe)]
    assert done["parameters"] == sum(one["parameters"] for one in own)
    assert done["seconds"] == pytest.approx(sum(one["seconds"] for one in own), abs=0.002)
    assert done["latency_ms"] == pytest.approx(sum(one["latency_ms"] for one in own), abs=0.002)
    assert [one["contender"] for one in done["members"]] == ["plain", "probe"]
    assert done["members"][1]["pretrained_source"] == "weights.pth"
    assert not {"epochs", "best_epoch", "images_per_second", "model"} & done.keys()
    assert run.read_config()["recipe"] == {"mean_of": ["plain", "probe"], "label": "Both"}
    fingerprint = json.loads(made.data.read_text())["test_fingerprint"]
    looks = [one for one in read_scorings(made.path, fingerprint) if one.contender == "same"]
    assert [one.recipe["mean_of"] for one in looks] == [["plain", "probe"]]
    assert looks[0].accuracy == done["test_accuracy"]


def test_cells_come_after_those_they_need(made: StudyFolder) -> None:
    cells = cells_of(made.read_spec())
    assert [str(cell) for cell in cells] == [
        f"{name}/seed-0" for name in ("plain", "probe", "large", "same", "sizes")
    ]
    assert [str(one) for one in cells[3].needs] == ["plain/seed-0", "probe/seed-0"]
    assert cells[3].cost == 0
    told = (made.path.parent.parent / "told.txt").read_text(encoding="utf-8")
    assert "mean of its members: valid" in told


def test_what_uses_a_run_uses_the_model_that_was_scored(
    made: StudyFolder, pictures: Path, tmp_path: Path
) -> None:
    for name in ("same", "sizes"):
        run = made.run(name, 0)
        stored = run.read_predictions("test")
        again = podium.evaluate(run, pictures, device="cpu", workers=0)
        np.testing.assert_allclose(again.logits, stored.logits, atol=1e-4)
        predictor, model = load_predictor(run, device="cpu")
        assert isinstance(model.module, Ensemble)
        place = pictures / stored.paths[0]
        guesses = next(iter(podium.predict(run, [place], device="cpu"))).guesses
        calibrated = softmax(stored.logits[:1], run.read_done()["temperature"])[0]
        assert guesses[0].probability == pytest.approx(calibrated.max(), abs=1e-4)
        side = predictor.image_size
        assert side == {"same": 32, "sizes": 40}[name]  # that of the files
        heat, logits = grad_cam(model, np.full((2, side, side, 3), 90, np.uint8))
        assert heat.shape == (2, side, side)
        assert heat.max() == pytest.approx(1)
        assert logits.shape == (2, 3)
        assert run.explanations.is_file()
    chosen = load_run(made.run("same", 0))
    assert chosen.normalization is None


@pytest.mark.parametrize("kind", ["onnx", "torchscript", "pt2", "openvino"])
def test_an_export_computes_the_same(made: StudyFolder, tmp_path: Path, kind: str) -> None:
    for needed in {"onnx": ["onnxscript"], "openvino": ["onnxscript", "openvino"]}.get(kind, []):
        pytest.importorskip(needed)
    run = made.run("sizes", 0)
    line = ["export", str(run.path), "--format", kind, "--to", str(tmp_path), "--rounds", "0"]
    assert main(line) == 0  # it is compared with the study's own predictions on valid
    exported, predictor = podium.load_exported(tmp_path), load_predictor(run, device="cpu")[0]
    pixels = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), np.uint8)
    np.testing.assert_allclose(
        exported.probabilities(exported.compute(pixels)),
        predictor.probabilities(predictor.compute(pixels)),
        atol=1e-3,
    )


def test_the_report_has_no_training_of_a_mean(made: StudyFolder, tmp_path: Path) -> None:
    for lang, words in (("en", "mean of Plain, probe"), ("pt", "média de Plain, probe")):
        page = podium.report(made.path, lang=lang, out=tmp_path / lang).read_text(encoding="utf-8")  # type: ignore[arg-type]
        assert words in page
    tables = tmp_path / "en" / "tables"
    with open(tables / "table1.csv", encoding="utf-8", newline="") as file:
        rows = {row["contender"]: row for row in csv.DictReader(file)}
    assert rows["same"]["model"] == "mean of plain+probe"
    for column in ("epochs", "best_epoch", "train_accuracy", "augmentation", "pretraining"):
        assert rows["same"][column] == ""
        assert rows["plain"][column] != ""
    line = next(
        line for line in (tables / "table1.md").read_text().splitlines() if "| Both" in line
    )
    assert line.split(" | ")[1:8] == ["mean of Plain, probe", "–", "–", line.split(" | ")[4],
                                      "–", "–", "–"]  # fmt: skip
    assert "Both" in (tables / "table1.tex").read_text()
    results = gather(made)
    assert [one.name for one in results.contenders] == [*made.read_spec().contenders]
    asked = {name for one in results.questions for name in (one.first, one.second)}
    assert "plain" in asked
    assert not {"same", "sizes"} & asked
    pairs = {frozenset((one.first, one.second)) for one in results.verdicts.pairs}  # type: ignore[union-attr]
    assert frozenset(("same", "plain")) in pairs


@pytest.mark.parametrize(
    ("lang", "words"), [("en", "averages the calibrated"), ("pt", "É a média")]
)
def test_its_card_names_its_members_and_their_weights(
    made: StudyFolder, lang: str, words: str
) -> None:
    run = made.run("same", 0)
    text = podium.card(run, lang=lang)
    assert words in text
    assert "weights.pth" in text
    recipe = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert recipe["contenders"]["same"] == {"mean_of": ["plain", "probe"], "label": "Both"}
    assert recipe["contenders"]["probe"]["weights"] == "weights.pth"  # no folder of this machine
    files = {one.name: one.content for one in pack(run, "me/mean", lang=lang).files}
    config = yaml.safe_load(files["config.yaml"])  # type: ignore[arg-type]
    assert config["recipe"]["mean_of"] == ["plain", "probe"]


def test_interrupted_it_is_made_again_and_comes_out_the_same(
    made: StudyFolder, tmp_path: Path
) -> None:
    study = copied(made, tmp_path)
    folder = folder_of(study)
    mean = folder.run("sizes", 0)
    before = {split: mean.predictions(split).read_bytes() for split in ("valid", "test")}
    temperature = mean.read_done()["temperature"]
    shutil.rmtree(mean.path)

    def interrupt(event: Event) -> None:
        if isinstance(event, EvaluateProgress) and event.what == "test":
            raise KeyboardInterrupt

    loaded = Study.load(study, runs=study.parent / "runs", audit=False, workers=0, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        loaded.run(interrupt)
    assert mean.best.is_file()
    assert not mean.is_done()
    assert run(study) == 0
    assert {split: mean.predictions(split).read_bytes() for split in ("valid", "test")} == before
    assert mean.read_done()["temperature"] == temperature


def test_without_its_members_it_is_refused_before_any_image_is_read(
    pictures: Path,
    members: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: Any) -> DataIndex:
        raise AssertionError("images were read")

    both = {"both": {"mean_of": ["plain", "large"]}}
    study = a_study(tmp_path, pictures, {**members, **both})
    with monkeypatch.context() as patch:
        patch.setattr("podium.study.study.find_images", refuse)
        assert run(study, "--only", "both", "--only", "plain") == 2
    told = " ".join(capfd.readouterr().err.split())
    assert "--only both: of the contenders that it averages, large/seed-0 is not done" in told
    assert "the same `podium run` with --only large/seed-0" in told
    assert run(study, "--only", "both", "--only", "plain", "--only", "large") == 0
    assert folder_of(study).run("both", 0).is_done()


def test_a_failed_member_is_told_and_the_others_are_done(
    pictures: Path,
    members: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    train = fitting.fit

    def fit(job: Any, *given: Any) -> None:
        if job.folder.contender == "large":
            raise podium.PodiumError("The cable was pulled.")
        train(job, *given)

    both = {"both": {"mean_of": ["plain", "large"]}}
    study = a_study(tmp_path, pictures, {**members, **both})
    with monkeypatch.context() as patch:
        patch.setattr("podium.study.contender.fit", fit)
        assert run(study) == 1
    told = " ".join(capfd.readouterr().err.split())
    assert "both/seed-0 was not made" in told
    assert "large/seed-0 (it failed: The cable was pulled.) is not done" in told
    results = gather(folder_of(study))
    states = {one.label: (one.state, one.message) for one in results.unfinished}
    assert states["both"] == ("no_members", "large")
    for lang, words in (("en", "these are not done: large"), ("pt", "não terminaram: large")):
        page = podium.report(folder_of(study).path, lang=lang, out=tmp_path / lang)  # type: ignore[arg-type]
        assert words in page.read_text(encoding="utf-8")
    assert run(study) == 0  # the same command tries again
    assert not gather(folder_of(study)).unfinished


def test_members_that_were_trained_again_are_noticed(
    made: StudyFolder, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = copied(made, tmp_path)
    shutil.rmtree(folder_of(study).run("large", 0).path)
    assert run(study) == 2
    told = " ".join(capfd.readouterr().err.split())
    assert "sizes/seed-0 is the mean of models of which" in told
    shutil.rmtree(folder_of(study).run("sizes", 0).path)
    assert run(study) == 0
    text = study.read_text(encoding="utf-8").replace("- plain\n    - probe", "- plain\n    - large")
    study.write_text(text, encoding="utf-8")
    assert run(study) == 2
    assert "mean_of: ['plain', 'probe'] -> ['plain', 'large']" in capfd.readouterr().err


def test_processes_of_their_own_make_the_same(made: StudyFolder, tmp_path: Path) -> None:
    """`--on local` begins a mean once the processes of its members have ended."""
    study = copied(made, tmp_path)
    for name in ("plain", "same", "sizes"):
        shutil.rmtree(folder_of(study).run(name, 0).path)
    assert run(study, "--on", "local", "--cpus", "1", "--only", "plain", "--only", "same") == 0
    again = folder_of(study).run("same", 0).read_predictions("test").logits
    np.testing.assert_allclose(
        again, made.run("same", 0).read_predictions("test").logits, atol=1e-3
    )
    log = (folder_of(study).path / "cells.log").read_text()
    lines = [line for line in log.splitlines() if "started as" in line or "done after" in line]
    assert [line.split()[1] for line in lines][:2] == ["plain/seed-0"] * 2


@pytest.mark.parametrize("final_model", ["refit", "ensemble"])
def test_a_fold_averages_the_members_models_of_that_fold(
    members: dict[str, Any], tmp_path: Path, final_model: str
) -> None:
    images = write_pictures(tmp_path / "flat", {"": 12})
    data = {"path": str(images), "folds": 2}
    contenders = {"both": {"mean_of": ["plain", "probe"]}, **members}
    del contenders["large"]
    study = a_study(tmp_path, images, contenders, data=data, final_model=final_model)
    assert run(study) == 0
    folder, spec = folder_of(study), folder_of(study).read_spec()
    whole = folder.run("both", 0)
    needed = {str(cell): [str(one) for one in cell.needs] for cell in cells_of(spec)}
    assert needed["both/seed-0/fold-1"] == ["plain/seed-0/fold-1", "probe/seed-0/fold-1"]
    assert needed["both/seed-0"][-2:] == ["plain/seed-0", "probe/seed-0"]
    for fold in range(2):
        own = [folder.run(name, 0, fold) for name in ("plain", "probe")]
        found = folder.run("both", 0, fold).read_predictions("test")
        np.testing.assert_allclose(softmax(found.logits, 1.0), by_hand(own, "test"), atol=1e-5)
    assert len(whole.read_predictions("test")) == 36
    done = whole.read_done()
    assert (done["folds"], done["final_model"]) == (2, {"kind": "mean", "members": 2})
    assert len(done["fold_accuracies"]) == 2
    assert not {"epochs", "best_epoch", "fold_epochs", "images_per_second"} & done.keys()
    assert not whole.history.exists()
    models = [load_run(folder.run(name, 0)) for name in ("plain", "probe")]
    mean = load_run(whole)
    assert isinstance(mean.module, Ensemble)
    assert len(mean.module.members) == (2 if final_model == "refit" else 4)
    pixels = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        expected = []
        for model in models:
            inputs = pixels
            if model.normalization is not None:
                center, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in model.normalization)
                inputs = (pixels - center) / scale
            logits = model.module(inputs)
            if model.flip_test:
                logits = (logits + model.module(inputs.flip(3))) / 2
            expected.append(model.probabilities(logits))
        averaged = torch.softmax(mean.module(pixels), 1)
    torch.testing.assert_close(averaged, torch.stack(expected).mean(0), atol=1e-5, rtol=1e-4)
    page = podium.report(folder.path, out=tmp_path / "page").read_text(encoding="utf-8")
    assert "mean of Plain, probe" in page
    assert "averages the probabilities of the 2 members" in podium.card(whole)


def test_seeds_are_averaged_with_their_own(
    pictures: Path, members: dict[str, Any], tmp_path: Path
) -> None:
    members = {"plain": members["plain"], "other": {"model": "simple_resnet"}}
    both = {"both": {"mean_of": ["plain", "other"]}}
    study = a_study(tmp_path, pictures, {**members, **both}, seeds=[0, 3])
    assert run(study) == 0
    for seed in (0, 3):
        own = [folder_of(study).run(name, seed) for name in ("plain", "other")]
        found = folder_of(study).run("both", seed).read_predictions("test")
        np.testing.assert_allclose(softmax(found.logits, 1.0), by_hand(own, "test"), atol=1e-5)
    heard: list[Event] = []
    shutil.rmtree(folder_of(study).run("both", 3).path)
    shutil.rmtree(folder_of(study).run("plain", 3).path)
    loaded = Study.load(study, runs=study.parent / "runs", audit=False, workers=0, device="cpu")
    assert not loaded.run(heard.append, only=["plain/seed-3", "both/seed-3"]).failed
    assert not [event for event in heard if isinstance(event, RunFailed)]

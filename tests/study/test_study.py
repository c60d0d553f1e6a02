"""Studies through the real command: run, go on, refuse, fail, report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from podium.cli.app import main
from podium.data.indexing import build_index
from podium.runs.folder import StudyFolder
from podium.runtime.events import BatchDone, Event
from podium.statistics.metrics import scores
from podium.study.pictures import store_pictures
from podium.study.study import Study
from tests.conftest import write_pictures

STUDY = {
    "name": "tiny",
    "title": "A tiny study",
    "data": "",
    "defaults": {"epochs": 2, "image_size": 32, "batch_size": 16, "lr": 1e-3},
    "contenders": {
        "plain": {"model": "simple_resnet"},
        "varied": {"model": "inception_resnet", "augmentation": "autoaugment"},
    },
}


def write_study(folder: Path, data: Path, **changes: object) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(
        yaml.safe_dump({**STUDY, "data": str(data), **changes}, sort_keys=False), encoding="utf-8"
    )
    return path


pytestmark = pytest.mark.usefixtures("undrawn")  # but for `finished`, whose report is whole


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A study that the command ran to its end; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("study")
    study = write_study(folder, pictures)
    assert main(["run", str(study), "--runs", str(folder / "runs"), "--workers", "0"]) == 0
    return folder / "runs" / "tiny"


def test_a_study_leaves_every_file_of_the_house(finished: Path) -> None:
    folder = StudyFolder(finished)
    spec = folder.read_spec()
    assert list(spec.contenders) == ["plain", "varied"]
    for run in folder.runs(spec):
        for path in (run.config, run.history, run.last, run.best, run.model, run.done):
            assert path.is_file(), path
        assert not run.failed.exists()
        done = run.read_done()
        assert done["epochs"] == len(run.read_history()) == 2
        assert done["test_accuracy"] == scores(run.read_predictions("test")).accuracy
        assert done["valid_accuracy"] == max(r["valid_accuracy"] for r in run.read_history())
    assert len(folder.read_thumbnails()) == 36
    assert (folder.report / "index.html").is_file()
    assert not list(finished.rglob("*.tmp"))


def test_pictures_do_not_delay_the_first_step_and_a_kill_before_them_is_mended(
    finished: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study.load(write_study(tmp_path, pictures), runs=tmp_path / "runs", workers=0)
    shutil.copytree(finished, study.folder.path)
    shutil.rmtree(study.folder.path / "plain")
    before = study.folder.read_thumbnails()
    study.folder.thumbnails.unlink()  # as after a kill between a run's end and its pictures
    study.folder.audit_pictures.unlink()
    seen: dict[type, bool] = {}

    def notify(event: Event) -> None:
        seen.setdefault(type(event), study.folder.thumbnails.is_file())

    assert not study.run(notify).failed
    assert seen[BatchDone] is False
    assert study.folder.read_thumbnails() == before
    assert study.folder.audit_pictures.is_file()

    run = study.folder.run("plain", 0)
    looked = run.explanations.read_bytes()
    study.folder.thumbnails.unlink()  # as after a kill right behind the end of the training
    run.explanations.unlink()
    assert all(outcome.skipped for outcome in study.run().outcomes)  # nothing left to train
    assert study.folder.read_thumbnails() == before
    assert run.explanations.read_bytes() == looked


def test_a_test_image_that_vanished_has_no_thumbnail(
    finished: Path, pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    study = Study.load(write_study(tmp_path, folder), runs=tmp_path / "runs", workers=0)
    index = build_index(folder)
    lost = index.splits["test"].paths[0]
    (folder / lost).unlink()
    store_pictures(study.folder, index)
    assert set(study.folder.read_thumbnails()) == set(index.splits["test"].paths[1:])


def test_macro_recall_is_accuracy_on_a_balanced_test_set(finished: Path) -> None:
    folder = StudyFolder(finished)
    for run in folder.runs(folder.read_spec()):
        total = scores(run.read_predictions("test"))
        assert total.macro_recall == pytest.approx(total.accuracy)


def test_contenders_see_the_same_images_in_the_same_order(finished: Path) -> None:
    folder = StudyFolder(finished)
    first, second = (run.read_predictions("test") for run in folder.runs(folder.read_spec()))
    assert first.paths == second.paths
    assert first.labels.tolist() == second.labels.tolist()


def test_running_again_trains_nothing(
    finished: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, tmp_path / "runs" / "tiny")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*.safetensors")}
    study = write_study(tmp_path, pictures)
    assert main(["run", str(study), "--runs", str(tmp_path / "runs")]) == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*.safetensors")} == before
    captured = capsys.readouterr()
    assert "epoch" not in captured.err
    assert "Report:" in captured.out


def test_a_new_contender_joins_and_the_others_stay(
    finished: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, tmp_path / "runs" / "tiny")
    contenders = {**STUDY["contenders"], "third": {"model": "simple_resnet", "seed": 1}}  # type: ignore[dict-item]
    study = write_study(tmp_path, pictures, contenders=contenders)
    command = ["run", str(study), "--runs", str(tmp_path / "runs"), "--workers", "0"]
    assert main(command) == 2  # `seed` is no setting of a recipe
    assert "contenders.third.seed: is not a setting" in capsys.readouterr().err
    contenders["third"] = {"model": "simple_resnet", "epochs": 1}
    write_study(tmp_path, pictures, contenders=contenders)
    assert main(command) == 0
    assert "third" in capsys.readouterr().err
    folder = StudyFolder(tmp_path / "runs" / "tiny")
    assert [run.is_done() for run in folder.runs(folder.read_spec())] == [True] * 3


def test_another_recipe_under_the_same_name_is_refused(
    finished: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, tmp_path / "runs" / "tiny")
    study = write_study(tmp_path, pictures)
    command = ["run", str(study), "--runs", str(tmp_path / "runs"), "--lr", "0.5"]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "lr: 0.001 -> 0.5" in told
    assert "--name" in told


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("nowhere", "There is no folder"),
        ("nowhere.csv", "There is no table"),
        ("nowhere.zip", "nowhere.zip does not exist"),
        ("hf:nobody/nothing", "is not on this machine"),
        ("runs", "There are no images in"),
    ],
)
def test_a_wrong_path_is_said_before_another_recipe(
    path: str,
    told: str,
    finished: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(finished, tmp_path / "runs" / "tiny", ignore=shutil.ignore_patterns("*.png"))
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(write_study(tmp_path, pictures)), "--lr", "0.5", "--data", path]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "another recipe" not in said


def test_other_images_under_the_same_name_are_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, tmp_path / "runs" / "tiny")
    other = write_pictures(tmp_path / "other", {"train": 4, "valid": 2, "test": 2})
    study = write_study(tmp_path, other)
    assert main(["run", str(study), "--runs", str(tmp_path / "runs")]) == 2
    assert "fingerprint" in capsys.readouterr().err


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of ResNet-18 is on this machine, and no network."""
    import torch

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.mark.usefixtures("no_weights")
def test_weights_out_of_reach_fail_one_contender_alone(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contenders = {
        "lost": {"model": "resnet18", "pretrained": True, "epochs": 1},
        "plain": {"model": "simple_resnet", "epochs": 1},
    }
    study = write_study(tmp_path, pictures, contenders=contenders)
    command = ["run", str(study), "--runs", str(tmp_path / "runs"), "--workers", "0", "--no-audit"]
    assert main(command) == 1
    told = capsys.readouterr()
    assert "resnet18-f37072fd.pth" in told.err
    assert "1 of 2 runs are done" in told.err
    runs = StudyFolder(tmp_path / "runs" / "tiny")
    spec = runs.read_spec()
    lost, plain = runs.runs(spec)
    assert json.loads(lost.failed.read_text())["reason"] == "WeightsUnavailableError"
    assert plain.is_done()
    page = (runs.report / "index.html").read_text(encoding="utf-8")
    assert "lost" in page


def test_several_seeds_make_several_runs(pictures: Path, tmp_path: Path) -> None:
    study = write_study(
        tmp_path, pictures, contenders={"plain": {"model": "simple_resnet", "epochs": 1}}
    )
    command = ["run", str(study), "--runs", str(tmp_path / "runs"), "--workers", "0", "--no-audit"]
    assert main([*command, "--seed", "0", "--seed", "1"]) == 0
    folder = StudyFolder(tmp_path / "runs" / "tiny")
    first, second = folder.runs(folder.read_spec())
    assert (first.seed, second.seed) == (0, 1)
    assert first.best.read_bytes() != second.best.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "nothing.yaml"], "the path of a YAML file"),
        (["run", "quick", "--data", "nowhere"], "There is no folder"),
        (["run", "quick", "--precision", "fp16", "--device", "cpu"], "needs a CUDA GPU"),
        (["run", "quick", "--device", "tpu"], "expected auto, cpu, cuda"),
        (["run", "quick", "--precision", "fp8"], "--precision"),
        (["run", "quick", "--devices", "4000"], "--devices"),
        (["run", "quick", "--set", "nonsense"], "KEY=VALUE"),
        (["train", "resnet19", "--data", "{pictures}", "--epochs", "1"], "Did you mean"),
        (["report", "nowhere"], "not a study folder"),
        (
            ["evaluate", "nowhere", "--data", "{pictures}"],
            "nowhere does not exist: expected a run folder",
        ),
        (["augment", "nowhere.jpg"], "nowhere.jpg"),
        (["studies", "nothing"], "Expected one of demo"),
        (["models", "--timm", "nosuchmodel"], "no timm model matches"),
        (["data", "fetch", "nothing"], "nothing"),
        (["nonsense"], "No such command"),
        (["run"], "Missing argument"),
    ],
)
def test_mistakes_end_with_two_and_a_remedy(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pictures: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [word.replace("{pictures}", str(pictures)) for word in arguments]
    if arguments[:2] == ["run", "quick"] and "--data" not in arguments:
        arguments = [*arguments, "--data", str(pictures)]
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert expected.split()[0] in told
    assert expected in " ".join(told.replace("│", " ").split())
    assert "Traceback" not in told


def test_evaluate_scores_a_run_on_a_folder(
    finished: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished / "plain" / "seed-0"
    saved = tmp_path / "p.parquet"
    assert main(["evaluate", str(run), "--data", str(pictures), "--save", str(saved)]) == 0
    told = capsys.readouterr().out
    accuracy = json.loads((run / "done.json").read_text())["test_accuracy"]
    assert f"accuracy {100 * accuracy:.2f} % of 36 images" in told
    from podium.runs.predictions import Predictions

    stored = StudyFolder(finished).run("plain", 0).read_predictions("test")
    assert Predictions.read(saved).logits.tobytes() == stored.logits.tobytes()


def test_evaluate_refuses_other_classes(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_pictures(tmp_path, {"train": 3, "valid": 3, "test": 3}, ("circle", "<b>dots"))
    assert main(["evaluate", str(finished / "plain" / "seed-0"), "--data", str(other)]) == 2
    assert "<b>dots" in capsys.readouterr().err


def test_interrupt_ends_with_130_and_the_next_run_goes_on(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import os
    import signal
    import subprocess
    import sys
    import time

    study = write_study(
        tmp_path, pictures, contenders={"plain": {"model": "simple_resnet", "epochs": 300}}
    )
    command = ["run", str(study), "--runs", str(tmp_path / "runs"), "--workers", "0", "--no-audit"]
    process = subprocess.Popen(
        [sys.executable, "-m", "podium", *command], stderr=subprocess.PIPE, text=True
    )
    history = tmp_path / "runs" / "tiny" / "plain" / "seed-0" / "history.csv"
    deadline = time.monotonic() + 120
    while not history.is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "resumes from there" in told
    epochs = len(history.read_text().splitlines()) - 1
    assert epochs >= 1
    run = StudyFolder(tmp_path / "runs" / "tiny").run("plain", 0)
    from podium.training.checkpoint import read_checkpoint

    assert len(read_checkpoint(run.last)["rows"]) == epochs


def test_a_failure_that_is_no_mistake_ends_with_one(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import podium.auditing

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the moon")

    monkeypatch.setattr(podium.auditing, "index_data", broken)
    study = write_study(tmp_path, pictures)
    command = ["run", str(study), "--runs", str(tmp_path / "runs")]
    assert main(command) == 1
    told = capsys.readouterr().err
    assert "RuntimeError: the moon" in told
    assert "Traceback" not in told
    with pytest.raises(RuntimeError, match="the moon"):
        main([*command, "--debug"])


@pytest.mark.usefixtures("no_weights")
def test_a_stand_in_stands_in_for_every_seed(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Seeds of one contender must not be of two models, though weights turn up in between."""
    helped = {
        "model": "resnet18",
        "pretrained": True,
        "if_unavailable": "efficientnet_lite0",
        "epochs": 1,
    }
    study = write_study(tmp_path, pictures, contenders={"helped": helped})
    command = ["run", str(study), "--runs", str(tmp_path / "runs"), "--workers", "0", "--no-audit"]
    assert main(command) == 0
    heading = "\nhelped (EfficientNet-Lite0 in place of ResNet-18)\n"
    assert heading in capsys.readouterr().err
    monkeypatch.setattr("podium.models.check_weights", lambda *_, **__: None)
    assert main([*command, "--seed", "0", "--seed", "1"]) == 0
    folder = StudyFolder(tmp_path / "runs" / "tiny")
    first, second = folder.runs(folder.read_spec())
    assert first.read_done()["stood_in_for"] == "resnet18"
    assert first.read_done()["model"] == second.read_done()["model"] == "efficientnet_lite0"

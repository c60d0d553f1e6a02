"""The receipt of a study's verdicts: what is in it, and that nothing of it can change unnoticed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from scipy.stats import binom

import podium
from podium.cli.app import main
from podium.results.receipt import receipt_of, receipt_text
from podium.results.study import gather
from podium.runs.folder import StudyFolder
from podium.runs.ledger import LEDGER
from tests.conftest import reports_undrawn, write_pictures
from tests.fake_study import fake_study

RECIPE = {"model": "simple_resnet", "epochs": 2, "image_size": 32, "batch_size": 16}


def run_study(runs: Path, images: Path, **changes: Any) -> StudyFolder:
    """A study through the command: two contenders that differ in their learning rate."""
    study = {
        "name": "sealed",
        "data": {"path": str(images), **changes.pop("data", {})},
        "contenders": {"slow": {**RECIPE, "lr": 1e-4}, "quick": {**RECIPE, "lr": 1e-2}},
        **changes,
    }
    path = runs / "study.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    with reports_undrawn():
        assert main(["run", str(path), "--runs", str(runs), "--workers", "0", "--no-audit"]) == 0
    return StudyFolder(runs / "sealed")


@pytest.fixture(scope="module")
def sealed(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return run_study(tmp_path_factory.mktemp("sealed"), pictures)


@pytest.fixture
def study(sealed: StudyFolder, tmp_path: Path) -> StudyFolder:
    """A copy to tamper with, beside its ledger."""
    shutil.copytree(sealed.path.parent, tmp_path / "runs")
    return StudyFolder(tmp_path / "runs" / "sealed")


def read(study: StudyFolder) -> dict[str, Any]:
    return dict(json.loads(study.receipt.read_text(encoding="utf-8")))


def test_a_receipt_says_what_the_verdicts_follow_from(sealed: StudyFolder) -> None:
    found = read(sealed)
    assert found["format"] == 1
    assert (found["study"], found["unfinished"]) == ("sealed", [])
    data = sealed.read_data()
    assert found["images"]["test"]["images"] == data["test_fingerprint"]
    assert {name: one["n"] for name, one in found["images"].items()} == data["totals"]
    for name, one in found["contenders"].items():
        run = sealed.run(name, 0)
        own = one["runs"]["seed-0"]
        files = {file: sealed.path / name / "seed-0" / file for file in own["predictions"]}
        assert set(files) == {"predictions-test.parquet", "predictions-valid.parquet"}
        for file, path in files.items():
            assert own["predictions"][file] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert own["weights"] == hashlib.sha256(run.best.read_bytes()).hexdigest()
        assert own["recipe"] == one["recipe"]
        assert own["accuracy"] == pytest.approx(run.read_done()["test_accuracy"])
    assert len(found["looks"]) == 2
    assert "sealed/slow/seed-0 run" in found["looks"][0]
    pair = found["verdict"]["pairs"]["slow - quick"]
    right = [
        test.predicted == test.labels
        for test in (sealed.run(name, 0).read_predictions("test") for name in ("slow", "quick"))
    ]
    only = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    fewer, total = min(only), sum(only)
    p = 2 * binom.cdf(fewer - 1, total, 0.5) + binom.pmf(fewer, total, 0.5)
    assert (pair["only_first"], pair["only_second"]) == only
    assert pair["test"] == "McNemar, mid-p"
    assert pair["p"] == pytest.approx(1.0 if only[0] == only[1] else p)


def test_the_text_has_no_date_and_no_folder(sealed: StudyFolder, study: StudyFolder) -> None:
    before = sealed.receipt.read_bytes()
    assert receipt_text(receipt_of(gather(study))).encode() == before
    with reports_undrawn():
        assert main(["report", str(study.path)]) == 0
    assert study.receipt.read_bytes() == before
    with reports_undrawn():  # a report elsewhere leaves the study as it is
        study.receipt.unlink()
        assert main(["report", str(study.path), "--to", str(study.path.parent / "page")]) == 0
    assert not study.receipt.exists()


def test_an_untouched_study_agrees(study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(study.receipt)]) == 0
    told = capsys.readouterr().out
    assert told.count("agrees") == 7
    assert hashlib.sha256(study.receipt.read_bytes()).hexdigest() in told
    assert main(["verify", str(study.path)]) == 0  # its folder will do
    elsewhere = study.path.parent / "published.json"
    shutil.copy(study.receipt, elsewhere)
    assert main(["verify", str(elsewhere), "--study", str(study.path)]) == 0


def change_prediction(study: StudyFolder) -> None:
    """One image of one run is now classified correctly, or no longer."""
    run = study.run("slow", 0)
    test = run.read_predictions("test")
    right = int(test.labels[0])
    logits = test.logits.copy()
    logits[0] = 0
    logits[0, right if test.predicted[0] != right else right - 1] = 9
    podium.Predictions(test.class_names, test.paths, test.labels, logits).write(
        run.predictions("test")
    )


def change_label(study: StudyFolder) -> None:
    run = study.run("slow", 0)
    test = run.read_predictions("test")
    labels = test.labels.copy()
    labels[0] = (labels[0] + 1) % 3
    podium.Predictions(test.class_names, test.paths, labels, test.logits).write(
        run.predictions("test")
    )
    # with one other label, the contenders cannot be compared at all


def in_text(name: str, old: str, new: str) -> Callable[[StudyFolder], None]:
    def change(study: StudyFolder) -> None:
        path = study.path / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def forget_a_look(study: StudyFolder) -> None:
    for ledger in (study.path / LEDGER, study.path.parent / LEDGER):
        lines = ledger.read_text(encoding="utf-8").splitlines(keepends=True)
        ledger.write_text("".join(lines[1:]), encoding="utf-8")


def change_a_look(study: StudyFolder) -> None:
    for ledger in (study.path / LEDGER, study.path.parent / LEDGER):
        first, *others = ledger.read_text(encoding="utf-8").splitlines()
        line = {**json.loads(first), "accuracy": 0.99}
        text = json.dumps(line, ensure_ascii=False, sort_keys=True)
        ledger.write_text("\n".join([text, *others, ""]), encoding="utf-8")


def change_table(study: StudyFolder) -> None:
    table = pq.read_table(study.images)
    values = table.column("sha256").to_pylist()
    at = table.column("split").to_pylist().index("test")
    values[at] = "0" * 64
    place = table.column_names.index("sha256")
    pq.write_table(table.set_column(place, "sha256", [values]), study.images)


def change_verdict(study: StudyFolder) -> None:
    receipt = read(study)
    receipt["verdict"]["pairs"]["slow - quick"]["p"] += 0.001
    study.receipt.write_text(json.dumps(receipt), encoding="utf-8")


def change_weights(study: StudyFolder) -> None:
    path = study.run("quick", 0).best
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def break_predictions(study: StudyFolder) -> None:
    study.run("slow", 0).predictions("test").write_bytes(b"not a table")


TAMPERED: dict[str, tuple[Callable[[StudyFolder], None], list[str]]] = {
    "a prediction": (
        change_prediction,
        [
            "! predictions: slow/seed-0/predictions-test.parquet: ",
            "! predictions: slow/seed-0: test_accuracy is ",
            "! looks: slow/seed-0: the ledger has an accuracy of ",
            "! verdict: slow - quick, only_",
        ],
    ),
    "a label": (
        change_label,
        ["! predictions: slow/seed-0: the label of test/", "! predictions: slow/seed-0/predic"],
    ),
    "the study's recipe": (
        in_text("study.yaml", "lr: 0.01", "lr: 0.02"),
        [
            "! recipes: quick, recipe in study.yaml: ",
            "! recipes: quick/seed-0: config.yaml -> study.yaml differ: lr: 0.01 -> 0.02",
        ],
    ),
    "a run's recipe": (
        in_text("quick/seed-0/config.yaml", "lr: 0.01", "lr: 0.001"),
        ["! recipes: quick/seed-0/config.yaml, recipe: ", "lr: 0.001 -> 0.01"],
    ),
    "a run's code": (
        in_text("quick/seed-0/config.yaml", "recipe:", "code: {model: other}\nrecipe:"),
        ["! recipes: quick/seed-0/config.yaml, code: "],
    ),
    "a look forgotten": (forget_a_look, ["! looks: the ledger lacks ", "sealed/slow/seed-0 run"]),
    "a look changed": (
        change_a_look,
        ["! looks: the ledger lacks ", "! looks: the receipt lacks ", "accuracy of 0.99 on 36"],
    ),
    "the images": (
        change_table,
        ["! images: test, bytes or labels: ", "! images: test_fingerprint in data.json is "],
    ),
    "the fingerprint": (
        in_text("data.json", '"test_fingerprint": "', '"test_fingerprint": "0'),
        ["! images: test_fingerprint in data.json is ", "! looks: the ledger lacks "],
    ),
    "the verdict": (change_verdict, ["! verdict: slow - quick, p: "]),
    "the winner": (
        in_text("verdict.json", '"verdict": "', '"verdict": "surely '),
        ["! verdict: slow - quick, verdict: surely "],
    ),
    "a hash": (
        in_text(
            "verdict.json", '"predictions-valid.parquet": "', '"predictions-valid.parquet": "f'
        ),
        ["! predictions: slow/seed-0/predictions-valid.parquet: f"],
    ),
    "the weights": (
        change_weights,
        [
            "! weights: quick/seed-0/best.safetensors: ",
            "! weights: quick/seed-0: the ledger has no scoring of its weights",
        ],
    ),
    "a broken file": (break_predictions, ["! predictions: slow: there in the receipt, absent now"]),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_is_tampered_with_is_found_and_named(
    what: str, study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    change, named = TAMPERED[what]
    change(study)
    capsys.readouterr()
    assert main(["verify", str(study.receipt)]) == 1
    told = capsys.readouterr().out
    for text in named:
        assert text in told, told
    assert "do not agree" in told


def test_a_later_look_is_told_and_no_difference(
    study: StudyFolder, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = study.path.parent / LEDGER
    line = json.loads(ledger.read_text(encoding="utf-8").splitlines()[-1])
    later = {**line, "at": "2999-01-01T00:00:00+00:00", "by": "evaluate"}
    with open(ledger, "a", encoding="utf-8") as file:
        file.write(json.dumps(later) + "\n")
    found = podium.verify(study.receipt)
    assert found.agrees
    assert len(found.notes) == 1
    assert "scored 1 time more since" in found.notes[0]


def test_weights_that_are_gone_are_told(study: StudyFolder) -> None:
    study.run("quick", 0).best.unlink()
    found = podium.verify(study.path)
    assert found.agrees
    assert found.notes == ("quick/seed-0: its weights are not here.",)


def test_mistakes_of_a_user_end_with_2(
    study: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(tmp_path / "none.json")]) == 2
    alone = tmp_path / "alone.json"
    shutil.copy(study.receipt, alone)
    assert main(["verify", str(alone)]) == 2
    assert "--study" in capsys.readouterr().err
    for text, said in (
        ("[]", "is not a receipt"),
        ('{"a": 1}', "is not a receipt"),
        ("{", "cannot be read as JSON"),
        ('{"format": 9, "podium": "7.0"}', "format 9"),
    ):
        study.receipt.write_text(text, encoding="utf-8")
        assert main(["verify", str(study.receipt)]) == 2
        assert said in " ".join(capsys.readouterr().err.split())


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Folds of whole groups, repeated, judged by macro F1."""
    images = write_pictures(tmp_path_factory.mktemp("flat"), {"": 12})
    data = {"folds": 2, "repeats": 2, "group": r"(?P<group>\d)\.png"}
    runs = tmp_path_factory.mktemp("crossed")
    return run_study(runs, images, data=data, seeds=[1], metric="macro_f1", final_model="ensemble")


def test_folds_groups_and_another_metric(
    crossed: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read(crossed)
    run = found["contenders"]["slow"]["runs"]["seed-1"]
    folds = {f"fold-{number}/predictions-test.parquet" for number in range(4)}
    whole = {f"predictions-{name}.parquet" for name in ("valid", "test", "test-repeat-1")}
    assert set(run["predictions"]) == folds | whole
    assert found["tests"]["folds"]["folds"] == 2
    assert found["tests"]["groups"] == 10
    assert found["tests"]["metric"]["name"] == "macro_f1"
    pair = found["verdict"]["pairs"]["slow - quick"]
    assert (pair["about"], pair["test"]) == ("methods", "corrected resampled t")
    shutil.copytree(crossed.path.parent, tmp_path / "runs")
    study = StudyFolder(tmp_path / "runs" / "sealed")
    assert main(["verify", str(study.path)]) == 0
    fold = study.run("quick", 1, 3).predictions("test")
    test = podium.Predictions.read(fold)
    turned = podium.Predictions(test.class_names, test.paths, test.labels, -test.logits)
    turned.write(fold)
    capsys.readouterr()
    assert main(["verify", str(study.path)]) == 1
    assert "quick/seed-1/fold-3/predictions-test.parquet" in capsys.readouterr().out


def test_several_seeds_and_no_table_of_images(tmp_path: Path) -> None:
    """A study of an earlier version has neither a table of images nor recipes of runs."""
    study = fake_study(tmp_path / "old", ("golf", "judo", "polo"), contenders=3, seeds=(0, 1, 2))
    with reports_undrawn():
        podium.report(study.path)
    found = read(study)
    assert found["images"] == {}
    assert len(found["verdict"]["pairs"]) == 3
    assert found["verdict"]["pairs"]["simple_resnet - inception_resnet"]["about"] == "methods"
    assert np.isfinite(found["tests"]["margin"])
    assert podium.verify(study.path).agrees

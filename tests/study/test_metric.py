"""A study that goes by a metric of one's own: three ways in, resume, choice and report."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import podium
from podium.cli.app import main
from podium.config import registry
from podium.config.registry import METRICS, allow, allowed
from podium.deploy.find.choose import choose_run
from podium.runs.folder import HISTORY_COLUMNS, StudyFolder
from podium.runtime.files import write_json
from podium.statistics.scoring import find_metric
from podium.training.validation import in_order_of_images
from tests.conftest import reports_undrawn, write_pictures

OWN = """
import podium

@podium.register_metric(name="{name}", title="Cost in euros", greater_is_better=False,
                        bounds=(0, 10))
def price(logits, labels):
    wrong = logits.argmax(axis=1) != labels
    return float((wrong * (1 + 9 * (labels == 0))).mean())
"""


pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers, allows and imports is gone after it."""
    monkeypatch.setattr(METRICS, "_found", dict(METRICS._found))
    monkeypatch.setattr(METRICS, "_origin", dict(METRICS._origin))
    path, modules, before = list(sys.path), set(sys.modules), allowed()
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("euro"):
            del sys.modules[name]
    registry._ALLOWED.clear()
    registry._ALLOWED.update(before)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(
        tmp_path_factory.mktemp("few"), {"train": 6, "valid": 5, "test": 6}, side=32
    )


def run_study(folder: Path, data: Path, metric: str, *words: str, **changes: Any) -> int:
    recipe = {"model": "simple_resnet", "image_size": 32, "batch_size": 8, "lr": 3e-3, "epochs": 2}
    spec = {
        "name": "own",
        "data": str(data),
        "metric": metric,
        "contenders": {"one": recipe, "two": {**recipe, "lr": 1e-5}},
        **changes,
    }
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    given = ["--runs", str(folder / "runs"), "--workers", "0", "--no-audit", *words]
    return main(["run", str(path), *given])


def text_of(study: StudyFolder) -> str:
    text = (study.report / "index.html").read_text(encoding="utf-8")
    text = re.sub(r"<(style|script).*?</\1>|<[^>]+>", " ", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", text)


def check(study: StudyFolder, name: str) -> None:
    """The metric chose the epoch, and its values are those of the predictions."""
    metric = find_metric(name)
    for run in study.runs(study.read_spec()):
        done, rows = run.read_done(), run.read_history()
        values = [row[metric.column] for row in rows]
        assert done["best_epoch"] == 1 + int(np.argmax([metric.merit(one) for one in values]))
        for split in ("valid", "test"):
            found = run.read_predictions(split)
            expected = metric.score(found.logits, found.labels)
            assert done["metric"][split] == pytest.approx(expected, abs=1e-12)
        assert max(map(metric.merit, values)) == pytest.approx(
            metric.merit(done["metric"]["valid"])
        )


def test_a_file_beside_the_study(tmp_path: Path, few: Path) -> None:
    (tmp_path / "euros.py").write_text(OWN.format(name="euro_price"), encoding="utf-8")
    allow("euros", tmp_path)
    assert run_study(tmp_path, few, "euros:price") == 0
    study = StudyFolder(tmp_path / "runs" / "own")
    check(study, "euros:price")
    text = text_of(study)
    assert "Judged by Cost in euros." in text
    assert "in Cost in euros" in text
    assert "best epoch was chosen by Cost in euros on the validation images" in text
    with open(study.report / "tables" / "places.csv", encoding="utf-8", newline="") as file:
        places = list(csv.DictReader(file))
    tests = {run.contender: run.read_done()["metric"]["test"] for run in
             study.runs(study.read_spec())}  # fmt: skip
    assert [one["contender"] for one in places] == sorted(tests, key=lambda name: tests[name])
    assert all(float(one["metric_value"]) == pytest.approx(tests[one["contender"]])
               for one in places)  # fmt: skip

    # the same report where nobody has asked for the code: the order stays, the tests say why not
    registry._ALLOWED.clear()
    METRICS._found.pop("euros:price")
    assert main(["report", str(study.path), "--dpi", "50"]) == 0
    text = text_of(study)
    assert "This study uses Cost in euros" in text
    assert "are based on accuracy instead" in text
    assert "--import euros" in text
    assert "Judged by accuracy." in text
    best = min(tests, key=lambda name: tests[name])
    assert f"{best} had the best test Cost in euros" in text
    assert choose_run(study.path).contender == min(
        tests, key=lambda name: study.run(name, 0).read_done()["metric"]["valid"]
    )


def test_an_installed_package(tmp_path: Path, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    (site / "euro_metrics-1.0.dist-info").mkdir(parents=True)
    (site / "euro_metrics.py").write_text(OWN.format(name="euro_price"), encoding="utf-8")
    told = site / "euro_metrics-1.0.dist-info"
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: euro-metrics\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text("[podium.metrics]\neuro_price = euro_metrics:price\n")
    monkeypatch.syspath_prepend(str(site))
    assert "euro_price" in METRICS.names()
    assert run_study(tmp_path, few, "euro_price") == 0
    check(StudyFolder(tmp_path / "runs" / "own"), "euro_price")


def test_a_call_in_python(tmp_path: Path, few: Path) -> None:
    @podium.register_metric(name="least_recall", bounds=(0, 1), percent=True)
    def least(logits: Any, labels: Any) -> float:
        right = logits.argmax(axis=1) == labels
        return min(float(right[labels == one].mean()) for one in np.unique(labels))

    run = podium.train(
        few, runs=tmp_path, metric="least_recall", epochs=2, image_size=32, lr=1e-3,
        machine={"workers": 0},
    )  # fmt: skip
    check(StudyFolder(tmp_path / "simple_resnet"), "least_recall")
    assert run.read_config()["metric"] == "least_recall"


@pytest.fixture(scope="module")
def by_f1(tmp_path_factory: pytest.TempPathFactory, few: Path) -> Path:
    folder = tmp_path_factory.mktemp("f1")
    with reports_undrawn():
        assert run_study(folder, few, "macro_f1") == 0
    return folder


def test_another_metric_is_another_recipe(
    by_f1: Path, few: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_study(by_f1, few, "macro_f1") == 0  # done: nothing is trained
    assert run_study(by_f1, few, "macro_f1", "--metric", "log_loss") == 2
    assert "another recipe (metric: macro_f1 -> log_loss)" in " ".join(
        capsys.readouterr().err.split()
    )
    study = StudyFolder(by_f1 / "runs" / "own")
    check(study, "macro_f1")
    rows = study.run("one", 0).read_history()
    assert list(rows[0]) == [*HISTORY_COLUMNS, "valid_macro_f1"]


def test_a_checkpoint_of_another_metric_is_refused(by_f1: Path, few: Path) -> None:
    from podium.config.settings import RunSpec
    from podium.errors import RunFolderError
    from podium.training.checkpoint import read_checkpoint, refuse_another

    run = StudyFolder(by_f1 / "runs" / "own").run("one", 0)
    state = read_checkpoint(run.last)
    recipe = RunSpec.model_validate(run.read_config()["recipe"])
    refuse_another(run.last, state, recipe, state["fingerprint"], "macro_f1")
    with pytest.raises(RunFolderError, match="metric: macro_f1 -> accuracy"):
        refuse_another(run.last, state, recipe, state["fingerprint"])


def test_a_studys_best_run_is_chosen_by_its_metric(by_f1: Path) -> None:
    study = StudyFolder(by_f1 / "runs" / "own")
    told: list[str] = []
    for name, value, accuracy in (("one", 0.9, 0.1), ("two", 0.8, 0.9)):
        run = study.run(name, 0)
        done = run.read_done()
        metric = {**done["metric"], "valid": value}
        write_json(run.done, {**done, "metric": metric, "valid_accuracy": accuracy})
    assert choose_run(study.path, told.append).contender == "one"
    assert "macro F1 90.0 %" in told[0]


def test_a_name_that_is_none_is_told_with_the_nearest(
    tmp_path: Path, few: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_study(tmp_path, few, "macro_f") == 2
    assert "no metric 'macro_f'. Did you mean macro_f1?" in " ".join(
        capsys.readouterr().err.split()
    )


def test_a_metric_that_cannot_rank_is_refused_before_anything_is_trained(
    tmp_path: Path, few: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_study(tmp_path, few, "top3_accuracy") == 2
    assert "cannot rank anything" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "runs" / "own" / "one" / "seed-0" / "last.ckpt").exists()


def test_two_processes_give_the_metric_of_all_images(few: Path, tmp_path: Path) -> None:
    """Macro F1 is no mean of the parts that each process has seen."""
    run = podium.train(
        few, runs=tmp_path, metric="macro_f1", epochs=1, image_size=32, lr=1e-3, batch_size=8,
        machine={"workers": 0, "devices": 2, "precision": "fp32", "device": "cpu"},
    )  # fmt: skip
    found = run.read_predictions("valid")
    expected = find_metric("macro_f1").score(found.logits, found.labels)
    assert run.read_history()[0]["valid_macro_f1"] == pytest.approx(expected)


def test_rows_of_three_processes_come_in_the_order_of_the_images() -> None:
    import torch

    every = torch.arange(14.0).reshape(7, 2)

    class Fabric:
        world_size, device = 3, torch.device("cpu")

        def all_gather(self, part: torch.Tensor) -> torch.Tensor:
            padded = torch.zeros(3, 3, 2)
            for rank in range(3):
                padded[rank, : len(every[rank::3])] = every[rank::3]
            assert torch.equal(part, padded[1])
            return padded

    made: Any = Fabric()
    assert torch.equal(in_order_of_images(made, every[1::3], 7), every)


def test_a_linear_probe_notes_the_metric_too(tmp_path: Path, few: Path) -> None:
    run = podium.train(
        few, "efficientnet_lite0", runs=tmp_path, metric="log_loss", epochs=2, image_size=48,
        pretrained=True, linear_probe=True, machine={"workers": 0, "precision": "fp32"},
    )  # fmt: skip
    rows = run.read_history()
    assert [row["valid_log_loss"] for row in rows] == pytest.approx(
        [row["valid_loss"] for row in rows], abs=1e-4
    )

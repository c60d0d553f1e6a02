"""Advice: each rule applies where its evidence is, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from podium.auditing import Audit, DuplicatePair, write_audit
from podium.reporting.build import build_report
from podium.reporting.words.advice_words import advice
from podium.reporting.words.labels import labels
from podium.results.advice.advise import RULES, advise
from podium.results.advice.finding import Finding
from podium.results.study import gather
from podium.runs.folder import StudyFolder
from podium.runs.predictions import Predictions
from podium.runtime.files import write_json, write_text
from tests.conftest import reports_undrawn
from tests.fake_study import fake_study

CLASSES = ("archery", "boxing", "chess", "diving")


def study(root: Path, **values: Any) -> StudyFolder:
    given = {"contenders": 2, "per_class": 25, "epochs": 12, "skill": (0.5, 0.97)}
    return fake_study(root, CLASSES, **{**given, **values})


def found(folder: StudyFolder, rule: str) -> list[Finding]:
    return [one for one in advise(gather(folder)) if one.rule == rule]


def train_as(folder: StudyFolder, name: str, valid: list[float], train: float = 0.6) -> None:
    """Give a contender these validation accuracies, and the best of them as the kept epoch."""
    for seed in folder.read_spec().every_seed:
        run = folder.run(name, seed)
        rows = run.read_history()[: len(valid)]
        for row, accuracy in zip(rows, valid, strict=True):
            row |= {"valid_accuracy": accuracy, "train_accuracy": train}
        run.write_history(rows)
        best = int(np.argmax(valid)) + 1
        write_json(run.done, {**run.read_done(), "best_epoch": best, "epochs": len(valid)})


RISING = [0.1 + 0.05 * epoch for epoch in range(12)]


@pytest.mark.parametrize(
    ("valid", "applies"),
    [
        (RISING, True),
        (RISING[:7], False),  # too few epochs to tell
        ([0.5] * 11 + [0.505], False),  # half a point is nothing
        ([0.3, 0.6] * 6, False),  # within the noise
        (RISING[::-1], False),
        ([*RISING[:6], 0.9, *RISING[7:]], False),  # the kept epoch is an early one
    ],
)
def test_still_rising(tmp_path: Path, valid: list[float], applies: bool) -> None:
    folder = study(tmp_path / "rising")
    train_as(folder, "simple_resnet", valid)
    train_as(folder, "simple_resnet-autoaugment", [0.9] * 12)
    result = found(folder, "still_rising")
    assert [one.contender for one in result] == ["simple_resnet"] * applies
    if applies:
        assert result[0].shares["late"] == pytest.approx(np.mean(valid[9:]))
        assert result[0].shares["before"] == pytest.approx(np.mean(valid[6:9]))


def test_memorised_images_take_no_longer_training(tmp_path: Path) -> None:
    folder = study(tmp_path / "both", contenders=1, skill=(0.5,))
    train_as(folder, "simple_resnet", RISING, train=1.0)
    assert [one.rule for one in advise(gather(folder))][:1] == ["overfitting"]
    assert found(folder, "still_rising") == []


def test_overfitting_names_what_helped_here(tmp_path: Path) -> None:
    folder = study(tmp_path / "memorised")
    train_as(folder, "simple_resnet", [0.5] * 12, train=1.0)
    train_as(folder, "simple_resnet-autoaugment", [0.9] * 12, train=0.9)
    (one,) = found(folder, "overfitting_helped")
    assert one.names["helped"] == "SimpleResNet + AutoAugment"
    valid = folder.run("simple_resnet", 0).read_predictions("valid")
    right = float((valid.predicted == valid.labels).mean())
    assert one.shares["train"] == 1.0
    assert one.shares["valid"] == pytest.approx(right)
    assert found(folder, "overfitting") == []


def test_overfitting_without_a_remedy_and_a_model_that_generalises(tmp_path: Path) -> None:
    folder = study(tmp_path / "alone", contenders=1, skill=(0.5,))
    train_as(folder, "simple_resnet", [0.5] * 12, train=0.99)
    assert len(found(folder, "overfitting")) == 1
    train_as(folder, "simple_resnet", [0.5] * 12, train=0.97)
    assert found(folder, "overfitting") == []
    good = study(tmp_path / "good", contenders=1, skill=(0.97,))
    train_as(good, "simple_resnet", [0.95] * 12, train=1.0)
    assert found(good, "overfitting") == []


def test_identical_seeds(tmp_path: Path) -> None:
    folder = study(tmp_path / "seeds", seeds=(0, 1))
    assert found(folder, "identical_seeds") == []
    first, second = (folder.run("simple_resnet", seed) for seed in (0, 1))
    for split in ("test", "valid"):
        first.read_predictions(split).write(second.predictions(split))
    (one,) = found(folder, "identical_seeds")
    assert (one.contender, one.counts["count"]) == ("simple_resnet", 2)


def test_one_confusion(tmp_path: Path) -> None:
    folder = study(tmp_path / "confused", contenders=1, skill=(0.9,))
    run = folder.run("simple_resnet", 0)
    test = run.read_predictions("test")
    said = test.labels.copy()
    said[:8] = 2  # 8 of 25 images of archery are taken for chess, and 2 for boxing
    said[8:10] = 1
    said[25:28] = (0, 2, 3)  # three mistakes of three kinds are none
    logits = np.eye(4, dtype=np.float32)[said] * 5
    Predictions(test.class_names, test.paths, test.labels, logits).write(run.predictions("test"))
    (one,) = found(folder, "one_confusion")
    assert (one.names["true"], one.names["predicted"]) == ("archery", "chess")
    assert (one.counts["images"], one.counts["support"]) == (8, 25)


@pytest.mark.parametrize(
    ("chosen", "rule"), [(0, "penalty_strongest"), (1, ""), (2, "penalty_weakest")]
)
def test_penalty_at_the_edge(tmp_path: Path, chosen: int, rule: str) -> None:
    folder = study(tmp_path / "probe", contenders=1, skill=(0.9,))
    rows = [f"{penalty},{place == chosen}" for place, penalty in enumerate((100.0, 1e-2, 1e-6))]
    write_text(folder.run("simple_resnet", 0).probe, "\n".join(["penalty,chosen", *rows]) + "\n")
    rules = [one.rule for one in advise(gather(folder)) if one.rule.startswith("penalty")]
    assert rules == [rule] * bool(rule)


def test_leaked_images_are_advice_with_a_link_on_the_page(tmp_path: Path) -> None:
    folder = study(tmp_path / "leaky", contenders=1, skill=(0.9,))
    assert found(folder, "leaked_images") == []
    leak = DuplicatePair(
        "near", "train/a.jpg", "test/b.jpg", "train", "test", "chess", "chess", 3, 0.98
    )
    audit = Audit(
        fingerprint=str(folder.read_data()["fingerprint"]), root="somewhere",
        class_counts={"train": {}, "valid": {}, "test": {}}, oddities=(),
        totals={"images": 100, "classes": 4, "greyscale": 0, "skipped": 0, "train": 50,
                "valid": 10, "test": 40},
        pairs=(leak,), groups=(), labels=None, seconds={"total": 1.0},
        settings={"max_distance": 14, "min_similarity": 0.9, "tiny": 32, "extreme_shape": 4.0},
    )  # fmt: skip
    write_audit(audit, folder.audit)
    (one,) = found(folder, "leaked_images")
    assert one.counts == {"count": 1, "n": 40}
    with reports_undrawn():
        html = build_report(folder, helpers=0).index.read_text(encoding="utf-8")
    assert '<a href="#audit">Take copies out of the test images</a>' in html


@pytest.mark.parametrize("lang", ["en", "pt"])
def test_every_finding_has_words(lang: str) -> None:
    say = labels(lang)
    kinds = [
        "leaked_images",
        "overfitting",
        "overfitting_helped",
        "still_rising",
        "penalty_weakest",
        "penalty_strongest",
        "one_confusion",
        "identical_seeds",
    ]
    for kind in kinds:
        assert {f"advice_{kind}_what", f"advice_{kind}_why"} <= say.words.keys()


def test_every_rule_has_a_file_of_its_own_and_a_line_in_the_docs() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "advice.md"
    told = page.read_text(encoding="utf-8")
    for rule in RULES:
        assert rule.__module__ == f"podium.results.advice.{rule.__name__}"
        assert f"::: {rule.__module__}.{rule.__name__}" in told


def test_a_study_without_findings_has_no_advice(tmp_path: Path) -> None:
    folder = study(tmp_path / "fine", contenders=1, skill=(1.0,))
    train_as(folder, "simple_resnet", [0.95] * 12, train=0.96)
    assert advice(gather(folder), labels("en")) == []
    with reports_undrawn():
        html = build_report(folder, helpers=0).index.read_text(encoding="utf-8")
    assert 'id="advice"' not in html

"""Slices on the page and in tables, in both languages, from a study's files."""

from __future__ import annotations

import csv
import hashlib
import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from podium.cli.ending import print_ending
from podium.reporting.build import ReportResult, build_report
from podium.reporting.page.slice_section import slice_section
from podium.reporting.words.labels import labels
from podium.reporting.words.slice_words import slice_sentences
from podium.results.study import StudyResults, gather
from podium.runs.folder import StudyFolder
from podium.runs.predictions import Predictions
from podium.runtime.files import write_text
from tests.conftest import reports_undrawn
from tests.fake_study import fake_study

CLASSES = tuple(f"class {n}" for n in range(8))
EN, PT = labels("en"), labels("pt")


def study(root: Path, *, turn: bool = True, contenders: int = 2, **columns: Any) -> StudyFolder:
    """400 test images of two cameras; in `B`, the first contender is bad and the second good."""
    folder = fake_study(root, CLASSES, contenders=contenders, per_class=50, epochs=1, seeds=(0,))
    random = np.random.default_rng(0)
    for number, run in enumerate(folder.runs(folder.read_spec())):
        test = run.read_predictions("test")
        camera = np.arange(400) % 2
        share = np.where(camera == number, 0.95, 0.5) if turn else np.full(400, 0.8)
        right = random.random(400) < share
        logits = np.zeros_like(test.logits)
        said = np.where(right, test.labels, (test.labels + 1) % len(CLASSES))
        logits[np.arange(400), said] = 5
        Predictions(test.class_names, test.paths, test.labels, logits).write(
            run.predictions("test")
        )
    paths = list(test.paths)
    table = {
        "path": paths,
        "label": [CLASSES[at] for at in test.labels],
        "split": ["test"] * 400,
        "group": pa.array([None] * 400, pa.string()),
        "sha256": [hashlib.sha256(path.encode()).hexdigest() for path in paths],
        "camera": [("A", "<B>")[at % 2] for at in range(400)],
        "lens": [f"lens {at}" for at in range(400)],
        **columns,
    }
    pq.write_table(pa.table(table), folder.images)
    return folder


def report(folder: StudyFolder, lang: str = "en") -> ReportResult:
    with reports_undrawn():
        return build_report(folder, lang=lang, helpers=0)  # type: ignore[arg-type]


def rows(folder: StudyFolder, name: str) -> list[dict[str, str]]:
    with (folder.report / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def words_of(page: Path) -> str:
    text = re.sub(r"<script.*?</script>|<style.*?</style>", "", page.read_text(), flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return study(tmp_path_factory.mktemp("runs") / "cameras")


@pytest.fixture(scope="module")
def results(folder: StudyFolder) -> StudyResults:
    return gather(folder)


def test_the_page_says_where_the_order_turns(folder: StudyFolder) -> None:
    made = report(folder)
    text = words_of(made.index)
    assert "Slices of the test images" in text
    assert "camera: <B>: the order turns. SimpleResNet + AutoAugment is ahead of" in text
    assert "Not sliced: lens (400 values;" in text
    assert "Found on one half of the test images, confirmed" not in text.split("Weak slices")[0]
    assert "<B>" not in made.index.read_text().replace("<BR>", "").split("</style>")[-1]
    for name in ("slices", "slice-pairs", "weak-slices"):
        assert f"tables/{name}.csv" in {file.relative_to(folder.report).as_posix()
                                        for file in made.files}  # fmt: skip


def test_the_page_in_portuguese(folder: StudyFolder) -> None:
    text = words_of(report(folder, "pt").index)
    assert "camera: <B>: a ordem se inverte. Ali SimpleResNet + AutoAugment fica" in text
    assert "Sem recorte: lens (400 valores;" in text
    report(folder)


def test_tables_hold_every_slice_and_pair(folder: StudyFolder, results: StudyResults) -> None:
    report(folder)
    table = results.table
    assert table is not None
    found = rows(folder, "slices")
    assert [(one["value"], one["contender"]) for one in found] == [
        (value, one.name) for value in ("<B>", "A") for one in table.contenders
    ]
    for one in found:
        inside = np.arange(400) % 2 == (one["value"] == "<B>")
        answers = next(each for each in table.contenders if each.name == one["contender"])
        share = (answers.predicted[0] == table.labels)[inside].mean()
        assert float(one["score"]) == pytest.approx(share)
        assert float(one["low"]) < share < float(one["high"])
        assert one["images"] == "200"
    pairs = rows(folder, "slice-pairs")
    assert [one["turns"] for one in pairs] == ["yes", "yes"]
    assert float(pairs[0]["change"]) == pytest.approx(
        float(pairs[0]["difference"]) - float(pairs[0]["elsewhere"])
    )
    weak = rows(folder, "weak-slices")
    assert {(one["contender"], one["slice"], one["confirmed"]) for one in weak} == {
        ("simple_resnet", "camera=<B>", "yes"),
        ("simple_resnet-autoaugment", "camera=A", "yes"),
    }


def test_the_end_of_a_command_says_it_too(
    folder: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    print_ending(report(folder), EN)
    said = " ".join(capsys.readouterr().out.split())
    assert "camera: <B>: the order turns." in said
    assert "is weak in camera: A:" in said


def test_where_nothing_changes_that_is_said(tmp_path: Path) -> None:
    same = gather(study(tmp_path / "same", turn=False))
    section = slice_section(same, EN)
    assert section is not None
    assert section["changes"] == []
    assert "In none of the 2 slices" in section["nothing"]
    assert section["undecided"].startswith("No two contenders differ significantly")
    assert same.slices is not None
    assert slice_sentences(same.slices, {}, EN) == []


def test_the_study_names_its_slices(tmp_path: Path) -> None:
    folder = study(tmp_path / "named", age=[20 + at // 8 for at in range(400)])
    spec = folder.read_spec()

    def values(slices: tuple[str, ...]) -> dict[str, list[str]]:
        data = spec.data.model_copy(update={"slices": slices})
        write_text(folder.spec, spec.model_copy(update={"data": data}).to_yaml())
        found: dict[str, list[str]] = {}
        results = gather(folder).slices
        for one in results.within.slices if results else ():
            found.setdefault(one.slice.column, []).append(one.slice.value)
        return found

    assert values(("age",)) == {"age": ["20–32", "33–44", "45–57", "58–69"]}
    assert [*values((r"class-00(?P<kind>\d)",))] == ["kind"]
    assert values(()) == {}
    assert slice_section(gather(folder), EN) is None


def test_one_contender_has_scores_and_weak_slices(tmp_path: Path) -> None:
    folder = study(tmp_path / "alone", contenders=1)
    text = words_of(report(folder).index)
    assert "Scores by slice" in text
    assert "Pairs that differ within a slice" not in text
    assert not (folder.report / "tables" / "slice-pairs.csv").exists()


def test_a_study_of_a_folder_has_no_section(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "plain", CLASSES, contenders=2, per_class=5, epochs=1)
    text = words_of(report(folder).index)
    assert "Slices of the test images" not in text
    assert not (folder.report / "tables" / "slices.csv").exists()


def test_both_languages_have_the_same_placeholders() -> None:
    for key in EN.words:
        if key.startswith(("slices_", "weak_")):
            assert set(re.findall(r"\{\w+\}", EN.words[key])) == set(
                re.findall(r"\{\w+\}", PT.words[key])
            ), key

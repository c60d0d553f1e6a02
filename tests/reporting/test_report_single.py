"""Sets of classes and unanswered images in the report, against the study's own predictions."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import softmax

from podium.deploy.publish.card import card
from podium.reporting.build import build_report
from podium.reporting.figures.risk import MOST_CURVES, risk_figure
from podium.reporting.figures.style import figure_style, inline_svg
from podium.reporting.words.labels import labels
from podium.reporting.words.recipes import coverage_hint, coverage_rows
from podium.results.answered import mean_risk_curve
from podium.results.run import run_temperature
from podium.results.study import StudyResults, gather
from podium.runs.folder import StudyFolder
from podium.statistics.metrics import wilson_interval
from tests.conftest import reports_undrawn
from tests.fake_study import fake_study

CLASSES = tuple(f"sport {number}" for number in range(5))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return fake_study(
        tmp_path_factory.mktemp("runs") / "single",
        CLASSES,
        contenders=3,
        per_class=40,
        epochs=1,
        skill=(0.7, 0.9, 0.8),
    )


@pytest.fixture(scope="module")
def results(folder: StudyFolder) -> StudyResults:
    return gather(folder)


@pytest.fixture(scope="module")
def report(folder: StudyFolder) -> Path:
    with reports_undrawn(but=("risk",)):
        return build_report(folder, formats=("svg",), helpers=0).index.parent


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def text_of(html: str) -> str:
    html = re.sub(r"<style>.*?</style>|<script>.*?</script>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_coverage_is_that_of_the_test_images(results: StudyResults, report: Path) -> None:
    rows = rows_of(report / "tables" / "coverage.csv")
    run = results.runs[0]
    temperature, shares = run_temperature(run.folder), {}
    for split in ("valid", "test"):
        found = run.folder.read_predictions(split)
        shares[split] = softmax(found.logits.astype(float) / temperature, axis=1)
    labels_of = run.test.labels  # the same in both splits
    own = np.sort(shares["valid"][np.arange(200), labels_of])
    mine = [row for row in rows if row["contender"] == run.folder.contender]
    assert [(row["promised"], row["by_class"]) for row in mine] == [
        *((level, "no") for level in ("0.8", "0.9", "0.95", "0.99")),
        *((level, "yes") for level in ("0.8", "0.9", "0.95")),  # 40 images of each class
    ]
    for row in mine[:4]:
        left_out = round(201 * (1 - float(row["promised"])) - 0.5 + 1e-9)  # rounded down
        inside = shares["test"] >= own[left_out - 1]
        inside |= shares["test"] == shares["test"].max(axis=1, keepdims=True)
        hits = int(inside[np.arange(200), labels_of].sum())
        assert float(row["covered"]) == hits / 200
        assert (float(row["low"]), float(row["high"])) == pytest.approx(wilson_interval(hits, 200))
        assert float(row["mean_size"]) == pytest.approx(inside.sum(1).mean())
        assert float(row["single"]) == pytest.approx((inside.sum(1) == 1).mean())


@pytest.mark.parametrize("lang", ["en", "pt"])
def test_page_and_card_show_the_sets_and_what_they_need(
    results: StudyResults, folder: StudyFolder, report: Path, lang: str
) -> None:
    say, run = labels(lang), results.runs[0]
    told = text_of((report / "index.html").read_text("utf-8")) if lang == "en" else ""
    text = card(folder.run(run.folder.contender, 0), lang=lang)
    for shown in filter(None, (told, text.replace("\\", ""))):
        assert coverage_hint(run, say) in shown
        for cells in coverage_rows(run, say):
            assert all(cell in shown for cell in cells)
    assert ("exchangeable" if lang == "en" else "permutáveis") in text
    covered = run.coverages[2].covered
    assert coverage_rows(run, say)[2][0].startswith("95 %")
    assert coverage_rows(run, say)[2][1] == (
        f"{say.percent(covered.value, 1)} ({say.interval((covered.low, covered.high))})"
    )


def test_groups_count_in_the_interval(folder: StudyFolder, results: StudyResults) -> None:
    paths = results.runs[0].test.paths
    groups = pa.table({"path": list(paths), "group": [f"day {at // 20}" for at in range(200)]})
    try:
        pq.write_table(groups, folder.images)
        grouped = gather(folder).runs[0]
        pairs = list(zip(grouped.coverages, results.runs[0].coverages, strict=True))
        assert all(one.covered.value == other.covered.value for one, other in pairs)
        assert any(one.covered.low < other.covered.low for one, other in pairs)
        assert "the intervals count groups" in coverage_hint(grouped, labels("en"))
    finally:
        folder.images.unlink()


def test_too_few_validation_images_show_no_sets(tmp_path: Path) -> None:
    few = fake_study(tmp_path / "few", ("a", "b", "c"), contenders=1, per_class=1, epochs=1)
    with reports_undrawn():
        index = build_report(few, helpers=0).index
    assert "There are too few validation images (3) to promise" in text_of(index.read_text("utf-8"))
    assert rows_of(index.parent / "tables" / "coverage.csv") == []
    (run,) = gather(few).runs
    run.folder.predictions("valid").unlink()
    assert gather(few).runs[0].coverages == ()


def test_contenders_are_compared_at_90_percent_answered(
    results: StudyResults, report: Path
) -> None:
    verdicts = results.answered
    assert verdicts is not None
    rows = {row["contender"]: row for row in rows_of(report / "tables" / "answered.csv")}
    told = text_of((report / "index.html").read_text("utf-8"))
    for run in results.runs:
        best = softmax(run.test.logits.astype(float) / run.temperature, axis=1).max(axis=1)
        kept = np.argsort(-best)[:180]
        expected = (run.test.predicted == run.test.labels)[kept].mean()
        row = rows[run.folder.contender]
        assert float(row["accuracy_at_90"]) == pytest.approx(expected)
        assert float(row["accuracy"]) == pytest.approx(run.scores.accuracy)
        assert float(row["low"]) < expected < float(row["high"])
        assert labels("en").percent(expected) in told
        curve = mean_risk_curve([run])
        assert curve[179] == pytest.approx(1 - expected)
        assert curve[-1] == pytest.approx(1 - run.scores.accuracy)
    pairs = rows_of(report / "tables" / "answered-pairs.csv")
    assert len(pairs) == 3
    for pair in pairs:
        gap = float(rows[pair["first"]]["accuracy_at_90"])
        gap -= float(rows[pair["second"]]["accuracy_at_90"])
        assert float(pair["difference"]) == pytest.approx(gap)
        assert float(pair["p"]) <= float(pair["p_adjusted"])
        assert (pair["winner"] != "") == (float(pair["p_adjusted"]) < 0.05)
    assert any(pair["winner"] for pair in pairs)
    assert "If the least certain images are left unanswered" in told
    assert (report / "figures" / "risk-coverage.svg").is_file()


def test_the_temperature_of_a_run_orders_its_images(folder: StudyFolder) -> None:
    """Of several classes, a higher temperature changes which images are the least certain."""
    first = gather(folder).runs[0]
    hot = replace(first, temperature=4.0)
    assert not np.allclose(mean_risk_curve([first]), mean_risk_curve([hot]))


def test_one_contender_has_a_curve_and_no_pairs(tmp_path: Path) -> None:
    alone = fake_study(tmp_path / "alone", CLASSES, contenders=1, per_class=10, epochs=1)
    with reports_undrawn():
        index = build_report(alone, helpers=0).index
    told = text_of(index.read_text("utf-8"))
    assert "Accuracy at 90 % answered" in told
    assert "Every pair at 90 % answered" not in told
    assert not (index.parent / "tables" / "answered-pairs.csv").exists()


def test_more_curves_than_lines_can_show_are_counted() -> None:
    curves = [(f"contender {at}", np.linspace(0, 0.1, 50)) for at in range(MOST_CURVES + 2)]
    with figure_style():
        drawn = inline_svg(risk_figure(curves, labels("en")), "risk", "alt")
    assert "contender 23" in drawn
    assert "contender 24" not in drawn
    assert "2 further contenders are not drawn." in text_of(drawn)

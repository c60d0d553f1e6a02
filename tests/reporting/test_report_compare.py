"""The contenders side by side, in a browser: charts by pointer and by keys, tables, one file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from podium.reporting.build import build_report
from podium.results.study import StudyResults, gather
from podium.runs.folder import StudyFolder
from podium.runtime.files import write_json
from podium.statistics.metrics import per_class
from tests.conftest import reports_undrawn
from tests.fake_study import fake_study

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

CLASSES = ("archery", "<b>boxing</b>", "chess", "diving")
LATENCY = (4.0, 5.0, 30.0)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Three contenders, two seeds; the second is the best and nearly the fastest."""
    folder = fake_study(
        tmp_path_factory.mktemp("runs") / "compared",
        CLASSES,
        contenders=3,
        per_class=10,
        epochs=6,
        seeds=(0, 1),
        skill=(0.6, 0.95, 0.75),
    )
    for run in folder.runs(folder.read_spec()):
        number = list(folder.read_spec().contenders).index(run.contender)
        write_json(run.done, {**run.read_done(), "latency_ms": LATENCY[number]})
    return folder


@pytest.fixture(scope="module")
def results(study: StudyFolder) -> StudyResults:
    return gather(study)


@pytest.fixture(scope="module")
def index(study: StudyFolder) -> Path:
    with reports_undrawn():
        return build_report(study, dpi=20, formats=("svg",), helpers=0).index


@pytest.fixture(params=[1440, 390])
def page(browser: Browser, index: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": request.param, "height": 844}, reduced_motion="reduce"
    )
    made = context.new_page()
    faults: list[str] = []
    made.on("console", lambda said: faults.append(said.text))
    made.on("pageerror", lambda error: faults.append(str(error)))
    made.goto(index.as_uri())
    yield made
    assert faults == []
    context.close()


def chart(page: Page, name: str) -> Locator:
    return page.locator(f"[data-chart={name}]")


def said(page: Page, name: str) -> str:
    return chart(page, name).locator("output").inner_text().replace("\u00a0", " ")


def tip(page: Page, name: str) -> str:
    return chart(page, name).locator("g[aria-label=tip]").text_content() or ""


def press(page: Page, name: str, *keys: str) -> str:
    chart(page, name).locator(".drawing").focus()
    for key in keys:
        page.keyboard.press(key)
    return said(page, name)


def test_there_is_a_line_per_run_and_the_keys_read_every_point(
    page: Page, results: StudyResults
) -> None:
    lines = chart(page, "curves").locator("g[aria-label=line] path")
    assert lines.count() == 6
    best = results.ranking[0].runs[0]
    for place, row in enumerate(best.history):
        text = press(page, "curves", "ArrowRight")
        value = float(text.rpartition(": ")[2])
        assert f"{best.label}, seed 0, Epoch: {place + 1}" in text
        assert value == pytest.approx(100 * row["valid_accuracy"], rel=1e-3)
        assert best.label.split()[0] in tip(page, "curves")
    assert press(page, "curves", "ArrowRight") == text  # it stays at the end
    assert "seed 1, Epoch: 6" in press(page, "curves", "ArrowDown")
    assert "seed 1, Epoch: 1" in press(page, "curves", "Home")
    press(page, "curves", "Escape")
    assert (said(page, "curves"), tip(page, "curves")) == ("", "")


def test_the_pointer_reads_the_nearest_point(page: Page) -> None:
    drawing = chart(page, "costs").locator(".drawing")
    drawing.scroll_into_view_if_needed()
    dot = chart(page, "costs").locator("g[aria-label=dot] circle").first
    box: Any = dot.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 2)
    page.wait_for_timeout(50)
    assert "Milliseconds per image: 4" in tip(page, "costs")


def test_curves_over_seconds_and_of_losses(page: Page, results: StudyResults) -> None:
    curves = chart(page, "curves")
    curves.locator(".over").select_option("seconds")
    curves.locator(".what").select_option("train_loss")
    history = results.ranking[0].runs[0].history
    text = press(page, "curves", "ArrowRight", "End")
    seconds = sum(row["seconds"] for row in history)
    assert f"Seconds of training: {seconds:.1f}" in text
    assert float(text.rpartition(": ")[2]) == pytest.approx(history[-1]["train_loss"], rel=1e-2)


def test_contenders_are_hidden_and_shown_in_both_charts(page: Page, results: StudyResults) -> None:
    boxes = page.locator(".legend input")
    assert boxes.count() == 3
    boxes.nth(1).uncheck()
    hidden = results.ranking[1].label
    assert chart(page, "curves").locator("g[aria-label=line] path").count() == 4
    assert chart(page, "costs").locator("g[aria-label=dot] circle").count() == 2
    assert hidden not in press(page, "costs", "Home")
    for box in (boxes.nth(0), boxes.nth(2)):
        box.uncheck()
    assert chart(page, "costs").locator("g[aria-label=dot] circle").count() == 0
    boxes.nth(0).check()
    assert chart(page, "curves").locator("g[aria-label=line] path").count() == 2


def test_the_front_holds_the_contenders_that_no_other_beats(index: Path) -> None:
    html = index.read_text(encoding="utf-8")
    found = re.search(r'id="comparison">(.*?)</script>', html)
    assert found is not None
    data = json.loads(found[1])
    points = pd.DataFrame(data["contenders"])
    for key in ("latency", "parameters", "seconds"):
        wanted = [
            at
            for at, one in points.iterrows()
            if not (
                (points["score"] >= one["score"])
                & (points[key] <= one[key])
                & ((points["score"] > one["score"]) | (points[key] < one[key]))
            ).any()
        ]
        assert sorted(data["fronts"][key]) == wanted
    assert "megabytes" not in data["fronts"]  # no weights are stored: there is nothing to draw


def test_heat_map_holds_every_recall_and_is_sorted_by_range(
    page: Page, results: StudyResults
) -> None:
    table = page.locator(".heat").first
    shown = {
        row.locator("th").inner_text(): [float(one) for one in row.locator("td").all_inner_texts()]
        for row in table.locator("tbody tr").all()
    }
    assert set(shown) == set(CLASSES)
    for number, one in enumerate(results.ranking):
        recalls = np.mean([[c.recall for c in per_class(run.test)] for run in one.runs], axis=0)
        for name, recall in zip(CLASSES, recalls, strict=True):
            assert shown[name][number] == pytest.approx(recall, abs=0.0051)
    ranges = [values[-1] for values in shown.values()]
    assert ranges == sorted(ranges, reverse=True)
    table.locator("tbody th a").first.click()
    assert page.evaluate("document.querySelector('dialog').open")


def test_without_a_script_the_tables_hold_all_values(browser: Browser, index: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(index.as_uri())
    assert page.locator(".chart:visible, .legend:visible").count() == 0
    assert page.locator("#compare details tbody tr").count() == 6
    assert page.locator("#compare .heat").count() == 2
    context.close()


def test_one_contender_needs_no_charts(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "one", CLASSES, contenders=1, per_class=2, epochs=1)
    with reports_undrawn():
        html = build_report(folder, helpers=0).index.read_text(encoding="utf-8")
    assert 'id="compare"' not in html
    assert "d3js.org" not in html


def test_times_of_two_machines_are_not_drawn(study: StudyFolder, tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "two", CLASSES, contenders=2, per_class=2, epochs=1)
    run = folder.run("simple_resnet", 0)
    write_json(run.done, {**run.read_done(), "device": "cuda"})
    with reports_undrawn():
        html = build_report(folder, helpers=0).index.read_text(encoding="utf-8")
    found = re.search(r'id="comparison">(.*?)</script>', html)
    assert found is not None
    assert list(json.loads(found[1])["fronts"]) == ["parameters"]
    assert "Times were measured on different machines" in html


def test_the_libraries_are_those_that_their_authors_published() -> None:
    vendor = resources.files("podium.reporting.page") / "templates" / "vendor"
    rows = re.findall(
        r"\| `(\S+\.js)` \| .*? \| `([0-9a-f]{64})` \| ISC, `(\S+)` \|",
        (vendor / "README.md").read_text(encoding="utf-8"),
    )
    assert len(rows) == 2
    for name, digest, licence in rows:
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest
        assert "Permission to use, copy, modify" in (vendor / licence).read_text(encoding="utf-8")

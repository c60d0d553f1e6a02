"""The images that decided a pair: the lists, p when an image is struck out, and what is not shown;
in Chromium, against the study's own predictions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from podium.reporting.build import build_report
from podium.reporting.page.decided_section import decided_section
from podium.reporting.words.labels import labels
from podium.reporting.words.verdict_words import p_words
from podium.results.study import StudyResults, gather
from podium.runs.folder import StudyFolder
from podium.statistics.paired import mcnemar
from podium.statistics.robustness import survived
from tests.conftest import reports_undrawn
from tests.fake_study import fake_study

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CLASSES = ("archery", "<b>boxing</b>", "chess", "diving")
EN, PT = labels("en"), labels("pt")


def study(root: Path, seeds: tuple[int, ...] = (0,), contenders: int = 2) -> StudyFolder:
    return fake_study(
        root,
        CLASSES,
        contenders=contenders,
        per_class=20,
        epochs=1,
        seeds=seeds,
        skill=(0.6, 0.9, 0.8),
        explanations=True,
    )


def report(folder: StudyFolder, lang: str = "en") -> Path:
    with reports_undrawn():
        return build_report(folder, lang=lang, helpers=0).index  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return study(tmp_path_factory.mktemp("runs") / "decided")


@pytest.fixture(scope="module")
def results(folder: StudyFolder) -> StudyResults:
    return gather(folder)


@pytest.fixture(scope="module")
def index(folder: StudyFolder) -> Path:
    return report(folder)


@pytest.fixture(params=[1440, 390])
def page(browser: Browser, index: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    yield from opened(browser, index, request.param)


def opened(browser: Browser, index: Path, width: int) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": width, "height": 844})
    made = context.new_page()
    faults: list[str] = []
    made.on("console", lambda said: faults.append(said.text))
    made.on("pageerror", lambda error: faults.append(str(error)))
    made.goto(index.as_uri())
    yield made
    assert faults == []
    context.close()


def told(page: Page) -> str:
    return page.locator(".evidence output").inner_text().replace("\u00a0", " ")


def only(results: StudyResults) -> tuple[set[str], set[str]]:
    """Paths of the images that only the best contender, and only the other, gets right."""
    tests = [one.runs[0].test for one in results.ranking]
    first, second = (test.predicted == test.labels for test in tests)
    paths = np.array(tests[0].paths)
    assert tests[0].paths == tests[1].paths
    return set(paths[first & ~second]), set(paths[~first & second])


def test_the_lists_are_the_images_that_only_one_gets_right(
    page: Page, results: StudyResults
) -> None:
    for number, wanted in enumerate(only(results)):
        side = page.locator(".sides > div").nth(number)
        while side.locator(".more").is_visible():
            side.locator(".more").click()
        links = [one.get_attribute("href") or "" for one in side.locator("a.thumb").all()]
        shown = {one.removeprefix("#picture=").replace("%2F", "/") for one in links}
        assert len(links) == len(shown)
        assert shown == wanted
        assert side.locator("h4").inner_text().endswith(f"{len(wanted)} images")
    page.locator(".sides a.thumb").first.click()
    assert page.evaluate("document.querySelector('dialog').open")


def test_p_follows_what_is_struck_out(page: Page, results: StudyResults) -> None:
    a, b = map(len, only(results))
    n = len(results.runs[0].test)
    assert "is better." in told(page)
    for count in range(1, 9):
        page.locator(".sides > div").first.locator("li button").nth(count - 1).click()
        p = mcnemar(a - count, b)
        points = 100 * (a - count - b) / (n - count)
        assert p_words(p, EN) in told(page)
        assert f"+{points:.1f} points" in told(page)
        assert f"{a - count} / {b}; struck out: {count}" in told(page)
        assert ("is better." in told(page)) is (p < 0.05)
    page.locator(".sides > div").nth(1).locator("li button").first.click()
    assert p_words(mcnemar(a - 8, b - 1), EN) in told(page)
    page.get_by_role("button", name="Restore all").click()
    assert p_words(mcnemar(a, b), EN) in told(page)
    assert page.locator(".struck").count() == 0


def test_the_script_computes_the_p_of_python(page: Page) -> None:
    source = resources.files("podium.reporting.page") / "templates" / "js" / "decided.js"
    function = re.search(r"function midP.*?\n}", source.read_text("utf-8"), re.DOTALL)
    assert function is not None
    for a, b in ((0, 1), (0, 6), (12, 12), (30, 12), (900, 1010), (20_300, 20_000)):
        found = page.evaluate(f"({function[0]})({a}, {b})")
        assert found == pytest.approx(mcnemar(a, b), rel=1e-9)


def test_the_table_says_how_many_wrong_labels_a_verdict_survives(
    page: Page, results: StudyResults
) -> None:
    a, b = map(len, only(results))
    found = survived(a, b)
    assert found is not None
    cells = page.locator("#decided ~ .box tbody td").all_inner_texts()
    assert cells[:2] == [str(a), str(b)]
    assert cells[3:] == [str(found.struck), str(found.relabelled)]


def test_maps_are_shown_where_they_are_stored_and_counted(
    page: Page, results: StudyResults
) -> None:
    paths = set.union(*only(results))
    with_both = [
        path for path in paths if all(path in one.runs[0].explanations for one in results.ranking)
    ]
    text = page.locator(".evidence .stored").inner_text()
    assert f"Of these {len(paths)} images, {len(paths)} are stored in this page" in text
    assert f"{len(with_both)} have a Grad-CAM map of both" in text
    for more in page.locator(".sides .more").all():
        while more.is_visible():
            more.click()
    maps = page.locator(".deciding figure:not(:first-child) .pic").count()
    wanted = sum(path in one.runs[0].explanations for path in paths for one in results.ranking)
    assert maps == wanted > 0


def test_nothing_is_struck_out_where_p_is_a_test_over_seeds(
    browser: Browser, tmp_path: Path
) -> None:
    folder = study(tmp_path / "seeds", seeds=(0, 1), contenders=3)
    for page in opened(browser, report(folder, "pt"), 390):
        assert page.locator(".deciding").count() > 0
        assert page.locator(".deciding button").count() == 0
        assert told(page) == ""
        assert PT("decided_seeds") in page.locator("#decided + .hint").inner_text()
        assert "acerta mais vezes" in page.locator(".sides h4").first.inner_text()
        page.locator(".evidence select").select_option("2")
        assert page.locator(".deciding").count() > 0


def test_of_three_contenders_a_pair_is_judged_at_the_level_of_all(tmp_path: Path) -> None:
    results = gather(study(tmp_path / "three", contenders=3))
    verdicts, section = results.verdicts, decided_section(results, EN)
    assert verdicts is not None
    assert section is not None
    assert 0.05 / 3 < verdicts.level < 0.05
    assert f"below {verdicts.level:.3f}" in section["level"]
    rows = {row[0][0]: row for row in section["rows"]}
    for pair in verdicts.pairs:
        names = [verdicts.labels[one] for one in (pair.first, pair.second)]
        row = rows.get(" – ".join(names)) or rows[" – ".join(names[::-1])]
        found = survived(int(pair.only_first), int(pair.only_second), verdicts.level)
        assert row[4][0] == ("–" if found is None else str(found.struck))
        assert found is None or pair.p_adjusted < 0.05

"""The sentences for a paper on the page: what is shown and copied; in Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from podium.reporting.build import build_report
from podium.reporting.references import bibliography
from podium.reporting.words.labels import labels
from podium.reporting.words.paper_words import PaperText, paper_text
from podium.results.study import StudyResults
from tests.conftest import reports_undrawn
from tests.fake_study import fake_study

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyResults]:
    folder = fake_study(
        tmp_path_factory.mktemp("runs") / "paper", ("a", "<b>b</b>", "c"), contenders=3,
        per_class=20, epochs=1,
    )  # fmt: skip
    with reports_undrawn():
        report = build_report(folder, lang="pt", helpers=0)
    return report.index, report.results


@pytest.fixture(params=[1440, 390])
def page(
    browser: Browser, built: tuple[Path, StudyResults], request: pytest.FixtureRequest
) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": request.param, "height": 844})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    made = context.new_page()
    faults: list[str] = []
    made.on("console", lambda said: faults.append(said.text))
    made.on("pageerror", lambda error: faults.append(str(error)))
    made.goto(built[0].as_uri())
    yield made
    assert faults == []
    context.close()


def told(results: StudyResults, lang: str) -> PaperText:
    text = paper_text(results.verdicts, labels(lang))
    assert text is not None
    return text


def copied(page: Page) -> str:
    page.locator(".paper button").click()
    page.locator(".paper output", has_text="Copiado.").wait_for()
    return str(page.evaluate("navigator.clipboard.readText()"))


def test_what_is_shown_is_copied(page: Page, built: tuple[Path, StudyResults]) -> None:
    pt, en = told(built[1], "pt"), told(built[1], "en")
    lang, form = page.locator(".paper select").all()
    assert page.locator(".paper pre:visible").count() == 1
    first = copied(page)
    assert first.startswith(pt.plain)  # the language of the page
    assert [one.listed for one in pt.references] == first.split("Referências\n")[1].splitlines()
    form.select_option("latex")
    assert copied(page) == pt.latex
    lang.select_option("en")
    assert page.locator(".paper output").inner_text() == ""
    assert copied(page) == en.latex
    form.select_option("bibtex")
    assert copied(page) == bibliography(en.references)
    form.select_option("text")
    assert copied(page).startswith(en.plain)
    assert page.locator(".paper pre:visible").get_attribute("lang") == "en"
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")


def test_where_a_page_may_not_copy_the_text_is_selected(page: Page) -> None:
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(Error()); }")
    page.locator(".paper button").click()
    page.locator(".paper output", has_text="selecionado").wait_for()
    shown = page.locator(".paper pre:visible").text_content() or ""
    assert page.evaluate("String(getSelection())").strip() == shown.strip()


def test_the_references_are_among_the_tables(built: tuple[Path, StudyResults]) -> None:
    index, results = built
    text = (index.parent / "tables" / "references.bib").read_text(encoding="utf-8")
    assert text == bibliography(told(results, "en").references)
    assert 'href="tables/references.bib"' in index.read_text(encoding="utf-8")

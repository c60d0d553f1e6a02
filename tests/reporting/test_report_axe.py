"""The report as a screen reader and a colour-blind reader have it: axe, in both colour schemes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from podium.reporting.build import build_report
from tests.conftest import axe_faults, reports_undrawn
from tests.fake_study import fake_study

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several seeds, images with heat maps, all figures of the page drawn."""
    folder = fake_study(
        tmp_path_factory.mktemp("runs") / "axe", ("archery", "boxing", "chess"), contenders=3,
        per_class=12, epochs=2, seeds=(0, 1), explanations=True,
    )  # fmt: skip
    with reports_undrawn(but=("compare", "differences")):
        return build_report(folder, helpers=0).index


def unfold(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for button in page.locator(".seeds button").all():
        button.click()
    page.locator(".paper select").first.select_option("pt")


@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_nothing_serious_in_the_report(browser: Browser, index: Path, width: int) -> None:
    assert axe_faults(browser, index.as_uri(), width=width, prepare=unfold) == []


def test_nor_in_the_dialog_of_an_image(browser: Browser, index: Path) -> None:
    def look(page: Page) -> None:
        page.locator(".telling a, .sides a.thumb").first.click()
        page.locator("dialog[open] .content > *").first.wait_for()

    assert axe_faults(browser, index.as_uri(), prepare=look) == []

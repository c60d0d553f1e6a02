"""The built site: no warning, nothing from outside, and it works in a browser."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import axe_faults

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it: broken links and anchors are errors."""
    folder = tmp_path_factory.mktemp("site")
    path = {"PYTHONPATH": str(ROOT / "src"), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, **path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_make_docs_builds_it_so() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build" in makefile
    assert "strict: true" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    """Links for a reader to follow may lead out; what a page loads by itself may not."""
    loads = re.compile(
        r"""<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=["']?(?:https?:)?//"""
        r"""|<link\b(?![^>]*rel=["']?canonical)[^>]*\bhref=["']?(?:https?:)?//"""
        r"""|url\(["']?(?:https?:)?//|@import\s+["'](?:https?:)?//"""
    )
    files = [path for kind in ("html", "css") for path in site.rglob(f"*.{kind}")]
    assert len(files) > 20
    for path in files:
        assert not loads.search(path.read_text(encoding="utf-8")), path.name


def test_what_is_no_page_stays_out(site: Path) -> None:
    assert (site / "reference" / "study.schema.json").is_file()
    assert not list(site.rglob("*.py"))


def test_the_site_works_in_a_browser(address: str, browser: Browser) -> None:
    from playwright.sync_api import TimeoutError

    page = browser.new_page(viewport={"width": 1280, "height": 900})
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda one: said.append(one.text) if one.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    for name in ("index", "tutorial", "statistics"):
        page.goto(f"{address}/{name}.html")
        page.wait_for_load_state("networkidle")
        broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
        assert page.evaluate(broken) == []
    found = page.locator(".md-search-result__link")
    for _ in range(30):  # what is typed before the index is read, is not looked for
        page.locator(".md-search__input").first.fill("")
        page.locator(".md-search__input").first.press_sequentially("McNemar")
        with contextlib.suppress(TimeoutError):
            found.first.wait_for(timeout=2000)
            break
    assert any("statistics.html" in str(one.get_attribute("href")) for one in found.all())
    page.close()
    assert said == []
    assert asked
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


@pytest.mark.parametrize("name", ["index", "tutorial", "performance", "reference/cli"])
def test_a_phone_need_not_scroll_sideways(name: str, address: str, browser: Browser) -> None:
    page: Page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(f"{address}/{name}.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


@pytest.mark.parametrize("name", ["index", "tutorial", "statistics", "results", "reference/api"])
def test_axe_finds_nothing_serious(name: str, address: str, browser: Browser) -> None:
    assert axe_faults(browser, f"{address}/{name}.html") == []


def test_the_search_works_in_a_site_opened_as_files(site: Path, browser: Browser) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / "reference" / "cli.html").as_uri())
    page.locator("#__search").evaluate("box => box.click()")
    page.locator("input.md-search__input").press_sequentially("temperature")
    page.locator(".md-search-result__item").first.wait_for(timeout=30_000)
    page.close()
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]

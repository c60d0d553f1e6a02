"""The report in a browser: what a reader clicks, types, prints and links to."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
import pytest

from podium.reporting.build import build_report
from podium.reporting.figures.tasks import FigureWriter
from podium.reporting.words.podium_words import steps
from podium.results.study import gather
from podium.results.telling import telling_images
from podium.runs.folder import StudyFolder
from podium.runs.pictures import read_pictures
from podium.runs.predictions import Predictions
from podium.statistics.calibration import calibrated_probabilities, fit_temperature
from podium.statistics.metrics import per_class, wilson_interval
from tests.conftest import reports_undrawn
from tests.fake_study import ODD_NAMES, fake_study

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = (*ODD_NAMES, "golf", "judo")


@dataclass
class Report:
    """A study with a report of it."""

    folder: StudyFolder
    index: Path
    tests: dict[str, Predictions] = field(default_factory=dict)
    temperatures: dict[str, float] = field(default_factory=dict)

    def url(self, hash_: str = "") -> str:
        return self.index.as_uri() + hash_

    def seeds(self) -> list[list[Predictions]]:
        """The test predictions of every contender's seeds."""
        every = list(self.tests.values())
        return [every[at : at + 2] for at in range(0, len(every), 2)]

    def paths(self) -> tuple[str, ...]:
        return next(iter(self.tests.values())).paths


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Twelve classes with hostile names, four contenders, two seeds."""
    folder = fake_study(
        tmp_path_factory.mktemp("runs") / "page",
        NAMES,
        contenders=4,
        per_class=4,
        epochs=2,
        seeds=(0, 1),
        title="<script>alert(1)</script>",
        skill=(0.6, 0.7, 0.8, 0.75),
        explanations=True,
    )
    inside = ("compare", "differences", "curves", "reliability")
    with pytest.MonkeyPatch.context() as patch, reports_undrawn(but=inside):
        # the figures in the page are drawn; those beside it have their own tests, and take long
        patch.setattr(FigureWriter, "save", lambda *_: [])
        made = build_report(folder, dpi=20, formats=("svg",), helpers=0)
    runs = {f"{run.contender}-seed-{run.seed}": run for run in folder.runs(folder.read_spec())}
    tests = {slug: run.read_predictions("test") for slug, run in runs.items()}
    fitted = {slug: fit_temperature(run.read_predictions("valid")) for slug, run in runs.items()}
    return Report(folder, made.index, tests, fitted)


@dataclass
class Reader:
    """A page, and what it did that it must not."""

    page: Page
    faults: list[str]
    requests: list[str]


Open = Callable[..., Reader]


@pytest.fixture
def read(browser: Browser, report: Report) -> Iterator[Open]:
    """Opens the report; in the end nothing was said to the console, asked for, or alerted."""
    readers = []

    def open_(
        hash_: str = "", width: int = 1280, scheme: Any = "light", motion: Any = "reduce"
    ) -> Reader:
        context = browser.new_context(
            viewport={"width": width, "height": 844}, color_scheme=scheme, reduced_motion=motion
        )
        page = context.new_page()
        reader = Reader(page, [], [])
        page.on("console", lambda said: reader.faults.append(said.text))
        page.on("pageerror", lambda error: reader.faults.append(str(error)))

        def refuse(dialog: Any) -> None:
            reader.faults.append(f"a dialog: {dialog.message}")
            dialog.dismiss()

        page.on("dialog", refuse)
        page.on("request", lambda asked: reader.requests.append(asked.url))
        page.goto(report.url(hash_))
        readers.append(reader)
        return reader

    yield open_
    for reader in readers:
        assert reader.faults == []
        outside = [url for url in reader.requests if not url.startswith("data:")]
        assert {url.split("#")[0] for url in outside} == {report.url()}
        reader.page.context.close()


def is_open(page: Page) -> bool:
    return bool(page.evaluate("document.querySelector('dialog').open"))


def title(page: Page) -> str:
    return page.locator("dialog h2").inner_text()


def wait_until(page: Page, condition: str) -> None:
    """Polled from here: the page's policy forbids what `wait_for_function` does in it."""
    until = time.monotonic() + 10
    while not page.evaluate(condition):
        assert time.monotonic() < until, condition
        page.wait_for_timeout(20)


def wait_closed(page: Page) -> None:
    wait_until(page, "!document.querySelector('dialog').open")


def path_of(link: Any) -> str:
    """The path of the image that a link opens."""
    return unquote(str(link.get_attribute("href")).removeprefix("#picture="))


def class_link(page: Page, name: str) -> Any:
    return page.locator(".run.shown .shade th a").get_by_text(name, exact=True)


def test_leaderboard_sorts_and_filters(read: Open) -> None:
    page = read().page
    rows = page.locator(".leader tbody tr:visible")
    assert rows.count() == 4  # one per contender
    page.locator(".leader thead button").get_by_text("Parameters").click()
    heading = page.locator(".leader thead th[aria-sort]")
    assert (heading.count(), heading.get_attribute("aria-sort")) == (1, "ascending")
    column = "tr => Number(tr.querySelectorAll('td.num')[6].dataset.sort)"
    sizes = page.evaluate(f"[...document.querySelectorAll('.leader tbody tr')].map({column})")
    assert len(sizes) == 4 * 3
    assert sizes == sorted(sizes)
    for body in page.locator(".leader tbody").all():  # seeds follow their contender
        assert body.locator("tr").count() == 3
        contender = body.locator(".name").first.inner_text()
        seeds = body.locator("tr.seed .name").all_text_contents()
        assert seeds == [f"{contender}, seed 0", f"{contender}, seed 1"]
    bar = page.locator(".filter")
    assert not bar.locator("select[data-facet=pretraining]").is_visible()  # all are the same
    bar.locator("select[data-facet=model]").select_option("InceptionResNet")
    assert rows.count() == 2
    assert bar.locator("output").inner_text() == "2 of 4 contenders"
    bar.locator("button").click()
    bar.locator("input").fill("autoaug SIMPLE")
    wait_until(page, "document.querySelector('.filter output').textContent.startsWith('1 ')")
    shown = page.locator(".leader tbody tr:visible .name").all_inner_texts()
    assert set(shown) == {"SimpleResNet + AutoAugment"}


@pytest.mark.parametrize("width", [1440, 390])
def test_leaderboard_shows_accuracy_and_unfolds_seeds(
    read: Open, report: Report, width: int
) -> None:
    page = read("#results", width=width).page
    box = page.locator(".leader").bounding_box()
    assert box is not None
    for row in page.locator(".leader tbody tr:visible").all():
        for cell in (row.locator(".name"), row.locator("td.main"), row.locator(".range")):
            place = cell.bounding_box()
            assert place is not None
            assert place["x"] >= box["x"]
            assert place["x"] + place["width"] <= box["x"] + box["width"]
    if width == 1440:  # nothing is cut
        assert page.evaluate(
            "(e => e.scrollWidth <= e.clientWidth)(document.querySelector('.leader'))"
        )
    body = page.locator(".leader tbody").first
    unfold = body.locator(".folds button")
    assert unfold.get_attribute("aria-expanded") == "false"
    unfold.focus()
    page.keyboard.press("Enter")
    assert unfold.get_attribute("aria-expanded") == "true"
    assert body.locator("tr:visible").count() == 3
    link = body.locator("tr.seed .name").nth(1)
    slug = str(link.get_attribute("href")).removeprefix("#run-")
    test = report.tests[slug]
    accuracy = 100 * float((test.predicted == test.labels).mean())
    assert body.locator("tr.seed td.main").nth(1).inner_text() == f"{accuracy:.2f}"
    page.keyboard.press("Enter")
    assert body.locator("tr:visible").count() == 1


def test_one_tab_per_contender_and_its_seeds_within(read: Open) -> None:
    page = read().page
    tabs, shown = page.locator("[role=tab]"), page.locator(".run.shown")
    assert tabs.count() == 4
    tabs.nth(2).click()
    assert shown.get_attribute("data-run") == "inception_resnet-seed-0"
    shown.locator(".of-seeds a").nth(1).click()
    assert shown.get_attribute("data-run") == "inception_resnet-seed-1"
    assert page.url.endswith("#run-inception_resnet-seed-1")
    assert page.evaluate("document.activeElement.textContent") == "seed 1"
    assert shown.locator("[aria-current]").inner_text() == "seed 1"
    assert tabs.nth(2).get_attribute("aria-selected") == "true"
    tabs.nth(0).click()
    tabs.nth(2).click()  # the seed that was read last
    assert shown.get_attribute("data-run") == "inception_resnet-seed-1"


def test_class_shows_its_images_recalls_and_confusions(read: Open, report: Report) -> None:
    page = read().page
    class_link(page, "golf").click()
    assert is_open(page)
    assert title(page) == "golf"
    assert page.locator("dialog .told tbody tr:visible").count() == 4
    label = NAMES.index("golf")
    for body, tests in zip(page.locator("dialog .told tbody").all(), report.seeds(), strict=True):
        recalls = [(one.predicted[one.labels == label] == label).mean() for one in tests]
        text = body.locator("tr").first.inner_text().replace("\u00a0", " ")
        assert f"{100 * np.mean(recalls):.1f} % (mean)" in text
        body.locator(".seeds button").click()
    rows = page.locator("dialog .told tbody tr.seed")
    assert rows.count() == 8
    for row, test in zip(rows.all(), report.tests.values(), strict=True):
        own = test.labels == label
        right = int((test.predicted[own] == label).sum())
        low, high = wilson_interval(right, int(own.sum()))
        text = row.inner_text().replace("\u00a0", " ")
        assert f"{right} / 4 ({100 * low:.0f}–{100 * high:.0f} %)" in text
        for other, count in zip(
            *np.unique(test.predicted[own & (test.predicted != label)], return_counts=True),
            strict=True,
        ):
            assert f"{NAMES[other]} {count}" in text
        for other, count in zip(
            *np.unique(test.labels[~own & (test.predicted == label)], return_counts=True),
            strict=True,
        ):
            assert f"{NAMES[other]} {count}" in text
    assert page.locator("dialog .card").count() == 4
    first = page.locator("dialog .card").first
    image = report.paths().index(path_of(first.locator(".thumb")))
    told = [text.replace("\u00a0", " ") for text in first.locator("li").all_inner_texts()]
    for text, tests in zip(told, report.seeds(), strict=True):
        found, counts = np.unique([one.predicted[image] for one in tests], return_counts=True)
        for number, count in zip(found, counts, strict=True):
            name = "right" if number == label else NAMES[number]
            assert f"{name} {count} of 2 seeds" in " ".join(text.split())
    image = first.locator(".pic").evaluate("e => getComputedStyle(e).backgroundImage")
    assert image.startswith('url("data:image/jpeg;base64,')


def test_each_filter_shows_what_it_says(read: Open, report: Report) -> None:
    page = read("#explore").page
    place = page.locator("#explore .every")
    place.locator(".card").first.wait_for()
    kinds, runs = place.locator("select").all()
    predicted = np.stack([test.predicted for test in report.tests.values()])
    labels = next(iter(report.tests.values())).labels
    wrong = predicted != labels
    expected = {
        "all": len(labels),
        "wrong": int(wrong.any(axis=0).sum()),
        "every": int(wrong.all(axis=0).sum()),
        "disagree": int((predicted != predicted[0]).any(axis=0).sum()),
    }
    for kind, count in expected.items():
        kinds.select_option(kind)
        assert place.locator("output").inner_text() == f"{count} of {len(labels)} images"
        assert place.locator(".card").count() == min(count, 24)
    kinds.select_option("wrong")
    runs.select_option("2")
    assert place.locator("output").inner_text() == f"{wrong[2].sum()} of {len(labels)} images"
    kinds.select_option("all")
    place.locator(".more").click()
    assert place.locator(".card").count() == 48
    assert page.evaluate("document.activeElement.closest('.card') !== null")


def test_confusion_cell_shows_exactly_its_pictures(read: Open, report: Report) -> None:
    page = read().page
    test = report.tests["simple_resnet-seed-0"]
    wrong = test.predicted != test.labels
    pairs, counts = np.unique(
        np.stack([test.labels[wrong], test.predicted[wrong]]), axis=1, return_counts=True
    )
    label, predicted = pairs[:, counts.argmax()].tolist()
    cell = page.locator(f".run.shown .matrix rect[data-cell='{label},{predicted}']")
    cell.click()
    assert title(page) == f"{NAMES[label]} predicted as {NAMES[predicted]}"
    links = page.locator("dialog .thumb").evaluate_all(
        "all => all.map(a => a.getAttribute('href'))"
    )
    own = (test.labels == label) & (test.predicted == predicted)
    paths = {path for path, one in zip(test.paths, own, strict=True) if one}
    assert {link.removeprefix("#picture=").replace("%2F", "/") for link in links} == paths
    shares = calibrated_probabilities(test, report.temperatures["simple_resnet-seed-0"])
    sure = [float(shares[test.paths.index(path), predicted]) for path in
            (link.removeprefix("#picture=").replace("%2F", "/") for link in links)]  # fmt: skip
    assert sure == sorted(sure, reverse=True)
    page.keyboard.press("ArrowRight")
    assert title(page) != f"{NAMES[label]} predicted as {NAMES[predicted]}"
    page.keyboard.press("ArrowLeft")
    assert title(page) == f"{NAMES[label]} predicted as {NAMES[predicted]}"
    page.keyboard.press("Escape")
    wait_closed(page)
    held = page.evaluate("document.activeElement.getAttribute('role')")
    assert held == "button"  # the cell again


def test_picture_shows_all_answers_and_where_the_model_looked(read: Open, report: Report) -> None:
    page = read().page
    page.locator(".run.shown .looked .no [data-image] a").first.click()
    assert title(page).startswith("Test image of ")
    path = page.locator("dialog code").inner_text()
    image = report.paths().index(path)
    for body, tests in zip(page.locator("dialog .told tbody").all(), report.seeds(), strict=True):
        text = body.locator("tr").first.inner_text().replace("\u00a0", " ")
        found, counts = np.unique([one.predicted[image] for one in tests], return_counts=True)
        for number, count in zip(found, counts, strict=True):
            assert NAMES[number] in text
            assert f"{count} of 2 seeds" in text
        body.locator(".seeds button").click()
    rows = page.locator("dialog .told tbody tr.seed")
    assert rows.count() == 8
    for row, (slug, test) in zip(rows.all(), report.tests.items(), strict=True):
        number = test.paths.index(path)
        assert abs(report.temperatures[slug] - 1) > 0.1
        shares = calibrated_probabilities(test, report.temperatures[slug])[number]
        order = np.argsort(-shares)[:3]
        texts = [text.replace("\u00a0", " ") for text in row.locator("li").all_inner_texts()]
        for place, text in zip(order, texts, strict=True):
            assert NAMES[place] in text
            assert f"{100 * shares[place]:.1f} %" in text
        own = row.locator("td").last.inner_text().replace("\u00a0", " ")
        assert own == f"{100 * shares[test.labels[number]]:.1f} %"
    maps = page.locator("dialog .maps .pic")
    assert maps.count() >= 2
    first, second = (one.evaluate("e => getComputedStyle(e).backgroundImage")
                     for one in maps.all()[:2])  # fmt: skip
    assert first != second
    assert "url(" in second


def test_a_picture_says_which_contenders_have_no_map(read: Open, report: Report) -> None:
    stored = {
        slug: set(read_pictures(run.explanations))
        for slug, run in zip(report.tests, report.folder.runs(report.folder.read_spec()),
                             strict=True)
    }  # fmt: skip
    slugs = list(stored)
    pairs = [slugs[at : at + 2] for at in range(0, len(slugs), 2)]
    page = read().page
    seen = set()
    for path in report.paths():
        have = [any(path in stored[slug] for slug in pair) for pair in pairs]
        if sum(have) in seen:
            continue
        seen.add(sum(have))
        page.evaluate("path => { location.hash = `#picture=${encodeURIComponent(path)}`; }", path)
        wait_until(
            page, f"document.querySelector('dialog code').textContent === {json.dumps(path)}"
        )
        titles = page.locator("dialog .maps b").all_inner_texts()
        names = [page.locator("[role=tab]").nth(at).text_content() for at in range(4)]
        shown = {title.rpartition(", seed")[0] for title in titles}
        assert shown == {name for name, known in zip(names, have, strict=True) if known}
        note = page.locator("dialog .without")
        if all(have):
            assert note.count() == 0
        elif any(have):
            missing = [name for name, known in zip(names, have, strict=True) if not known]
            assert note.inner_text().startswith(
                f"No map of this image is stored for {', '.join(map(str, missing))}."
            )
        else:
            assert note.inner_text().startswith("No map of this image is stored.")
    assert len(seen) > 2
    assert 0 in seen
    every = [path for path in report.paths()
             if all(any(path in stored[slug] for slug in pair) for pair in pairs)]  # fmt: skip
    page.keyboard.press("Escape")
    page.locator("#explore select").first.select_option("mapped")
    assert page.locator("#explore output").inner_text().startswith(f"{len(every)} of ")


def test_deep_links_back_and_focus(read: Open) -> None:
    page = read("#class=judo").page
    assert title(page) == "judo"
    page.keyboard.press("Escape")
    wait_closed(page)
    assert "#" not in page.url
    link = class_link(page, "golf")
    link.click()
    page.locator("dialog .thumb").first.click()
    assert title(page) == "Test image of golf"
    page.keyboard.press("ArrowRight")  # does not add to what Back goes through
    page.go_back()
    assert title(page) == "golf"
    page.go_back()
    wait_closed(page)
    assert page.evaluate("document.activeElement.textContent") == "golf"
    page.go_forward()
    wait_until(page, "document.querySelector('dialog').open")
    assert title(page) == "golf"
    page.locator("dialog .close").click()
    wait_closed(page)


def wait_landed(page: Page, id_: str) -> None:
    """The target is just below the menu, or as near as the end of the page allows."""
    top = f"document.getElementById({json.dumps(id_)}).getBoundingClientRect().top"
    least = "document.querySelector('nav.main').getBoundingClientRect().height"
    ended = "scrollY + innerHeight >= document.documentElement.scrollHeight - 2"
    landed = f"{top} >= {least} && ({top} <= {least} + 24 || {ended})"
    until = time.monotonic() + 10
    while True:  # a smooth scroll may pass it on its way, and a late section shift it
        wait_until(page, landed)
        page.wait_for_timeout(300)
        if page.evaluate(landed):
            return
        assert time.monotonic() < until, id_


@pytest.mark.parametrize("width", [1440, 390])
def test_links_land_on_their_targets(read: Open, width: int) -> None:
    page = read("#contenders", width=width, motion="no-preference").page
    wait_landed(page, "contenders")
    for link in ("nav.main a[href='#files']", "nav.main a[href='#contenders']",
                 ".leader a[href='#run-inception_resnet-seed-1']"):  # fmt: skip
        page.evaluate("link => document.querySelector(link).click()", link)
        wait_landed(page, link.split("#")[1].rstrip("']"))
    assert page.locator(".run.shown").get_attribute("data-run") == "inception_resnet-seed-1"
    # another tab was chosen by keyboard: the same link leads back
    page.locator(".tabs a[aria-selected=true]").focus()
    page.keyboard.press("Home")
    page.evaluate("link => document.querySelector(link).click()", link)
    wait_landed(page, "run-inception_resnet-seed-1")
    # a target in a folded part, also when it was folded again
    page.evaluate("document.querySelector('#data details tbody tr').id = 'folded'")
    for _ in range(2):
        page.evaluate("location.hash = '#folded'")
        wait_landed(page, "folded")
        page.evaluate("document.querySelector('#data details').open = false")
        page.evaluate("location.hash = '#results'")
        wait_landed(page, "results")


@pytest.mark.parametrize(
    "hash_",
    ["#class=nothing%20here", "#class=%E0%A4%A", "#cell=simple_resnet-seed-0,length,0",
     "#cell=nobody,0,1", "#cell=", "#picture=../../etc/passwd", "#run-<b>"],
)  # fmt: skip
def test_links_to_nothing_open_nothing(read: Open, hash_: str) -> None:
    page = read(hash_).page
    assert not is_open(page)
    assert page.locator(".run.shown").count() == 1


def test_everything_is_reached_by_keyboard(read: Open) -> None:
    page = read().page
    box = page.locator("#find")
    box.focus()
    page.keyboard.type("gol")
    assert box.get_attribute("aria-expanded") == "true"
    active = box.get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").inner_text() == "golf"
    page.keyboard.press("Enter")
    assert title(page) == "golf"
    assert page.evaluate("document.activeElement.id") == "look-title"
    for _ in range(40):  # the focus stays within the dialog, or is the browser's own
        page.keyboard.press("Tab")
        inside = "document.activeElement.closest('dialog') || document.activeElement"
        assert page.evaluate(f"({inside}).matches('dialog, body')")
    page.keyboard.press("Escape")
    wait_closed(page)
    assert page.evaluate("document.activeElement.id") == "find"
    page.locator(".run.shown .matrix g[tabindex='0']").focus()
    seen = set()
    for key in ("End", "ArrowLeft", "ArrowUp", "ArrowDown", "ArrowRight", "Home"):
        page.keyboard.press(key)
        seen.add(page.evaluate("document.activeElement.querySelector('rect').dataset.cell"))
    assert len(seen) >= 4
    assert page.locator(".run.shown .matrix g[tabindex='0']").count() == 1
    page.keyboard.press("Enter")
    assert is_open(page)
    page.keyboard.press("Escape")
    wait_closed(page)
    page.locator(".tabs a").first.focus()
    page.keyboard.press("ArrowRight")
    shown = page.locator(".run.shown").get_attribute("data-run")
    assert shown == "simple_resnet-autoaugment-seed-0"


@pytest.mark.parametrize("hash_", ["", "#explore", "#class=golf", "#cell=simple_resnet-seed-0,0,0",
                                   "#picture=test%2Fclass-003%2F1.jpg"])  # fmt: skip
def test_phone_never_scrolls_sideways(read: Open, hash_: str) -> None:
    page = read(hash_, width=390).page
    place = "dialog" if "=" in hash_ else "html"
    if hash_ == "#explore":
        page.locator("#explore .card").first.wait_for()
    wide, room = page.evaluate(
        f"(e => [e.scrollWidth, e.clientWidth])(document.querySelector('{place}'))"
    )
    assert wide <= room
    assert room <= 390
    if "=" in hash_:
        side = page.locator("dialog .close").bounding_box()
        assert side is not None
        assert side["width"] >= 40
        assert side["x"] + side["width"] <= 390


def test_dark_follows_the_system_and_the_reader(read: Open) -> None:
    page = read(scheme="dark").page

    def paper() -> float:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3

    assert paper() < 60
    button = page.locator(".theme")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert paper() > 200
    assert button.get_attribute("aria-pressed") == "false"
    page.reload()
    assert paper() > 200  # remembered
    ink = page.evaluate(
        "getComputedStyle(document.querySelector('.plot text')).fill"
    )  # black or white of the reader's choice, not the figure's
    assert ink == page.evaluate("getComputedStyle(document.body).color")


def test_prints_every_run_and_none_of_the_controls(read: Open, tmp_path: Path) -> None:
    page = read().page
    page.emulate_media(media="print")
    assert page.locator(".run:visible").count() == 8
    for control in ("nav.main", ".tabs", ".filter", "#explore", "dialog", ".links"):
        assert page.locator(control).locator("visible=true").count() == 0
    picture = page.locator(".run").last.locator(".pictures .pic").first
    assert "url(" in picture.evaluate("e => getComputedStyle(e).backgroundImage")
    page.emulate_media(media="screen")
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 12
    assert len(pdf) > 50_000


def test_page_without_a_script_shows_all_pictures(browser: Browser, report: Report) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.url())
    assert page.locator(".run:visible").count() == 8
    assert page.locator("#explore").is_hidden()
    assert page.locator(".filter").is_hidden()
    for gallery in page.locator(".pictures .pic").all()[:3]:
        assert "url(" in gallery.evaluate("e => getComputedStyle(e).backgroundImage")
    context.close()


def test_hostile_names_are_text(read: Open) -> None:
    reader = read()
    page = reader.page
    for name in ODD_NAMES:
        page.evaluate("name => { location.hash = `#class=${encodeURIComponent(name)}`; }", name)
        wait_until(page, f"document.querySelector('dialog h2').textContent === {json.dumps(name)}")
    assert page.locator("dialog script, dialog b[class='x']").count() == 0
    # two of ours and two libraries: the JSON blocks are read, and gone
    assert page.locator("script").count() == 4


def test_no_two_headings_read_alike(read: Open) -> None:
    page = read().page
    visible = "e => e.checkVisibility() && e.textContent.trim()"
    found = page.evaluate(
        f"[...document.querySelectorAll('h2, h3')].map({visible}).filter(Boolean)"
    )
    assert len(found) > 15
    assert len(set(found)) == len(found)
    heads = page.evaluate(
        "[...document.querySelectorAll('table')].map(table => "
        "[...table.querySelectorAll('thead th')].map(head => head.textContent.trim()))"
    )
    assert len(heads) > 10
    assert all(len(set(of_table)) == len(of_table) for of_table in heads)


def test_every_picture_is_in_the_page_once(report: Report) -> None:
    text = report.index.read_text(encoding="utf-8")
    pictures = re.findall(r"base64,([^)\"]+)", text)
    assert len(pictures) == len(set(pictures))
    stored = set(report.folder.read_thumbnails().values())
    for run in report.folder.runs(report.folder.read_spec()):
        stored |= set(read_pictures(run.explanations).values())
    assert len(pictures) == len(stored)
    block = re.search(r'<script type="application/json" id="explorer">([^<]*)</script>', text)
    assert block is not None
    data = json.loads(block[1])
    assert data["classes"] == list(NAMES)
    for run, test in zip(data["runs"], report.tests.values(), strict=True):
        recalls = [round(one.recall * one.support) for one in per_class(test)]
        assert run["correct"] == recalls


def test_the_head_has_a_podium_a_card_and_three_images(read: Open, report: Report) -> None:
    page = read().page
    results = gather(report.folder)
    steps_ = page.locator(".podium > li")
    assert steps_.count() == min(3, len(steps(results)))
    named = page.locator(".podium ul a").all_inner_texts()
    assert named == [one.label for step in steps(results)[:3] for one in step]
    card = page.locator(".best")
    best = results.ranking[0]
    assert card.locator(".name").inner_text() == best.label
    assert f"{100 * best.accuracy:.2f} %" in card.inner_text().replace("\u00a0", " ")
    shown = page.locator(".telling .frame a")
    assert [path_of(one) for one in shown.all()] == [
        one.path for one in telling_images(results, report.folder.read_thumbnails())
    ]
    shown.first.click()  # a photograph opens what every contender says about it
    assert is_open(page)


def test_the_head_fits_a_screen_and_says_two_sentences(read: Open) -> None:
    page = read(width=1440).page
    assert page.locator("header.top > p:not(.kicker)").count() == 2
    bottom = page.evaluate("document.querySelector('header.top').getBoundingClientRect().bottom")
    assert bottom < 900
    heights = page.evaluate(
        "[...document.querySelectorAll('.podium .block')].map((one) => one.offsetHeight)"
    )
    assert heights == sorted(heights, reverse=True)


def test_a_link_of_the_podium_leads_to_the_contender(read: Open) -> None:
    page = read().page
    link = page.locator(".podium ul a").last
    target = str(link.get_attribute("href"))
    link.click()
    wait_until(page, f"document.querySelector('{target}').classList.contains('shown')")

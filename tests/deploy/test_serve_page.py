"""The page in a real browser: every way in, what it shows, and that it asks nobody outside."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from podium.data.images import decode_rgb
from podium.deploy.predictor import Predictor, load_predictor
from podium.deploy.serve.app import build_app
from podium.deploy.serve.examples import study_examples
from podium.deploy.serve.guard import Rules
from podium.deploy.serve.models import Served, load_models
from podium.runs.folder import RunFolder
from tests.conftest import axe_faults
from tests.deploy.serving import Running, jpeg, serving
from tests.fake_study import ODD_NAMES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LONG = "https://" + "averyveryverylongnamewithoutanyplacetobreakit" * 4
NAMES = ("<img src=x onerror=alert(1)>", LONG, *ODD_NAMES, "صيد السمك", "\u202egnirts",
         *(f"class {n}" for n in range(986)))  # fmt: skip


def hostile_model() -> Served:
    """1,000 classes with names of all sorts; it says the first five, in this order."""

    def compute(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        logits = np.zeros((len(pixels), len(NAMES)), np.float32)
        logits[:, :5] = (9, 8, 7, 6, 5)
        return logits

    predictor = Predictor(NAMES, 16, 1.0, compute, "odd")
    return Served("odd", '<b>Odd</b> & "co"', predictor, test_correct=7, test_images=9)


@pytest.fixture(scope="module")
def server(small_run: RunFolder) -> Iterator[Running]:
    models, _ = load_models([small_run.path], device="cpu")
    app = build_app(
        [*models, hostile_model()],
        title="Shapes <script>alert(1)</script>",
        examples=study_examples(models),
        examples_from="test images",
    )
    with serving(app) as running:
        yield running


@pytest.fixture(scope="module")
def oracle(small_run: RunFolder) -> Predictor:
    return load_predictor(small_run, device="cpu")[0]


@contextlib.contextmanager
def opened(browser: Browser, server: Running, *, wrong: int = 0, **options: Any) -> Iterator[Page]:
    """The page, ready; at the end: no errors, nothing asked of anyone else.

    Args:
        browser: of the fixture.
        server: of the fixture.
        wrong: answers that are errors, which browsers note in their console by themselves.
        options: of the browser's context.
    """
    context = browser.new_context(**options)
    page = context.new_page()
    asked: list[str] = []
    told: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda line: told.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("dialog", lambda dialog: told.append(f"dialog: {dialog.message}"))
    try:
        page.goto(server.url)
        page.wait_for_selector("#thumbs button, #token[open]")
        yield page
        own = urlsplit(server.url).netloc
        for url in asked:
            parts = urlsplit(url)
            assert parts.scheme in ("data", "blob") or parts.netloc == own, url
        assert len(told) == wrong, told
        assert all("Failed to load resource" in line for line in told)
    finally:
        context.close()


def column(page: Page, place: int = 0) -> Any:
    return page.locator(".card").nth(place)


def answered(page: Page, place: int = 0) -> list[str]:
    """Names of the classes in a column, once they are there."""
    column(page, place).locator(".guesses li").first.wait_for()
    page.wait_for_selector("#results:not([aria-busy])")
    return [name.inner_text() for name in column(page, place).locator(".name").all()]


def until(page: Page, condition: str) -> None:
    """Wait for it from here: the page's own policy forbids what would wait for it there."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(25)
    pytest.fail(condition)


def bring(page: Page, event: str, content: bytes, kind: str = "image/jpeg") -> None:
    """Drop or paste a file, as a browser tells a page of it."""
    page.evaluate(
        """([event, content, kind]) => {
            const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
            const files = new DataTransfer();
            if (kind) files.items.add(new File([bytes], "some <b>name</b>.jpg", {type: kind}));
            else files.setData("text/plain", "words");
            const made = event === "paste"
                ? new ClipboardEvent("paste", {clipboardData: files, bubbles: true})
                : new DragEvent(event, {dataTransfer: files, bubbles: true, cancelable: true});
            document.body.dispatchEvent(made);
        }""",
        [event, base64.b64encode(content).decode(), kind],
    )


def test_a_picture_is_chosen_and_answered(
    browser: Browser, server: Running, oracle: Predictor, pictures: Path
) -> None:
    path = pictures / "test" / "stripes" / "1.png"
    (expected,) = oracle.predict([decode_rgb(path.read_bytes(), "it")])
    with opened(browser, server) as page:
        with page.expect_file_chooser() as chooser:
            page.locator("#choose").click()
        chooser.value.set_files(path)
        assert answered(page) == [one.name for one in expected]
        shares = [one.inner_text() for one in column(page).locator(".share").all()]
        assert shares == [f"{100 * one.probability:.1f} %" for one in expected]
        widths = [
            float(one.evaluate("bar => bar.style.width").removesuffix("%"))
            for one in column(page).locator(".track i").all()
        ]
        assert widths == pytest.approx([100 * one.probability for one in expected], abs=0.1)
        assert "Test accuracy" in column(page).locator(".accuracy").inner_text()
        # Grad-CAM, laid over the picture itself
        shown = column(page).locator(".map .over")
        assert shown.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [40, 40]
        beside, over = (column(page).locator(one).bounding_box() for one in (".bare", ".map .over"))
        assert beside["y"] == pytest.approx(over["y"], abs=1)
        assert beside["width"] == pytest.approx(over["width"], abs=1)
        assert beside["x"] + beside["width"] < over["x"]
        page.locator("#opacity").fill("30")
        assert shown.evaluate("image => getComputedStyle(image).opacity") == "0.3"
        page.locator("#original").click()
        assert shown.evaluate("image => getComputedStyle(image).opacity") == "0"
        page.locator("#original").click()
        # another class is explained
        page.get_by_role("button", name=expected[2].name, exact=True).first.click()
        page.wait_for_selector(f".map b:text-is('{expected[2].name}')")
        pressed = column(page).locator(".name[aria-pressed=true]")
        assert pressed.inner_text() == expected[2].name
        assert pressed.evaluate("button => button === document.activeElement")
        # and without
        page.locator("#gradcam").uncheck()
        page.wait_for_selector(".map", state="detached")
        assert answered(page) == [one.name for one in expected]


def test_pictures_are_dropped_and_pasted(browser: Browser, server: Running) -> None:
    with opened(browser, server) as page:
        bring(page, "dragenter", b"", "image/jpeg")
        assert page.locator("#veil").is_visible()
        bring(page, "drop", jpeg(size=(64, 48)))
        assert page.locator("#veil").is_hidden()
        answered(page)
        assert "64 × 48 px" in column(page).inner_text()
        bring(page, "paste", jpeg(size=(50, 20)))
        page.wait_for_selector("text=50 × 20 px")
        bring(page, "paste", b"", "")
        assert "no image on the clipboard" in page.locator("#error").inner_text()
        bring(page, "drop", b"", "")
        assert "That was not a file" in page.locator("#error").inner_text()
        page.keyboard.press("Escape")
        assert page.locator(".guesses").count() == 0
        assert page.locator("#error").is_hidden()
        assert page.locator("#choose").evaluate("button => button === document.activeElement")


def test_what_is_no_picture_is_told_in_words(browser: Browser, server: Running) -> None:
    with opened(browser, server, wrong=2) as page:
        bring(page, "drop", b"<html>hello</html>", "image/jpeg")
        page.wait_for_selector("#error:not([hidden])")
        assert "not an image that can be read" in page.locator("#error").inner_text()
        assert page.locator("#error").get_attribute("role") == "alert"
        until(page, "document.getElementById('preview').hidden")
        assert "not an image that can be read" in page.locator("#caption").inner_text()
        for place in (0, 1):
            assert "No answer for this file." in column(page, place).inner_text()
        bring(page, "drop", jpeg()[:-700])
        page.wait_for_selector("#error:has-text('cannot be decoded')")
        page.evaluate("document.body.dataset.maxBytes = 1000")
        bring(page, "drop", jpeg())
        page.wait_for_selector("#error:has-text('at most')")
        page.evaluate("document.body.dataset.maxBytes = 20e6")
        bring(page, "drop", jpeg())
        answered(page)
        assert page.locator("#error").is_hidden()
        out = io.BytesIO()
        Image.new("RGB", (30, 20)).save(out, "TIFF")  # which this browser cannot show
        bring(page, "drop", out.getvalue(), "image/tiff")
        page.wait_for_selector("text=30 × 20 px")
        assert "cannot show this file" in page.locator("#caption").inner_text()
        assert page.locator(".map .over.alone").first.is_visible()


def test_examples_say_what_they_are_and_who_is_right(
    browser: Browser, server: Running, oracle: Predictor
) -> None:
    listed = server.ask("/v1/examples").json["examples"]
    with opened(browser, server) as page:
        assert page.locator("#thumbs button").count() == len(listed) == 12
        assert "Small copies of test images" in page.locator("#examples-hint").inner_text()
        for number in (0, 1):
            content = server.ask(listed[number]["url"]).body
            (expected,) = oracle.predict([decode_rgb(content, "it")], top=1)
            page.locator("#thumbs button").nth(number).click()
            page.wait_for_selector(f"#caption b:text-is('{listed[number]['label']}')")
            assert answered(page)[0] == expected[0].name
            mark = column(page).locator(".mark").inner_text()
            assert ("right" in mark) == (expected[0].name == listed[number]["label"])
            assert column(page, 1).locator(".mark").count() == 0  # it knows no such class
        assert page.locator("#thumbs button[aria-pressed=true]").count() == 1


def test_contenders_side_by_side_with_names_of_all_sorts(browser: Browser, server: Running) -> None:
    with opened(browser, server) as page:
        assert page.locator("h1").inner_text() == "Shapes <script>alert(1)</script>"
        assert "2 models" in page.locator("#lead").inner_text()
        bring(page, "drop", jpeg())
        names = answered(page, 1)
        assert names == list(NAMES[:5])
        assert column(page, 1).locator("h2").inner_text() == '<b>Odd</b> & "co"'
        assert "77.8 % (95 %: 45.3 to 93.7; n = 9)" in column(page, 1).inner_text()
        assert "Heat maps are not available" in column(page, 1).inner_text()
        assert page.locator("#verdict").inner_text().startswith("They disagree: ")
        assert NAMES[0] in page.locator("#status").inner_text()  # for those who listen
        assert page.locator("img[src=x]").count() == 0
        assert page.locator("#class-list li").count() == 1000 + 3
        left, right = (column(page, place).bounding_box() for place in (0, 1))
        assert left["y"] == right["y"]
        assert left["x"] + left["width"] <= right["x"]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.get_by_role("checkbox", name="simple_resnet").uncheck()
        page.wait_for_selector("#verdict:has-text('<b>Odd</b>')")
        assert column(page, 0).is_hidden()
        page.locator("#chips input").nth(1).click()  # one must stay
        assert page.locator("#chips input").nth(1).is_checked()


def test_as_many_models_are_announced_as_answer(browser: Browser) -> None:
    models = [
        replace(hostile_model(), name=f"m{number}", label=f"M{number}") for number in range(5)
    ]
    with serving(build_app(models, title="Five")) as server:
        page = browser.new_page()
        page.goto(server.url)
        page.wait_for_selector("#lead:has-text('of the 5 models')")
        assert page.locator("#lead").inner_text().startswith("Show M0 an image: it predicts")
        bring(page, "drop", jpeg())
        answered(page)
        assert page.locator(".card:visible").count() == 1
        for box in page.locator("#chips input").all()[1:]:
            box.check()
        assert page.locator("#lead").inner_text().startswith("Show them an image: 5 models predict")
        assert "Choose more" not in page.locator("#lead").inner_text()
        page.wait_for_selector("#verdict:has-text('All 5 predict')")
        page.close()


def test_on_a_phone(browser: Browser, server: Running) -> None:
    phone: dict[str, Any] = {
        "viewport": {"width": 390, "height": 844},
        "has_touch": True,
        "is_mobile": True,
    }
    with opened(browser, server, **phone) as page:
        fits = "document.documentElement.scrollWidth <= 390"
        assert page.evaluate(fits)
        assert page.locator("#camera").is_visible()
        assert page.locator("#photo").get_attribute("capture") == "environment"
        assert page.locator("#choose").inner_text().startswith("Choose an image")
        with page.expect_file_chooser() as chooser:
            page.locator("#camera").tap()
        chooser.value.set_files(
            {"name": "p.jpg", "mimeType": "image/jpeg", "buffer": jpeg(size=(90, 160))}
        )
        assert len(answered(page, 1)) == 5
        assert page.evaluate(fits)
        until(page, "scrollY > 200")  # to the answers
        small = page.evaluate(
            """[...document.querySelectorAll("button, summary, .chips label, .switch")]
                .filter((one) => one.offsetParent && !one.matches(".name"))
                .filter((one) => one.getBoundingClientRect().height < 32)
                .map((one) => one.id || one.textContent)"""
        )
        assert small == []  # a thumb hits all


def test_light_and_dark(browser: Browser, server: Running) -> None:
    def paper(page: Page) -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light, dark = "rgb(253, 253, 251)", "rgb(20, 23, 26)"
    with opened(browser, server, color_scheme="dark", reduced_motion="reduce") as page:
        assert paper(page) == dark
        page.get_by_role("button", name="Light colours").click()
        assert paper(page) == light
        page.reload()
        assert paper(page) == light  # it is kept
        page.wait_for_selector("#thumbs button")
        bring(page, "drop", jpeg())
        answered(page)
        moving = "document.getAnimations().filter((one) => one.playState === 'running').length"
        assert page.evaluate(moving) == 0
    with opened(browser, server, color_scheme="light") as page:
        assert paper(page) == light
        page.get_by_role("button", name="Dark colours").click()
        assert paper(page) == dark


def test_with_the_keyboard_alone(browser: Browser, server: Running) -> None:
    with opened(browser, server) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the answers"
        reached = []
        for _ in range(40):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate("document.activeElement.id || document.activeElement.tagName")
            )
            if reached[-1] == "gradcam":
                break
        assert {"theme", "choose", "gradcam", "BUTTON", "INPUT"} <= set(reached)
        page.locator("#choose").focus()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        with page.expect_file_chooser():
            page.keyboard.press("Space")
        page.locator("#thumbs button").first.focus()
        page.keyboard.press("Enter")
        answered(page)
        page.keyboard.press("Escape")
        assert page.locator(".guesses").count() == 0
        unnamed = page.evaluate(
            """[...document.querySelectorAll("button, input:not([tabindex='-1']), a, img")]
                .filter((one) => one.tagName === "IMG" ? !one.hasAttribute("alt")
                    : !(one.textContent.trim() || one.getAttribute("aria-label")
                        || one.labels?.length || one.querySelector("img[alt]:not([alt=''])")))
                .map((one) => one.outerHTML)"""
        )
        assert unnamed == []


def test_a_token_is_asked_for_once(browser: Browser) -> None:
    app = build_app([hostile_model()], rules=Rules(token="a-token-of-some-length"))
    with serving(app) as server, opened(browser, server, wrong=2) as page:
        page.locator("#token-text").fill("wrong")
        page.locator("#token-send").click()
        until(page, "document.getElementById('token-text').value === ''")
        page.locator("#token[open]").wait_for()
        page.locator("#token-text").fill("a-token-of-some-length")
        page.keyboard.press("Enter")
        page.wait_for_selector(".card")
        bring(page, "drop", jpeg())
        assert answered(page) == list(NAMES[:5])
        assert page.locator("#choice").is_hidden()  # there is one model


def test_the_api_page(browser: Browser, server: Running) -> None:
    phone: dict[str, Any] = {"viewport": {"width": 390, "height": 844}}
    with opened(browser, server, **phone) as page:
        page.get_by_role("link", name="API").click()
        page.wait_for_selector("h1:has-text('HTTP API')")
        assert page.evaluate("document.documentElement.scrollWidth <= 390")
        assert f"{server.url}/v1/predict" in page.locator("main").inner_text()


def test_axe_finds_nothing_serious(browser: Browser, server: Running) -> None:
    def classify(page: Page) -> None:
        page.locator("#thumbs button").first.click()
        page.locator(".card").first.wait_for()
        page.wait_for_selector("#results:not([aria-busy])")

    for width in (1280, 390):
        assert axe_faults(browser, server.url, width=width, prepare=classify) == []

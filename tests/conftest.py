"""Small folders of real image files, a trained run, a browser; a cache that is not the user's."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from podium.runtime.events import Event, Progress

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from podium.runs.folder import RunFolder

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A suite in a shell's background ignores Ctrl-C, and so would the commands that it starts,
    # some of which must hear it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where the tests that follow it compute")


def pytest_configure(config: pytest.Config) -> None:
    os.environ["PODIUM_TEST_DEVICE"] = config.getoption("--device")


LONGEST = (
    "test_torture", "test_docs", "test_benchmarks", "test_calibrated_verdicts", "test_training",
    "test_means", "test_export", "test_own_code", "test_faults", "test_folds", "test_cells",
    "test_probe", "test_losses", "test_report_build", "test_engines", "test_docs_site",
)  # fmt: skip
"""Files of about half a minute or more. They are begun first: the last file of all is alone on its
core, as long as it takes. (xdist's own order is by the number of tests.)"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


def device() -> str:
    """Where training, inference, features, probes and heat maps are tested: `--device`."""
    return os.environ["PODIUM_TEST_DEVICE"]


SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PODIUM_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")  # no test asks a network
        # no test outlives a power cut, and thousands of files would wait for the disk
        patch.setattr(os, "fsync", lambda _: None)
        yield


class Steps(list[tuple[str, int, int]]):
    """A `Notify` that remembers what progress it is told: (what, done, total)."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.append((event.what, event.done, event.total))


class StopAfter:
    """A stop request that is set once it was asked `times` times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def is_set(self) -> bool:
        self.left -= 1
        return self.left <= 0


def write_pictures(
    root: Path,
    counts: dict[str, int],
    classes: tuple[str, ...] = ("circle", "stripes", "noise"),
    side: int = 40,
    seed: int = 7,
) -> Path:
    """Pictures of three textures in `root/split/class/n.png`; easy, yet not solved by colour."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side - 0.5
    for split, count in counts.items():
        for kind, name in enumerate(classes):
            folder = root / split / name if split else root / name
            folder.mkdir(parents=True)
            for number in range(count):
                shift = random.uniform(-0.15, 0.15, 2)
                pattern = (
                    np.hypot(x - shift[0], y - shift[1]) < 0.25,
                    np.sin(25 * (x + shift[0])) > 0,
                    random.random((side, side)) > 0.5,
                )[kind % 3]
                colour = random.integers(60, 255, 3)
                picture = pattern[..., None] * colour + random.integers(0, 40, (side, side, 3))
                pixels = np.clip(picture, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 + 9 + 12 pictures a class of three classes, in train, valid and test."""
    root = tmp_path_factory.mktemp("pictures")
    return write_pictures(root, {"train": 24, "valid": 9, "test": 12})


@pytest.fixture(scope="session")
def sports10() -> Path:
    """Real photographs of ten sports; not on every machine."""
    folder = SHARED / "sports10"
    if not folder.is_dir():
        pytest.skip("the photographs of sports10 are not on this machine")
    return folder


@pytest.fixture(scope="session")
def small_run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """SimpleResNet, two epochs at 32 px, with mirrored tests, of three easy classes."""
    from podium.api import train

    return train(
        pictures,
        runs=tmp_path_factory.mktemp("runs"),
        epochs=2,
        image_size=32,
        lr=1e-3,
        flip_test=True,
        machine={"device": device(), "precision": "fp32", "workers": 0},
    )


@contextlib.contextmanager
def reports_undrawn(but: Collection[str] = ()) -> Iterator[None]:
    """Reports without figures, which take nearly all of their time, `but` those of these names."""
    from podium.reporting import build
    from podium.reporting.figures import tasks as figures

    def undrawn(tasks: Callable[..., Mapping[str, Any]], *given: Any) -> dict[str, Any]:
        left_out = partial(figures.FigureResult, [])
        return {name: task if name in but else left_out for name, task in tasks(*given).items()}

    with pytest.MonkeyPatch.context() as patch:
        for name in ("overview_tasks", "figure_tasks"):
            patch.setattr(figures, name, partial(undrawn, getattr(figures, name)))
        patch.setattr(build, "helpers_that_pay", lambda *_: 0)
        yield


@pytest.fixture
def undrawn() -> Iterator[None]:
    """For tests in which a command writes a report by the way, or which read its words alone."""
    with reports_undrawn():
        yield


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, headless; not on every machine. It asks nobody outside."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    chromium = chromium or shutil.which("google-chrome")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("CI must install Chromium: without it no page is tested")
        pytest.skip("there is no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    quiet = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
    closed = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=chromium, args=[*quiet, *closed])
        yield found
        found.close()


def axe_faults(
    browser: Browser,
    address: str,
    *,
    width: int = 1280,
    prepare: Callable[[Page], None] = lambda page: None,
) -> list[str]:
    """What axe calls serious or critical in a page, in the light and in the dark colour scheme.

    Args:
        browser: of the fixture.
        address: of the page.
        width: of the window, px.
        prepare: called before axe looks, to open what is closed at first.

    Returns:
        Scheme, rule and the first element of each fault.
    """
    from axe_playwright_python.sync_playwright import Axe

    found = []
    for scheme in ("light", "dark"):
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            reduced_motion="reduce",
            bypass_csp=True,  # axe is added to the page
        )
        page = context.new_page()
        page.goto(address)
        prepare(page)
        for one in Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]:
            if one["impact"] in ("serious", "critical"):
                nodes = one["nodes"]
                what = f"{len(nodes)} x {one['id']}: {nodes[0]['html'][:200]}"
                found.append(f"{scheme}: {what} ({nodes[0]['failureSummary']})")
        context.close()
    return found


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of a bucket of a server of moto's, for all tests: clients know one server."""
    fsspec = pytest.importorskip("fsspec")
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    given = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        store, _ = fsspec.core.url_to_fs("s3://pictures")
        store.mkdir("pictures")
        yield "s3://pictures"
    server.stop()

"""Sliders for other numbers of test images and seeds: against the command `podium power`, and in
Chromium."""

from __future__ import annotations

import json
import re
import shlex
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from podium.cli.app import main
from podium.reporting.build import build_report
from podium.reporting.page.sizes_section import sizes_section
from podium.reporting.words.labels import labels
from podium.results.outlook import OtherSizes, other_sizes
from podium.results.study import StudyResults, gather
from podium.runs.folder import StudyFolder
from podium.statistics.scoring import find_metric
from podium.statistics.table import read_table
from tests.conftest import reports_undrawn
from tests.fake_study import fake_study

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CLASSES = ("archery", "boxing", "chess", "diving")
EN = labels("en")


def study(root: Path, contenders: int = 3, seeds: tuple[int, ...] = (0,)) -> StudyFolder:
    return fake_study(
        root, CLASSES, contenders=contenders, per_class=25, epochs=1, seeds=seeds,
        skill=(0.78, 0.90, 0.70),
    )  # fmt: skip


def sizes(results: StudyResults) -> OtherSizes:
    assert results.verdicts is not None
    found = other_sizes(results.outlook, results.verdicts, results.verdicts.pairs)
    assert found is not None
    return found


def in_groups(folder: StudyFolder) -> StudyFolder:
    paths = read_table([folder.path]).paths
    groups = pa.array([f"patient {at // 5}" for at in range(len(paths))])
    pq.write_table(
        pa.table({"path": paths, "label": ["?"] * len(paths), "group": groups}), folder.images
    )
    return folder


@pytest.mark.parametrize("kind", ["one seed", "seeds", "groups"])
def test_the_command_prints_the_same_numbers(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = study(tmp_path / "a folder" / "study", seeds=(0, 1, 2) if kind == "seeds" else (0,))
    results = gather(in_groups(folder) if kind == "groups" else folder)
    found, section = sizes(results), sizes_section(results, EN)
    assert section is not None
    data = json.loads(section["data"])
    assert found.own == (100, 3 if kind == "seeds" else 1)
    assert found.images[:4] == (50, 100, 200, 300)
    tried = set()
    for of, at, pair in ((0, 1, 0), (0, 5, 1), (1, 0, 2), (1, 3, 0), (3, 6, 1), (2, 2, 2)):
        one = data["pairs"][pair]
        command = f"power --n {data['images'][at]} --seeds {data['seeds'][of]} {one['command']}"
        assert main(shlex.split(command)) == 0
        printed = re.search(r"power (\d+) %: chance that", capsys.readouterr().out)
        assert printed is not None
        assert int(printed[1]) == one["power"][of][at]
        tried.add(int(printed[1]))
    assert len(tried) > 3


def test_power_grows_with_the_images_and_needs_a_difference(tmp_path: Path) -> None:
    found = sizes(gather(study(tmp_path / "s")))
    for one in found.pairs:
        assert one.power is not None
        for row in one.power:
            assert all(more >= less - 0.005 for less, more in pairwise(row))
    folder = study(tmp_path / "same", contenders=2)
    runs = folder.runs(folder.read_spec())
    runs[0].read_predictions("test").write(runs[1].predictions("test"))
    (same,) = sizes(gather(folder)).pairs
    assert same.power is None


def test_no_power_is_claimed_where_none_is_known(tmp_path: Path) -> None:
    results = gather(study(tmp_path / "one", contenders=1))
    assert sizes_section(results, EN) is None
    results = gather(study(tmp_path / "two", contenders=2))
    assert results.verdicts is not None
    by_f1 = replace(results.verdicts, metric=find_metric("macro_f1"))
    assert other_sizes(results.outlook, results.verdicts, by_f1.pairs) is not None
    assert other_sizes(results.outlook, by_f1, by_f1.pairs) is None
    assert other_sizes(None, results.verdicts, by_f1.pairs) is None


def test_a_report_of_five_contenders_hardly_takes_longer(tmp_path: Path) -> None:
    results = gather(
        fake_study(
            tmp_path / "five", CLASSES, contenders=5, per_class=25, epochs=1, seeds=(0, 1, 2)
        )
    )
    assert results.outlook is not None
    started = time.process_time()
    found = sizes(results)
    assert len(found.pairs) == 10
    assert time.process_time() - started < 3  # measured: 0.5 s


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyResults]:
    folder = study(tmp_path_factory.mktemp("runs") / "sizes")
    with reports_undrawn():
        report = build_report(folder, helpers=0)
    return report.index, report.results


@pytest.mark.parametrize("width", [1440, 390])
def test_the_sliders_redraw_what_would_be_decided(
    browser: Browser, built: tuple[Path, StudyResults], width: int
) -> None:
    index, results = built
    section = sizes_section(results, EN)
    assert section is not None
    data = json.loads(section["data"])
    page: Page = browser.new_page(viewport={"width": width, "height": 844})
    faults: list[str] = []
    page.on("console", lambda said: faults.append(said.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(index.as_uri())
    images, seeds = page.locator(".sizes input").all()
    told = page.locator(".sizes output")
    for at, of in ((1, 0), (0, 0), (8, 0), (4, 1), (8, 3)):
        images.fill(str(at))
        seeds.fill(str(of))
        power = [pair["power"][of][at] for pair in data["pairs"]]
        cells = page.locator(".sizes tbody td:nth-child(2)").all_inner_texts()
        assert [int(one.replace("\u00a0", " ").split()[0]) for one in cells] == power
        decided = [number for number, share in enumerate(power) if share >= 80]
        assert told.inner_text().startswith(f"{len(decided)} of 3 pairs would be decided")
        assert page.locator(".sizes tbody tr.untold").count() == 3 - len(decided)
        code = page.locator(".sizes code").inner_text()
        assert code.startswith(
            f"podium power --n {data['images'][at]} --seeds {data['seeds'][of]} --difference "
        )
        assert images.get_attribute("aria-valuetext") == f"{data['images'][at]:,}"
    assert "1 SimpleResNet + AutoAugment · 2 SimpleResNet · 3 InceptionResNet" in told.inner_text()
    page.get_by_role("button", name="Back to this study").click()
    assert (images.input_value(), seeds.input_value()) == ("1", "0")
    assert "about these trained models" in page.locator(".sizes form").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    images.focus()
    page.keyboard.press("ArrowRight")
    assert images.get_attribute("aria-valuetext") == "200"
    page.close()
    assert faults == []

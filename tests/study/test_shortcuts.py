"""Contenders that see no object: where labels leak, they win, and the report says so."""

from __future__ import annotations

import csv
import html
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from podium.cli.app import main
from podium.results.advice.advise import advise
from podium.results.study import gather
from podium.runs.folder import StudyFolder

SIZES = {"train": 40, "valid": 16, "test": 40}
SHORTCUTS = ("shortcut-file", "shortcut-colour", "shortcut-border", "shortcut-thumbnail")


def photos(root: Path, *, leaks: bool) -> Path:
    """Noise of two classes, which differ in nothing, or else in the quality of their files."""
    random = np.random.default_rng(0)
    for split, count in SIZES.items():
        for kind, name in enumerate(("healthy", "ill")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count // 2):
                pixels = random.integers(0, 256, (48, 48, 3)).astype(np.uint8)
                quality = 90 - 30 * kind if leaks else 90
                Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=quality)
    return root


def study(place: Path, images: Path, **more: object) -> Path:
    values = {
        "name": "leaks",
        "data": str(images),
        "shortcuts": True,
        "contenders": {"net": {"model": "simple_resnet", "image_size": 32, "epochs": 1}},
        **more,
    }
    path = place / "leaks.yaml"
    path.write_text(yaml.safe_dump(values))
    options = ["--device", "cpu", "--workers", "0", "--runs", str(place / "runs")]
    assert main(["run", str(path), *options]) == 0
    return place / "runs" / "leaks"


def words_of(page: Path) -> str:
    text = re.sub(r"<script.*?</script>|<style.*?</style>", "", page.read_text(), flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text)))


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.conftest import reports_undrawn

    place = tmp_path_factory.mktemp("leaking")
    with reports_undrawn():
        return study(place, photos(place / "photos", leaks=True))


def test_labels_that_files_give_away(leaking: Path) -> None:
    results = gather(StudyFolder(leaking))
    accuracy = {one.name: one.accuracy for one in results.contenders}
    assert accuracy["shortcut-file"] == 1.0
    assert results.verdicts is not None
    assert results.verdicts.leaders[0].name == "shortcut-file"
    (finding,) = [one for one in advise(results) if one.rule == "shortcut"]
    assert finding.contender == "shortcut-file"
    assert finding.shares["chance"] == 0.5
    text = words_of(leaking / "report" / "index.html")
    assert "Find out how File metadata only can tell the classes apart" in text
    assert "Labels can be told without the object: File metadata only reaches 100.0 %" in text


def test_they_are_ordinary_contenders_with_paired_tests(leaking: Path) -> None:
    with (leaking / "report" / "tables" / "pairs.csv").open(newline="") as file:
        pairs = list(csv.DictReader(file))
    names = {one["first"] for one in pairs} | {one["second"] for one in pairs}
    assert names == {"net", *SHORTCUTS}
    assert len(pairs) == 10
    assert not list(leaking.glob("shortcut-*/seed-0/explanations*"))
    assert [one.kind for one in gather(StudyFolder(leaking)).questions] == []


def test_a_model_of_files_predicts_no_other_images(
    leaking: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = leaking / "shortcut-file" / "seed-0"
    photo = next((leaking.parents[1] / "photos" / "test").rglob("*.jpg"))
    assert main(["predict", str(run), str(photo)]) == 2
    assert "sees only the metadata of files" in " ".join(capsys.readouterr().err.split())
    # on labelled files it is scored as it was trained, on their metadata
    data = str(leaking.parents[1] / "photos")
    assert main(["evaluate", str(run), "--data", data, "--device", "cpu"]) == 0
    assert "100.0" in capsys.readouterr().out
    border = leaking / "shortcut-border" / "seed-0"
    assert main(["predict", str(border), str(photo), "--device", "cpu"]) == 0


@pytest.mark.usefixtures("undrawn")
def test_images_without_a_leak_give_no_finding(tmp_path: Path) -> None:
    folder = study(tmp_path, photos(tmp_path / "photos", leaks=False))
    results = gather(StudyFolder(folder))
    assert [one for one in advise(results) if one.rule.startswith("shortcut")] == []
    assert "Labels can be told without" not in words_of(folder / "report" / "index.html")


@pytest.mark.usefixtures("undrawn")
def test_folds(tmp_path: Path) -> None:
    data = photos(tmp_path / "photos", leaks=True)
    values = {"data": {"path": str(data), "folds": 3}}
    contenders = {"file": {"model": "shortcut_file", "freeze": "backbone", "linear_probe": True,
                           "epochs": 1}}  # fmt: skip
    folder = study(tmp_path, data, shortcuts=False, contenders=contenders, **values)
    (only,) = gather(StudyFolder(folder)).contenders
    assert only.accuracy == 1.0
    assert (folder / "file" / "seed-0" / "best.safetensors").is_file()

"""`podium stress`, from the images to the page."""

from __future__ import annotations

import csv
import html
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

import podium
from podium.cli.app import main
from podium.results.study import gather
from podium.runs.folder import StudyFolder
from podium.runs.stress import StressPredictions, stress_file
from tests.conftest import reports_undrawn


@pytest.fixture(scope="module")
def folder(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network, a border and a file contender of three easy classes."""
    place = tmp_path_factory.mktemp("stress")
    probe = {"freeze": "backbone", "linear_probe": True, "epochs": 1}
    values = {
        "name": "textures",
        "data": str(pictures),
        "contenders": {
            "net": {"model": "simple_resnet", "image_size": 32, "epochs": 2, "lr": 0.001,
                    "label": "Net & co"},
            "border": {"model": "shortcut_border", **probe},
            "file": {"model": "shortcut_file", **probe},
        },
    }  # fmt: skip
    path = place / "textures.yaml"
    path.write_text(yaml.safe_dump(values))
    options = ["--device", "cpu", "--workers", "0", "--runs", str(place / "runs"), "--no-audit"]
    with reports_undrawn():
        assert main(["run", str(path), *options]) == 0
    return place / "runs" / "textures"


def words_of(page: Path) -> str:
    text = re.sub(r"<script.*?</script>|<style.*?</style>", "", page.read_text(), flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text)))


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_validation_images_by_default_and_no_look_at_the_test_images(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(gather(StudyFolder(folder)).scorings)
    assert main(["stress", str(folder), "--device", "cpu"]) == 0
    assert len(gather(StudyFolder(folder)).scorings) == before
    said = capsys.readouterr()
    assert "left out, since it sees no pixels: file" in " ".join((said.err + said.out).split())
    place = folder / "stress"
    text = words_of(place / "index.html")
    assert "27 validation images, so that the test images stay unseen" in text
    assert "Net & co" in text
    assert (place / "stress.png").is_file()
    curves = rows(place / "stress.csv")
    assert len(curves) == 31 * 2
    clean = {one["contender"]: float(one["accuracy"]) for one in curves if one["strength"] == "0"}
    for name in ("net", "border"):
        stored = StudyFolder(folder).run(name, 0).read_predictions("valid")
        assert clean[name] == pytest.approx((stored.predicted == stored.labels).mean())
    pairs = rows(place / "stress-pairs.csv")
    assert [one["corruption"] for one in pairs] == [
        "every", "blur", "noise", "jpeg", "brightness", "rotation", "rescaling",
    ]  # fmt: skip
    assert float(pairs[0]["change"]) == pytest.approx(
        float(pairs[0]["difference"]) - float(pairs[0]["clean_difference"])
    )


def test_the_same_images_give_the_same_predictions(folder: Path, tmp_path: Path) -> None:
    main(["stress", str(folder), "--device", "cpu"])
    first = StressPredictions.read(stress_file(folder, "valid"))
    to = tmp_path / "elsewhere"
    assert main(["stress", str(folder / "net"), "--device", "cpu", "--to", str(to)]) == 0
    again = StressPredictions.read(stress_file(folder, "valid"))
    assert [*again.predicted] == [("net", 0)]
    assert np.array_equal(again.predicted["net", 0], first.predicted["net", 0])
    assert not rows(to / "stress-pairs.csv")


def test_the_test_images_are_a_look_that_is_recorded(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stress", str(folder), "--split", "test", "--device", "cpu", "--lang", "pt"]) == 0
    looks = [one for one in gather(StudyFolder(folder)).scorings if one.by == "stress"]
    assert {one.contender for one in looks} == {"net", "border"}
    assert looks[0].n == 36
    text = words_of(folder / "stress" / "index.html")
    assert "36 imagens de teste: mais um olhar a elas" in text
    with reports_undrawn():
        assert main(["report", str(folder)]) == 0
    assert "podium stress looked at the test images 2 times" in words_of(
        folder / "report" / "index.html"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "train"], "expected valid or test"),
        (["--data", "no-such-folder"], "no-such-folder"),
    ],
)
def test_mistakes(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stress", str(folder), *arguments, "--device", "cpu"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_what_is_no_finished_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stress", str(tmp_path / "nothing")]) == 2
    assert "holds no finished run with weights" in " ".join(capsys.readouterr().err.split())


def test_images_that_changed_are_refused(
    folder: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(pictures, moved)
    first = sorted((moved / "valid").rglob("*.png"))[0]
    shutil.copyfile(sorted((moved / "train").rglob("*.png"))[0], first)
    assert main(["stress", str(folder), "--data", str(moved), "--device", "cpu"]) == 2
    assert "it changed since it was checked" in " ".join(capsys.readouterr().err.split())


def test_python_gives_what_the_command_writes(folder: Path, tmp_path: Path) -> None:
    found = podium.stress(folder, device="cpu")
    assert main(["stress", str(folder), "--device", "cpu", "--to", str(tmp_path / "page")]) == 0
    written = {
        (row["contender"], row["corruption"], row["strength"]): float(row["accuracy"])
        for row in rows(tmp_path / "page" / "stress.csv")
    }
    assert len(written) == 2 * len(found.conditions)
    (name, strength, _), last = found.conditions[-1], found.curves["border"][-1]
    assert written["border", name, str(strength)] == pytest.approx(last.value, abs=1e-6)
    with pytest.raises(podium.ConfigError, match="split"):
        podium.stress(folder, split="train")  # type: ignore[arg-type]

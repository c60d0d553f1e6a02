"""A table's columns become slices of the report, through the command."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from podium.cli.app import main

SIZES = {"train": 24, "valid": 12, "test": 80}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Light and dark pictures of three cameras; camera C shows noise."""
    root = tmp_path_factory.mktemp("photos")
    random, rows, number = np.random.default_rng(0), [], 0
    for split, count in SIZES.items():
        for at in range(count):
            name, camera = ("dark", "light")[at % 2], "ABC"[at // 2 % 3]
            pixels = random.integers(0, 256, (32, 32, 3))
            if camera != "C":
                pixels = pixels // 4 + (160 if name == "light" else 20)
            Image.fromarray(pixels.astype(np.uint8)).save(root / f"{number}.png")
            rows.append((f"{number}.png", name, split, camera, number, number // 4))
            number += 1
    with (root / "photos.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "label", "split", "camera", "number", "visit"))
        writer.writerows(rows)
    return root


def study(photos: Path, place: Path, **data: object) -> Path:
    recipe = {"model": "simple_resnet", "image_size": 32, "epochs": 1, "batch_size": 8}
    values = {
        "name": "cameras",
        "data": {"path": str(photos / "photos.csv"), **data},
        "contenders": {"fast": {**recipe, "lr": 0.01}, "slow": {**recipe, "lr": 0.0001}},
    }
    path = place / "cameras.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def run(path: Path, *more: str) -> int:
    options = ["--device", "cpu", "--workers", "0", "--runs", str(path.parent / "runs")]
    return main(["run", str(path), *options, *more])


@pytest.mark.usefixtures("undrawn")
def test_slices_of_a_study(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study(photos, tmp_path, group="visit")
    assert run(path) == 0
    tables = tmp_path / "runs" / "cameras" / "report" / "tables"
    with (tables / "slices.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert {one["column"] for one in found} == {"camera"}
    assert {(one["value"], one["images"]) for one in found} == {
        ("A", "28"),
        ("B", "26"),
        ("C", "26"),
    }
    assert all(0 < int(one["groups"]) < int(one["images"]) for one in found)
    assert (tables / "slice-pairs.csv").is_file()
    capsys.readouterr()
    # other slices of a finished study train nothing anew
    assert run(study(photos, tmp_path, group="visit", slices=["number"])) == 0
    with (tables / "slices.csv").open(newline="") as file:
        assert [one["column"] for one in csv.DictReader(file)] == ["number"] * 8


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        (["lens"], "data.slices: expected a column, or a regular expression with (?P<name>...)"),
        (["(?P<day>mon|tue)"], "data.slices: '(?P<day>mon|tue)' matches none of the 80 test"),
        (["(?P<day>["], "is not a regular expression"),
    ],
)
def test_slices_that_do_not_exist_are_refused_before_the_training(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    slices: list[str],
    message: str,
) -> None:
    assert run(study(photos, tmp_path, slices=slices)) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    assert not (tmp_path / "runs" / "cameras" / "fast").exists()

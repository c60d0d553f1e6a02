"""`podium data check` and `import`, and the commands that take a table: parse, call, print."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import podium
from podium.cli.app import main
from podium.cli.options import data_spec
from podium.config.studyfile import load_study
from podium.data.bands import Picture
from podium.data.grey import GreyWindows
from podium.data.images import decode_picture
from podium.data.indexing import build_index, index_of
from podium.data.record import index_table
from podium.deploy.export import images as images_of_exports
from podium.errors import ConfigError
from podium.runs.folder import StudyFolder
from tests.conftest import write_pictures

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str | Path) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 24 pictures in `pictures`, with ids, a kind, a patient, and one missing file."""
    root = tmp_path_factory.mktemp("photos")
    write_pictures(root / "set", {"": 12}, ("circle", "stripes"), 16)
    (root / "pictures").mkdir()
    rows = []
    for one in sorted((root / "set").rglob("*.png")):
        name = f"{one.parent.name}-{one.stem}"
        one.rename(root / "pictures" / f"{name}.png")
        rows.append((name, one.parent.name, int(one.stem) // 3))
    rows.append(("gone", "circle", 9))
    frame = pd.DataFrame(rows, columns=["image_id", "kind", "patient_id"])
    frame.to_csv(root / "photos.csv", sep=";", index=False)
    return root


GIVEN = ("--label", "kind", "--option", "images=pictures", "--option", "missing=0.05")


def test_check_ends_with_the_lines_that_a_study_takes(photos: Path, run: Run) -> None:
    table = photos / "photos.csv"
    code, out, err = run("data", "check", table, *GIVEN, "--group", "patient_id", "--rows", 2)
    assert code == 0
    assert "source: table" in out
    assert " circle " in out
    assert out.count(".png") == 2
    assert "1 of 25 images" in err
    lines = yaml.safe_load(out[out.index("data:") :])
    assert lines["data"] == {
        "path": str(table),
        "label": "kind",
        "group": "patient_id",
        "options": {"images": "pictures", "missing": 0.05, "path_column": "image_id"},
    }
    study = {"name": "s", **lines, "contenders": {"a": {"model": "simple_resnet", "epochs": 1}}}
    stated = index_of(load_study(study).data)
    assert not any("guessed" in notice for notice in stated.notices)
    assert sum(map(len, stated.splits.values())) == 24


def test_check_says_what_the_names_look_like_and_the_line_that_keeps_it_together(
    tmp_path: Path, run: Run
) -> None:
    write_pictures(tmp_path, {"all": 20})
    for one in sorted(tmp_path.rglob("*.png")):
        number = int(one.stem)
        one.rename(one.parent / f"video{number // 5}_{number % 5}.png")
    code, _, err = run("data", "check", tmp_path / "all")
    told = " ".join(err.split())
    assert code == 0
    assert "The names look like 12 groups" in told
    rule = told.split("data: {group: '")[1].split("'}")[0]
    code, out, err = run("data", "check", tmp_path / "all", "--group", rule)
    assert code == 0
    assert "12 groups" in out
    assert "look like" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no column for the label"),
        (("--label", "kind"), "add data: {options: {images: pictures}}"),
        (("--label", "kinds"), "Did you mean 'kind'"),
        (("--source", "tabel"), "--source: there is no source 'tabel'. Did you mean table"),
        (("--option", "images"), "--option 'images': expected KEY=VALUE"),
        (("--option", "imagse=x"), "data.label, and as data.options: path_column, split_column"),
        ((*GIVEN, "--option", "missing=lots"), "data.options.missing: expected a valid number"),
        ((*GIVEN, "--group", "site"), "data.group: expected parent"),
    ],
)
def test_a_mistake_is_said_in_one_line(
    words: tuple[str, ...], message: str, photos: Path, run: Run
) -> None:
    code, _, err = run("data", "check", photos / "photos.csv", *words)
    assert code == 2
    assert message in " ".join(err.split())
    assert "Traceback" not in err


def test_import_writes_the_table_that_gives_the_same_study(
    photos: Path, tmp_path: Path, run: Run
) -> None:
    table, to = photos / "photos.csv", tmp_path / "images.parquet"
    code, out, _ = run("data", "import", table, *GIVEN, "--group", "patient_id", "--to", to)
    assert code == 0
    fingerprint = json.loads(pq.read_schema(to).metadata[b"podium"])["fingerprint"]
    assert f"fingerprint {fingerprint}" in out
    assert index_of(data_spec(str(to))).fingerprint == fingerprint
    frame = pd.read_parquet(to)
    assert frame["split"].value_counts().sum() == 24
    assert (frame["group"] == frame["patient_id"]).all()
    code, _, err = run("data", "import", table, *GIVEN, "--to", tmp_path / "images.txt")
    assert code == 2
    assert "ends in .parquet or .csv" in err


def test_a_study_on_a_table_keeps_the_table(
    photos: Path, tmp_path: Path, run: Run, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--group", "patient_id", "--runs", str(tmp_path / "runs"), "--name", "s"]
    words += ["--epochs", "1", "--image-size", "32", "--workers", "0", "--no-audit"]
    images = tmp_path / "images.parquet"
    assert run("data", "import", photos / "photos.csv", *GIVEN, "--to", images)[0] == 0
    code, _, err = run("train", "simple_resnet", "--data", images, *words)
    assert code == 0, err
    study = StudyFolder(tmp_path / "runs" / "s")
    kept = pq.read_table(study.images)
    index = index_of(study.read_spec().data)
    assert study.read_spec().data.group == "patient_id"
    assert kept.equals(index_table(index))
    assert kept.column("group").to_pylist() == kept.column("patient_id").to_pylist()
    predictions = study.run("simple_resnet", 0).read_predictions("test")
    tested = kept.filter(pa.compute.equal(kept["split"], "test"))
    assert list(predictions.paths) == tested.column("path").to_pylist()
    assert len(podium.evaluate(study.path, study.images, workers=0)) == len(predictions)
    given = ("--data", photos / "photos.csv", *GIVEN)
    code, out, err = run("evaluate", study.path, *given, "--workers", "0")
    assert code == 0, err
    assert "of 2 images" in out  # the study's own: only those that it held out

    # what is calibrated on are the study's training images, though the folder has all
    trained = study.read_training_images()
    assert {label: len(paths) for label, paths in trained.items()} == {"circle": 10, "stripes": 10}
    read: list[str] = []

    def decode(content: bytes, name: str, windows: GreyWindows) -> Picture:
        read.append(name)
        return decode_picture(content, name, windows)

    monkeypatch.setattr(images_of_exports, "decode_picture", decode)
    images_of_exports.calibration_images(study.run("simple_resnet", 0), 32, None, None)
    assert sorted(read) == sorted(one for paths in trained.values() for one in paths)


def test_the_audit_takes_a_table(photos: Path, tmp_path: Path, run: Run) -> None:
    words = ("--no-labels", "--to", tmp_path / "audit")
    code, out, err = run("audit", photos / "photos.csv", *GIVEN, *words)
    assert code == 0, err
    assert "Audit:" in out
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())["totals"]["images"] == 24


@pytest.mark.parametrize("given", [pd.DataFrame({"path": ["1.png"], "label": ["a"]}), object()])
def test_a_study_refuses_images_that_it_could_not_find_again(given: Any, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=f"data: expected a path, a name or a mapping, got {type(given).__name__}"
    ):
        podium.train(given, runs=tmp_path)
    with pytest.raises(ConfigError, match="data: expected a path"):
        podium.Study.load("quick", data=given)


def test_a_data_frame_is_indexed_in_python(photos: Path) -> None:
    frame = pd.read_csv(photos / "photos.csv", sep=";")[:-1]
    source = podium.TableSource(frame, "kind", images=photos / "pictures")
    assert build_index(source).classes == ("circle", "stripes")

"""Sets of classes through the real commands: the same in predict, serve, exports and the Hub."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import podium
from podium.cli.app import main
from podium.deploy.export import load
from podium.deploy.export.record import StoredSets
from podium.deploy.export.verify import Check, makes_these_sets, refuse
from podium.deploy.publish.pack import pack
from podium.deploy.serve import create_app
from podium.deploy.sets import Wanted, published, stored_scores
from podium.errors import ConfigError, RunFolderError
from podium.results.run import run_temperature
from podium.runs.folder import RunFolder
from podium.runtime.files import read_json, write_json
from podium.statistics.conformal import SetRule
from tests.deploy.serving import serving

Sets = dict[str, set[str]]


def expected_sets(run: RunFolder, coverage: float, pictures: Path, by_class: bool = False) -> Sets:
    """Computed from the run's files alone: a rank among the validation images, and the best."""
    temperature = run_temperature(run)
    valid, test = run.read_predictions("valid"), run.read_predictions("test")

    def shares(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        scaled = np.exp(logits.astype(float) / temperature)
        return np.asarray(scaled / scaled.sum(1, keepdims=True))

    own = shares(valid.logits)[np.arange(len(valid)), valid.labels]
    found = {}
    for path, row in zip(test.paths, shares(test.logits), strict=True):
        inside = set()
        for at, name in enumerate(test.class_names):
            of = own[valid.labels == at] if by_class else own
            p_value = (1 + (of <= row[at] + 1e-7).sum()) / (len(of) + 1)
            if p_value > 1 - coverage + 1e-9 or row[at] == row.max():
                inside.add(name)
        found[str(pictures / path)] = inside
    return found


@pytest.fixture(scope="module")
def exported(small_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in all formats, with sets."""
    pytest.importorskip("onnx")
    to = tmp_path_factory.mktemp("exported")
    kinds = ["onnx", "torchscript", "pt2", "openvino"]
    found = podium.export(small_run, kinds, coverage=0.9, to=to, rounds=0)
    for one in found.exports:
        assert one.check.covered == one.check.covered_before
        assert one.check.covered is not None
        assert one.check.covered >= 0.9  # of the images that the thresholds come from
    return to


@pytest.mark.parametrize("words", [["90"], ["80"], ["80", "--by-class"]])
def test_predict_gives_the_sets_of_the_validation_images(
    small_run: RunFolder, pictures: Path, capfd: pytest.CaptureFixture[str], words: list[str]
) -> None:
    line = ["predict", str(small_run.path), str(pictures / "test"), "--format", "jsonl"]
    assert main([*line, "--top", "1", "--coverage", *words]) == 0
    told = capfd.readouterr()
    rows = [json.loads(one) for one in told.out.splitlines()]
    by_class = "--by-class" in words
    expected = expected_sets(small_run, int(words[0]) / 100, pictures, by_class)
    assert {row["path"]: {one["class"] for one in row["set"]} for row in rows} == expected
    assert len({len(inside) for inside in expected.values()}) > 1
    for row in rows:
        assert row["set"][0] == row["predictions"][0]
        shares = [one["probability"] for one in row["set"]]
        assert shares == sorted(shares, reverse=True)
        assert len(row["predictions"]) == 1
    of = " of each class" if by_class else ""
    said = " ".join(told.err.split())
    assert f"Sets: {words[0]} % or more of them contain the true class, for images{of} like" in said
    assert "27 validation images; for others nothing is promised." in said
    found = podium.predict(
        small_run, [rows[0]["path"]], coverage=int(words[0]) / 100, by_class=by_class
    )
    assert {one.name for one in next(found).candidates} == expected[rows[0]["path"]]


def test_csv_and_table_show_the_set(
    small_run: RunFolder, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = expected_sets(small_run, 0.9, pictures)
    path = max(expected, key=lambda one: len(expected[one]))
    line = ["predict", str(small_run.path), path, "--coverage", "90"]
    assert main([*line, "--format", "csv", "--top", "1"]) == 0
    (row,) = csv.DictReader(io.StringIO(capfd.readouterr().out))
    names = json.loads(row["set"])
    assert set(names) == expected[path]
    assert names[0] == row["class_1"]
    assert main([*line, "--top", "1"]) == 0
    table = capfd.readouterr().out.splitlines()
    assert len(names) > 1
    assert table[1].split()[-3] == names[0]
    assert table[-1].strip() == f"and {len(names) - 1} more"
    assert main(line) == 0
    shown = capfd.readouterr().out
    assert all(name in shown for name in names)
    assert "more" not in shown
    assert main(line[:3]) == 0
    without = capfd.readouterr()
    assert without.out.count(" %") == 3  # all three classes
    assert "Sets" not in without.err


def test_what_cannot_be_promised_is_refused(
    small_run: RunFolder, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one = str(pictures / "test" / "circle" / "0.png")
    for words, why in (
        (["--coverage", "99"], "needs 99 validation images or more, and this run has 27"),
        (["--coverage", "95", "--by-class"], "no class has more than 9: they can promise 90.0 %"),
        (["--by-class"], "also give --coverage"),
        (["--coverage", "40"], "50"),
    ):
        assert main(["predict", str(small_run.path), one, *words]) == 2
        assert why in " ".join(capfd.readouterr().err.split())
    alone = RunFolder(tmp_path / "alone" / "seed-0", "alone", 0)
    alone.path.mkdir(parents=True)
    for file in (small_run.best, small_run.model):
        shutil.copy(file, alone.path)
    with pytest.raises(RunFolderError, match="has no predictions of validation images, from which"):
        podium.predict(alone, [one], coverage=0.9)


@pytest.mark.parametrize("kind", ["onnx", "torchscript", "pt2", "openvino"])
def test_every_export_has_the_sets_inside(
    exported: Path, small_run: RunFolder, pictures: Path, kind: str,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    name = f"{small_run.contender}{'-openvino' if kind == 'openvino' else f'.{kind}'}"
    expected = expected_sets(small_run, 0.9, pictures)
    predictor = podium.load_exported(exported / name)
    pixels = np.stack([predictor.pixels(Image.open(one).convert("RGB")) for one in expected])
    place = exported / name / "model.xml" if kind == "openvino" else exported / name
    content = b"" if kind == "openvino" else place.read_bytes()
    own = load.open_compute(place, content, kind, "fp32", ["prediction_set"])(pixels)
    assert own.dtype == bool
    names = np.array(predictor.class_names)
    assert [set(names[row]) for row in own] == list(expected.values())
    record = load.read_record(exported / name)
    assert record.sets is not None
    assert (record.sets.coverage, record.sets.images, len(record.sets.least)) == (0.9, 27, 1)
    assert record.strings()["outputs"].endswith("; prediction_set: bool (n, classes)")
    line = ["predict", str(exported / name), *list(expected)[:3], "--format", "jsonl"]
    assert main([*line, "--coverage", "90"]) == 0
    rows = [json.loads(text) for text in capfd.readouterr().out.splitlines()]
    assert [{one["class"] for one in row["set"]} for row in rows] == list(expected.values())[:3]
    assert main(line) == 0
    assert "set" not in json.loads(capfd.readouterr().out.splitlines()[0])
    assert main([*line, "--coverage", "95"]) == 2
    assert "was exported with sets with 90 % coverage. Export" in " ".join(
        capfd.readouterr().err.split()
    )


def test_onnx_gives_sets_to_a_program_without_podium(exported: Path, small_run: RunFolder) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(exported / f"{small_run.contender}.onnx")
    noise = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    probabilities, _, inside = session.run(None, {"images": noise})
    told = json.loads(session.get_modelmeta().custom_metadata_map["sets"])
    expected = (probabilities >= told["least"]) | (probabilities == probabilities.max(1)[:, None])
    assert (inside == expected).all()


def test_an_export_without_a_coverage_has_two_outputs(
    small_run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx")
    line = ["export", str(small_run.path), "--to", str(tmp_path), "--rounds", "0"]
    assert main(line) == 0
    assert "covered" not in capsys.readouterr().out
    file = tmp_path / f"{small_run.contender}.onnx"
    assert [one.name for one in onnx.load(file).graph.output] == ["probabilities", "logits"]
    with pytest.raises(ConfigError, match=r"--coverage 90: .* was exported with no sets of"):
        podium.predict(file, ["x.png"], coverage=0.9)
    assert main([*line, "--coverage", "80", "--by-class"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "covered: share of the sets (output prediction_set) that contain the label." in said
    rule = Wanted(0.8, by_class=True).rule(small_run)
    assert rule is not None
    assert load.read_record(file).sets == StoredSets.of(rule)
    assert main([*line, "--coverage", "99"]) == 2
    assert "needs 99 validation images" in capsys.readouterr().err


def test_sets_that_an_export_changes_are_noticed() -> None:
    rule = SetRule(0.9, np.full(3, 0.2), images=50)
    shares = np.array([[0.7, 0.25, 0.05], [0.4, 0.4, 0.2]])
    right = rule.members(shares)
    assert makes_these_sets(right, shares, rule, "fp32")
    for image, one in ((0, 0), (0, 1), (0, 2)):
        wrong = right.copy()
        wrong[image, one] ^= True
        assert not makes_these_sets(wrong, shares, rule, "fp32")
    near = right.copy()
    near[1, 2] ^= True  # at the threshold
    assert makes_these_sets(near, shares, rule, "fp32")
    same = {"agreement": 1, "disagreements": 0, "largest": 0, "mean": 0}
    check = Check(images=500, split="x", **same, covered=0.93, covered_before=0.95)
    assert "the coverage of sets falls from 95.00 % to 93.00 %" in refuse(check, "int8")
    assert not refuse(check.model_copy(update={"covered": 0.948}), "int8")


@pytest.fixture(scope="module")
def answers(small_run: RunFolder) -> Iterator[Any]:
    with serving(create_app([small_run.path], coverage=0.9)) as running:
        yield running


def test_the_server_answers_with_sets(
    answers: Any, small_run: RunFolder, pictures: Path, exported: Path
) -> None:
    (model,) = answers.ask("/v1/models").json["models"]
    assert (model["coverage"], model["coverage_by_class"]) == (0.9, False)
    for path, expected in expected_sets(small_run, 0.9, pictures).items():
        told = answers.predict(Path(path).read_bytes(), "?top=1", "image/png").json
        assert {one["class"] for one in told["set"]} == expected
        assert told["set"][0] == told["predictions"][0]
    assert "90 % of the sets, or more, contain the true class" in answers.ask("/").body.decode()
    with serving(create_app([exported])) as plain:
        (model,) = plain.ask("/v1/models").json["models"]
        told = plain.predict(Path(path).read_bytes(), "", "image/png").json
        assert (model["coverage"], told["set"]) == (None, None)
        assert "of the sets, or more" not in plain.ask("/").body.decode()
    with pytest.raises(ConfigError, match="exported with sets with 90 % coverage"):
        create_app([exported], coverage=0.8)
    with pytest.raises(ConfigError, match="needs 99 validation images"):
        create_app([small_run.path], coverage=0.99)


def test_a_published_model_brings_what_its_sets_need(
    small_run: RunFolder, tmp_path: Path, pictures: Path
) -> None:
    files = {one.name: one.content for one in pack(small_run, "me/shapes").files}
    away = RunFolder(tmp_path / "shapes" / "seed-0", "shapes", 0)
    away.path.mkdir(parents=True)
    shutil.copy(small_run.best, away.best)
    described = files["model.json"]
    assert isinstance(described, bytes)
    away.model.write_bytes(described)
    assert not any(path in described.decode() for path in small_run.read_predictions("valid").paths)
    expected = expected_sets(small_run, 0.9, pictures)
    found = podium.predict(away, list(expected), coverage=0.9)
    assert {one.path: {c.name for c in one.candidates} for one in found} == expected
    assert published(stored_scores(away)) == published(stored_scores(small_run))
    for key, wrong in (("labels", [0]), ("labels", [7] * 27), ("probabilities", [2.0] * 27)):
        told = read_json(away.model)
        told["conformity"][key] = wrong
        write_json(away.model, told)
        with pytest.raises(RunFolderError, match="not a valid model description"):
            podium.predict(away, list(expected), coverage=0.9)
        away.model.write_bytes(described)


def test_a_class_in_every_set_is_named(
    small_run: RunFolder, tmp_path: Path, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "study"
    shutil.copytree(small_run.path.parent.parent, study)
    run = RunFolder(study / small_run.contender / "seed-0", small_run.contender, 0)
    valid = run.read_predictions("valid")
    rare = valid.class_names[1]
    kept = np.flatnonzero((valid.labels != 1) | (np.cumsum(valid.labels == 1) <= 3))
    valid.take(kept).write(run.predictions("valid"))
    line = ["predict", str(run.path), str(pictures / "test"), "--format", "jsonl"]
    assert main([*line, "--coverage", "90", "--by-class"]) == 0
    told = capfd.readouterr()
    assert f"fewer than 9 validation images of their own: {rare}." in " ".join(told.err.split())
    for row in map(json.loads, told.out.splitlines()):
        assert rare in {one["class"] for one in row["set"]}

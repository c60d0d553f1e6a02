"""podium predict through the real command, against the evaluation of the same pictures."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image

import podium
from podium.cli.app import main
from podium.cli.predict import _csv_lines
from podium.config.machine import Machine
from podium.deploy.predict import elsewhere
from podium.deploy.predict.files import predict_files, predictions
from podium.deploy.predict.look import Explainer, FilePrediction
from podium.deploy.predict.sources import Source, Sources
from podium.deploy.predictor import Guess, Predictor, load_predictor
from podium.deploy.sets import Wanted
from podium.errors import ConfigError, DataError, RunFolderError
from podium.runs.folder import RunFolder
from podium.runtime.files import read_json
from podium.study.engines import ray_parts
from tests.parts import HereParts


@pytest.fixture
def folder(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two good pictures of odd names, one that is damaged, and a text."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "mine"
    (place / "sub").mkdir(parents=True)
    content = (pictures / "test" / "circle" / "0.png").read_bytes()
    (place / "=1+1.png").write_bytes(content)
    (place / "sub" / "[red]\x1b[31m.png").write_bytes(content)
    (place / "torn.png").write_bytes(content[:200])
    (place / "notes.txt").write_text("no picture")
    return place


def test_file_bytes_give_what_evaluation_gave(
    small_run: RunFolder, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Through the command, from files to calibrated probabilities, folded and in threads."""
    assert main(["predict", str(small_run.path), str(pictures / "test"), "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    known = small_run.read_predictions("test")
    temperature = read_json(small_run.model)["temperature"]
    scaled = np.exp(known.logits.astype(float) / temperature)
    expected = scaled / scaled.sum(1, keepdims=True)
    assert temperature != 1
    assert len(rows) == len(known)
    number = {str(pictures / path): at for at, path in enumerate(known.paths)}
    for row in rows:
        at = number[row["path"]]
        found = {one["class"]: one["probability"] for one in row["predictions"]}
        assert row["predictions"][0]["class"] == known.class_names[known.predicted[at]]
        np.testing.assert_allclose([found[name] for name in known.class_names], expected[at],
                                   atol=1e-4)  # fmt: skip


def test_what_cannot_be_read_does_not_stop_the_others(
    small_run: RunFolder, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    to = Path("found.jsonl")
    assert main(["predict", str(small_run.path), "mine", "gone.jpg", "--out", str(to)]) == 1
    said = capfd.readouterr().err
    assert "not predicted: mine/torn.png (damaged" in said
    assert "not predicted: gone.jpg (there is no such file)" in said
    assert "Skipped: 1 *.txt." in said
    rows = [json.loads(line) for line in to.read_text("utf-8").splitlines()]
    assert [row["path"] for row in rows] == [
        "mine/=1+1.png", "mine/torn.png", "mine/sub/[red]\x1b[31m.png", "gone.jpg",
    ]  # fmt: skip
    assert [sorted(row) for row in rows] == [
        ["path", "predictions"], ["error", "path"], ["path", "predictions"], ["error", "path"],
    ]  # fmt: skip
    assert len(rows[0]["predictions"]) == 3  # of 5 asked for: there are no more classes


def test_csv_has_a_column_a_rank_and_no_formula(
    small_run: RunFolder, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    os.chdir(folder)
    assert main(["predict", str(small_run.path), "=1+1.png", "--top", "2", "--format", "csv"]) == 0
    head, row = csv.reader(io.StringIO(capfd.readouterr().out))
    assert head == ["path", "class_1", "probability_1", "class_2", "probability_2"]
    assert row[0] == "./=1+1.png"
    assert Path(row[0]).is_file()
    assert float(row[2]) >= float(row[4]) > 0


def test_classes_stay_as_they_are_in_csv_and_are_read_back(tmp_path: Path) -> None:
    """A spreadsheet's guard in data would make other classes of them."""
    classes = ("-1", "+1", "=x", "@y", "-abc")
    line = _csv_lines(1)
    rows = [FilePrediction(f"{at}.png", (Guess(name, 1.0),)) for at, name in enumerate(classes)]
    text = "".join(map(line, [None, *rows]))
    found = list(csv.DictReader(io.StringIO(text)))
    assert tuple(row["class_1"] for row in found) == classes
    table = tmp_path / "t.csv"
    for guard in ("", "'"):  # as it is written, and as older versions and spreadsheets write it
        table.write_text("path,label,net\n" + "".join(
            f"{row['path']},{name},{guard}{row['class_1']}\n"
            for row, name in zip(found, classes, strict=True)
        ))  # fmt: skip
        assert podium.compare(table).standings[0].accuracy.value == 1


def test_the_table_shows_names_as_they_are(
    small_run: RunFolder, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(small_run.path), "mine/sub", "mine/=1+1.png", "--top", "1"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].split() == ["image", "class", "probability"]
    assert lines[1].startswith(r"mine/sub/[red]\x1b[31m.png")
    assert lines[1].endswith(" %")
    assert len(lines) == 3


def test_paths_come_from_standard_input(
    small_run: RunFolder, folder: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    odd = folder / "two\nlines.png"
    odd.write_bytes((folder / "=1+1.png").read_bytes())
    raw = os.fsencode(folder) + b"/\xff.png"  # no text in any encoding
    Path(os.fsdecode(raw)).write_bytes(odd.read_bytes())
    text = b"\0".join([os.fsencode(odd), raw])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert main(["predict", str(small_run.path), "-", "-0", "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [row["path"] for row in rows] == [str(odd), os.fsdecode(raw)]


def test_heat_maps_keep_the_structure_and_never_collide(
    small_run: RunFolder, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(small_run.path), ".", "--gradcam", "cams", "--format", "jsonl"]
    assert main(words) == 1  # the damaged one
    top = folder.parent.name
    made = sorted(path.relative_to("cams").as_posix() for path in Path("cams").rglob("*.jpg"))
    assert made == [
        f"{top}/mine/=1+1.png.gradcam.jpg", f"{top}/mine/sub/[red]\x1b[31m.png.gradcam.jpg",
    ]  # fmt: skip
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [row.get("gradcam") for row in rows if "error" not in row] == [
        f"cams/{name}" for name in made
    ]
    with Image.open(Path("cams") / made[0]) as shown:
        assert shown.size == (40, 40)
    assert main(words) == 1  # what lies in the folder by now is no picture to predict
    assert len(capfd.readouterr().out.splitlines()) == len(rows)
    _, model = load_predictor(small_run, device="cpu")
    explainer = Explainer(model, Path("cams"))
    places = [
        explainer.place(Source("", place))
        for place in ("a/b.jpg", "a/b.jpg", "A/B.jpg", "../../b.jpg", "é" * 200, "é" * 199, "a/b")
    ]
    assert len({str(place).casefold() for place in places}) == len(places)
    assert all(place.parts[0] == "cams" and ".." not in place.parts for place in places)
    assert all(len(os.fsencode(place.name)) < 240 for place in places)


def test_the_function_mirrors_the_command(small_run: RunFolder, folder: Path) -> None:
    found = list(podium.predict(small_run, ["mine", "mine"], top=1, gradcam="cams", batch_size=1))
    assert [one.path for one in found] == [
        "mine/=1+1.png", "mine/torn.png", "mine/sub/[red]\x1b[31m.png",
    ]  # fmt: skip
    assert [len(one.guesses) for one in found] == [1, 0, 1]
    assert found[1].error.startswith("damaged")
    assert Path(found[0].heat_map).is_file()
    assert found[0].guesses == found[2].guesses
    with pytest.raises(podium.DataError, match=r"no images.*skipped: 1 \*\.txt"):
        list(podium.predict(small_run.path.parent, "mine/notes*"))


def images_at(address: str, folder: Path) -> None:
    """Copy a folder to an address."""
    store, root = fsspec.core.url_to_fs(address)
    for file in folder.rglob("*"):
        if file.is_file():
            store.pipe_file(f"{root}/{file.relative_to(folder).as_posix()}", file.read_bytes())


def compare_with_folder(run: RunFolder, folder: str, address: str) -> None:
    """The predictions of an address are those of the folder, under its own names, sorted."""
    here = sorted(podium.predict(run, folder), key=lambda one: one.path)
    there = list(podium.predict(run, address, batch_size=2))
    assert [one.path for one in there] == [f"{address}{one.path[len(folder) :]}" for one in here]
    assert [[g.name for g in one.guesses] for one in there] == [
        [g.name for g in one.guesses] for one in here
    ]
    for mine, other in zip(here, there, strict=True):
        assert [g.probability for g in other.guesses] == pytest.approx(
            [g.probability for g in mine.guesses], abs=1e-6
        )
        assert other.error == mine.error


def test_images_at_an_address(
    small_run: RunFolder, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "a.png").write_bytes((folder / "=1+1.png").read_bytes())
    images_at("memory://photographs/new", folder)
    compare_with_folder(small_run, "mine", "memory://photographs/new")
    line = ["predict", str(small_run.path), "memory://photographs/new",
            "memory://photographs/new/", "--gradcam", "cams", "--format", "jsonl"]  # fmt: skip
    assert main(line) == 1
    told = capfd.readouterr()
    assert "Skipped: 1 hidden, 1 *.txt." in told.err
    assert len(told.out.splitlines()) == 3  # the same address twice is predicted once
    assert Path("cams", "new", "=1+1.png.gradcam.jpg").is_file()
    (one,) = podium.predict(small_run, "memory://photographs/new/=1+1.png")
    assert one.guesses
    with pytest.raises(podium.DataError, match="memory://photographs/none: there is nothing at"):
        list(podium.predict(small_run, "memory://photographs/none"))
    (one,) = podium.predict(small_run, "memory://photographs/none.png")
    assert one.error == "there is no such file"
    assert main(["predict", str(small_run.path), "sb://bucket/new"]) == 2
    assert "sb://bucket/new: expected a folder, or an address such as" in capfd.readouterr().err


def test_packs_in_a_folder_and_at_an_address(
    small_run: RunFolder, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images = str(pictures)
    for to in ("packed", "memory://packs/all"):
        assert main(["data", "pack", images, "--to", to]) == 0
        compare_with_folder(small_run, images, to)
    Path("packed", "shard-000000.tar").unlink()
    found = list(podium.predict(small_run, ["packed", images]))
    lost = [one.error for one in found if one.error]
    assert len(lost) == len(found) / 2
    assert set(lost) == {"shard-000000.tar: No such file or directory"}
    Path("packed", "pack.json").rename(Path("packed", "packing.json"))
    with pytest.raises(podium.DataError, match="not packed to the end"):
        list(podium.predict(small_run, "packed"))


def test_images_and_packs_on_an_object_store(
    s3: str, small_run: RunFolder, folder: Path, pictures: Path
) -> None:
    images_at(f"{s3}/new", folder)
    compare_with_folder(small_run, "mine", f"{s3}/new")
    images = str(pictures)
    assert main(["data", "pack", images, "--to", f"{s3}/predicted"]) == 0
    compare_with_folder(small_run, images, f"{s3}/predicted")
    with pytest.raises(podium.DataError, match="s3://nobucket/images: there is nothing at this"):
        list(podium.predict(small_run, "s3://nobucket/images"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{run}", "gone"], "There are no images to predict (gone: there is no such file)"),
        (["{run}", "mine", "--null"], "give - as a PATH"),
        (["{run}", "-", "-"], "can be read only once"),
        (["{run}", "mine", "--out", "found.txt"], "ends in .csv or .jsonl"),
        (
            ["{run}", "mine", "--out", "f.csv", "--format", "table"],
            "tables are only for the screen",
        ),
        (["{run}", "mine", "--out", "f.csv", "--format", "jsonl"], "conflict: drop one"),
        (["{run}", "mine", "--out", "mine"], "is a folder"),
        (["{run}", "mine", "--top", "0"], "--top"),
        (["{run}", "mine", "--device", "abacus"], "expected auto, cpu"),
        (["nowhere", "mine"], "nowhere does not exist"),
        (["{run}", "mine", "--gradcam", "mine/notes.txt"], "cannot be written"),
    ],
)
def test_mistakes_end_with_two_and_a_remedy(
    words: list[str], said: str, small_run: RunFolder, folder: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main(["predict", *(word.format(run=small_run.path) for word in words)]) == 2
    message = " ".join(capfd.readouterr().err.split())
    assert said in message
    assert "Traceback" not in message
    assert not Path("f.csv").exists()


def test_an_export_predicts_and_shows_no_map(
    small_run: RunFolder, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    predictor, _ = load_predictor(small_run, device="cpu")
    loaded: list[Path] = []

    def load_exported(path: Path) -> Predictor:
        loaded.append(path)
        return predictor

    monkeypatch.setattr("podium.deploy.export.load.load_exported", load_exported)
    Path("model.onnx").write_bytes(b"weights")
    assert main(["predict", "model.onnx", "mine/=1+1.png", "--top", "1"]) == 0
    assert loaded == [Path("model.onnx")]
    for more, said in (
        (["--gradcam", "cams"], "is an export"),
        (["--device", "cpu"], "whose library chooses the device"),
    ):
        assert main(["predict", "model.onnx", "mine", *more]) == 2
        assert said in " ".join(capfd.readouterr().err.split())
    assert not Path("cams").exists()


def test_memory_holds_a_few_batches_however_many_pictures(
    small_run: RunFolder, folder: Path
) -> None:
    """The paths are taken as the work goes on: after a few results few were asked for."""
    predictor, _ = load_predictor(small_run, device="cpu")
    asked = 0

    def endless() -> Path:
        nonlocal asked
        asked += 1
        return folder / "=1+1.png"

    sources = (Source(str(endless()), "x.png") for _ in iter(int, 1))
    found = predict_files(predictor, sources, batch_size=2)
    for _ in range(10):
        assert next(found).guesses
    found.close()  # type: ignore[attr-defined]
    assert asked < 100 * (os.cpu_count() or 1)
    assert list(predict_files(predictor, Sources([]))) == []


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_keeps_what_was_written(small_run: RunFolder, folder: Path) -> None:
    to = folder / "found.csv"
    words = [sys.executable, "-m", "podium", "predict", str(small_run.path), "-", "--out", str(to)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    ) as command:
        assert command.stdin is not None
        assert command.stderr is not None
        for number in range(200):
            (folder / f"{number}.png").symlink_to(folder / "=1+1.png")
            command.stdin.write(f"{folder}/{number}.png\n")
        command.stdin.flush()
        deadline = time.monotonic() + 120  # torch is imported first
        while not any(path.stat().st_size > 200 for path in folder.glob(".found.csv.*.tmp")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        command.send_signal(signal.SIGINT)
        said = command.stderr.read()
        assert command.wait(60) == 130
    assert "Interrupted." in said
    with open(to, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) > 1
    assert len({len(row) for row in rows}) == 1
    assert not list(folder.glob(".found.csv.*"))


# --- many images, on other machines


def many(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """More images than two cores take at a time, in parts of four."""
    monkeypatch.setenv("PODIUM_CORES", "2")
    monkeypatch.setattr(elsewhere, "PART", 4)
    return sorted((pictures / "test").rglob("*.png"))


def test_other_machines_predict_the_same_to_the_bit(
    small_run: RunFolder, pictures: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths: list[str | Path] = [*many(pictures, monkeypatch)[:17], folder / "torn.png", "gone.jpg"]
    parts = HereParts()
    wanted = Wanted(coverage=0.8)
    for size in (None, 3):
        here, there = (
            list(predictions(small_run, paths, 3, "cpu", size, None, wanted, parts=one)[0])
            for one in (None, parts)
        )
        assert there == here
    assert [len(one) for one in parts.items] == [4, 4, 4, 4, 3, *([6] * 3), 1]
    assert here[17].error.startswith("damaged")
    assert here[18].error == "there is no such file"


def test_few_images_are_predicted_on_this_machine(
    small_run: RunFolder, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, parts = many(pictures, monkeypatch)[:7], HereParts()
    assert len(list(predictions(small_run, paths, parts=parts)[0])) == 7
    assert not parts.items


def test_a_machine_that_does_not_see_the_images_is_named(
    small_run: RunFolder, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = [Path(shutil.copy(one, tmp_path)) for one in many(pictures, monkeypatch)[:12]]
    away = tmp_path / "away"
    away.mkdir()
    parts = HereParts(
        before=lambda item: shutil.move(item[0].path, away),
        after=lambda item: shutil.move(away / Path(item[0].path).name, tmp_path),
    )
    found = predictions(small_run, mine, parts=parts)[0]
    with pytest.raises(DataError, match=r"does not see .*0.png. All nodes need the images under"):
        list(found)


def test_a_call_has_a_cluster_compute_and_leaves_it(
    small_run: RunFolder, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, parts, told = many(pictures, monkeypatch)[:9], HereParts(), list[object]()

    @contextlib.contextmanager
    def cluster(machine: Machine, *, here_too: bool) -> Iterator[HereParts]:
        told.append((machine.executor, machine.address, machine.cpus, machine.insecure, here_too))
        try:
            yield parts
        finally:
            told.append("left")

    monkeypatch.setattr(ray_parts, "parts_on", cluster)
    given: dict[str, Any] = {"on": "ray:host:6379", "cpus": 2, "insecure": True}
    there = list(podium.predict(small_run, paths, **given))
    assert there == list(podium.predict(small_run, paths))
    assert parts.items
    podium.predict(small_run, paths, **given).close()  # type: ignore[attr-defined]
    with pytest.raises(RunFolderError):
        podium.predict("no-such-run", paths, **given)
    assert told == [("ray", "host:6379", 2, True, True), "left"] * 3


def test_what_other_machines_cannot_do_is_refused(
    small_run: RunFolder, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"heat maps are made on this machine alone"):
        predictions(small_run, "x.png", gradcam=tmp_path / "maps", parts=HereParts())
    for words, said in (
        (["--on", "slurm"], "--on slurm: expected serial (this machine), ray or ray:HOST:PORT"),
        (["--on", "ray:host"], "--on: expected HOST:PORT"),
        (["--cpus", "2"], "--cpus applies to --on ray"),
    ):
        assert main(["predict", str(small_run.path), "x.png", *words]) == 2
        assert said in capfd.readouterr().err

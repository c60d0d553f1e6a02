"""None of these, through the real commands: against scikit-learn's cosines, in every surface."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

import podium
from podium.cli.app import main
from podium.data.images import load_rgb
from podium.data.transforms import eval_transform, prepare
from podium.deploy.export import load
from podium.deploy.find.hub import KNOWN
from podium.deploy.known import OF_A_CLASS
from podium.deploy.predictor import load_predictor
from podium.deploy.serve import create_app
from podium.deploy.sets import Wanted
from podium.errors import ConfigError, RunFolderError
from podium.evaluation.trained import load_run
from podium.runs.folder import RunFolder
from podium.statistics.conformal import KnownRule
from tests.deploy.serving import serving


@pytest.fixture(scope="module")
def run(small_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The small run, in a study of its own: a file is added to it."""
    study = tmp_path_factory.mktemp("knows") / "study"
    shutil.copytree(small_run.path.parent.parent, study)
    return RunFolder(study / small_run.contender / "seed-0", small_run.contender, 0)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Plain colours: the classes are circles, stripes and noise."""
    place = tmp_path_factory.mktemp("foreign")
    for at, colour in enumerate(itertools.product((0, 255), (0, 128, 255), (0, 255))):
        Image.new("RGB", (40, 40), colour).save(place / f"{at:02}.png")
    return [str(path) for path in sorted(place.iterdir())]


def features(run: RunFolder, paths: list[str]) -> npt.NDArray[np.float64]:
    """The classifier's inputs by a hook, both views of each picture, each of length 1."""
    model = load_run(run)
    seen: list[torch.Tensor] = []
    size = eval_transform(model.image_size)
    images = torch.stack(
        [
            torch.from_numpy(np.array(size.source(load_rgb(Path(path))))).permute(2, 0, 1)
            for path in paths
        ]
    )
    inputs = prepare(images, *(model.normalization or (None, None)))
    hook = model.module.get_submodule("9").register_forward_pre_hook(
        lambda _, given: seen.append(given[0])
    )
    with torch.inference_mode():
        for view in (inputs, inputs.flip(3)):
            model.module(view)
    hook.remove()
    found = [one.mean((2, 3)) if one.ndim == 4 else one for one in seen]
    return np.stack([(one / one.norm(dim=1, keepdim=True)).numpy().astype(float) for one in found])


def test_similarity_is_the_cosine_to_the_nearest_class(
    run: RunFolder, pictures: Path, foreign: list[str]
) -> None:
    said: list[str] = []
    predictor, _ = load_predictor(run, device="cpu", wanted=Wanted(keep=0.9), tell=said.append)
    (told,) = said
    assert told.startswith("Looking once at 60 training and 27 validation images")
    train = {
        str(pictures / paths[int(at)]): name
        for name, paths in run.study.read_training_images().items()
        for at in np.linspace(0, len(paths) - 1, min(OF_A_CLASS, len(paths)))
    }
    seen, names = features(run, [*train])[0], np.array([*train.values()])
    centroids = np.stack([seen[names == name].mean(axis=0) for name in np.unique(names)])

    def oracle(paths: list[str]) -> npt.NDArray[np.float64]:
        both = [cosine_similarity(one, centroids).max(axis=1) for one in features(run, paths)]
        return np.asarray(np.mean(both, axis=0))  # flip_test: the mean of an image and its mirror

    tests = [str(pictures / path) for path in run.read_predictions("test").paths]
    for paths in (tests, foreign):
        pixels = np.stack([predictor.pixels(load_rgb(Path(path))) for path in paths])
        values = predictor.compute(pixels)
        assert values.shape == (len(paths), 4)
        assert values[:, -1] == pytest.approx(oracle(paths), abs=1e-5)
    valid = oracle([str(pictures / path) for path in run.read_predictions("valid").paths])
    assert predictor.known is not None
    assert predictor.known.least == pytest.approx(np.sort(valid)[1], abs=1e-5)  # 2 of 28 below
    assert predictor.known.images == 27


def test_predict_says_none_of_these(
    run: RunFolder, pictures: Path, foreign: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    line = ["predict", str(run.path), str(pictures / "test"), *foreign, "--keep", "90"]
    assert main([*line, "--format", "jsonl"]) == 0
    told = capfd.readouterr()
    rows = [json.loads(one) for one in told.out.splitlines()]
    strange = {row["path"]: row["none_of_these"] for row in rows}
    own = [none for path, none in strange.items() if path not in foreign]
    assert np.mean([strange[path] for path in foreign]) > 0.5
    assert np.mean(own) < 0.3
    assert all(len(row["predictions"]) == 3 for row in rows)
    said = " ".join(told.err.split())
    assert "None of these: images less similar to training images than 90 % of the 27" in said
    assert main([*line, "--format", "csv", "--coverage", "80"]) == 0
    table = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    assert {row["path"]: row["none_of_these"] == "yes" for row in table} == strange
    assert all(json.loads(row["set"]) for row in table)
    away = next(path for path in foreign if strange[path])
    assert main(["predict", str(run.path), away, "--keep", "90", "--top", "1"]) == 0
    shown = capfd.readouterr().out  # a long path wraps, on a narrow terminal
    assert " ".join(shown.split()).count("none of these") == 1
    found = next(podium.predict(run, [away], keep=0.9))
    assert found.none_of_these is True
    assert next(podium.predict(run, [away])).none_of_these is None


def test_it_is_looked_at_once_and_belongs_to_the_weights(
    run: RunFolder, foreign: list[str]
) -> None:
    said: list[str] = []
    load_predictor(run, device="cpu", wanted=Wanted(keep=0.9))
    load_predictor(run, device="cpu", wanted=Wanted(keep=0.8), tell=said.append)
    assert not said
    content = run.best.read_bytes()
    try:
        run.best.write_bytes(content[:-4] + b"\0\0\0\0")
        load_predictor(run, device="cpu", wanted=Wanted(keep=0.8), tell=said.append)
        assert len(said) == 1
    finally:
        run.best.write_bytes(content)
        (run.path / KNOWN).unlink()
    load_predictor(run, device="cpu", wanted=Wanted(keep=0.9))
    kept = (run.path / KNOWN).read_bytes()
    (run.path / KNOWN).write_bytes(kept[:100])
    with pytest.raises(RunFolderError, match=r"is damaged .* Remove it"):
        podium.predict(run, foreign, keep=0.9)
    (run.path / KNOWN).write_bytes(kept)


def test_what_cannot_be_told_is_refused(
    run: RunFolder, foreign: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for words, why in (
        (["--keep", "99"], "Keeping 99 % needs 99 validation images or more, and this run has 27"),
        (["--keep", "30"], "50"),
    ):
        assert main(["predict", str(run.path), foreign[0], *words]) == 2
        assert why in " ".join(capfd.readouterr().err.split())
    alone = RunFolder(tmp_path / "alone" / "seed-0", "alone", 0)
    alone.path.mkdir(parents=True)
    for file in (run.best, run.model):
        shutil.copy(file, alone.path)
    with pytest.raises(ConfigError, match="was trained on, and they are missing"):
        podium.predict(alone, foreign, keep=0.9)
    shutil.copy(run.path / KNOWN, alone.path)
    assert next(podium.predict(alone, foreign, keep=0.9)).none_of_these is not None
    with pytest.raises(ConfigError, match="an 8-bit network has other features"):
        podium.export(run, int8=True, keep=0.9, to=tmp_path)
    with pytest.raises(ConfigError, match=r"keep: expected a share from 0\.5 to below 1, got 95"):
        KnownRule.of(np.ones(100), 95)


@pytest.mark.parametrize(
    ("coverage", "kinds"), [(None, ["onnx"]), (0.9, ["onnx", "torchscript", "pt2", "openvino"])]
)
def test_exports_say_it_themselves(
    run: RunFolder, pictures: Path, foreign: list[str], tmp_path: Path, coverage: float | None,
    kinds: list[str], capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    found = podium.export(run, kinds, keep=0.9, coverage=coverage, to=tmp_path, rounds=0)
    paths = [str(pictures / "test" / "circle" / "0.png"), *foreign]
    expected = [one.none_of_these for one in podium.predict(run, paths, keep=0.9)]
    assert len(set(expected)) == 2
    for one in found.exports:
        again = podium.predict(one.path, paths, keep=0.9)
        assert [answer.none_of_these for answer in again] == expected
        record = load.read_record(one.path)
        assert record.known is not None
        assert (record.known.keep, record.known.images) == (0.9, 27)
        assert next(podium.predict(one.path, paths)).none_of_these is None
    session = onnxruntime.InferenceSession(tmp_path / f"{run.contender}.onnx")
    predictor = podium.load_exported(tmp_path / f"{run.contender}.onnx")
    pixels = np.stack([predictor.pixels(load_rgb(Path(path))) for path in paths])
    similarity, none = session.run(["similarity", "none_of_these"], {"images": pixels})
    assert none.tolist() == expected
    assert (similarity.shape, none.dtype) == ((len(paths),), bool)
    names = [one.name for one in session.get_outputs()]
    assert ("prediction_set" in names) == (coverage is not None)
    file = str(tmp_path / f"{run.contender}.onnx")
    assert main(["predict", file, paths[0], "--keep", "80"]) == 2
    assert "was exported with --keep 90. Export" in " ".join(capfd.readouterr().err.split())
    plain = podium.export(run, to=tmp_path / "plain", rounds=0).exports[0].path
    with pytest.raises(ConfigError, match="was exported without --keep"):
        podium.predict(plain, paths, keep=0.9)


def test_the_server_says_it(run: RunFolder, pictures: Path, foreign: list[str]) -> None:
    paths = [str(pictures / "test" / "circle" / "0.png"), *foreign[:4]]
    expected = [one.none_of_these for one in podium.predict(run, paths, keep=0.9)]
    with serving(create_app([run.path], keep=0.9)) as server:
        (model,) = server.ask("/v1/models").json["models"]
        assert (model["keep"], model["coverage"]) == (0.9, None)
        answers: list[Any] = [
            server.predict(Path(path).read_bytes(), query, "image/png").json
            for path in paths
            for query in ("", "?gradcam=true")
        ]
        assert [one["none_of_these"] for one in answers[::2]] == expected
        assert [one["none_of_these"] for one in answers[1::2]] == expected
        assert answers[1]["gradcam"]
        assert "90 % of the validation images are marked" in server.ask("/").body.decode()

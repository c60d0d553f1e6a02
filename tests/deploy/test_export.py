"""Exports: every format says what the run says, and nothing else is let through."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file
from torch import nn

import podium
from podium.cli.app import main
from podium.data.dataset import ImageDataset
from podium.data.images import load_rgb
from podium.data.indexing import build_index
from podium.data.transforms import eval_transform, prepare
from podium.deploy.export import load, module as deployed, quantize, runtimes
from podium.deploy.export.images import calibration_images
from podium.deploy.export.load import find_export
from podium.deploy.export.run import export as export_run
from podium.deploy.export.verify import LIMITS, Check, compare, in_batches, refuse
from podium.deploy.predictor import load_predictor
from podium.deploy.serve.models import load_models
from podium.errors import ConfigError, ExportError, RunFolderError
from podium.evaluation.trained import load_run, predict_split
from podium.features.folding import folded_if_equal
from podium.runs.folder import RunFolder
from podium.runtime.cache import cache_root
from podium.runtime.events import Event, Message

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino_telemetry", reason="there is nothing to keep quiet")

FILES = {
    "onnx": "simple_resnet.onnx",
    "torchscript": "simple_resnet.torchscript",
    "pt2": "simple_resnet.pt2",
    "openvino": "simple_resnet-openvino",
    "onnx int8": "simple_resnet-int8.onnx",
    "openvino int8": "simple_resnet-int8-openvino",
}


@pytest.fixture(scope="module")
def settled(
    small_run: RunFolder, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    """The small run with weights that tell pictures apart: two epochs leave it undecided.

    Its batch norms get the statistics of the pictures, and the study's predictions are made anew.
    """

    study = tmp_path_factory.mktemp("settled") / "study"
    shutil.copytree(small_run.path.parent.parent, study)
    run = RunFolder(study / small_run.contender / "seed-0", small_run.contender, 0)
    model, index = load_run(run), build_index(pictures)
    part = ImageDataset(index, "train", eval_transform(model.image_size), None)
    images = prepare(torch.stack([part[at][0] for at in range(len(part))]))
    for layer in model.module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    with torch.no_grad():
        model.module.train()
        for _ in range(3):
            model.module(torch.cat([images, images.flip(3)]))
        model.module.eval()
        layers: Any = model.module
        layers[-1][-1].weight *= 20  # as sure as a trained one
    state = {name: value.contiguous() for name, value in model.module.state_dict().items()}
    save_file(state, run.best)
    for split in ("valid", "test"):
        predict_split(load_run(run), index, split).write(run.predictions(split))
    assert len(set(run.read_predictions("test").predicted)) == 3
    return run


@pytest.fixture(scope="module")
def exports(settled: RunFolder) -> Path:
    """All formats of the settled run, in its own `export/`."""
    plain = podium.export(settled, ["onnx", "torchscript", "pt2", "openvino"], rounds=1)
    small = podium.export(settled, ["onnx", "openvino"], int8=True, rounds=0, coverage=0.9)
    assert {one.path.name for one in (*plain.exports, *small.exports)} == set(FILES.values())
    assert plain.pytorch is not None
    assert all(one.speed is not None and min(one.speed) > 0 for one in plain.exports)
    assert all(one.size > 3_000_000 and one.check.images == 27 for one in plain.exports)
    assert small.exports[0].size < 0.4 * plain.exports[0].size
    assert "72 images" in small.exports[0].quantization
    return settled.path / "export"


@pytest.fixture(scope="module")
def tested(settled: RunFolder, pictures: Path) -> tuple[list[Path], Any]:
    """The test pictures' files, and what the run recorded of them."""
    found = settled.read_predictions("test")
    return [pictures / path for path in found.paths], found


@pytest.mark.parametrize("kind", FILES)
def test_each_format_says_what_the_study_recorded(
    exports: Path, tested: tuple[list[Path], Any], kind: str
) -> None:
    paths, recorded = tested
    predictor = podium.load_exported(exports / FILES[kind])
    assert predictor.class_names == recorded.class_names
    pixels = np.stack([predictor.pixels(Image.open(path).convert("RGB")) for path in paths])
    logits = in_batches(predictor.compute, pixels)
    assert logits.dtype == np.float32
    spread = recorded.logits.std()
    error = np.abs(logits - recorded.logits).max() / spread
    assert error < (0.5 if "int8" in kind else 1e-4), error
    agreed = (logits.argmax(1) == recorded.predicted).mean()
    assert agreed == 1 if "int8" not in kind else agreed > 0.9
    assert "int8" not in kind or error > 1e-3  # it is really another arithmetic
    # a picture by itself, a part of a batch, many callers at once: the same
    assert np.allclose(predictor.compute(pixels[:1]), logits[:1], atol=1e-3 * spread)
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(predictor.compute, np.array_split(pixels, 6)))
    assert np.allclose(np.concatenate(again), logits, atol=1e-3 * spread)
    guess = predictor.predict([Image.open(paths[0]).convert("RGB")], top=2)[0]
    assert len(guess) == 2
    assert guess[0].name in recorded.class_names


@pytest.mark.parametrize("kind", FILES)
def test_a_file_tells_all_that_using_it_needs(exports: Path, settled: RunFolder, kind: str) -> None:
    place = exports / FILES[kind]
    record = load.read_record(place)
    described = json.loads(settled.model.read_text(encoding="utf-8"))
    assert list(record.class_names) == described["class_names"]
    assert record.temperature == described["temperature"]
    assert (record.image_size, record.flip_test) == (32, True)
    assert record.format == kind.split()[0]
    assert record.source_run.endswith("study/simple_resnet/seed-0")
    assert record.podium_version == podium.__version__
    own = "int8" if "int8" in kind else "fp32"
    assert record.checks[own].images == 27
    assert record.checks[own].accuracy_before is not None
    assert bool(record.quantization) == ("int8" in kind)
    names = sorted(path.name for path in (place.iterdir() if place.is_dir() else [place]))
    assert names == (["model.bin", "model.xml"] if place.is_dir() else [place.name])


@pytest.mark.parametrize("kind", ["onnx int8", "openvino int8"])
def test_an_int8_file_has_its_own_sets(
    exports: Path, tested: tuple[list[Path], Any], kind: str
) -> None:
    place = exports / FILES[kind]
    predictor = podium.load_exported(place)
    assert predictor.sets is not None
    pixels = np.stack([predictor.pixels(Image.open(path).convert("RGB")) for path in tested[0]])
    expected = predictor.sets.members(predictor.probabilities(predictor.compute(pixels)))
    file = place / "model.xml" if place.is_dir() else place
    content = b"" if place.is_dir() else file.read_bytes()
    found = load.open_compute(file, content, kind.split()[0], "int8", ["prediction_set"])(pixels)
    assert (found == expected).mean() > 0.99  # a probability may be rounded across the threshold
    check = load.read_record(place).checks["int8"]
    assert check.covered is not None
    assert check.covered_before is not None
    assert check.covered >= check.covered_before - 1 / 27 - 1e-9


def test_an_onnx_file_works_without_podium(
    exports: Path, tested: tuple[list[Path], Any], settled: RunFolder
) -> None:
    """As docs/export.md shows it: onnxruntime, numpy and Pillow alone."""
    paths, recorded = tested
    text = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    for kind, name in (("onnx", FILES["onnx"]), ("openvino", FILES["openvino"])):
        code = text.partition(f"<!-- snippet: {kind} -->")[2].partition("```python\n")[2]
        code = code.partition("```")[0]
        code = code.replace("EXPORT", str(exports / name)).replace("picture.jpg", str(paths[5]))
        space: dict[str, Any] = {}
        with np.errstate(all="raise"):
            exec(code, space)  # the code is our own page's
        assert space["names"][space["best"]] == recorded.class_names[recorded.predicted[5]]
        temperature = load.read_record(exports / name).temperature
        scaled = recorded.logits[5].astype(np.float64) / temperature
        expected = np.exp(scaled - scaled.max()) / np.exp(scaled - scaled.max()).sum()
        assert np.allclose(space["probabilities"][0], expected, atol=1e-4)


def pictures_of_all_modes(folder: Path) -> list[Path]:
    """Transparent, turned, indexed and of other colours: 8 bits a channel."""
    random = np.random.default_rng(3)
    rgba = Image.fromarray(random.integers(0, 256, (40, 56, 4), dtype=np.uint8))
    rgb, grey = rgba.convert("RGB"), rgba.convert("L")
    indexed = rgb.quantize(16)
    turned = Image.Exif()
    turned[0x0112] = 6
    made: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "rgba.png": (rgba, {}), "rgba.webp": (rgba, {"lossless": True}), "rgb.png": (rgb, {}),
        "la.png": (rgba.convert("LA"), {}), "l.png": (grey, {}), "one.png": (rgb.convert("1"), {}),
        "indexed.png": (indexed, {}), "indexed-one.png": (indexed, {"transparency": 3}),
        "indexed-many.png": (indexed, {"transparency": bytes(range(0, 256, 16))}),
        "indexed.gif": (indexed, {"transparency": 2}),
        "rgb-key.png": (rgb, {"transparency": rgb.getpixel((0, 0))}),
        "l-key.png": (grey, {"transparency": grey.getpixel((0, 0))}),
        "cmyk.jpg": (rgb.convert("CMYK"), {}), "turned.jpg": (rgb, {"exif": turned}),
        "turned.png": (rgba, {"exif": turned}),
    }  # fmt: skip
    for name, (image, options) in made.items():
        image.save(folder / name, **options)
    return [folder / name for name in made]


def test_the_lines_of_the_docs_read_pictures_as_podium_does(tmp_path: Path) -> None:
    """Transparent pixels were dropped there, and white in training."""
    docs = Path(__file__).parents[2] / "docs"
    text = "".join((docs / page).read_text("utf-8") for page in ("export.md", "how-to/deploy.md"))
    codes = re.findall(r"^def read_picture.*?\n(?=\n\n)", text, re.DOTALL | re.MULTILINE)
    assert len(codes) == 3
    assert len(set(codes)) == 1
    space: dict[str, Any] = {"np": np, "Image": Image, "ImageOps": ImageOps}
    exec(codes[0], space)  # the code is our own page's
    for path in pictures_of_all_modes(tmp_path):
        ours = eval_transform(32).source(load_rgb(path))
        assert np.array_equal(space["read_picture"](path, 32), ours[None]), path.name
    assert space["read_picture"](tmp_path / "rgba.png", 32).std() > 1


def test_the_folder_that_export_wrote_stands_for_its_export(
    exports: Path, tested: tuple[list[Path], Any], tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    paths, recorded = tested
    words = [str(path) for path in paths[:4]]
    assert main(["predict", str(exports), *words, "--format", "jsonl", "--top", "1"]) == 0
    told = capfd.readouterr()
    rows = [json.loads(line) for line in told.out.splitlines()]
    expected = [recorded.class_names[at] for at in recorded.predicted[:4]]
    assert [row["predictions"][0]["class"] for row in rows] == expected
    said = " ".join(told.err.split())
    assert "simple_resnet.onnx is used. Name another to use that: simple_resnet-openvino" in said
    assert find_export(exports) == exports / FILES["onnx"]
    assert podium.load_exported(exports).class_names == recorded.class_names
    served, title = load_models([exports])
    assert [one.name for one in served] == [FILES["onnx"]]
    assert title == "export"
    for name in (FILES["openvino int8"], FILES["openvino"]):  # fewer by and by
        shutil.copytree(exports / name, tmp_path / name)
        assert find_export(tmp_path) == tmp_path / name
    assert find_export(tmp_path / FILES["openvino"]) == tmp_path / FILES["openvino"]
    shutil.copy(exports / FILES["onnx int8"], tmp_path / "other-int8.onnx")
    with pytest.raises(RunFolderError, match=r"exports of 2 models \(other, simple_resnet\): name"):
        find_export(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        RunFolderError, match="is not an exported model: expected a file that ends in"
    ):
        podium.load_exported(tmp_path / "empty")


def test_bf16_is_offered_where_it_was_checked(exports: Path) -> None:
    record = load.read_record(exports / FILES["openvino"])
    if not runtimes.processor_multiplies_bf16():
        assert "bf16" not in record.checks
        return
    assert record.checks["bf16"].largest > record.checks["fp32"].largest
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    low = podium.load_exported(exports / FILES["openvino"], precision="bf16").compute(pixels)
    full = podium.load_exported(exports / FILES["openvino"]).compute(pixels)
    assert 0 < np.abs(low - full).max() < 0.2 * full.std()
    with pytest.raises(ConfigError, match="checked only in int8"):
        podium.load_exported(exports / FILES["openvino int8"], precision="bf16")


def test_another_model_is_not_let_through(
    settled: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disturbed(module: nn.Module, size: int, device: torch.device, channels: int) -> nn.Module:
        changed = folded_if_equal(module, size, device, channels)
        with torch.no_grad():
            next(changed.parameters()).mul_(1.2)
        return changed

    old = tmp_path / FILES["onnx"]
    old.write_bytes(b"the one before")
    monkeypatch.setattr(deployed, "folded_if_equal", disturbed)
    for kind in ("onnx", "torchscript"):
        with pytest.raises(ExportError, match=r"of the study's validation images: .* differ"):
            export_run(settled, [kind], to=tmp_path, rounds=0)
        assert [path.name for path in tmp_path.iterdir()] == [old.name]
    assert old.read_bytes() == b"the one before"
    code = main(["export", str(settled.path), "--format", "onnx", "--to", str(tmp_path)])
    assert code == 1


def test_int8_that_loses_too_much_is_refused_with_figures(
    settled: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calibrated on black pictures, no range is right, whatever stays in fp32."""
    black = tmp_path / "black"
    black.mkdir()
    for number in range(4):
        Image.new("RGB", (40, 40)).save(black / f"{number}.png")
    monkeypatch.setattr(quantize, "METHODS", dict(list(quantize.METHODS.items())[:2]))
    with pytest.raises(
        ExportError, match=r"int8 changes this model too much \(.*on average.* ways"
    ):
        export_run(settled, int8=True, calibration=black, to=tmp_path / "out", rounds=0)
    assert not list((tmp_path / "out").iterdir())


def test_int8_keeps_more_layers_in_fp32_until_it_agrees(
    settled: RunFolder, tmp_path: Path, exports: Path
) -> None:
    """A judge that wants the third layer in fp32, too, gets it."""
    import onnx

    pixels = calibration_images(settled, 32, None, None)
    good = Check(images=50, split="", agreement=1, disagreements=0, largest=0, mean=0)
    bad = good.model_copy(update={"disagreements": 9, "agreement": 0.82})

    def judge(path: Path) -> Check:
        graph = onnx.load(path).graph
        floats = {
            one.name
            for one in graph.initializer
            if one.data_type == 1 and len(one.dims) == 4 and one.dims[2] > 1
        }
        return good if len(floats) >= 3 else bad

    best = quantize.quantize(exports / FILES["onnx"], pixels, tmp_path, judge)
    assert best.check == good
    assert "the first 3 layers" in best.told


def test_int8_tries_every_method_before_it_gives_up(
    settled: RunFolder, tmp_path: Path, exports: Path
) -> None:
    pixels = calibration_images(settled, 32, None, None)
    told: list[Event] = []

    def judge(path: Path) -> Check:
        return Check(images=50, split="", agreement=0.5, disagreements=25, largest=0.9, mean=0.3)

    with pytest.raises(ExportError, match=r"25 of 50 images .* The best of 12 ways"):
        quantize.quantize(exports / FILES["onnx"], pixels, tmp_path, judge, told.append)
    lines = [event.text for event in told if isinstance(event, Message)]
    for method in quantize.METHODS:
        assert any(method in line for line in lines), method
    assert sum(" alone" in line for line in lines) == 13


def test_calibration_takes_training_images_alone_and_all_classes(
    settled: RunFolder, pictures: Path, tmp_path: Path
) -> None:
    pixels = calibration_images(settled, 32, None, None)
    assert pixels.shape == (72, 32, 32, 3)
    assert np.array_equal(pixels, calibration_images(settled, 32, None, pictures))
    # a folder without splits: what the study held out is left out
    flat = tmp_path / "flat"
    shutil.copytree(pictures / "train", flat / "train")
    shutil.copytree(pictures / "valid", flat / "valid")
    assert len(calibration_images(settled, 32, flat, None)) == 72


def check(**changed: Any) -> Check:
    return Check(
        **{
            "images": 500,
            "split": "",
            "agreement": 1,
            "disagreements": 0,
            "largest": 0,
            "mean": 0,
            **changed,
        }
    )


@pytest.mark.parametrize(
    ("precision", "changed", "said"),
    [
        ("fp32", {}, ""),
        ("fp32", {"disagreements": 1}, "1 of 500 images get another class, at most 0"),
        ("fp32", {"largest": 2e-3}, "differs by 0.002"),
        ("int8", {"disagreements": 10}, ""),
        ("int8", {"disagreements": 11}, "at most 10"),
        ("int8", {"accuracy": 0.966, "accuracy_before": 0.97}, ""),
        ("int8", {"accuracy": 0.964, "accuracy_before": 0.97}, "97.00 % to 96.40 %"),
        ("int8", {"images": 20, "accuracy": 0.9, "accuracy_before": 0.95}, ""),
        ("bf16", {"mean": 0.03}, "on average"),
    ],
)
def test_limits(precision: str, changed: dict[str, Any], said: str) -> None:
    told = refuse(check(**changed), precision)
    assert (said in told) if said else not told


def test_a_comparison_by_hand() -> None:
    expected = np.log(np.asarray([[0.7, 0.3], [0.5001, 0.4999], [0.2, 0.8]], np.float32))
    found = np.log(np.asarray([[0.6, 0.4], [0.4999, 0.5001], [0.7, 0.3]], np.float32))
    seen = compare(expected, found, 1.0, "fp32", split="s", labels=np.asarray([0, -1, 1]))
    assert seen.agreement == pytest.approx(1 / 3)
    assert seen.disagreements == 1  # the second one is nearly tied
    assert seen.largest == pytest.approx(0.5)
    assert seen.mean == pytest.approx((0.1 + 0.0002 + 0.5) / 3, rel=1e-3)
    assert (seen.accuracy, seen.accuracy_before) == (0.5, 1.0)
    with pytest.raises(ExportError, match="finite"):
        compare(expected, np.full_like(found, np.nan), 1.0, "fp32", split="s")
    assert set(LIMITS) == {"fp32", "bf16", "int8"}


def test_only_files_of_our_own_may_run_code(exports: Path, tmp_path: Path) -> None:
    """A pt2 and a TorchScript file from elsewhere are not so much as looked into."""
    for kind in ("torchscript", "pt2"):
        foreign = tmp_path / f"gift{Path(FILES[kind]).suffix}"
        content = bytearray((exports / FILES[kind]).read_bytes())
        content[-1:] = b"\0\0"  # the same archive with another hash
        foreign.write_bytes(content)
        with pytest.raises(RunFolderError, match=r"can run any code .* ONNX or OpenVINO"):
            podium.load_exported(foreign)
    kept = {path.name for path in (cache_root() / "exports").iterdir()}
    assert len(kept) >= 2
    shutil.copy(exports / FILES["pt2"], tmp_path / "moved.pt2")
    assert podium.load_exported(tmp_path / "moved.pt2").image_size == 32
    assert podium.load_exported(exports / FILES["torchscript"]).image_size == 32


def test_foreign_and_damaged_files_are_refused_in_words(exports: Path, tmp_path: Path) -> None:
    import onnx

    def refused(path: Path, said: str) -> None:
        with pytest.raises(RunFolderError, match=said) as caught:
            podium.load_exported(path)
        assert str(path) in str(caught.value)

    refused(tmp_path / "none.onnx", "not an exported model")
    refused(tmp_path, "not an exported model")
    whole = (exports / FILES["onnx"]).read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[:5000])
    refused(tmp_path / "cut.onnx", "not an ONNX model")
    (tmp_path / "text.pt2").write_text("no archive")
    load.remember(tmp_path / "text.pt2")  # as if it had been written here
    refused(tmp_path / "text.pt2", "damaged")
    model = onnx.load_model_from_string(whole)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    refused(tmp_path / "foreign.onnx", "has no metadata by Podium")
    model = onnx.load_model_from_string(whole)
    next(p for p in model.metadata_props if p.key == "class_names").value = '["a", "a"]'
    onnx.save(model, tmp_path / "names.onnx")
    refused(tmp_path / "names.onnx", "damaged export")
    next(p for p in model.metadata_props if p.key == "podium_export").value = "9"
    onnx.save(model, tmp_path / "later.onnx")
    refused(tmp_path / "later.onnx", "version 9")
    model = onnx.load_model_from_string(whole)
    onnx.save(
        model,
        tmp_path / "split.onnx",
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    refused(tmp_path / "split.onnx", "weights from another file")
    folder = tmp_path / "pair"
    shutil.copytree(exports / FILES["openvino"], folder)
    (folder / "model.bin").write_bytes(b"few")
    refused(folder, "damaged")
    (folder / "model.xml").write_text("<net")
    refused(folder, "damaged")


def test_nobody_is_told_that_openvino_is_used(exports: Path, tmp_path: Path) -> None:
    """In a fresh process: the makers' package is not loaded, no name asked for."""
    code = (
        "import socket, sys, os\n"
        "def never(*given, **more): raise SystemExit(f'it asks for {given}')\n"
        "socket.getaddrinfo = socket.create_connection = never\n"
        "socket.socket.connect = never\n"
        "import numpy as np, podium\n"
        f"predictor = podium.load_exported({str(exports / FILES['openvino'])!r})\n"
        "predictor.compute(np.zeros((1, 32, 32, 3), np.uint8))\n"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry')]\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "assert 'stub' in telemetry_utils.tm.__name__, telemetry_utils.tm\n"
        "assert sys.modules['openvino'] is not None\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "PYTHONPATH": str(Path(podium.__file__).parents[1])}
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=environment
    )
    assert ended.returncode == 0, ended.stderr
    assert not [
        path for path in home.rglob("*") if "intel" in str(path) or "telemetry" in str(path)
    ]


def test_the_command(
    settled: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], pictures: Path
) -> None:
    to = tmp_path / "out"
    arguments = ["export", str(settled.path), "--format", "torchscript", "--to", str(to)]
    assert main([*arguments, "--rounds", "1", "--data", str(pictures / "test")]) == 0
    said = capsys.readouterr()
    assert said.err.count("deprecated") == 1
    assert "36 of images of test" in " ".join(said.out.split())
    assert "torchscript fp32" in said.out
    assert "100.00 %" in said.out
    assert [path.name for path in to.iterdir()] == ["simple_resnet.torchscript"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "tflite"], "expected one of onnx, torchscript, pt2, openvino"),
        (["--format", "pt2", "--int8"], "--format onnx or --format openvino"),
        (["--precision", "bf16"], "for --format openvino"),
        (["--format", "openvino", "--precision", "fp16"], "fp32 or bf16"),
        (["--format", "openvino", "--precision", "bf16", "--int8"], "one of them"),
        (["--data", "nowhere"], "There is no folder 'nowhere'"),
        (["--int8", "--calibration", "nowhere"], "There is no folder 'nowhere'"),
    ],
)
def test_mistakes(
    settled: RunFolder, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(settled.path), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_images_that_are_gone_and_weights_that_changed(
    settled: RunFolder, pictures: Path, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    shutil.copytree(settled.path.parent.parent, study, ignore=shutil.ignore_patterns("export"))
    run = RunFolder(study / "simple_resnet" / "seed-0", "simple_resnet", 0)
    told = json.loads((study / "data.json").read_text(encoding="utf-8"))
    (study / "data.json").write_text(json.dumps({**told, "root": str(tmp_path / "gone")}))
    asked = (study / "study.yaml").read_text(encoding="utf-8")
    assert str(pictures) in asked
    (study / "study.yaml").write_text(asked.replace(str(pictures), str(tmp_path / "gone")))
    with pytest.raises(ConfigError, match="--data DIR"):
        export_run(run, rounds=0)
    valid = run.read_predictions("valid")
    turned = type(valid)(valid.class_names, valid.paths, valid.labels, valid.logits[:, ::-1].copy())
    turned.write(run.predictions("valid"))
    with pytest.raises(ExportError, match="does not reproduce what its study recorded"):
        export_run(run, data=pictures, rounds=0)


def test_a_missing_library_is_named(
    settled: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    load = importlib.import_module

    def without(name: str, package: str | None = None) -> Any:
        if name == "onnxruntime":
            raise ModuleNotFoundError("No module named 'onnxruntime'")
        return load(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ConfigError, match=r"onnxruntime.*pip install 'podium\[export\]'"):
        export_run(settled, to=tmp_path, rounds=0)


def test_large_batches_go_to_all_cores_and_small_ones_do_not() -> None:
    seen: list[tuple[str, int]] = []
    lock = threading.Lock()

    def way(name: str) -> runtimes.Compute:
        def run(pixels: Any) -> Any:
            with lock:
                seen.append((name, len(pixels)))
            return pixels[:, 0, 0, :].astype(np.float32)

        return run

    both = runtimes._OnAllCores(way("part"), lambda: way("whole"))
    both.cores = 3
    pixels = np.arange(30 * 3, dtype=np.uint8).reshape(30, 1, 1, 3)
    assert np.array_equal(both(pixels), pixels[:, 0, 0, :])
    assert sorted(seen) == [("part", 10)] * 3
    seen.clear()
    both(pixels[:2])
    assert seen == [("whole", 2)]
    both.callers += 1  # somebody else's call is under way
    both(pixels[:2])
    assert seen == [("whole", 2), ("part", 2)]


@pytest.mark.slow
def test_a_pretrained_network_whose_stages_are_pooled(pictures: Path, tmp_path: Path) -> None:
    """EfficientNet-Lite0 under a StageClassifier: timm's blocks, ReLU6, means and maxima."""
    run = podium.train(
        pictures,
        "efficientnet_lite0",
        runs=tmp_path,
        epochs=1,
        image_size=64,
        pretrained=True,
        freeze="backbone",
        linear_probe=True,
        pooling="stages",
        machine={"device": "cpu", "precision": "fp32", "workers": 0},
    )
    predictor, model = load_predictor(run, device="cpu")
    assert model.normalization is not None
    found = podium.export(run, ["onnx", "openvino"], rounds=0)
    assert {one.format for one in found.exports} == {"onnx", "openvino"}
    pixels = np.random.default_rng(1).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    expected = predictor.compute(pixels)
    for one in found.exports:
        given = podium.load_exported(one.path).compute(pixels)
        assert np.allclose(given, expected, atol=2e-3 * np.abs(expected).max()), one


SIGNALLED = """
import gc, os, signal, sys
import podium
import numpy as np
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
kept = [podium.load_exported(sys.argv[1]) for _ in range(3)]
pixels = np.zeros((2, kept[0].image_size, kept[0].image_size, 3), np.uint8)
for at in (0, 0, 0):  # the oldest goes first
    kept[at].compute(pixels)
    del kept[at]
    gc.collect()
    os.kill(os.getpid(), signal.SIGUSR1)
assert len(seen) == 3
"""


def test_signals_are_survived_after_openvino(exports: Path) -> None:
    """It leaves a stack for signals behind that is gone: Ctrl-C would be a segmentation fault."""
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        "-c",
        SIGNALLED,
        str(exports / FILES["openvino"]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


FIRST_CALLS = """
import sys, threading
import numpy as np, podium
found = podium.load_exported(sys.argv[1])
pixels = np.zeros((4, found.image_size, found.image_size, 3), np.uint8)
gate, done = threading.Barrier(4), []
def call():
    gate.wait()
    done.append(found.compute(pixels))
threads = [threading.Thread(target=call) for _ in range(4)]
[one.start() for one in threads]
[one.join() for one in threads]
assert len(done) == 4
"""


def test_first_calls_of_several_threads_do_not_wait_for_each_other(exports: Path) -> None:
    """OpenVINO's bindings set themselves up at their first call, and two first calls deadlock."""
    file = str(exports / FILES["openvino"])
    subprocess.run([sys.executable, "-c", FIRST_CALLS, file], check=True, timeout=120)

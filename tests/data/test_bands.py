"""Images of several channels, from the file to the command: read whole, squeezed as RGB is."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import podium
from podium.auditing.record import read_audit
from podium.cli.app import main
from podium.config.data_settings import DataSpec
from podium.config.machine import Machine
from podium.config.settings import RunSpec, StudySpec
from podium.data import bands, images
from podium.data.bands import Bands
from podium.data.cache import cache_pixels
from podium.data.grey import OWN_WINDOWS, GreyWindows
from podium.data.images import decode_picture, decode_rgb, squeeze
from podium.data.index import DataIndex
from podium.data.indexing import build_index, index_of
from podium.data.listing import open_source
from podium.data.pixels import PixelFile
from podium.data.transforms import Draw, Transform, eval_transform, train_transform
from podium.deploy.export.load import load_exported
from podium.deploy.predictor import load_predictor
from podium.errors import ConfigError, RunFolderError, UnreadableImageError
from podium.evaluation.description import read_description
from podium.models import build_model
from podium.results.pictures import audit_thumbnails
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.predictions import Predictions
from podium.runtime.device import choose_device
from podium.runtime.events import silent
from podium.runtime.files import read_json, write_json
from podium.statistics.metrics import scores
from podium.training.checkpoint import read_checkpoint
from podium.training.fit import fit
from podium.training.job import Job
from tests.conftest import StopAfter, reports_undrawn

Values = np.ndarray[Any, Any]
FIVE = GreyWindows(channels=5)


def tiff(values: Values, **options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, values, photometric="minisblack", **options)
    return out.getvalue()


def npy(values: Values) -> bytes:
    out = io.BytesIO()
    np.save(out, values)
    return out.getvalue()


def drawn(seed: int, kind: Any = np.uint8, shape: tuple[int, ...] = (7, 9, 5)) -> Values:
    values: Values = np.random.default_rng(seed).integers(0, 200, shape).astype(kind)
    return values


FIRST = np.moveaxis(drawn(0), 2, 0)
LZW = tiff(drawn(0), planarconfig="contig")
# the tag for the compression (0x103), a short: from 1, none, to 5
LZW = LZW.replace(b"\x03\x01\x03\0\1\0\0\0\1", b"\x03\x01\x03\0\1\0\0\0\5")


@pytest.mark.parametrize(
    "content",
    [
        npy(drawn(0)),
        npy(FIRST),
        npy(np.asfortranarray(drawn(0))),
        tiff(drawn(0), planarconfig="contig"),
        tiff(FIRST, planarconfig="separate", compression="zlib"),
        tiff(FIRST),  # a page per channel
        tiff(FIRST, bigtiff=True, byteorder=">"),
        tiff(FIRST, imagej=True, metadata={"axes": "CYX"}),
    ],
)
def test_every_layout_of_a_file_gives_the_same_pixels(content: bytes) -> None:
    assert np.array_equal(np.asarray(decode_picture(content, "a", FIVE)), drawn(0))


def test_one_channel_may_be_stored_without_an_axis() -> None:
    grey = drawn(1, shape=(7, 9))
    for content in (npy(grey), tiff(grey), npy(grey[None]), npy(grey[..., None])):
        found = decode_picture(content, "a", GreyWindows(channels=1))
        assert np.array_equal(np.asarray(found), grey[..., None])


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32, np.float64])
def test_deep_values_go_through_the_window_of_the_data_set(kind: Any) -> None:
    values = drawn(2, kind)
    if kind in (np.float32, np.float64):
        values[0, 0] = np.nan, np.inf, -np.inf, 50, 150
    window = GreyWindows((50, 150), (50, 150), channels=5)
    with np.errstate(invalid="ignore"):
        finite = np.where(np.isfinite(values), values, 50).astype(float)
    wanted = np.clip(np.rint((finite - 50) / 100 * 255), 0, 255)
    for content in (npy(values), tiff(values, planarconfig="contig")):
        assert np.array_equal(np.asarray(decode_picture(content, "a", window)), wanted)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (npy(drawn(0, shape=(7, 9, 4))), r"shape \(7, 9, 4\); expected \(height, width, 5\)"),
        (tiff(drawn(0, shape=(7, 9, 4)), planarconfig="contig"), r"shape \(7, 9, 4\)"),
        (npy(drawn(0, shape=(7, 9))), r"shape \(7, 9\)"),
        (npy(drawn(0, shape=(0, 9, 5))), "no pixels"),
        (npy(drawn(0, complex)), "complex128; expected integers or floats"),
        (npy(drawn(0, object)), "expected integers or floats"),  # never unpickled
        (npy(drawn(0))[:-3], "buffer is smaller"),
        (b"\x93NUMPY\x09\x00", "version"),
        (tiff(FIRST, planarconfig="separate")[:-20], "ends before its pixels"),
        (tiff(FIRST, planarconfig="separate")[:12], "corrupted"),
        (LZW, "requires the 'imagecodecs' package: pip install imagecodecs"),
        (b"\x89PNG...", "expected a TIFF or .npy file, since the study has channels: 5"),
    ],
)
def test_what_cannot_be_read_says_why(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImageError, match=reason):
        decode_picture(content, "a", FIVE)


def test_a_small_file_that_claims_to_be_huge_is_refused_before_it_is_allocated() -> None:
    header = npy(drawn(0)).replace(b"(7, 9, 5), }", b"(90000, 90000, 5), }")
    with pytest.raises(UnreadableImageError, match="exceeds the limit of 300,000,000 values"):
        decode_picture(header, "a", FIVE)


def test_without_tifffile_the_reason_is_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnreadableImageError, match=r"pip install 'podium\[multispectral\]'"):
        decode_picture(tiff(drawn(0)), "a", FIVE)
    assert decode_picture(npy(drawn(0)), "a", FIVE)


def test_without_tifffile_a_folder_of_tiff_files_is_refused_as_a_whole(
    scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bands, "can_read_tiff", lambda: False)
    with pytest.raises(ConfigError, match=r"28 TIFF files .*: to read TIFF.*multispectral"):
        build_index(scenes, channels=5)


def test_three_channels_are_squeezed_and_augmented_to_the_bits_of_rgb() -> None:
    rgb = drawn(3, shape=(50, 70, 3))
    wanted = np.asarray(squeeze(Image.fromarray(rgb), 32))
    assert np.array_equal(np.asarray(squeeze(Bands(rgb), 32)), wanted)
    more = np.concatenate([rgb, drawn(4, shape=(50, 70, 2))], axis=2)
    assert np.array_equal(np.asarray(squeeze(Bands(more), 32))[..., :3], wanted)
    for name in ("none", "crop_flip"):
        transform: Transform = train_transform(name, 32)
        plain = transform(Image.fromarray(rgb), Draw(0, 1, 2))
        wide = transform(Bands(more), Draw(0, 1, 2))
        assert wide.shape == (5, 32, 32)
        assert torch.equal(wide[:3], plain)
        assert transform.vary(transform.source(Bands(more)), Draw(0, 1, 2), 16).shape[1:] == (
            16,
            16,
        )


def test_people_are_shown_the_first_three_channels_or_the_first() -> None:
    five, two = drawn(5), drawn(6, shape=(7, 9, 2))
    assert np.array_equal(np.asarray(decode_rgb(npy(five), "a", windows=FIVE)), five[..., :3])
    shown = np.asarray(decode_rgb(npy(two), "a", windows=GreyWindows(channels=2)))
    assert np.array_equal(shown, np.repeat(two[..., :1], 3, axis=2))


def write_netpbm(root: Path) -> Path:
    """Colour images, and grey ones of 16 bits, in formats without compression: their bytes last."""
    random = np.random.default_rng(0)
    for split in ("train", "valid", "test"):
        for label in ("a", "b"):
            folder = root / split / label
            folder.mkdir(parents=True)
            colour = random.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            (folder / "colour.ppm").write_bytes(b"P6 24 20 255\n" + colour.tobytes())
            deep = random.integers(0, 4096, (20, 24), dtype=np.uint16)
            (folder / "deep.pgm").write_bytes(b"P5 24 20 65535\n" + deep.astype(">u2").tobytes())
    return root


def test_rgb_is_kept_to_the_bit_as_before_there_were_channels(tmp_path: Path) -> None:
    """The values come from the last version without `data.channels`."""
    index = build_index(write_netpbm(tmp_path / "images"))
    assert index.fingerprint == "ad0ca364a31306525c8a2073e7469da317a6a10db95213903ffa2121f70e3253"
    assert index.summary()["grey_windows"] == {"integers": [0, 4095], "floats": None}
    cache_pixels(index, {"train": 16}, limit=1, folder=tmp_path / "cache")
    (file,) = (tmp_path / "cache").glob("*.pixels")
    assert file.name == "16px-v1-d6e56a6413aa57dc1ee708f9401f8d9b.pixels"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert digest == "b92f264b41ecf08ba898424cdd80feebb878723f9ef69c7e91a924ac8a3efe82"


def write_scenes(root: Path) -> Path:
    """Two classes that only the fifth channel tells apart."""
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("valid", 6), ("test", 10)):
        for number, label in enumerate(("dry", "wet")):
            folder = root / split / label
            folder.mkdir(parents=True)
            for at in range(count):
                scene = random.integers(200, 600, (36, 40, 5), dtype=np.uint16)
                scene[..., 4] += np.uint16(3000 * number)
                if at % 2:
                    (folder / f"{at}.npy").write_bytes(npy(scene))
                else:
                    (folder / f"{at}.tif").write_bytes(tiff(scene, planarconfig="contig"))
    return root


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def index(scenes: Path) -> DataIndex:
    return build_index(scenes, channels=5)


def test_the_index_reads_all_channels_and_says_so(scenes: Path, index: DataIndex) -> None:
    assert [len(index.splits[split]) for split in ("train", "valid", "test")] == [24, 12, 20]
    assert index.windows == GreyWindows((0, 4095), None, channels=5)
    assert not index.unreadable
    assert index.summary()["grey_windows"]["channels"] == 5
    assert any("5 channels" in notice and "first three" in notice for notice in index.notices)
    spec = DataSpec(path=str(scenes), channels=5)
    assert index_of(spec).fingerprint == index.fingerprint


def test_the_number_of_channels_is_in_the_fingerprint_and_in_the_keys(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for at in range(4):
            (tmp_path / label).mkdir(exist_ok=True)
            content = tiff(drawn(at + 9 * (label == "a"), shape=(8, 9, 3)), planarconfig="contig")
            (tmp_path / label / f"{at}.tif").write_bytes(content)
    three = build_index(tmp_path, channels=3)
    path = three.splits["train"].paths[0]
    assert three.pixel_digest(path) != three.digests[path]
    assert three.decoded_for(OWN_WINDOWS).pixel_digest(path) == three.digests[path]


def test_the_check_says_what_to_write_into_the_study(
    scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(scenes), "--channels", "5", "--rows", "0"]) == 0
    assert "channels: 5" in capsys.readouterr().out
    assert main(["data", "check", str(scenes), "--channels", "65"]) == 2


def test_files_of_other_kinds_are_counted_and_of_other_channels_left_out(tmp_path: Path) -> None:
    root = write_scenes(tmp_path / "scenes")
    Image.new("RGB", (8, 8)).save(root / "train/dry/photo.jpg")
    (root / "train/dry/four.npy").write_bytes(npy(drawn(0, shape=(8, 9, 4))))
    index = build_index(root, channels=5)
    assert index.skipped == {"*.jpg": 1}
    assert any("Convert them to TIFF or .npy" in notice for notice in index.notices)
    assert [path for path, _ in index.unreadable] == ["train/dry/four.npy"]
    assert "expected (height, width, 5)" in index.unreadable[0][1]


def test_files_that_only_channels_read_are_told_to_who_forgot_them(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(scenes)]) == 2
    assert "a TIFF of several channels? Then set data.channels" in capsys.readouterr().err
    for path in scenes.rglob("*.npy"):
        place = tmp_path / path.relative_to(scenes)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    assert main(["data", "check", str(tmp_path)]) == 2
    assert "say how many: data: {channels: N}" in capsys.readouterr().err
    for path in tmp_path.rglob("*.npy"):
        Image.new("RGB", (8, 8)).save(path.with_suffix(".png"))
        path.unlink()
    assert main(["data", "check", str(tmp_path), "--channels", "5"]) == 2
    assert "Convert them to TIFF or .npy" in capsys.readouterr().err


def test_the_table_and_the_split_that_are_written_have_the_files_of_channels(
    scenes: Path, tmp_path: Path
) -> None:
    for command in ("import", "split"):
        to = tmp_path / f"{command}.csv"
        assert main(["data", command, str(scenes), "--channels", "5", "--to", str(to)]) == 0
        assert len(to.read_text().splitlines()) == 1 + 56
    again = build_index(
        open_source(DataSpec(path=str(tmp_path / "import.csv"), options={"images": str(scenes)})),
        channels=5,
    )
    assert [len(again.splits[split]) for split in again.splits] == [24, 12, 20]


def test_memory_is_reserved_for_what_a_tiff_unpacks_to(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = np.zeros((400, 300, 5), np.uint8)
    content = tiff(flat, planarconfig="contig", compression="zlib")
    assert len(content) < flat.size / 100
    reserved: list[int] = []

    @contextmanager
    def of(pixels: int) -> Iterator[None]:
        reserved.append(pixels)
        yield

    monkeypatch.setattr(images._in_flight, "of", of)
    decode_picture(content, "a", FIVE)
    assert reserved == [flat.size]


def test_the_cache_of_pixels_holds_all_channels(index: DataIndex, tmp_path: Path) -> None:
    cached = cache_pixels(index, {"train": 32}, limit=1, folder=tmp_path)["train"]
    source = eval_transform(32).source
    for number, path in enumerate(index.splits["train"].paths):
        np.testing.assert_array_equal(cached.get(number), source(index.load(path)))
    (file,) = tmp_path.glob("32px-5ch-*.pixels")
    opened = PixelFile.open(file)
    assert opened is not None
    assert opened.pixels.shape == (24, 32, 32, 5)


def test_weights_of_rgb_are_adapted_as_timm_adapts_them() -> None:
    import timm

    name = "tf_efficientnet_lite0"
    rgb = build_model("efficientnet_lite0", 2, pretrained=True)
    for channels in (1, 2, 5):
        built = build_model("efficientnet_lite0", 2, pretrained=True, channels=channels)
        stem = built.module.get_parameter("conv_stem.weight")
        wanted = timm.models.adapt_input_conv(
            channels, rgb.module.get_parameter("conv_stem.weight").detach().clone()
        )
        assert torch.equal(stem, wanted)
        theirs = timm.create_model(name, in_chans=channels).get_parameter("conv_stem.weight")
        assert stem.shape == theirs.shape
        assert built.mean == (0.5,) * channels
        assert built.module(torch.rand(2, channels, 64, 64)).shape == (2, 2)
    for model in ("simple_resnet", "inception_resnet", "resnet10t"):
        module = build_model(model, 2, channels=5).module.eval()
        assert module(torch.rand(1, 5, 64, 64)).shape == (1, 2)


def test_a_model_that_takes_rgb_is_refused_with_those_that_do_not() -> None:
    with pytest.raises(ConfigError, match=r"resnet18 takes 3 channels, .* 5 .*simple_resnet"):
        build_model("resnet18", 2, channels=5)


@pytest.mark.parametrize("name", ["randaugment", "augmix", "my_module:mirror"])
def test_augmentations_of_rgb_are_refused_at_once(name: str) -> None:
    given = {
        "name": "a",
        "data": {"path": "a", "channels": 5},
        "contenders": {"a": {"model": "simple_resnet", "augmentation": name, "epochs": 1}},
    }
    with pytest.raises(ValueError, match=r"made for RGB; .*use none or crop_flip"):
        StudySpec.model_validate(given)


@pytest.mark.parametrize("channels", [0, 65, True, "5", 2.0])
def test_a_description_with_other_channels_is_refused(channels: Any) -> None:
    with pytest.raises(ValueError, match="1 to 64 channels"):
        GreyWindows.from_json({"integers": None, "floats": None, "channels": channels})


STUDY = """
name: scenes
data: {path: FOLDER, channels: 5}
contenders:
  probe:
    model: efficientnet_lite0
    pretrained: true
    image_size: 32
    linear_probe: true
    freeze: backbone
    epochs: 1
  scratch: {model: simple_resnet, image_size: 32, epochs: 1, augmentation: crop_flip}
"""


@pytest.fixture(scope="module")
def study(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Trained by the command, with its report."""
    root = tmp_path_factory.mktemp("runs")
    file = root / "study.yaml"
    file.write_text(STUDY.replace("FOLDER", str(scenes)))
    with reports_undrawn():
        assert main(["run", str(file), "--runs", str(root), "--device", "cpu"]) == 0
    return StudyFolder(root / "scenes")


@pytest.fixture(scope="module")
def run(study: StudyFolder) -> RunFolder:
    return study.run("probe", 0)


def test_a_class_that_only_the_fifth_channel_tells_is_learned(
    study: StudyFolder, run: RunFolder, scenes: Path, tmp_path: Path
) -> None:
    assert scores(run.read_predictions("test")).accuracy == 1
    assert study.run("scratch", 0).is_done()
    assert (study.path / "report/index.html").is_file()
    # what RGB would have seen: the same scenes without the two channels beyond the third
    for path in scenes.rglob("*.*"):
        stored = np.load(path) if path.suffix == ".npy" else tifffile.imread(path)
        place = tmp_path / "rgb" / path.relative_to(scenes).with_suffix(".npy")
        place.parent.mkdir(parents=True, exist_ok=True)
        np.save(place, stored[..., :3])
    file = tmp_path / "study.yaml"
    without = STUDY.replace("channels: 5", "channels: 3").partition("  scratch")[0]
    file.write_text(without.replace("FOLDER", str(tmp_path / "rgb")))
    options = ["--runs", str(tmp_path), "--device", "cpu", "--only", "probe"]
    assert main(["run", str(file), *options]) == 0
    blind = StudyFolder(tmp_path / "scenes").run("probe", 0).read_predictions("test")
    assert 0.2 <= scores(blind).accuracy <= 0.8  # 20 images: chance is 50 %


def test_training_that_was_stopped_ends_with_the_same_bits(
    index: DataIndex, tmp_path: Path
) -> None:
    recipe = RunSpec(model="simple_resnet", augmentation="crop_flip", epochs=2, image_size=32)
    machine = Machine(device="cpu")
    whole, stopped = (
        Job(
            recipe,
            index,
            RunFolder(tmp_path / name, "contender", 0),
            machine,
            choose_device(machine),
            "fp32",
            0,
        )
        for name in ("whole", "stopped")
    )
    fit(whole, silent)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, silent, StopAfter(2))
    fit(stopped, silent)
    ends = [read_checkpoint(one.folder.last)["model"] for one in (whole, stopped)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_the_audit_compares_what_is_shown_and_says_what_it_leaves_out(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "scenes"
    shutil.copytree(scenes, root)
    shutil.copy(root / "train/dry/0.tif", root / "test/dry/leak.tif")
    command = ["audit", str(root), "--channels", "5", "--group", "parent"]
    assert main([*command, "--to", str(tmp_path / "audit")]) == 0
    told = " ".join("".join(capsys.readouterr()).split())
    assert "Labels are not checked: the network that does it takes RGB images." in told
    found = read_audit(tmp_path / "audit/audit.json")
    assert [(pair.first, pair.second) for pair in found.pairs if pair.kind == "same_file"] == [
        ("train/dry/0.tif", "test/dry/leak.tif")
    ]
    assert found.labels is None
    assert len(audit_thumbnails(found, root)) == 2
    assert main([*command, "--price-of-leakage", "--to", str(tmp_path / "price")]) == 2
    assert "takes RGB images, not those of data.channels" in capsys.readouterr().err


def test_the_model_says_how_many_channels_it_takes(run: RunFolder, tmp_path: Path) -> None:
    found = read_description(run.model)
    assert found.grey_windows == GreyWindows((0, 4095), None, channels=5)
    assert found.mean == (0.5,) * 5
    wrong = tmp_path / "model.json"
    write_json(wrong, {**read_json(run.model), "mean": [0.5] * 3})
    with pytest.raises(RunFolderError, match="expected 5 values of mean, got 3"):
        read_description(wrong)


def test_prediction_and_evaluation_give_the_logits_of_the_study(
    run: RunFolder, scenes: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recorded = run.read_predictions("test")
    arguments = ["--format", "jsonl", "--device", "cpu", "--gradcam", str(tmp_path / "maps")]
    assert main(["predict", str(run.path), str(scenes / "test"), *arguments]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == len(recorded) == 20  # of both kinds of file
    assert len([*(tmp_path / "maps").rglob("*.jpg")]) == 20
    predictor, _ = load_predictor(run, device="cpu")
    pictures = [
        decode_picture((scenes / path).read_bytes(), path, predictor.windows)
        for path in recorded.paths
    ]
    pixels = np.stack([predictor.pixels(picture) for picture in pictures])
    np.testing.assert_allclose(predictor.compute(pixels), recorded.logits, rtol=1e-3, atol=1e-3)
    assert main(["evaluate", str(run.path), "--data", str(scenes), "--device", "cpu"]) == 0
    assert "accuracy 100.00 % of 20 images" in capsys.readouterr().out
    again: Predictions = podium.evaluate(run.path, scenes, device="cpu")
    np.testing.assert_allclose(again.logits, recorded.logits, rtol=1e-5, atol=1e-5)


def test_an_export_takes_the_channels_and_is_checked_on_the_images(
    run: RunFolder, scenes: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    assert main(["export", str(run.path), "--format", "onnx", "--to", str(tmp_path)]) == 0
    exported = load_exported(tmp_path)
    assert exported.windows.channels == 5
    recorded = run.read_predictions("test")
    pictures = [
        decode_picture((scenes / path).read_bytes(), path, exported.windows)
        for path in recorded.paths
    ]
    best = [guesses[0].name for guesses in exported.predict(pictures, top=1)]
    assert best == [recorded.class_names[number] for number in recorded.predicted]


def test_a_server_refuses_a_model_that_browsers_have_no_images_for(run: RunFolder) -> None:
    from podium.deploy.serve.models import load_models

    with pytest.raises(ConfigError, match="several channels"):
        load_models([run.path], device="cpu")

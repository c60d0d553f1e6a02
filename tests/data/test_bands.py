"""Images of several channels, from the file to the command: read whole, squeezed as RGB is."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import podium
from podium.cli.app import main
from podium.config.data_settings import DataSpec
from podium.config.settings import StudySpec
from podium.data.bands import Bands
from podium.data.cache import cache_pixels
from podium.data.grey import OWN_WINDOWS, GreyWindows
from podium.data.images import decode_picture, decode_rgb, squeeze
from podium.data.index import DataIndex
from podium.data.indexing import build_index, index_of
from podium.data.pixels import PixelFile
from podium.data.transforms import Draw, Transform, eval_transform, train_transform
from podium.deploy.export.load import load_exported
from podium.deploy.predictor import load_predictor
from podium.errors import ConfigError, RunFolderError, UnreadableImageError
from podium.evaluation.description import read_description
from podium.models import build_model
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.predictions import Predictions
from podium.runtime.files import read_json, write_json
from podium.statistics.metrics import scores
from tests.conftest import reports_undrawn

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
    assert [path for path, _ in index.unreadable] == ["train/dry/four.npy"]
    assert "expected (height, width, 5)" in index.unreadable[0][1]


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

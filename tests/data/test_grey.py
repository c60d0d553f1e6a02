"""Grey values deeper than 8 bit: one window for a data set, and the same for whoever predicts."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import podium
from podium.cli.app import main
from podium.config.data_settings import DataSpec
from podium.data.cache import cache_pixels
from podium.data.grey import (
    AS_BEFORE_WINDOWS,
    OWN_WINDOWS,
    GreyValues,
    GreyWindows,
    describe_grey,
    to_8_bit,
)
from podium.data.images import decode_rgb, decode_with_mode
from podium.data.index import DataIndex
from podium.data.indexing import build_index
from podium.data.transforms import eval_transform
from podium.deploy.predictor import load_predictor
from podium.errors import RunFolderError
from podium.evaluation.description import read_description
from podium.runs.folder import RunFolder
from podium.runtime.files import read_json, write_json
from tests.data.test_images import encoded

Values = np.ndarray[Any, Any]


def seen(values: Values, low: float, high: float) -> Values:
    """The oracle: what a window makes of values."""
    return np.clip(np.rint((values.astype(float) - low) / (high - low) * 255), 0, 255)


def stripes(number: int, kind: str, side: int = 40) -> Values:
    """0..1, with detail that 17 levels would lose."""
    random = np.random.default_rng([number, len(kind)])
    wave = np.sin(np.mgrid[:side, :side][1] / (2 if kind == "fine" else 5) + random.uniform(0, 6))
    values: Values = np.clip((wave + 1) / 2 * random.uniform(0.3, 1), 0, 1)
    values[0, 0], values[0, 1] = (0, 1) if number == 0 else values[0, :2]
    return values


def deep_set(root: Path, low: float, high: float, kind: str, train: int = 8) -> Path:
    for split, count in (("train", train), ("valid", 4), ("test", 4)):
        for name in ("fine", "coarse"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                values = (low + (high - low) * stripes(number, name)).astype(kind)
                values[1, 0] += number if kind != "float32" else 0  # no two have the same bytes
                values[2, 0] = values[1, 0] - len(split) if low < 0 else values[2, 0]
                Image.fromarray(values).save(folder / f"{number}.tif")
    return root


SETS = {
    "10 bit": (0, 1023, "uint16", (0, 1023)),
    "12 bit": (0, 4095, "uint16", (0, 4095)),
    "16 bit": (0, 65000, "uint16", (0, 65535)),
    "Hounsfield units": (-1000, 1500, "int32", None),
    "units with an offset": (31768, 33768, "uint16", None),
    "8 bit in 16": (0, 250, "uint16", (0, 255)),
    "floats": (0, 1, "float32", (0, 1)),
    "floats to 255": (0, 250, "float32", (0, 255)),
    "reflectance": (0, 0.2, "float32", (0, 0.2)),
}


@pytest.mark.parametrize(("low", "high", "kind", "window"), SETS.values(), ids=SETS)
def test_a_data_set_has_one_window(
    tmp_path: Path, low: float, high: float, kind: str, window: tuple[float, float] | None
) -> None:
    index = build_index(deep_set(tmp_path, low, high, kind))
    whole = [np.asarray(Image.open(index.root / path), dtype=float)
             for path in index.splits["train"].paths]  # fmt: skip
    black, white = window or (min(map(np.min, whole)), max(map(np.max, whole)))
    found = index.windows.floats if kind == "float32" else index.windows.integers
    assert found == pytest.approx((black, white), rel=1e-6)
    for path in (*index.splits["train"].paths, *index.splits["test"].paths):
        values = np.asarray(Image.open(index.root / path))
        picture = np.asarray(index.load(path))
        assert np.abs(picture[..., 0] - seen(values, black, white)).max() <= 1
        assert np.array_equal(picture[..., 0], picture[..., 2])
    brightest = np.asarray(np.asarray(index.load(index.splits["train"].paths[0])))
    assert len(np.unique(brightest)) > 30
    (notice,) = [one for one in index.notices if "deeper than 8 bit" in one]
    assert notice.startswith("32 of 32 images have grey values")
    assert f"{black:g} to {white:g} are mapped to 0 to 255" in notice


def test_the_training_images_alone_decide_and_the_rest_is_cut_aloud(tmp_path: Path) -> None:
    root = deep_set(tmp_path, 0, 1000, "uint16")
    Image.fromarray(np.full((9, 9), 4000, "uint16")).save(root / "test" / "fine" / "0.tif")
    index = build_index(root)
    assert index.windows == GreyWindows((0, 1023))
    assert np.asarray(index.load("test/fine/0.tif")).min() == 255
    assert any("1 exceed it and are clipped" in notice for notice in index.notices)


def test_a_few_values_far_away_are_told_with_the_remedy(tmp_path: Path) -> None:
    root = deep_set(tmp_path, 0, 4000, "uint16")
    for path in root.glob("train/*/*.tif"):
        values = np.array(Image.open(path))
        values[5, 5] = 65535  # a hot pixel
        Image.fromarray(values).save(path)
    index = build_index(root)
    assert index.windows.integers == (0, 65535)
    (notice,) = [one for one in index.notices if "256 grey levels" in one]
    assert "9 of 256 grey levels or fewer" in notice
    assert "window: [0, 4095]" in notice
    index = build_index(root, window=(0, 4095))
    assert index.windows.integers == (0, 4095)
    assert any("0 to 4095 are mapped to 0 to 255 (data.window" in one for one in index.notices)


def test_the_window_of_a_study_is_checked() -> None:
    assert DataSpec(path="x", window=(-1000, 400)).window == (-1000, 400)
    for wrong in ((1, 1), (5, 2), (0, float("nan")), (0, float("inf"))):
        with pytest.raises(ValueError, match="window"):
            DataSpec(path="x", window=wrong)


def test_windows_are_of_pictures_not_of_the_file_type(tmp_path: Path) -> None:
    """Floats beside integers, and both beside 8 bit: each kind as it means its values."""
    root = deep_set(tmp_path, 0, 4095, "uint16")
    Image.fromarray(stripes(0, "fine").astype("float32")).save(root / "train/fine/float.tif")
    Image.fromarray((255 * stripes(0, "fine")).astype("uint8")).save(root / "train/fine/byte.png")
    index = build_index(root)
    assert index.windows == GreyWindows((0, 4095), (0, 1))
    levels = [np.asarray(index.load(f"train/fine/{name}"), dtype=int)
              for name in ("0.tif", "float.tif", "byte.png")]  # fmt: skip
    assert max(np.abs(levels[0] - one)[3:].max() for one in levels) <= 1
    assert index.deep == {path for split in index.splits.values() for path in split.paths
                          if path.endswith("tif")}  # fmt: skip


def chunked(colour_type: int, channels: int, level: int) -> bytes:
    """A PNG of 16 bits a channel, which Pillow reads and does not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    rows = b"".join(b"\0" + row.tobytes() for row in np.full((4, 4, channels), level, ">u2"))
    header = struct.pack(">IIBBBBB", 4, 4, 16, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_16_bit_colour_is_told(tmp_path: Path) -> None:
    for colour_type, channels in ((2, 3), (4, 2), (6, 4)):
        assert decode_with_mode(chunked(colour_type, channels, 4095), "p")[1].deep_colour
    for label in "ab":
        for number in range(5):
            path = tmp_path / label / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(chunked(2, 3, 256 * (number + 40 * (label == "b"))))
    index = build_index(tmp_path)
    assert any(notice.startswith("10 images with 16 bits per channel") for notice in index.notices)
    assert index.deep == frozenset()


def test_what_is_not_finite_is_black_and_decides_nothing() -> None:
    values = np.array([[np.nan, np.inf, -np.inf, 2.0, 10.0, 6.0]], dtype=np.float32)
    image = Image.fromarray(values)
    assert describe_grey(image) == GreyValues("floats", 2.0, 10.0, (2.0, 10.0))
    picture = to_8_bit(image, GreyWindows(floats=(2, 10)))
    assert picture is not None
    assert np.asarray(picture)[0, :, 0].tolist() == [0, 0, 0, 0, 255, 128]
    nothing = Image.fromarray(np.full((2, 2), np.nan, np.float32))
    assert describe_grey(nothing) == GreyValues("floats", 0.0, 0.0, (0.0, 0.0))
    empty = to_8_bit(nothing, OWN_WINDOWS)
    assert empty is not None
    assert np.asarray(empty).max() == 0


def test_big_endian_and_16_bit_png_are_the_same_values(tmp_path: Path) -> None:
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    window = GreyWindows((0, 4095))
    little = np.asarray(decode_rgb(encoded(Image.fromarray(values), "TIFF"), "p", windows=window))
    for content in (
        encoded(Image.fromarray(values), "PNG"),
        encoded(Image.fromarray(values.astype(">u2")), "TIFF"),
    ):
        assert np.array_equal(np.asarray(decode_rgb(content, "p", windows=window)), little)
    assert np.array_equal(little[..., 1], seen(values, 0, 4095))


def test_models_from_before_decode_as_they_were_trained(tmp_path: Path) -> None:
    values = np.array([[0, 1000, 4095]], dtype=np.uint16)
    content = encoded(Image.fromarray(values), "TIFF")
    before = decode_rgb(content, "p", windows=AS_BEFORE_WINDOWS)
    assert np.asarray(before)[0, :, 0].tolist() == [0, 4, 16]
    assert GreyWindows.from_json(None) == AS_BEFORE_WINDOWS
    assert AS_BEFORE_WINDOWS.to_json() is None


@pytest.mark.parametrize("wrong", [[], "x", {"integers": [2, 1]}, {"floats": [0, float("inf")]},
                                   {"integers": [0]}, {"integers": ["0", "1"]}])  # fmt: skip
def test_windows_from_a_strange_file_are_checked(wrong: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        GreyWindows.from_json(wrong)


def test_the_pixel_cache_keeps_windows_apart(tmp_path: Path) -> None:
    root = deep_set(tmp_path / "set", 0, 4000, "uint16")

    def first(index: DataIndex) -> Values:
        kept = cache_pixels(index, {"train": 40}, limit=1, folder=tmp_path / "pixels", workers=1)
        found = kept["train"].get(0)
        assert found is not None
        assert np.array_equal(found, np.asarray(index.load(index.splits["train"].paths[0])))
        return found

    wide = first(build_index(root))
    narrow = first(build_index(root, window=(0, 1000)))
    assert narrow.mean() > wide.mean() + 20
    assert np.array_equal(first(build_index(root)), wide)
    assert build_index(root).fingerprint != build_index(root, window=(0, 1000)).fingerprint


@pytest.fixture(scope="module")
def deep_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Two epochs on 12-bit pictures."""
    root = deep_set(tmp_path_factory.mktemp("deep") / "set", 0, 4095, "uint16")
    return podium.train(
        root,
        runs=root.parent / "runs",
        epochs=2,
        image_size=32,
        machine={"device": "cpu", "precision": "fp32", "workers": 0},
    )


def test_prediction_sees_what_training_saw(
    deep_run: RunFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    root = deep_run.path.parents[2].parent / "set"
    known = deep_run.read_predictions("test")
    predictor, model = load_predictor(deep_run, device="cpu")
    assert predictor.windows == model.windows == GreyWindows((0, 4095))
    pixels = []
    for path in known.paths:
        values = np.asarray(Image.open(root / path))
        grey = Image.fromarray(seen(values, 0, 4095).astype(np.uint8))
        pixels.append(eval_transform(32).source(grey.convert("RGB")))
    np.testing.assert_allclose(predictor.compute(np.stack(pixels)), known.logits, atol=1e-4)

    expected = predictor.probabilities(known.logits)
    assert main(["predict", str(deep_run.path), str(root / "test"), "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert len(rows) == len(known) == 8
    for row in rows:
        at = known.paths.index(Path(row["path"]).relative_to(root).as_posix())
        for one in row["predictions"]:
            wanted = expected[at][known.class_names.index(one["class"])]
            assert one["probability"] == pytest.approx(wanted, abs=1e-4)

    # one picture of another range, in a folder of its own: still through the model's window
    again = podium.evaluate(deep_run, root, device="cpu", workers=0)
    np.testing.assert_allclose(again.logits, known.logits, atol=1e-4)


def test_an_export_and_a_server_see_it_too(deep_run: RunFolder, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    podium.export(deep_run, ["onnx"], to=tmp_path, rounds=0)  # checks itself on such pictures
    (file,) = tmp_path.glob("*.onnx")
    exported = podium.load_exported(file)
    assert exported.windows == GreyWindows((0, 4095))
    root = deep_run.path.parents[2].parent / "set"
    known = deep_run.read_predictions("test")
    found = {Path(one.path).relative_to(root).as_posix(): one.guesses
             for one in podium.predict(file, root / "test", top=2)}  # fmt: skip
    expected = exported.probabilities(known.logits)
    for path, row in zip(known.paths, expected, strict=True):
        for guess in found[path]:
            wanted = row[known.class_names.index(guess.name)]
            assert guess.probability == pytest.approx(wanted, abs=1e-3)

    pytest.importorskip("fastapi")
    from podium.deploy.serve.limits import Limits
    from podium.deploy.serve.models import load_models
    from podium.deploy.serve.service import Service

    models, _ = load_models([str(deep_run.path)], device="cpu")
    service = Service(models, Limits())
    try:
        content = (root / known.paths[0]).read_bytes()
        look = service._look(content, ("raw", b""), service.request([], 2, False, None))
        (pixels,) = look.pixels.values()
        np.testing.assert_array_equal(
            pixels,
            models[0].predictor.pixels(decode_rgb(content, "p", windows=GreyWindows((0, 4095)))),
        )
    finally:
        service.close()


def test_a_run_from_before_windows_says_nothing_of_them(
    deep_run: RunFolder, tmp_path: Path
) -> None:
    described = read_json(deep_run.model)
    assert described["grey_windows"] == {"integers": [0.0, 4095.0], "floats": None}
    write_json(tmp_path / "model.json", {**described, "grey_windows": {"integers": [9, 1]}})
    with pytest.raises(RunFolderError, match="grey_windows"):
        read_description(tmp_path / "model.json")
    del described["grey_windows"]
    write_json(tmp_path / "model.json", described)
    assert read_description(tmp_path / "model.json").grey_windows == AS_BEFORE_WINDOWS


def test_a_begun_study_refuses_another_window(
    deep_run: RunFolder, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = deep_run.path.parents[2]
    monkeypatch.chdir(runs.parent)
    study = deep_run.path.parents[1] / "study.yaml"
    line = ["run", str(study), "--runs", str(runs), "--no-audit", "--set"]
    assert main([*line, "data.window=[0, 1000]"]) == 2
    assert "are not those that" in " ".join(capfd.readouterr().err.split())


def test_thumbnails_of_deep_pictures_can_be_seen(deep_run: RunFolder) -> None:
    from podium.runs.folder import StudyFolder

    kept = StudyFolder(deep_run.path.parents[1]).read_thumbnails()
    assert len(kept) == 8
    for jpeg in kept.values():
        assert np.asarray(Image.open(io.BytesIO(jpeg))).max() > 60

"""DICOM: real scans that pydicom brings along, and files made with known values."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from podium.cli.app import main
from podium.config.data_settings import DataSpec
from podium.data import dicom, images, walk
from podium.data.grey import GreyWindows
from podium.data.images import decode_rgb, decode_with_mode
from podium.data.indexing import build_index, index_of
from podium.errors import DataError, UnreadableImageError

pydicom = pytest.importorskip("pydicom")
random = np.random.default_rng(1)

HOUNSFIELD = GreyWindows(floats=(-1000.0, 400.0))


def scan(name: str) -> bytes:
    return Path(pydicom.data.get_testdata_file(name, download=False)).read_bytes()


def written(values: npt.NDArray[Any], kind: str = "MONOCHROME2", **more: Any) -> bytes:
    """A file with these values: (rows, columns), (rows, columns, 3) or (frames, rows, columns)."""
    found = pydicom.Dataset()
    found.file_meta = pydicom.dataset.FileMetaDataset()
    found.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    found.file_meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    found.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    colour = kind == "RGB"
    frames = values.ndim == 3 and not colour
    found.Rows, found.Columns = values.shape[1:3] if frames else values.shape[:2]
    if frames:
        found.NumberOfFrames = len(values)
    found.SamplesPerPixel = 3 if colour else 1
    if colour:
        found.PlanarConfiguration = 0
    found.PhotometricInterpretation = kind
    found.BitsAllocated = 8 * values.dtype.itemsize
    found.BitsStored = more.pop("BitsStored", found.BitsAllocated)
    found.HighBit = found.BitsStored - 1
    found.PixelRepresentation = int(values.dtype.kind == "i")
    for key, value in more.items():
        setattr(found, key, value)
    found.PixelData = values.tobytes()
    found["PixelData"].VR = "OW"
    out = io.BytesIO()
    found.save_as(out, enforce_file_format=True)
    return out.getvalue()


def levels(content: bytes, windows: GreyWindows) -> npt.NDArray[np.uint8]:
    picture = np.asarray(decode_rgb(content, "scan.dcm", windows=windows))
    assert np.array_equal(picture[..., 0], picture[..., 2])
    return picture[..., 0]


def expected(units: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint8]:
    grey = np.rint((units.astype(np.float64) - low) * 255 / (high - low))
    return np.clip(grey, 0, 255).astype(np.uint8)


def test_a_real_ct_is_in_hounsfield_units() -> None:
    content = scan("CT_small.dcm")
    oracle = pydicom.dcmread(io.BytesIO(content))
    units = oracle.pixel_array * float(oracle.RescaleSlope) + float(oracle.RescaleIntercept)
    assert np.array_equal(levels(content, HOUNSFIELD), expected(units, -1000, 400))
    _, stored = decode_with_mode(content, "CT_small.dcm")
    assert stored.values is not None
    assert (stored.values.low, stored.values.high) == (units.min(), units.max())


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm"])
def test_an_mr_is_the_same_in_every_encoding(name: str) -> None:
    units = pydicom.dcmread(io.BytesIO(scan("MR_small.dcm"))).pixel_array
    windows = GreyWindows(floats=(0.0, 4095.0))
    assert np.array_equal(levels(scan(name), windows), expected(units, 0, 4095))


def test_colour_is_colour() -> None:
    values = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(decode_rgb(written(values, "RGB"), "1.dcm")), values)
    for name in ("SC_rgb_rle.dcm", "examples_palette.dcm", "examples_ybr_color.dcm"):
        content = scan(name)
        picture = np.asarray(decode_rgb(content, name))
        oracle = pydicom.dcmread(io.BytesIO(content))
        assert picture.shape == (oracle.Rows, oracle.Columns, 3)
        assert picture.max() > 100
        assert not np.array_equal(picture[..., 0], picture[..., 2])


def test_low_values_that_mean_white_are_inverted() -> None:
    values = random.integers(0, 4096, (12, 16)).astype(np.uint16)
    windows = GreyWindows(floats=(0.0, 4095.0))
    inverted = levels(written(values, "MONOCHROME1", BitsStored=12), windows)
    assert np.array_equal(inverted, expected(4095 - values.astype(int), 0, 4095))
    signed = (values.astype(int) - 2048).astype(np.int16)
    more = levels(written(signed, "MONOCHROME1", BitsStored=12), GreyWindows(floats=(-2048, 2047)))
    assert np.array_equal(more, expected(-1 - signed.astype(int), -2048, 2047))


def test_8_bits_are_taken_as_they_are_unless_rescaled() -> None:
    values = random.integers(0, 256, (12, 16), dtype=np.uint8)
    assert np.array_equal(levels(written(values), HOUNSFIELD), values)
    rescaled = written(values, RescaleSlope=2, RescaleIntercept=-100)
    units = 2.0 * values - 100
    assert np.array_equal(levels(rescaled, HOUNSFIELD), expected(units, -1000, 400))


def test_the_first_frame_is_used_and_the_others_are_told(tmp_path: Path) -> None:
    for label in ("ill", "well"):
        for number in range(10):
            values = random.integers(0, 4096, (3, 12, 16)).astype(np.uint16)
            content = written(values if label == "ill" else values[0], BitsStored=12)
            path = tmp_path / label / f"{number}.dcm"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            first = levels(content, GreyWindows(floats=(0.0, 4095.0)))
            assert np.array_equal(first, expected(values[0], 0, 4095))
    index = index_of(DataSpec(path=str(tmp_path), window=(0, 4095)))
    assert "10 images of several frames, pages or slices: the first is used." in index.notices
    assert index.windows == GreyWindows(floats=(0.0, 4095.0))
    assert index.statistics["formats"] == {".dcm": 20}
    assert any(
        "20 of 20 images have grey values deeper than 8 bits" in one for one in index.notices
    )


def test_frames_of_other_formats_are_told_as_well(tmp_path: Path) -> None:
    pages = [Image.fromarray(random.integers(0, 256, (9, 9), dtype=np.uint8)) for _ in range(3)]
    for ending, several in {".tif": True, ".gif": True, ".webp": True, ".png": False}.items():
        path = tmp_path / f"1{ending}"
        pages[0].save(path, save_all=several, append_images=pages[1:] if several else [])
        _, stored = decode_with_mode(path.read_bytes(), path.name)
        assert stored.more_frames == several


def test_what_cannot_be_decoded_is_told() -> None:
    content = scan("CT_small.dcm")
    for bad, told in {
        scan("rtplan.dcm"): "without an image",
        scan("image_dfl.dcm"): "deflated",
        content[: len(content) // 2]: "damaged",
    }.items():
        with pytest.raises(UnreadableImageError, match=told):
            decode_rgb(bad, "1.dcm")
    with pytest.raises(UnreadableImageError, match="128 x 128 pixels exceed the limit of 1,000"):
        decode_rgb(content, "1.dcm", max_pixels=1000)


def test_odd_files_warn_nobody() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode_rgb(scan("MR_small_padded.dcm"), "1.dcm")


def test_without_pydicom_files_are_counted_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dicom, "IS_INSTALLED", False)
    for module in (images, walk):
        monkeypatch.setattr(module, "IMAGE_SUFFIXES", images.IMAGE_SUFFIXES - dicom.SUFFIXES)
    with pytest.raises(UnreadableImageError, match=r"pip install 'podium\[dicom\]'"):
        decode_rgb(scan("CT_small.dcm"), "1.dcm")
    for label in ("ill", "well"):
        for number in range(10):
            path = tmp_path / label / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(random.integers(0, 256, (9, 9), dtype=np.uint8)).save(path)
    (tmp_path / "ill" / "more.dcm").write_bytes(scan("CT_small.dcm"))
    assert any("podium[dicom]" in notice for notice in build_index(tmp_path).notices)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "1.dcm").write_bytes(scan("CT_small.dcm"))
    with pytest.raises(DataError, match=r"'other' would be lost.*podium\[dicom\]"):
        build_index(tmp_path)
    assert main(["data", "check", str(tmp_path)]) == 2
    assert "podium[dicom]" in capsys.readouterr().err

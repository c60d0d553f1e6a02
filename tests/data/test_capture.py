"""Bursts by EXIF: what one camera took in quick succession."""

from __future__ import annotations

import datetime
import io
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from podium.data.capture import Shot, bursts, pause_of, read_shots
from podium.data.indexing import build_index
from podium.data.source import Item, Reader
from podium.errors import ConfigError, DataError
from tests.data.test_source import Given, picture

NOON = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC)


def photograph(seconds: float | None, camera: str = "A", *, modified: bool = False) -> bytes:
    """A JPEG taken so long after noon; `modified`: only the time of its last change is stored."""
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = camera
    if seconds is not None:
        text = (NOON + datetime.timedelta(seconds=seconds)).strftime("%Y:%m:%d %H:%M:%S")
        if modified:
            exif[ExifTags.Base.DateTime] = text
        else:
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = text
    Image.new("RGB", (40, 40), (9, 80, 200)).save(file := io.BytesIO(), "JPEG", exif=exif)
    return file.getvalue()


def test_what_the_camera_wrote_is_read_and_the_rest_stands_alone() -> None:
    contents = {
        "a/1.jpg": photograph(0),
        "a/2.jpg": photograph(9),
        "b/3.jpg": photograph(18),  # a burst knows no classes
        "b/4.jpg": photograph(29),
        "b/5.jpg": photograph(5, "B"),
        "a/6.jpg": photograph(3, "B", modified=True),
        "a/7.jpg": photograph(None),
        "b/8.png": picture(),
        "b/9.jpg": b"no image",
        "a/10.jpg": photograph(0).replace(b"2024:05:01", b"0000:00:00"),
    }
    source = Given([Item(path, path[0]) for path in contents], contents.__getitem__)
    shots = read_shots(Reader(source), [*contents])
    assert {one.path[2:-4] for one in shots} == {"1", "2", "3", "4", "5", "6"}
    assert sorted(bursts(shots, 10)) == [["a/1.jpg", "a/2.jpg", "b/3.jpg"], ["a/6.jpg", "b/5.jpg"]]
    index = build_index(source, group="capture", valid_fraction=0.2, test_fraction=0.2)
    group = {
        path: group
        for split in index.splits.values()
        for path, group in zip(split.paths, split.groups, strict=True)
    }
    assert group["b/3.jpg"] == group["a/1.jpg"] == "a/1.jpg"
    assert (group["b/4.jpg"], group["a/7.jpg"]) == ("b/4.jpg", None)
    assert index.notices[0] == (
        "5 images of 10 in 2 bursts (one camera, pauses of 10 s or less); 4 do not say when they "
        "were taken, and stand alone."
    )


def test_a_longer_pause_joins_more() -> None:
    shots = [Shot(("A",), at, str(at)) for at in (0, 10, 21, 80)]
    assert bursts(shots, 10) == [["0", "10"]]
    assert bursts(shots, 60) == [["0", "10", "21", "80"]]
    assert pause_of("capture:0.5") == 0.5


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="expected capture:SECONDS, such as capture:60, got 'capt"
    ):
        pause_of("capture:soon")
    source = Given([Item(f"{n}.png", "ab"[n % 2]) for n in range(20)], picture())
    with pytest.raises(DataError, match="no image of Given says when it was taken"):
        build_index(source, group="capture")
    with pytest.raises(ConfigError, match=r"duplicates are found by the audit.*index_data"):
        build_index(source, group="duplicates")

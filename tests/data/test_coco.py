"""COCO's format, and that of camera traps."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from podium.cli.app import main
from podium.config.data_settings import DataSpec, SplitSpec
from podium.data.indexing import index_of
from podium.data.listing import open_source
from podium.data.source import Item, Reader
from podium.errors import DataError

random = np.random.default_rng(9)
NAMES = {3: "lynx", 7: "deer"}


def coco(
    file: Path, images: Path, entries: list[dict[str, Any]], labels: dict[int, list[int]]
) -> Path:
    """Write a file and the images of its entries."""
    for entry in entries:
        path = images / entry["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(path)
    content = {
        "info": {"year": 2020},
        "images": entries,
        "annotations": [
            {
                "id": f"{image}-{at}",
                "image_id": image,
                "category_id": category,
                "bbox": [1, 1, 5, 5],
            }
            for image, categories in labels.items()
            for at, category in enumerate(categories)
        ],
        "categories": [{"id": number, "name": name} for number, name in NAMES.items()],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def traps(root: Path, several: int = 0, count: int = 40) -> Path:
    """Four cameras; the first images are empty (no annotation), `several` show both animals."""
    entries = [
        {
            "id": number,
            "file_name": f"cam{number % 4}/{number:03d}.jpg",
            "location": f"cam{number % 4}",
            "seq_id": f"s{number // 5}",
            "seq_num_frames": 5,
            "license": None,
            "rights_holder": {"name": "me"},
        }
        for number in range(count)
    ]
    labels = {number: [[3, 3], [7]][number % 2] for number in range(2, count)}
    labels |= {number: [3, 7] for number in range(2, 2 + several)}
    return coco(root / "traps.json", root / "images", entries, labels)


def test_camera_traps_are_read(tmp_path: Path) -> None:
    source = open_source(DataSpec(path=str(traps(tmp_path))))
    items = [*source.list()]
    assert items[0] == Item(
        "images/cam2/002.jpg",
        "lynx",
        columns={
            "id": 2,
            "location": "cam2",
            "seq_id": "s0",
            "seq_num_frames": 5,
            "license": None,
        },
    )
    assert len(items) == 38
    assert dict(source.skipped) == {"images without a label": 2}
    reader = pickle.loads(pickle.dumps(Reader(source)))
    path = items[0].path
    assert reader.read(path) == (tmp_path / path).read_bytes()


def test_cameras_are_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = traps(tmp_path)
    by_image = DataSpec(path=str(path), group="location", split=SplitSpec(by="image"))
    index = index_of(by_image)
    groups = {one for split in index.splits.values() for one in split.groups}
    assert groups == {"cam0", "cam1", "cam2", "cam3"}
    # each class needs one in train, which leaves none for one of the splits
    assert main(["data", "check", str(path), "--group", "location"]) == 2
    assert "there are 4 groups" in capsys.readouterr().err


def test_images_of_several_categories_are_left_out_or_refused(tmp_path: Path) -> None:
    path = traps(tmp_path, several=2, count=250)
    source = open_source(DataSpec(path=str(path)))
    items = [*source.list()]
    assert len(items) == 246
    assert source.skipped["images of several categories"] == 2
    assert any("cam2/002.jpg (deer and lynx)" in one for one in source.notices)
    path = traps(tmp_path, several=3, count=250)
    with pytest.raises(DataError, match=r"3 of 248 images of .* several categories"):
        [*open_source(DataSpec(path=str(path))).list()]
    some = open_source(DataSpec(path=str(path), options={"missing": 0.5}))
    assert len([*some.list()]) == 245


def test_a_file_for_each_split(tmp_path: Path) -> None:
    """As the set of 2017 is laid out; names may repeat in other folders."""
    for split, count in {"train2017": 12, "val2017": 4}.items():
        entries = [{"id": number, "file_name": f"{number:012d}.jpg"} for number in range(count)]
        labels = {number: [[3], [7]][number % 2] for number in range(count)}
        file = tmp_path / "annotations" / f"instances_{split}.json"
        coco(file, tmp_path / split, entries, labels)
    first = tmp_path / "annotations" / "instances_train2017.json"
    source = open_source(DataSpec(path=str(first), options={"test": "instances_val2017.json"}))
    items = [*source.list()]
    assert [item.split for item in items] == ["train"] * 12 + ["test"] * 4
    assert items[0].path == "train2017/000000000000.jpg"
    assert source.read(items[-1].path) == (tmp_path / "val2017/000000000003.jpg").read_bytes()


def test_missing_files_and_other_folders(tmp_path: Path) -> None:
    path = traps(tmp_path)
    (tmp_path / "images").rename(tmp_path / "pictures")
    with pytest.raises(DataError, match=r"38 of 38 images (.|\n)*images: pictures"):
        [*open_source(DataSpec(path=str(path))).list()]
    elsewhere = open_source(DataSpec(path=str(path), options={"images": "pictures"}))
    assert len([*elsewhere.list()]) == 38


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "cannot be read"),
        ("[]", "has no list 'images'"),
        ('{"images": [], "annotations": []}', "has no list 'categories'"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', r"images\[0\] is"),
        (
            '{"images": [{"id": 1, "file_name": "a"}], "annotations": '
            '[{"image_id": 1, "category_id": 2}], "categories": []}',
            "category 2, which is not in the file",
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(DataError, match=told):
        [*open_source(DataSpec(path=str(path))).list()]
    assert main(["data", "check", str(path)]) == 2

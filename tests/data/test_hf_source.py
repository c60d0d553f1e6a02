"""Sets of the library `datasets`, written by it and read back."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from podium.cli.app import main
from podium.config.data_settings import DataSpec
from podium.data.indexing import build_index, index_of
from podium.data.listing import open_source
from podium.data.source import Reader
from podium.errors import DataError

datasets = pytest.importorskip("datasets")
random = np.random.default_rng(5)


def picture(format: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(out, format)
    return out.getvalue()


def part(count: int, labels: list[int] | None = None, **more: Any) -> Any:
    """Rows of images, of which each second has a file name, with a class and metadata."""
    names = [f"cam{number % 3}.{number}.jpg" if number % 2 else None for number in range(count)]
    images = [
        {"bytes": picture("JPEG" if name else "PNG"), "path": name and f"/home/me/{name}"}
        for name in names
    ]
    columns = {
        "image": images,
        "label": labels or [number % 2 for number in range(count)],
        "patient": [f"p{number % 4}" for number in range(count)],
        "age": [float(number) if number else None for number in range(count)],
        "boxes": [[1, 2]] * count,
        **more,
    }
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "patient": datasets.Value("string"),
            "age": datasets.Value("float64"),
            "boxes": datasets.List(datasets.Value("int64")),
            **{key: datasets.Value("string") for key in more},
        }
    )
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.fixture(scope="module")
def parts() -> Any:
    return datasets.DatasetDict(
        {"train": part(12), "validation": part(4), "test": part(4), "unlabelled": part(3)}
    )


@pytest.fixture(scope="module", params=["save_to_disk", "parquet"])
def place(
    parts: Any, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """As `save_to_disk` writes it, and as repositories hold it."""
    folder: Path = tmp_path_factory.mktemp(request.param) / "pets"
    if request.param == "save_to_disk":
        parts.save_to_disk(folder)
        return folder
    (folder / "data").mkdir(parents=True)
    named = [name for name in parts if name != "unlabelled"]
    for name in named:
        parts[name].to_parquet(folder / "data" / f"{name}-00000-of-00001.parquet")
    parts["unlabelled"].to_parquet(folder / "data" / "unlabelled-00000-of-00001.parquet")
    lines = [f"  - split: {name}\n    path: data/{name}-*" for name in parts]
    head = "configs:\n- config_name: default\n  data_files:\n" + "\n".join(lines)
    (folder / "README.md").write_text(f"---\n{head}\n---\n")
    return folder


def test_a_set_is_read_as_it_was_stored(parts: Any, place: Path) -> None:
    source = open_source(DataSpec(path=f"hf:{place}"))
    items = {item.path: item for item in source.list()}
    assert source.chosen == {"label": "label"}
    assert [*source.likely_groups] == ["patient"]
    assert [*source.notices] == [
        "Splits that are not used: unlabelled (3).",
        *(
            f"Columns of {name} that are not single values are not used: boxes."
            for name in ("train", "validation", "test")
        ),
    ]
    assert len(items) == 20
    item = items["train/0000003-cam0.3.jpg"]
    assert (item.label, item.split) == ("dog", "train")
    assert item.columns == {"patient": "p3", "age": 3.0}
    assert items["train/0000000.png"].columns["age"] is None
    assert items["validation/0000001-cam1.1.jpg"].split == "valid"
    raw = parts["train"].cast_column("image", datasets.Image(decode=False))
    reader = pickle.loads(pickle.dumps(Reader(source)))
    for path in (path for path in items if path.startswith("train/")):
        assert reader.read(path) == raw[int(path[6:13])]["image"]["bytes"]


def test_an_index_knows_groups_and_splits(place: Path) -> None:
    index = index_of(DataSpec(path=f"hf:{place}", group="patient"))
    assert {split: len(one) for split, one in index.splits.items()} == {
        "train": 12, "valid": 4, "test": 4
    }  # fmt: skip
    assert sorted(map(str, index.splits["test"].groups)) == ["p0", "p1", "p2", "p3"]
    one = index_of(DataSpec(path=f"hf:{place}", options={"split": "train"}, test_fraction=0.2))
    assert sum(len(split) for split in one.splits.values()) == 12


def test_a_folder_of_images_is_read_by_the_library(tmp_path: Path) -> None:
    """Its `imagefolder` keeps paths instead of bytes."""
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            for number in range(6):
                path = tmp_path / "pets" / split / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(picture())
    index = build_index(open_source(DataSpec(path=f"hf:{tmp_path / 'pets'}")))
    assert index.classes == ("cat", "dog")
    assert sum(len(split) for split in index.splits.values()) == 24
    assert index.unreadable == ()


def test_labels_that_are_kept_secret_are_counted(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": part(6), "test": part(4, [-1, -1, 0, 1])}).save_to_disk(tmp_path)
    source = open_source(DataSpec(path=f"hf:{tmp_path}"))
    assert sum(item.split == "test" for item in source.list()) == 2
    assert source.skipped == {"images without a label": 2}
    assert "2 images of 4 of test without a label: not used." in source.notices


def test_what_is_ambiguous_is_told(tmp_path: Path) -> None:
    def opened(**data: Any) -> None:
        open_source(DataSpec(path=f"hf:{tmp_path}", **data))

    part(4, species=["owl"] * 4).save_to_disk(tmp_path)
    opened()
    opened(label="species")
    with pytest.raises(DataError, match="no column 'colour': its columns are image, label"):
        opened(label="colour")
    with pytest.raises(DataError, match="no split 'night'; it has all"):
        opened(options={"split": "night"})
    with pytest.raises(DataError, match="image columns image, not 'mask'"):
        opened(options={"image": "mask"})


def test_strings_are_labels_as_well(tmp_path: Path) -> None:
    table = part(4, species=["owl", "eagle"] * 2).remove_columns("label")
    table.save_to_disk(tmp_path)
    source = open_source(DataSpec(path=f"hf:{tmp_path}"))
    assert {item.label for item in source.list()} == {"owl", "eagle"}


def test_a_set_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("check", "fetch"):
        assert main(["data", command, "hf:nobody/nothing"]) == 2
        told = " ".join(capsys.readouterr().err.split())
        assert "hf download --repo-type dataset nobody/nothing" in told

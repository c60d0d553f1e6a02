"""Tables of images as people have them, against pandas; and Podium's own table."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from podium.config.data_settings import DataSpec
from podium.data.choose import source_for
from podium.data.folder import FolderSource
from podium.data.groups import grouped
from podium.data.indexing import build_index, index_of
from podium.data.listing import Listing, list_images, open_source, source_name
from podium.data.record import index_table, write_table
from podium.data.source import Item, Reader
from podium.data.table import TableSource
from podium.data.table_file import KEY, read_table
from podium.data.table_labels import class_names
from podium.errors import ConfigError, DataError
from tests.conftest import write_pictures

FRAME = pd.DataFrame(
    {
        "file": ["a/007.png", "a/008.png", "b/1.png", "b/2.png"],
        "species": ["cat, house", 'dog "Rex"', "cat, house", "Übung\nzwei"],
        "patient_id": ["P1", "P1", "P2", "P2"],
        "age": [61.5, None, 7.0, 8.0],
    }
)


def put(folder: Path, *names: str) -> Path:
    """Empty files: a listing opens none."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def listed(table: Any, *given: Any, **options: Any) -> Listing:
    return list_images(TableSource(table, *given, **options))


def rows(table: Any, *given: Any, **options: Any) -> list[Item]:
    return list(TableSource(table, *given, **options).list())


def pairs(table: Any, *given: Any, **options: Any) -> dict[str, str]:
    return {one.path: one.label for one in rows(table, *given, **options)}


def text(folder: Path, content: str, name: str = "table.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content, encoding="utf-8")
    return folder / name


WRITERS: dict[str, Callable[[Path], Path]] = {}


def writer(name: str, **options: Any) -> None:
    def write(folder: Path) -> Path:
        FRAME.to_csv(folder / name, index=False, **options)
        return folder / name

    WRITERS[f"{name} {options}"] = write


writer("t.csv")
writer("t.csv", sep=";")
writer("t.csv", sep="\t")
writer("t.tsv", sep="\t")
writer("t.csv", encoding="utf-8-sig", lineterminator="\r\n")
writer("t.csv", encoding="utf-16", sep="\t")
writer("t.csv", quoting=1)


@pytest.mark.parametrize("kind", WRITERS)
def test_delimited_text_is_read_as_pandas_wrote_it(kind: str, tmp_path: Path) -> None:
    found = read_table(WRITERS[kind](tmp_path))
    expected = FRAME.astype({"age": object}).where(FRAME.notna(), "")
    assert found.column_names == list(FRAME)
    for name in FRAME:
        assert found.column(name).to_pylist() == [str(one) for one in expected[name]]


def test_a_csv_is_text_where_pandas_makes_numbers(tmp_path: Path) -> None:
    path = text(tmp_path, "file,label,code\n1.png,a,007\n2.png,b,1e5\n")
    assert pd.read_csv(path)["code"].tolist() == [7, 100000]
    assert read_table(path).column("code").to_pylist() == ["007", "1e5"]


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "ndjson", "pandas", "arrow", "index"])
def test_typed_tables_keep_their_values(kind: str, tmp_path: Path) -> None:
    put(tmp_path, *FRAME["file"])
    table: Any = tmp_path / f"t.{kind}"
    if kind == "parquet":
        FRAME.to_parquet(table)
    elif kind in ("jsonl", "ndjson"):
        FRAME.to_json(table, orient="records", lines=True)
    else:
        frame = FRAME.set_index("file") if kind == "index" else FRAME.iloc[[0, 1, 2, 3]]
        table = pa.Table.from_pandas(FRAME) if kind == "arrow" else frame
    found = rows(table, images=tmp_path)
    assert [one.path for one in found] == FRAME["file"].tolist()
    assert [one.label for one in found] == FRAME["species"].tolist()
    assert [one.columns["age"] for one in found] == [61.5, None, 7.0, 8.0]
    assert [one.columns["patient_id"] for one in found] == FRAME["patient_id"].tolist()


def test_json_lines_are_not_reinterpreted(tmp_path: Path) -> None:
    lines = [
        {"path": "1.png", "label": "2024-01-01", "box": [1, 2]},
        {"path": "2.png", "label": 7, "more": 1},
    ]
    put(tmp_path, "1.png", "2.png")
    path = text(tmp_path, "\n".join(map(json.dumps, lines)) + "\n\n", "t.jsonl")
    source = TableSource(path)
    found = list(source.list())
    assert [one.label for one in found] == ["2024-01-01", "7"]
    assert [dict(one.columns) for one in found] == [{"more": None}, {"more": 1}]
    assert any("'box'" in notice for notice in source.notices)


def test_a_guess_is_told_with_the_line_that_states_it(tmp_path: Path) -> None:
    put(tmp_path, *FRAME["file"])
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    source = TableSource(tmp_path / "t.csv")
    list(source.list())
    assert source.chosen == {"options.path_column": "file", "label": "species"}
    assert any(
        "data: {options: {path_column: file}, label: species}." in one for one in source.notices
    )
    assert source.likely_groups == ["patient_id"]
    stated = TableSource(tmp_path / "t.csv", "species", path_column="file")
    assert list(stated.list()) == list(source.list())
    assert not any("guessed" in notice for notice in stated.notices)


@pytest.mark.parametrize(
    ("head", "label"),
    [
        ("Image Path,DX", "DX"),
        ("FILE_NAME,Class-Name", "Class-Name"),
        ("id,target", "target"),
        ("filename,id,category", "category"),
    ],
)
def test_names_are_guessed_in_any_spelling(head: str, label: str, tmp_path: Path) -> None:
    put(tmp_path, "1.png")
    cells = ",".join(["1.png", *["x"] * head.count(",")])
    source = TableSource(text(tmp_path, f"{head}\n{cells}\n"))
    assert [one.label for one in source.list()] == ["x"]
    assert source.chosen["label"] == label


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "two paths": ("file,path,label\n1.png,1.png,a\n", {}, "'file', 'path' could each be"),
    "two labels": ("file,label,class\n1.png,a,b\n", {}, r"data: \{label: label\}"),
    "no path": ("where,label\n1.png,a\n", {}, "no column for the image's path"),
    "no label": ("file,kind\n1.png,a\n", {}, "no column for the label.*file, kind"),
    "unknown label": ("file,kind\n1.png,a\n", {"label": "Kind"}, "Did you mean 'kind'"),
    "unknown path": ("f,label\n1.png,a\n", {"path_column": "x"}, "path_column: .* no column 'x'"),
    "bad split": ("file,label,s\n1.png,a,fold1\n", {"split_column": "s"}, "'s' has 'fold1'"),
    "half a split": ("file,label,split\n1.png,a,train\n2.png,b,\n", {}, "1 row of 2 with an empty"),
    "web": ("file,label\nhttps://x.org/1.png,a\n", {}, "1 path on the web.*Download"),
    "drive": ("file,label\nC:\\x\\1.png,a\n", {}, "on a drive of another machine"),
    "no cell": ("file,label\n,a\n", {}, r"1 of 1 row of .* without a path \(row 1\)"),
    "gone": ("file,label\n3.png,a\n1.png,b\n", {}, r"1 of 2 images of .* do not exist.*3\.png"),
    "two labels for one": ("file,label\n1.png,a\n1.png,b\n", {}, r"1\.png \(a and b\)"),
    "two splits for one": ("file,label,split\n1.png,a,train\n1.png,a,test\n", {}, "train and test"),
    "no rows": ("file,label\n", {}, "has no rows"),
    "nothing": ("", {}, "first line is empty"),
    "ragged": ("file,label\n1.png,a,b\n", {}, "cannot be read as a table.*columns"),
    "twice named": ("file,label,label\n1.png,a,b\n", {}, "several columns are named 'label'"),
    "no images": (
        "file,label\n1.png,a\n",
        {"images": "x"},
        "expected its images in .*x, which is not a folder",
    ),
    "share": ("file,label\n1.png,a\n", {"missing": 2.0}, "expected 0 to 1, got 2"),
    "no pattern": ("file,label\n1.png,a\n", {"label": "(?P<label>z+)"}, r"fits none of 1 image"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_understood_is_refused(case: str, tmp_path: Path) -> None:
    content, options, message = REFUSED[case]
    put(tmp_path, "1.png", "2.png")
    with pytest.raises((ConfigError, DataError), match=message):
        listed(text(tmp_path, content), **options)


def test_other_encodings_and_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("file,label\n1.png,Größe\n".encode("latin-1"))
    with pytest.raises(DataError, match="line 2 is not UTF-8"):
        listed(tmp_path / "t.csv")
    (tmp_path / "t.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="cannot be read as a table"):
        listed(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="There is no table"):
        listed(tmp_path / "gone.csv")
    with pytest.raises(DataError, match="line 2 is not JSON"):
        listed(text(tmp_path, '{"path": "1.png"}\n{"path"\n', "t.jsonl"))
    with pytest.raises(DataError, match=r"pandas.DataFrame or a pyarrow.Table, got dict"):
        TableSource({"path": ["1.png"]})


def test_paths_of_all_kinds_name_files(tmp_path: Path) -> None:
    put(tmp_path / "data", "cat/1.png", "cat/Ä.PNG", "dog/x.jpg", "dog/y.tiff", "dog/1.2")
    put(tmp_path, "other/z.png")
    relative = "file,label\ncat\\1.png,a\n./cat//Ä.png,a\ndog/x,b\n dog/y ,b\n"
    table = text(tmp_path / "data", relative)
    source = TableSource(table)
    paths = [one.path for one in source.list()]
    assert paths == ["cat/1.png", "cat/Ä.PNG", "dog/x.jpg", "dog/y.tiff"]
    assert source.root == tmp_path / "data"
    said = " ".join(source.notices)
    assert "1 path spelled unlike" in said
    assert "2 paths without an extension" in said
    assert "1 value of column 'file' with white space" in said

    absolute = text(
        tmp_path, f"file,label\n{tmp_path}/data/cat/1.png,a\n../{tmp_path.name}/other/z.png,b\n"
    )
    source = TableSource(absolute)
    assert [one.path for one in source.list()] == ["data/cat/1.png", "other/z.png"]
    assert source.root == tmp_path.resolve()

    ids = text(tmp_path, "id,label\n1,a\n", "ids.csv")
    source = TableSource(ids, images="data/cat", extension="png")
    assert [one.path for one in source.list()] == ["1.png"]
    with pytest.raises(DataError, match=r"add data: \{options: \{images: .*cat\}\}|images: data"):
        listed(text(tmp_path, "id,label\ncat/1,a\n", "ids.csv"))


def test_an_id_of_two_files_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "1.jpg", "2.png")
    table = text(tmp_path, "id,label\n1,a\n2,b\n")
    with pytest.raises(DataError, match=r"'1' fits 1.jpg and 1.png .*extension: .jpg"):
        listed(table)
    assert pairs(table, extension=".png") == {"1.png": "a", "2.png": "b"}


def test_missing_files_and_labels_are_counted_and_told(tmp_path: Path) -> None:
    put(tmp_path, *(f"{number}.png" for number in range(99)))
    lines = [f"{number}.png,{'ab'[number % 2]}" for number in range(100)]
    table = text(tmp_path, "\n".join(["file,label", *lines, "100.png,", "0.png,a"]))
    found = listed(table, missing=0.02)
    assert len(found.paths) == 99
    assert found.skipped == {
        "images without a label": 1,
        "missing files": 1,
        "repeated rows": 1,
    }
    assert any("1 of 101 images" in one and "99.png" in one for one in found.notices)
    with pytest.raises(DataError, match=r"more than 0 %"):
        listed(table, missing=0)


@pytest.mark.parametrize("values", [[3.0, 4.0, None], ["3.0", "4", ""], [3, 4, None]])
def test_whole_numbers_are_labels_without_a_point(values: list[Any], tmp_path: Path) -> None:
    frame = pd.DataFrame({"file": ["1.png", "2.png", "3.png"], "label": values})
    put(tmp_path, *frame["file"])
    assert pairs(frame, images=tmp_path) == {"1.png": "3", "2.png": "4"}
    frame["label"] = ["3.0", "4.5", "4"]
    assert pairs(frame, images=tmp_path)["1.png"] == "3.0"
    names = text(tmp_path, "zero\none\ntwo\nthree\nfour\n", "classes.txt")
    frame["label"] = values
    assert pairs(frame, images=tmp_path, names=names) == {"1.png": "three", "2.png": "four"}


def test_names_of_classes_are_read_from_any_common_file(tmp_path: Path) -> None:
    expected = {"0": "cat", "1": "dog"}
    for name, content in {
        "a.txt": "cat\r\ndog\r\n",
        "a.json": '["cat", "dog"]',
        "b.json": '{"0": "cat", "1": "dog"}',
        "c.json": '{"cat": 0, "dog": 1}',
        "a.csv": "id,name\n0,cat\n1,dog\n",
        "b.csv": "0,cat\n1,dog\n",
    }.items():
        assert class_names(text(tmp_path, content, name)) == expected, name
    for content in ('{"cat": 0, "cat ": 1}', "[]", "7", "{"):
        with pytest.raises(DataError, match="names"):
            class_names(text(tmp_path, content, "bad.json"))
    put(tmp_path, "1.png")
    table = text(tmp_path, "file,label\n1.png,7\n")
    with pytest.raises(DataError, match=r"1 label that .* does not name: '7'"):
        listed(table, names="a.txt")


def test_categories_and_booleans_are_labels(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png")
    frame = pd.DataFrame({"file": ["1.png", "2.png"], "label": pd.Categorical(["x", "y"])})
    assert pairs(frame, images=tmp_path) == {"1.png": "x", "2.png": "y"}
    frame["label"] = [True, False]
    assert pairs(frame, images=tmp_path) == {"1.png": "true", "2.png": "false"}


def test_one_hot_columns_are_labels(tmp_path: Path) -> None:
    put(tmp_path, "i1.jpg", "i2.jpg", "i3.jpg")
    table = text(tmp_path, "image,MEL,NV,age\ni1,1.0,0.0,30\ni2,0.0,1.0,40\ni3,0.0,1.0,1\n")
    expected = {"i1.jpg": "MEL", "i2.jpg": "NV", "i3.jpg": "NV"}
    source = TableSource(table)
    assert {one.path: one.label for one in source.list()} == expected
    assert source.chosen["label"] == "one-hot"
    assert pairs(table, "one-hot") == expected
    assert [dict(one.columns)["age"] for one in rows(table)] == ["30", "40", "1"]
    with pytest.raises(DataError, match="exactly one 1 per row"):
        listed(text(tmp_path, "image,MEL,NV\ni1,1,1\ni2,0,1\n"), "one-hot")


def test_splits_come_from_a_column_or_the_first_folders(tmp_path: Path) -> None:
    put(tmp_path, "train/1.png", "val/2.png", "test/3.png")
    column = text(tmp_path, "file,label,Split\ntrain/1.png,a,Training\nval/2.png,b,dev\n")
    assert [one.split for one in rows(column)] == ["train", "valid"]
    folders = text(tmp_path, "file,label\ntrain/1.png,a\nval/2.png,b\ntest/3.png,a\n")
    source = TableSource(folders)
    assert [one.split for one in source.list()] == ["train", "valid", "test"]
    assert any("first folders" in one for one in source.notices)
    # a column of that name with other values is metadata
    other = text(tmp_path, "file,label,split\ntrain/1.png,a,north\n")
    assert [(one.split, dict(one.columns)) for one in rows(other)] == [(None, {"split": "north"})]


def test_the_label_may_be_in_the_path(tmp_path: Path) -> None:
    put(tmp_path, "cat.1.png", "dog.2.png", "x.png")
    table = text(tmp_path, "file,age\ncat.1.png,3\ndog.2.png,4\nx.png,5\n")
    source = TableSource(table, r"(?P<label>[a-z]+)\.\d")
    assert {one.path: one.label for one in source.list()} == {
        "cat.1.png": "cat",
        "dog.2.png": "dog",
    }
    assert source.skipped == {"images without a label": 1}
    with pytest.raises(ConfigError, match="not a regular expression"):
        TableSource(table, "(?P<label>")


def test_metadata_gives_groups(tmp_path: Path) -> None:
    put(tmp_path, *FRAME["file"])
    found = grouped(listed(FRAME, images=tmp_path), "patient_id")
    assert found.groups is not None
    groups = dict(zip(found.paths, found.groups, strict=True))
    assert groups == dict(zip(FRAME["file"], FRAME["patient_id"], strict=True))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_imagefolder_of_the_hub(kind: str, tmp_path: Path) -> None:
    whole = write_pictures(tmp_path, {"train": 2, "test": 1}, ("a", "b"), 16)
    for split, count in (("train", 2), ("test", 1)):
        names = [f"{one}/{number}.png" for one in "ab" for number in range(count)]
        frame = pd.DataFrame({"file_name": names, "label": [f"is {one[0]}" for one in names]})
        place = whole / split / f"metadata.{kind}"
        if kind == "csv":
            frame.to_csv(place, index=False)
        elif kind == "jsonl":
            frame.to_json(place, orient="records", lines=True)
        else:
            frame.to_parquet(place)
    spec = DataSpec(path=str(tmp_path))
    assert source_name(spec) == "table"
    found = list_images(open_source(spec))
    assert {split: {k: len(v) for k, v in of.items()} for split, of in found.splits.items()} == {
        "train": {"is a": 2, "is b": 2},
        "test": {"is a": 1, "is b": 1},
    }
    for split in ("train", "test"):  # captions only: the folders are the classes
        (tmp_path / split / f"metadata.{kind}").unlink()
        text(tmp_path / split, "file_name,text\na/0.png,words\n", "metadata.csv")
    assert source_name(spec) == "folder"


def test_files_are_read_in_other_processes(tmp_path: Path) -> None:
    picture = tmp_path / "photos" / "1.png"
    picture.parent.mkdir()
    Image.new("RGB", (4, 4)).save(picture)
    frame = pd.DataFrame({"file": ["1.png"], "label": ["a"]})
    source = TableSource(frame, images=tmp_path / "photos")
    again = pickle.loads(pickle.dumps(source))  # not listed yet
    assert again.read("1.png") == picture.read_bytes()
    found = list_images(source)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(found.reader.read, ["1.png"]) == [picture.read_bytes()]
    assert pickle.loads(pickle.dumps(found.reader)).read("1.png") == picture.read_bytes()
    assert isinstance(found.reader, Reader)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 pictures of two classes and no splits, as a folder of classes and as a table."""
    root = write_pictures(tmp_path_factory.mktemp("photos") / "set", {"": 10}, ("a", "b"), 16)
    files = sorted(root.rglob("*.png"))
    pd.DataFrame(
        {
            "path": [one.relative_to(root).as_posix() for one in files],
            "label": [one.parent.name for one in files],
            "site": np.arange(len(files)) // 2,
            "group": "of the source",
        }
    ).to_parquet(root / "photos.parquet")
    return root


def test_likely_groups_are_told_until_the_images_have_groups(photos: Path) -> None:
    spec = DataSpec(path=str(photos / "photos.parquet"))
    wanted = "data: {group: site}."
    assert any(wanted in one for one in index_of(spec).notices)
    named = index_of(spec.model_copy(update={"group": "site"}))
    assert not any(wanted in one for one in named.notices)


def test_a_table_is_indexed_as_the_folder_that_it_lists(photos: Path) -> None:
    folder, table = build_index(photos), index_of(DataSpec(path=str(photos / "photos.parquet")))
    assert table.fingerprint == folder.fingerprint
    assert table.root == folder.root == photos
    assert table.splits["train"].paths == folder.splits["train"].paths


@pytest.mark.parametrize("beside", [True, False])
def test_podiums_own_table_gives_the_same_images_back(
    beside: bool, photos: Path, tmp_path: Path
) -> None:
    index = index_of(DataSpec(path=str(photos / "photos.parquet"), group="site"))
    table = index_table(index)
    assert table.column_names == [
        *["path", "label", "split", "group", "sha256"],
        "group (source)",
        "site",
    ]
    path = (photos if beside else tmp_path) / "images.parquet"
    write_table(table, path)
    about = json.loads(pq.read_schema(path).metadata[KEY])
    assert about == {"format": 1, "root": str(photos), "fingerprint": index.fingerprint}

    again = index_of(DataSpec(path=str(path)))
    assert again.fingerprint == index.fingerprint
    for name, split in index.splits.items():
        assert again.splits[name].paths == split.paths
        assert again.splits[name].groups == split.groups
        assert again.splits[name].columns["site"] == split.columns["site"]
    assert not any("guessed" in one or "may name" in one for one in again.notices)
    assert index_table(again).equals(table)
    path.unlink()

    write_table(table, tmp_path / "images.csv")
    frame = pd.read_csv(tmp_path / "images.csv")
    assert frame["path"].tolist() == table.column("path").to_pylist()
    with pytest.raises(ConfigError, match=r"ends in \.parquet or \.csv"):
        write_table(table, tmp_path / "images.xlsx")


def test_many_rows_are_listed_without_asking_for_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number % 4}/{number}.png" for number in range(2000)]
    put(tmp_path, *names)
    table = pa.table({"path": names, "label": [name[0] for name in names]})
    asked: list[str] = []
    scandir = os.scandir

    def counted(path: Any) -> Any:
        asked.append(str(path))
        return scandir(path)

    monkeypatch.setattr("podium.data.table_paths.os.scandir", counted)
    assert len(listed(table, images=tmp_path).paths) == 2000
    assert sorted(asked) == [str(tmp_path / str(number)) for number in range(4)]


def test_rows_that_end_early_are_read_and_told(tmp_path: Path) -> None:
    """pandas fills such rows as well."""
    (tmp_path / "t.csv").write_text("file,label,site,date\n1.jpg,a,north\n2.jpg,b,south,2026\n")
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / name).touch()
    source = TableSource(tmp_path / "t.csv")
    items = list(source.list())
    assert [one.columns for one in items] == [
        {"site": "north", "date": None},
        {"site": "south", "date": "2026"},
    ]
    expected = pd.read_csv(tmp_path / "t.csv", dtype=str)
    assert expected["site"].tolist() == ["north", "south"]
    assert any(one.startswith("1 row with fewer cells") for one in source.notices)


def test_a_row_with_too_many_cells_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,label\n1.jpg,a\n2.jpg,b,c\n")
    with pytest.raises(DataError, match="line 3 has 3 cells"):
        list(TableSource(tmp_path / "t.csv").list())


def test_rows_without_a_path_are_left_out_up_to_the_share_of_missing_files(tmp_path: Path) -> None:
    rows = "".join(f"{number}.jpg,a\n" for number in range(9))
    (tmp_path / "t.csv").write_text(f"file,label\n{rows},b\n")
    for number in range(9):
        (tmp_path / f"{number}.jpg").touch()
    source = TableSource(tmp_path / "t.csv", missing=0.1)
    assert len(list(source.list())) == 9
    assert source.skipped["rows without a path"] == 1
    with pytest.raises(DataError, match=r"1 of 10 rows .* without a path .*, more than 1 %"):
        list(TableSource(tmp_path / "t.csv").list())


def test_a_folder_with_metadata_is_a_table_if_the_study_names_its_column(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,vehicle\n1.jpg,car\n2.jpg,bus\n")
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / name).touch()
    assert source_for(str(tmp_path)) == "folder"
    assert source_for(str(tmp_path), "vehicle") == "table"
    with pytest.raises(DataError, match="columns file_name, vehicle: if one"):
        list(FolderSource(tmp_path).list())

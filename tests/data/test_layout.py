"""Folders as people have them: understood, or refused with the line that helps."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from podium.cli.app import main
from podium.data.index import DataIndex
from podium.data.indexing import build_index
from podium.data.layout import find_images
from podium.data.walk import why_skipped
from podium.errors import DataError
from tests.data.test_index import add, tree

Layout = dict[str, int]


def counts(index: DataIndex) -> dict[str, list[int]]:
    """Images of each class in train, valid and test."""
    return {
        label: [index.class_counts(split)[label] for split in index.splits]
        for label in index.classes
    }


SPLIT: dict[str, Layout] = {
    "training_set": {"training_set/a": 6, "training_set/b": 6, "test_set/a": 2, "test_set/b": 2},
    "one word": {"trainset/a": 6, "trainset/b": 6, "TestSet/a": 2, "TestSet/b": 2},
    "data and a year": {"Train_Data/a": 6, "Train_Data/b": 6, "test2017/a": 2, "test2017/b": 2},
    "a common prefix": {"seg_train/a": 6, "seg_train/b": 6, "seg_test/a": 2, "seg_test/b": 2},
    "a folder in itself": {"seg_train/seg_train/a": 6, "seg_train/seg_train/b": 6,
                           "seg_test/seg_test/a": 2, "seg_test/seg_test/b": 2},
    "train in train": {"train/train/a": 6, "train/train/b": 6, "test/test/a": 2, "test/test/b": 2},
    "a wrapper beside junk": {"chest/train/a": 6, "chest/train/b": 6, "chest/test/a": 2,
                              "chest/test/b": 2, "__MACOSX/chest/train/a": 1, "docs": 0},
    "splits in classes": {"a/train": 6, "a/test": 2, "b/train": 6, "b/test": 2},
    "splits in classes, wrapped": {"x/y/a/Training": 6, "x/y/a/testing": 2, "x/y/b/Training": 6,
                                   "x/y/b/testing": 2},
    "masks beside": {"train/a": 6, "train/b": 6, "test/a": 2, "test/b": 2, "train_masks/a": 6},
}  # fmt: skip


@pytest.mark.parametrize("layout", SPLIT.values(), ids=SPLIT)
def test_split_folders_are_understood(tmp_path: Path, layout: Layout) -> None:
    index = build_index(tree(tmp_path, layout))
    assert counts(index) == {"a": [5, 1, 2], "b": [5, 1, 2]}
    for split in ("train", "test"):
        for path in index.splits[split].paths:
            assert split in path.lower()
    (held_out,) = [notice for notice in index.notices if "held out" in notice]
    assert "No images for valid" in held_out


UNSPLIT: dict[str, Layout] = {
    "a class called train": {"train": 10, "plane": 10},
    "words of splits in class names": {"train station": 10, "test tube": 10, "dev board": 10},
    "validation and training of the same word alone": {"toy train": 10, "toy car": 10},
    "system folders": {"a": 10, "b": 10, "@eaDir": 3, "$RECYCLE.BIN": 3, "lost+found": 1,
                       "System Volume Information": 1, ".ipynb_checkpoints": 2, "__MACOSX/a": 2,
                       "a/@eaDir": 4, "a/.ipynb_checkpoints": 2, "#recycle": 2},
}  # fmt: skip


@pytest.mark.parametrize("layout", UNSPLIT.values(), ids=UNSPLIT)
def test_class_folders_are_understood(tmp_path: Path, layout: Layout) -> None:
    index = build_index(tree(tmp_path, layout))
    classes = sorted(name for name, count in layout.items() if count == 10)
    assert counts(index) == {label: [8, 1, 1] for label in classes}
    assert len(index.notices) == 1  # that some are held out


def test_system_folders_are_named_and_counted(tmp_path: Path) -> None:
    index = build_index(tree(tmp_path, UNSPLIT["system folders"]))
    assert index.skipped["system folder @eaDir"] == 2
    assert index.skipped["system folder $RECYCLE.BIN"] == 1
    assert index.skipped["system folder .ipynb_checkpoints"] == 2
    assert why_skipped(".holiday.jpg.icloud") == "iCloud files not downloaded"


REFUSED: dict[str, tuple[Layout, str]] = {
    "train is flat": ({"train": 12}, r"12 images in .*train outside of class folders"),
    "all is flat": ({"": 12}, "12 images in .* outside of class folders"),
    "train and test are flat": ({"train": 6, "test1": 4}, "6 images in .*train outside"),
    "some classes hold splits": ({"a/train": 6, "a/test": 2, "b": 6},
                                 "a contains split folders .test, train., and .*b contains images"),
    "pictures beside splits": ({"a/train": 6, "a/test": 2, "a": 1, "b/train": 6, "b/test": 2},
                               "a contains split folders"),
    "two data sets": ({f"{one}/{split}/{label}": 3 for one in ("old", "new")
                       for split in ("train", "test") for label in "ab"},
                      r"have split folders with folders in them.*Give the data set that you want"),
    "a data set and its samples": ({"set/train/a": 3, "set/train/b": 3, "set/test/a": 1,
                                    "samples": 3}, "samples, set, and set has split folders"),
    "split and class in one name": ({f"{split}_{label}": 4 for split in ("train", "test")
                                     for label in "ab"}, "several folders for one split"),
    "two names for train": ({"train/a": 3, "train/b": 3, "training_set/a": 3}, "two folders for"),
}  # fmt: skip


@pytest.mark.parametrize(("layout", "told"), REFUSED.values(), ids=REFUSED)
def test_what_could_be_read_in_two_ways_is_refused(
    tmp_path: Path, layout: Layout, told: str
) -> None:
    with pytest.raises(DataError, match=told):
        build_index(tree(tmp_path, layout))


def test_classes_in_flat_names_are_guessed_for_the_message(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        add(tmp_path / "train" / f"cat.{number}.png", number)
        add(tmp_path / "train" / f"dog.{number}.png", 50 + number)
    assert main(["data", "check", str(tmp_path)]) == 2
    told = " ".join(capfd.readouterr().err.split())
    assert "names start with 'cat' (6), 'dog' (6), which may be classes" in told
    assert "Traceback" not in told


def test_unlabelled_test_pictures_are_told_and_not_used(tmp_path: Path) -> None:
    index = build_index(tree(tmp_path, {"train/a": 10, "train/b": 10, "test": 5}))
    assert counts(index) == {"a": [8, 1, 1], "b": [8, 1, 1]}
    assert index.skipped["images outside of a class folder"] == 5
    assert any("5 images outside of a class folder, in test, are not used: test/000.png" in notice
               for notice in index.notices)  # fmt: skip


def test_folders_in_classes_and_beside_splits_are_named(tmp_path: Path) -> None:
    layout = {"animals/cat": 6, "animals/dog": 6, "vehicles/car": 6, "vehicles/bus": 6}
    index = build_index(tree(tmp_path / "deep", layout))
    assert index.classes == ("animals", "vehicles")
    (notice,) = [one for one in index.notices if "inside a class folder" in one]
    assert "'animals' contains cat, dog; 'vehicles' contains bus, car" in notice

    layout = {"train/a": 3, "train/b": 3, "test/a": 1, "test/b": 1, "predict": 7}
    (tmp_path / "beside" / "tables").mkdir(parents=True)
    (tmp_path / "beside" / "tables" / "x.csv").write_text("a,b")
    index = build_index(tree(tmp_path / "beside", layout))
    assert (
        "Skipped, since they are not splits: predict (7 images), tables (1 *.csv)." in index.notices
    )


def test_the_folder_that_stands_for_another_is_named(tmp_path: Path) -> None:
    """It may be a wrapper, or the folder of one class by mistake."""
    index = build_index(tree(tmp_path, {"cats/persian": 5, "cats/siamese": 5}))
    assert index.classes == ("persian", "siamese")
    assert f"The classes are the folders in {tmp_path / 'cats'}" in index.notices[0]


def test_a_valid_split_of_one_class_is_not_taken_for_a_wrapper(tmp_path: Path) -> None:
    layout = {"train/a/x": 4, "train/a/y": 4, "train/b": 4, "test/a/x": 2, "test/a/y": 2}
    index = build_index(tree(tmp_path, layout))
    assert index.class_counts("test") == {"a": 4, "b": 0}


@pytest.mark.parametrize("ending", [".nrrd", ".cr2", ".jxl", ".mp4", "", ".jpg_large"])
@pytest.mark.parametrize("split", ["", "train", "test"])
def test_a_class_of_files_that_are_not_read_stops_the_study(
    tmp_path: Path, ending: str, split: str
) -> None:
    root = tree(tmp_path, {f"{part}/{label}": 4 for part in (split, "train" if split else "")
                           for label in "ab"})  # fmt: skip
    lost = root / split / "lost"
    lost.mkdir()
    for number in range(3):
        (lost / f"{number}{ending}").write_bytes(b"\xff\xd8\xff\xe0 JFIF")
    kind = rf"3 \*{ending}" if ending else "3 without an ending"
    with pytest.raises(DataError, match=rf"lost has no image that Podium can read, but {kind}:"):
        build_index(root)


def test_files_without_an_ending_are_looked_into(tmp_path: Path) -> None:
    """As Stanford Dogs comes: pictures, and annotations that are called as they are."""
    root = tree(tmp_path, {"Images/n01-a": 6, "Images/n02-b": 6})
    for name in ("n01-a", "n02-b"):
        folder = root / "Annotation" / name
        folder.mkdir(parents=True)
        (folder / "n01_1").write_text("<annotation>")
    (root / "lists").mkdir()
    (root / "lists" / "train_list.mat").write_bytes(b"x")
    index = build_index(root)
    assert index.classes == ("n01-a", "n02-b")
    assert index.skipped == {"without an ending": 2, "*.mat": 1}
    assert not any("formats that Podium does not read" in notice for notice in index.notices)


def test_in_a_split_folder_every_folder_with_files_is_a_class(tmp_path: Path) -> None:
    root = tree(tmp_path, {"train/a": 4, "train/b": 4})
    (root / "train" / "c").mkdir()
    assert any("c (empty)" in notice for notice in build_index(root).notices)
    (root / "train" / "c" / "spectrum.npy").write_bytes(b"x")
    with pytest.raises(
        DataError, match=r"train/c has no image that Podium can read, but 1 \*\.npy"
    ):
        build_index(root)


def test_folders_of_other_things_are_named_and_left_out(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a": 5, "b": 5, "empty": 0, "b/raw": 0})
    (root / "labels").mkdir()
    (root / "labels" / "a.xml").write_text("x")
    (root / "labels" / "README").write_text("x")
    (root / "a" / "000.nef").write_bytes(b"x")
    index = build_index(root)
    assert index.classes == ("a", "b")
    (told,) = [notice for notice in index.notices if "not classes" in notice]
    assert "empty (empty), labels (1 *.xml, 1 readme and licence files)" in told
    assert any("formats that Podium does not read: 1 *.nef" in notice for notice in index.notices)


def test_links_that_lead_nowhere_stop_the_study(tmp_path: Path) -> None:
    root = tree(tmp_path, {"train/a": 5, "train/b": 5})
    (root / "train" / "c").symlink_to(tmp_path / "gone", target_is_directory=True)
    with pytest.raises(DataError, match="train/c is a broken link"):
        build_index(root)
    (root / "train" / "c").unlink()
    (root / "test").symlink_to(tmp_path / "gone", target_is_directory=True)
    with pytest.raises(DataError, match="test is a broken link"):
        build_index(root)


def test_one_folder_under_two_names_is_read_twice(tmp_path: Path) -> None:
    root = tree(tmp_path, {"train/a": 5, "train/b": 5, "test/a": 2, "test/b": 2})
    (root / "valid").symlink_to(root / "test", target_is_directory=True)
    index = build_index(root)
    assert counts(index) == {"a": [5, 2, 2], "b": [5, 2, 2]}
    assert index.skipped == {}


FORBIDDEN = """
    import ctypes, sys
    from pathlib import Path
    root = Path(sys.argv[1])
    {forbid}
    # root may read everything by its capabilities alone; without them it is a user like others
    nothing = (ctypes.c_uint32 * 6)()
    ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), nothing)
    from podium.cli.app import main
    sys.exit(main(["data", "check", str(root)]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="gives up capabilities as Linux has them")
@pytest.mark.parametrize(
    ("forbid", "told"),
    [
        ('(root / "train" / "b").chmod(0)', "1 folder of ROOT cannot be read (Permission denied): "
         "train/b"),
        ('root.chmod(0)', "1 folder of ROOT cannot be read (Permission denied)"),
        ('(root / "train").chmod(0o444)', "cannot be read (Permission denied): train/"),
        ('[path.chmod(0) for path in (root / "train" / "b").iterdir()]',
         "No training image of 'b' can be read: train/b/000.png (Permission denied)"),
    ],
    ids=["a class", "all", "a folder that may only be listed", "files"],
)  # fmt: skip
def test_what_may_not_be_read_stops_the_study(tmp_path: Path, forbid: str, told: str) -> None:
    root = tree(tmp_path / "set", {"train/a": 4, "train/b": 4})
    code = textwrap.dedent(FORBIDDEN).format(forbid=forbid)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, str(root)], capture_output=True, text=True, timeout=60
        )
    finally:
        for path in (root, root / "train", root / "train" / "b"):
            path.chmod(0o755)
    said = " ".join(done.stderr.split())
    assert done.returncode == 2, said
    assert told.replace("ROOT", str(root)) in said.replace("error: ", "")
    assert "Traceback" not in said
    assert "bug" not in said


def test_what_is_below_a_forbidden_folder_is_no_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `Path.is_dir` of a path below a folder that may not be entered."""

    def forbidden(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_dir", forbidden)
    monkeypatch.setattr(Path, "exists", forbidden)
    with pytest.raises(DataError, match="does not exist"):
        find_images(tmp_path / "nowhere")

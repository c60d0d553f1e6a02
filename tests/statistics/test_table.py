"""Answer sheets from runs and from CSV files, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from podium.errors import DataError, RunFolderError, UserError
from podium.runs.folder import StudyFolder
from podium.runs.predictions import Predictions
from podium.runtime.files import write_json, write_text
from podium.statistics.table import PredictionTable, read_table, table_of
from podium.statistics.verdicts import compare_contenders
from tests.fake_study import fake_study

CLASSES = ("archery", "judo", "golf")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Two contenders x three seeds, 12 test images; its runs know their recipe."""
    root = tmp_path_factory.mktemp("runs") / "first"
    folder = fake_study(root, CLASSES, contenders=2, per_class=4, epochs=2, seeds=(0, 1, 10))
    spec = folder.read_spec()
    for run in folder.runs(spec):
        recipe = spec.contenders[run.contender].model_dump(mode="json")
        write_text(run.config, yaml.safe_dump({"recipe": recipe, "seed": run.seed}))
        valid = 0.7 + run.seed / 100
        write_json(run.done, {**run.read_done(), "valid_accuracy": valid})
    return folder


def named(sheet: PredictionTable) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(one.name, one.label, one.seeds) for one in sheet.contenders]


def said(sheet: PredictionTable, contender: int = 0, seed: int = 0) -> list[str]:
    return [sheet.class_names[at] for at in sheet.contenders[contender].predicted[seed]]


def test_a_studys_folder_gives_all_of_its_runs(study: StudyFolder) -> None:
    sheet = read_table([study.path])
    assert named(sheet) == [
        ("simple_resnet", "SimpleResNet", (0, 1, 10)),
        ("simple_resnet-autoaugment", "SimpleResNet + AutoAugment", (0, 1, 10)),
    ]
    assert len(sheet) == 12
    assert sheet.class_names == CLASSES
    assert sheet.notices == ()
    for contender in sheet.contenders:
        assert contender.recipe == study.read_spec().contenders[contender.name]
        assert contender.valid_merit == pytest.approx((0.7 + 0.71 + 0.8) / 3)
        for seed, predicted in zip(contender.seeds, contender.predicted, strict=True):
            stored = study.run(contender.name, seed).read_predictions("test")
            assert sheet.paths == stored.paths
            assert np.array_equal(sheet.labels, stored.labels)
            assert np.array_equal(predicted, stored.predicted)


def test_validation_predictions_can_be_read_instead(study: StudyFolder) -> None:
    sheet = read_table([study.path], split="valid")
    assert all(path.startswith("valid/") for path in sheet.paths)


def test_a_contenders_and_a_runs_folder(study: StudyFolder) -> None:
    one = read_table([study.path / "simple_resnet"])
    assert named(one) == [("simple_resnet", "SimpleResNet", (0, 1, 10))]  # 10 after 1
    run = read_table([study.path / "simple_resnet" / "seed-10"])
    assert named(run) == [("simple_resnet", "SimpleResNet", (10,))]
    assert run.contenders[0].recipe == one.contenders[0].recipe
    both = read_table([
        study.path / "simple_resnet" / "seed-1",
        str(study.path / "simple_resnet-autoaugment" / "seed-1"),
    ])  # fmt: skip
    assert [seeds for _, _, seeds in named(both)] == [(1,), (1,)]


def test_a_runs_folder_may_be_given_as_the_place_one_is_in(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study.path / "simple_resnet")
    assert named(read_table(["."])) == [("simple_resnet", "SimpleResNet", (0, 1, 10))]
    assert named(read_table(["seed-0"])) == [("simple_resnet", "SimpleResNet", (0,))]


def test_runs_that_know_no_recipe_are_compared_all_the_same(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "bare", CLASSES, contenders=2, per_class=2, epochs=1)
    sheet = read_table([folder.path / "simple_resnet"])
    assert named(sheet) == [("simple_resnet", "simple_resnet", (0,))]
    assert sheet.contenders[0].recipe is None
    assert sheet.contenders[0].valid_merit is None
    assert len(compare_contenders(read_table([folder.path]), resamples=10).pairs) == 1


def test_unfinished_runs_are_left_out(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "part", CLASSES, contenders=2, per_class=2, epochs=1,
                        seeds=(0, 1))  # fmt: skip
    folder.run("simple_resnet", 1).done.unlink()
    assert [seeds for _, _, seeds in named(read_table([folder.path]))] == [(0,), (0, 1)]
    with pytest.raises(RunFolderError, match=r"seed-1 holds no finished run\. Expected a study"):
        read_table([folder.path / "simple_resnet" / "seed-1"])


def test_contenders_of_two_studies_may_share_a_name(study: StudyFolder, tmp_path: Path) -> None:
    other = fake_study(tmp_path / "second", CLASSES, contenders=1, per_class=4, epochs=2)
    sheet = read_table([study.path, other.path])
    assert named(sheet) == [
        ("first/simple_resnet", "SimpleResNet (first)", (0, 1, 10)),
        ("simple_resnet-autoaugment", "SimpleResNet + AutoAugment", (0, 1, 10)),
        ("second/simple_resnet", "SimpleResNet (second)", (0,)),
    ]
    assert len(compare_contenders(sheet, resamples=0).pairs) == 3


@pytest.mark.parametrize(
    ("places", "names"),
    [
        (("v1.0", "v1.1"), ("v1.0/simple_resnet", "v1.1/simple_resnet")),
        (("old/s", "new/s"), ("old/s/simple_resnet", "new/s/simple_resnet")),
    ],
)
def test_names_tell_studies_of_like_names_apart(
    tmp_path: Path, places: Sequence[str], names: Sequence[str]
) -> None:
    paths = [tmp_path / place for place in places]
    for path in paths:
        fake_study(path, CLASSES, contenders=1, per_class=2, epochs=1)
    assert [name for name, _, _ in named(read_table(paths))] == list(names)


def table(path: Path, *rows: str, head: str = "path,label,a,b") -> Path:
    path.write_text("\n".join([head, *rows, ""]), encoding="utf-8")
    return path


ROWS = ("1.jpg,judo,judo,golf", "2.jpg,golf,golf,golf", "3.jpg,judo,golf,judo")


def test_a_csv_holds_a_model_a_column(tmp_path: Path) -> None:
    sheet = read_table([table(tmp_path / "p.csv", *ROWS)])
    assert named(sheet) == [("a", "a", (0,)), ("b", "b", (0,))]
    assert sheet.paths == ("1.jpg", "2.jpg", "3.jpg")
    assert [sheet.class_names[at] for at in sheet.labels] == ["judo", "golf", "judo"]
    assert said(sheet, 0) == ["judo", "golf", "golf"]
    assert said(sheet, 1) == ["golf", "golf", "judo"]
    assert sheet.contenders[0].recipe is None


def test_columns_in_any_order_with_quotes_spaces_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    text = (
        '\ufeff"model, big", Label ,PATH\r\n'
        '"water polo, men",judo,"a ""b"".jpg"\r\n\r\n'
        "judo , judo,日本/2.jpg\r\n"
    )
    path.write_bytes(text.encode("utf-8"))
    sheet = read_table([path])
    assert sheet.paths == ('a "b".jpg', "日本/2.jpg")
    assert named(sheet) == [("model, big", "model, big", (0,))]
    assert said(sheet) == ["water polo, men", "judo"]
    assert sheet.class_names == ("judo", "water polo, men")


def test_a_columns_name_may_end_in_its_seed(tmp_path: Path) -> None:
    rows = ("1.jpg,judo,judo,golf,judo,judo", "2.jpg,golf,golf,golf,judo,judo")
    head = "path,label,net@3,net@12,v@²,@4"
    sheet = read_table([table(tmp_path / "p.csv", *rows, head=head)])
    assert named(sheet) == [("net", "net", (3, 12)), ("v@²", "v@²", (0,)), ("@4", "@4", (0,))]
    assert said(sheet, 0, 0) == ["judo", "golf"]
    assert said(sheet, 0, 1) == ["golf", "golf"]


def test_two_csvs_are_put_in_one_order(tmp_path: Path) -> None:
    one = table(tmp_path / "one.csv", "1.jpg,judo,judo", "2.jpg,golf,golf", "3.jpg,judo,surf",
                head="path,label,a")  # fmt: skip
    two = table(tmp_path / "two.csv", "3.jpg,judo,judo", "1.jpg,judo,golf", "2.jpg,golf,judo",
                head="path,label,a")  # fmt: skip
    sheet = read_table([one, two])
    assert sheet.paths == ("1.jpg", "2.jpg", "3.jpg")
    assert named(sheet) == [("one/a", "a (one)", (0,)), ("two/a", "a (two)", (0,))]
    assert said(sheet, 0) == ["judo", "golf", "surf"]
    assert said(sheet, 1) == ["golf", "judo", "judo"]
    assert sheet.class_names == ("golf", "judo", "surf")


def test_a_csv_and_runs_are_compared(study: StudyFolder, tmp_path: Path) -> None:
    sheet = read_table([study.path / "simple_resnet"])
    rows = [f"{path},{sheet.class_names[at]},judo"
            for path, at in zip(sheet.paths, sheet.labels, strict=True)]  # fmt: skip
    joined = read_table([study.path / "simple_resnet",
                         table(tmp_path / "p.csv", *rows, head="path,label,always")])  # fmt: skip
    assert [name for name, _, _ in named(joined)] == ["simple_resnet", "always"]
    assert set(said(joined, 1)) == {"judo"}
    again = [joined.class_names[at] for at in joined.contenders[0].predicted[1]]
    assert again == said(sheet, 0, 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"has the columns none\. Expected a header with `path`, `label` and one column"),
        ("path,a\n1,x\n", r"has the columns path, a\. Expected a header"),
        ("label,a\n1,x\n", r"has the columns label, a\. Expected a header"),
        ("path,label\n1,x\n", r"has the columns path, label\. Expected a header"),
        ("path,label,a,a\n1,x,x,x\n", r"has the columns path, label, a, a\. Expected a header"),
        ("path,label,a,\n1,x,x,x\n", r"has the columns path, label, a, \. Expected a header"),
        ("path,label,a\n", "has a header but no rows"),
        ("path,label,a\n1,x,x\n2,x,\n", r"row 3: expected 3 filled cells, got 3 of which 1 are"),
        ("path,label,a\n1,x,x\n\n2,x,\n", r"row 4: expected 3 filled"),
        ("path,label,a\n1,x\n", r"row 2: expected 3 filled cells, got 2 of which 0 are empty"),
        ("path,label,a\n1,x,x\n1,y,y\n", "names '1' more than once; expected one row per image"),
        ("path,label,a\n1,x," + "y" * 200_000 + "\n", r"cannot be read as CSV \(field larger"),
    ],
)
def test_what_a_csv_lacks_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=told) as caught:
        read_table([path])
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "picture.csv"
    path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    with pytest.raises(DataError, match=r"cannot be read as CSV .*in UTF-8"):
        read_table([path])


def test_places_without_runs_are_told(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="is neither a folder nor a file"):
        read_table([tmp_path / "nowhere"])
    with pytest.raises(RunFolderError, match="holds no finished run"):
        read_table([tmp_path])
    with pytest.raises(RunFolderError, match="at least one run or CSV file, got none") as caught:
        read_table([])
    assert isinstance(caught.value, UserError)
    assert caught.value.exit_code == 2


def test_labels_must_agree(tmp_path: Path) -> None:
    one = table(tmp_path / "one.csv", *ROWS)
    two = table(tmp_path / "two.csv", ROWS[0], "2.jpg,judo,golf,golf", ROWS[2])
    with pytest.raises(DataError, match=r"2\.jpg is 'golf' in .*one\.csv and 'judo' in .*two\.csv"):
        read_table([one, two])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_different_images_are_refused_or_the_common_ones_taken(
    tmp_path: Path, order: Sequence[int]
) -> None:
    paths = [table(tmp_path / "one.csv", *ROWS), table(tmp_path / "two.csv", *ROWS[1:])]
    sources = [paths[at] for at in order]
    sizes = [(3, 2)[at] for at in order]
    with pytest.raises(
        DataError,
        match=rf"has {sizes[1]} images and .* {sizes[0]}; 2 are common to all\..*--shared",
    ):
        read_table(sources)
    sheet = read_table(sources, shared=True)
    assert sheet.paths == ("2.jpg", "3.jpg")
    assert sheet.notices == ("Compared on the 2 images common to all.",)
    assert len(sheet.contenders) == 4
    assert compare_contenders(sheet, resamples=5).notices == sheet.notices


def test_nothing_in_common_is_refused_even_then(tmp_path: Path) -> None:
    one = table(tmp_path / "one.csv", ROWS[0])
    two = table(tmp_path / "two.csv", ROWS[1])
    with pytest.raises(DataError, match="0 are common to all"):
        read_table([one, two], shared=True)


def test_the_same_run_is_not_taken_twice(study: StudyFolder, tmp_path: Path) -> None:
    run = study.path / "simple_resnet" / "seed-1"
    with pytest.raises(DataError, match=r"simple_resnet, seed 1, of .*first is given twice"):
        read_table([study.path, run])
    path = table(tmp_path / "p.csv", *ROWS)
    with pytest.raises(DataError, match=r"a, seed 0, of .*p\.csv is given twice"):
        read_table([path, path])


def test_a_sheet_of_predictions_that_were_read_already(study: StudyFolder) -> None:
    stored = {seed: study.run("simple_resnet", seed).read_predictions("test") for seed in (0, 10)}
    sheet = table_of([("s", "S", None, 0.5, stored)])
    assert named(sheet) == [("s", "S", (0, 10))]
    assert sheet.contenders[0].valid_merit == 0.5
    assert np.array_equal(sheet.contenders[0].predicted[1], stored[10].predicted)
    labels = (stored[0].labels + 1) % 3
    with pytest.raises(DataError, match=r"in s, seed 0 and .* in t, seed 0\. The labels must"):
        table_of([("s", "S", None, None, stored),
                  ("t", "T", None, None, {0: replace(stored[0], labels=labels)})])  # fmt: skip


def test_classes_in_another_order_are_matched_by_name() -> None:
    labels = np.array([0, 1, 2])
    logits = np.eye(3, dtype=np.float32)[[0, 2, 2]]
    one = Predictions(("a", "b", "c"), ("1", "2", "3"), labels, logits)
    turned = [2, 0, 1]  # the same answers, with classes and images in another order
    other = Predictions(
        ("c", "b", "a"), ("3", "1", "2"), 2 - labels[turned], logits[turned][:, ::-1]
    )
    sheet = table_of([("x", "X", None, None, {0: one}), ("y", "Y", None, None, {0: other})])
    assert said(sheet, 0) == said(sheet, 1) == ["a", "c", "c"]
    assert [sheet.class_names[at] for at in sheet.labels] == ["a", "b", "c"]


def grouped(path: Path, rows: Sequence[str], head: str = "path,label,group,A,B") -> Path:
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


def test_a_column_says_which_images_belong_together(tmp_path: Path) -> None:
    rows = ["1.png,judo,p7,judo,golf", "2.png,golf,p3,golf,golf", "3.png,judo,p7,judo,judo"]
    for head in ("path,label,group,A,B", "path,label, Group ,A,B"):
        sheet = read_table([grouped(tmp_path / "answers.csv", rows, head)])
        assert [one.name for one in sheet.contenders] == ["A", "B"]  # it is no contender
        assert sheet.groups is not None
        assert sheet.groups.tolist() == [1, 0, 1]
    # another table of the same images, in another order, needs no groups of its own
    other = tmp_path / "other.csv"
    other.write_text("path,label,C\n3.png,judo,judo\n1.png,judo,golf\n2.png,golf,golf\n", "utf-8")
    both = read_table([other, tmp_path / "answers.csv"])
    assert both.paths == ("3.png", "1.png", "2.png")
    assert both.groups is not None
    assert both.groups.tolist() == [1, 1, 0]
    # a group for each image says nothing
    alone = [row.replace(",p", f",{at}p") for at, row in enumerate(rows)]
    assert read_table([grouped(tmp_path / "alone.csv", alone)]).groups is None


def test_groups_that_do_not_agree_are_refused(tmp_path: Path) -> None:
    first = grouped(tmp_path / "a.csv", ["1.png,judo,p7,judo", "2.png,golf,p7,golf"],
                    "path,label,group,A")  # fmt: skip
    other = grouped(tmp_path / "b.csv", ["1.png,judo,p7,judo", "2.png,golf,p8,golf"],
                    "path,label,group,B")  # fmt: skip
    with pytest.raises(DataError, match=r"2\.png is in group 'p7' in .*a\.csv and in 'p8' in"):
        read_table([first, other])
    with pytest.raises(DataError, match=r"row 2: expected 4 filled cells"):
        read_table([grouped(tmp_path / "c.csv", ["1.png,judo,,judo"], "path,label,group,A")])

"""Tables of other tools: which cells are classes, which spellings are one class or one image."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from podium.cli.app import main
from podium.errors import DataError
from podium.runs.folder import StudyFolder
from podium.statistics.table import PredictionTable, read_table
from podium.statistics.vocabulary import as_number, class_key, same_classes, same_paths
from tests.fake_study import fake_study

Indices = npt.NDArray[np.int64]

NAMES = ("cat", "dog", "fox")
RANDOM = np.random.default_rng(1)
TRUTH = RANDOM.integers(0, 3, 60)
GOOD = np.where(RANDOM.random(60) < 0.9, TRUTH, RANDOM.integers(0, 3, 60))
POOR = np.where(RANDOM.random(60) < 0.5, TRUTH, RANDOM.integers(0, 3, 60))
PATHS = [f"test/{at}.jpg" for at in range(60)]


def named(numbers: Iterable[int], names: Sequence[str] = NAMES) -> list[str]:
    return [names[at] for at in numbers]


def write(
    to: Path, encoding: str = "utf-8", sign: str = ",", /, **columns: Iterable[object]
) -> Path:
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    text = "\n".join(sign.join(map(str, row)) for row in rows) + "\n"
    to.write_bytes(text.encode(encoding))
    return to


def right(sheet: PredictionTable, name: str) -> float:
    (found,) = [one for one in sheet.contenders if one.name == name]
    return float((found.predicted == sheet.labels).mean())


@pytest.mark.parametrize(
    ("label", "answer"),
    [
        (str, lambda at: f"{at}.0"),
        (lambda at: f"{at}.0", str),
        (lambda at: f"{at:03}", str),
        (NAMES.__getitem__, lambda at: NAMES[at].title()),
        (lambda at: NAMES[at].upper(), NAMES.__getitem__),
        (lambda at: f"water {NAMES[at]}", lambda at: f"Water_{NAMES[at]}"),
        (lambda at: f"big  {NAMES[at]}", lambda at: f"big\u00a0{NAMES[at]}"),
        (lambda at: f"é{at}", lambda at: unicodedata.normalize("NFD", f"é{at}")),
        (lambda at: f"Straße{at}", lambda at: f"STRASSE{at}"),
        (("-1", "+1", "=x").__getitem__, ("'-1", "'+1", "'=x").__getitem__),
        ((0, -1, 1).__getitem__, ("0.0", "-1.0", "1.0").__getitem__),
    ],
    ids=["float", "float-labels", "padded", "case", "upper-labels", "underscore", "spaces", "nfd",
         "casefold", "guarded", "negative"],
)  # fmt: skip
def test_other_spellings_are_understood_and_told(
    tmp_path: Path, label: Callable[[int], str], answer: Callable[[int], str]
) -> None:
    path = write(tmp_path / "t.csv", path=PATHS, label=map(label, TRUTH), good=map(answer, GOOD),
                 same=map(label, GOOD))  # fmt: skip
    sheet = read_table([path])
    assert right(sheet, "good") == right(sheet, "same") == (GOOD == TRUTH).mean()
    assert len(sheet.class_names) == 3
    (notice,) = sheet.notices
    assert "t.csv, good: " in notice
    assert "is read as" in notice


def test_classes_that_differ_in_spelling_alone_stay_two() -> None:
    assert same_classes({"Cat", "cat"}, {"Cat", "CAT"}, set(), "x") == ({}, "")
    assert same_classes({"1", "1.0"}, {"1", "1.0"}, set(), "x") == ({}, "")
    assert same_classes({"cat"}, {"Cat"}, {"Cat", "cat"}, "x") == ({}, "")
    assert class_key("a_b") != class_key("ab")
    assert class_key("'quoted'") != class_key("quoted'")
    assert as_number("1_0") is None
    assert as_number("nan") is None
    assert as_number("0,25") == 0.25


def test_a_class_of_which_no_image_is_stays_one(tmp_path: Path) -> None:
    odd = ["surf", "Surf", *named(GOOD[2:])]
    path = write(tmp_path / "t.csv", path=PATHS, label=named(TRUTH), good=odd)
    sheet = read_table([path])
    assert sheet.class_names == ("Surf", "cat", "dog", "fox", "surf")
    assert right(sheet, "good") == pytest.approx((GOOD[2:] == TRUTH[2:]).sum() / 60)


@pytest.mark.parametrize("spelled", [str.title, lambda name: f"'{name}'"[1:-1].upper()])
def test_labels_of_two_sources_may_be_spelled_otherwise(
    tmp_path: Path, spelled: Callable[[str], str]
) -> None:
    one = write(tmp_path / "one.csv", path=PATHS, label=named(TRUTH), a=named(GOOD))
    two = write(tmp_path / "two.csv", path=PATHS, label=map(spelled, named(TRUTH)),
                b=map(spelled, named(GOOD)))  # fmt: skip
    sheet = read_table([one, two])
    assert sheet.class_names == NAMES
    assert right(sheet, "a") == right(sheet, "b") == (GOOD == TRUTH).mean()
    assert len(sheet.notices) == 1


def test_a_table_beside_runs_takes_their_spelling(tmp_path: Path) -> None:
    study: StudyFolder = fake_study(tmp_path / "s", ("Bird", "Fish"), contenders=1, per_class=6,
                                    epochs=1)  # fmt: skip
    runs = read_table([study.path])
    said = [runs.class_names[at].lower() for at in runs.labels]
    path = write(tmp_path / "t.csv", path=[f"/data/{one}" for one in runs.paths], label=said,
                 perfect=said)  # fmt: skip
    sheet = read_table([study.path, path])
    assert sheet.class_names == ("Bird", "Fish")
    assert right(sheet, "perfect") == 1
    assert sheet.paths == runs.paths
    assert len(sheet.notices) == 2


def scores(answers: Indices, classes: int = 3) -> npt.NDArray[np.float64]:
    """Probabilities, shape (images, classes), whose highest is the answer."""
    raw = np.random.default_rng(2).random((len(answers), classes))
    raw[np.arange(len(answers)), answers] += 1
    return np.asarray(np.round(raw / raw.sum(1, keepdims=True), 4))


@pytest.mark.parametrize(
    "kind", ["probabilities", "logits", "decimal commas", "numbered", "one-hot"]
)
def test_a_column_of_scores_a_class_is_one_model(tmp_path: Path, kind: str) -> None:
    values = scores(GOOD)
    if kind == "logits":
        values = np.log(values)
    if kind == "one-hot":
        values = np.eye(3)[GOOD]
    names = ("0", "1", "2") if kind == "numbered" else NAMES
    cells = {name: [str(one) for one in values[:, at]] for at, name in enumerate(names)}
    sign = ","
    if kind == "decimal commas":
        cells, sign = {n: [c.replace(".", ",") for c in v] for n, v in cells.items()}, ";"
    path = write(
        tmp_path / "net.csv", "utf-8", sign, path=PATHS, label=named(TRUTH, names), **cells
    )
    sheet = read_table([path])
    assert [one.name for one in sheet.contenders] == ["net"]
    assert right(sheet, "net") == (GOOD == TRUTH).mean()
    assert "are scores of the classes: the highest is the prediction of 'net'" in sheet.notices[0]


def test_scores_of_several_models_with_seeds_and_a_class_without_images(tmp_path: Path) -> None:
    first, second = scores(GOOD, 4), scores(POOR, 4)
    second[0] = (0, 0, 0, 1)  # the model answers the class that no image is of
    cells = {f"net@3_{name}": first[:, at] for at, name in enumerate((*NAMES, "eel"))}
    cells |= {f"big net {name}": second[:, at] for at, name in enumerate((*NAMES, "eel"))}
    path = write(tmp_path / "t.csv", path=PATHS, label=named(TRUTH), **cells, plain=named(POOR),
                 confidence=second.max(1))  # fmt: skip
    sheet = read_table([path])
    assert [(one.name, one.seeds) for one in sheet.contenders] == [
        ("plain", (0,)), ("net", (3,)), ("big net", (0,)),
    ]  # fmt: skip
    assert right(sheet, "net") == (GOOD == TRUTH).mean()
    assert right(sheet, "big net") == ((POOR == TRUTH)[1:]).sum() / 60
    assert "eel" in sheet.class_names
    assert any("'confidence' is not used: it holds numbers from" in one for one in sheet.notices)


def test_scores_of_classes_that_differ_in_case_alone(tmp_path: Path) -> None:
    names = ("Cat", "cat", "fox")
    cells = {name: scores(GOOD)[:, at] for at, name in enumerate(names)}
    path = write(tmp_path / "net.csv", path=PATHS, label=named(TRUTH, names), **cells)
    assert right(read_table([path]), "net") == (GOOD == TRUTH).mean()


def test_a_models_own_scores_are_no_second_contender(tmp_path: Path) -> None:
    values = scores(GOOD)
    cells = {f"p_{name}": values[:, at] for at, name in enumerate(NAMES)}
    path = write(tmp_path / "t.csv", path=PATHS, label=named(TRUTH), net=named(GOOD), **cells)
    sheet = read_table([path])
    assert [one.name for one in sheet.contenders] == ["net"]
    assert "their highest equals the prediction of 'net'. Not used." in sheet.notices[0]


def test_numbered_models_of_numbered_classes_are_no_scores(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", path=PATHS, label=TRUTH, net_0=GOOD, net_1=POOR, net_2=GOOD)
    sheet = read_table([path])
    assert [one.name for one in sheet.contenders] == ["net_0", "net_1", "net_2"]
    assert right(sheet, "net_1") == (POOR == TRUTH).mean()


HALF = [0.5, *([0.25] * 59)]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"a": GOOD}, r"t\.csv: Column 'a' holds the numbers 0 to 2, but the labels are 'cat', "),
        ({"a": named(GOOD), "b": [f"{at}.0" for at in GOOD]}, "number is which class is unknown"),
        ({"a": HALF}, "holds? numbers.* Expected the predicted class in every cell, or one"),
        ({"a": ["nan", *named(GOOD[1:])]}, r"Column 'a' holds no class in 1 of 60 rows \('nan'\)"),
        ({"a": ["None", *named(GOOD[1:])]}, r"Column 'a' holds no class in 1 of 60 rows"),
        ({"label": ["NaN", *named(TRUTH[1:])], "a": named(GOOD)}, "Column 'label' holds no class"),
        ({"a": ["Katze"] * 60}, r"t\.csv, a: none of its predictions \('Katze'\)"),
        ({"label": TRUTH, "a": named(GOOD)}, r"none of its predictions \('cat', 'dog', 'fox'\) is"),
        ({"label": TRUTH, "a": HALF}, "Expected the predicted class in every cell"),
        ({"cat": HALF, "dog": HALF, "fox": ["nan", *HALF[1:]]}, "'t' lacks a score in 1 of 60"),
        ({"cat": HALF, "dog": HALF, "fox": HALF, "eel": HALF}, "whether 'eel' are scores of more"),
        ({"t": named(POOR), "cat": HALF, "dog": HALF, "fox": HALF}, "the column 't' has other"),
        ({"label": TRUTH, "0": [0] * 60, "1": [1] * 60, "2": [0] * 60}, "named after the classes"),
        ({"a": named(GOOD), "split": ["test"] * 60}, "remove columns that do not hold"),
    ],
)
def test_what_cannot_be_understood_is_refused(
    tmp_path: Path, columns: dict[str, Sequence[object]], told: str
) -> None:
    path = write(tmp_path / "t.csv", **{"path": PATHS, "label": named(TRUTH), **columns})
    with pytest.raises(DataError, match=told) as caught:
        read_table([path])
    assert caught.value.exit_code == 2


def test_a_class_may_be_called_none_or_na(tmp_path: Path) -> None:
    names = ("none", "NA", "-")
    path = write(tmp_path / "t.csv", path=PATHS, label=named(TRUTH, names), a=named(GOOD, names))
    assert right(read_table([path]), "a") == (GOOD == TRUTH).mean()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_encodings_and_separators_of_spreadsheets(tmp_path: Path, encoding: str, sign: str) -> None:
    names = ("Vögel", "鸟", "fox")
    path = write(tmp_path / "t.csv", encoding, sign, path=PATHS, label=named(TRUTH, names),
                 a=named(GOOD, names))  # fmt: skip
    assert right(read_table([path]), "a") == (GOOD == TRUTH).mean()


def test_another_encoding_is_told_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "cp1252", path=["1", "2"], label=["a", "Vögel"], m=["a", "a"])
    with pytest.raises(DataError, match=r"line 3 is not UTF-8: save it .* 'CSV UTF-8'"):
        read_table([path])


@pytest.mark.parametrize(
    ("first", "other", "same"),
    [
        (["test/cat/1.jpg", "test/dog/1.jpg"], ["test\\cat\\1.jpg", "test\\dog\\1.jpg"], True),
        (["test/cat/1.jpg", "test/dog/1.jpg"], ["/d/test/cat/1.jpg", "/d/test/dog/1.jpg"], True),
        (["C:\\d\\test\\cat\\1.jpg", "C:\\d\\test\\dog\\2.jpg"], ["cat/1.jpg", "dog/2.jpg"], True),
        (["./1.jpg", "./2.jpg"], ["1.jpg", "2.jpg"], True),
        (["fold1/0.png", "fold1/1.png"], ["fold2/0.png", "fold2/1.png"], False),
        (["a/1.jpg", "b/1.jpg"], ["c/1.jpg", "d/1.jpg"], False),
        (["a/1.jpg", "a\\1.jpg"], ["a/1.jpg", "b/1.jpg"], False),
        (["1.jpg", "2.jpg"], ["1.jpg"], False),
    ],
)
def test_paths_are_the_same_where_it_is_certain(
    first: list[str], other: list[str], same: bool
) -> None:
    assert same_paths(first, other) == (dict(zip(other, first, strict=True)) if same else {})


def test_paths_of_two_tables(tmp_path: Path) -> None:
    one = write(tmp_path / "one.csv", path=PATHS, label=named(TRUTH), a=named(GOOD))
    turned = [path.replace("/", "\\") for path in PATHS]
    two = write(tmp_path / "two.csv", path=turned, label=named(TRUTH), b=named(POOR), c=named(GOOD))
    sheet = read_table([one, two])
    assert sheet.paths == tuple(PATHS)
    assert right(sheet, "b") == (POOR == TRUTH).mean()
    (notice,) = sheet.notices
    assert r"'test\\0.jpg' is read as 'test/0.jpg'" in notice
    three = write(tmp_path / "three.csv", path=[f"other/{at}" for at in range(60)],
                  label=named(TRUTH), d=named(POOR))  # fmt: skip
    with pytest.raises(DataError) as caught:
        read_table([one, three])
    told = str(caught.value)
    assert f"Only 'other/0' and 59 more in {three}, and only 'test/0.jpg' and 59 more in" in told
    assert "Use the same paths for the same images" in told


def test_the_command_tells_what_it_understood_and_what_is_never_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = named((TRUTH + 1) % 3)
    path = write(tmp_path / "t.csv", path=PATHS, label=named(TRUTH),
                 good=map(str.title, named(GOOD)), never=wrong, certainty=HALF)  # fmt: skip
    saved = tmp_path / "v.json"
    assert main(["compare", str(path), "--resamples", "0", "--save", str(saved)]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "good: 'Cat' is read as 'cat'" in told
    assert "Column 'certainty' is not used" in told
    assert "never is right on none of the 60 images; in random order, the same predictions" in told
    verdicts = json.loads(saved.read_text(encoding="utf-8"))
    assert len(verdicts["notices"]) == 3
    assert [one["name"] for one in verdicts["standings"]] == ["good", "never"]
    assert main(["power", "--n", "60", "--difference", "9", "--like", str(path)]) == 0
    assert "never is right on none" in " ".join(capsys.readouterr().err.split())
    index = write(tmp_path / "i.csv", path=PATHS, label=named(TRUTH), good=GOOD)
    assert main(["compare", str(index)]) == 2
    assert "Which number is which class" in " ".join(capsys.readouterr().err.split())

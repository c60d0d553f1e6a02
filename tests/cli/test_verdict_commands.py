"""compare, power and audit through the real command."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Collection
from pathlib import Path

import pytest
from PIL import Image
from scipy.stats import binom, binomtest

import podium
from podium.cli.app import main
from tests.conftest import write_pictures
from tests.fake_study import fake_study

CLASSES = tuple(f"sport {number}" for number in range(8))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compared")
    fake_study(root / "one", CLASSES, per_class=20, epochs=2, contenders=3)
    fake_study(root / "many", CLASSES, per_class=20, epochs=2, contenders=2, seeds=(0, 1, 2))
    return root


def test_compare_says_who_is_better(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(runs / "one")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "What augmentation adds to SimpleResNet" in out
    assert "these trained models, not about the recipes" in out
    assert "adjusted for all 3 comparisons" in out


def test_compare_takes_single_runs_and_contenders(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, varied = (runs / "many" / name for name in ("simple_resnet",
                                                       "simple_resnet-autoaugment"))  # fmt: skip
    assert main(["compare", str(plain / "seed-0"), str(varied / "seed-2")]) == 0
    assert "these trained models" in capsys.readouterr().out
    assert main(["compare", str(plain), str(varied), "--lang", "pt"]) == 0
    assert "Com 3 sementes" in capsys.readouterr().out


def test_a_csv_of_another_tool_gives_the_verdict_of_the_runs(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from podium.runs.folder import StudyFolder

    folder = StudyFolder(runs / "many")
    columns: dict[str, list[str]] = {}
    for run in folder.runs(folder.read_spec()):
        test = run.read_predictions("test")
        columns["path"] = list(test.paths)
        columns["label"] = [test.class_names[at] for at in test.labels]
        columns[f"{run.contender}@{run.seed}"] = [test.class_names[at] for at in test.predicted]
    sheet = tmp_path / "predictions.csv"
    with open(sheet, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    saved = [tmp_path / "runs.json", tmp_path / "sheet.json"]
    for source, to in zip((runs / "many", sheet), saved, strict=True):
        assert main(["compare", str(source), "--save", str(to)]) == 0
    ours, theirs = (json.loads(path.read_text(encoding="utf-8"))["pairs"] for path in saved)
    assert ours == theirs
    assert ours[0]["claim"] == "methods"
    assert podium.compare(sheet).pairs[0].p == ours[0]["p"]
    for kind in ("csv", "md"):
        assert main(["compare", str(sheet), "--save", str(tmp_path / f"pairs.{kind}")]) == 0
        text = (tmp_path / f"pairs.{kind}").read_text(encoding="utf-8").replace("\\", "")
        assert "simple_resnet-autoaugment" in text
    capsys.readouterr()


def table(path: Path, columns: dict[str, list[str]]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def answered(n: int, wrong: Collection[int]) -> list[str]:
    return ["dog" if at in wrong else "cat" for at in range(n)]


def test_a_table_with_groups_counts_patients_not_frames(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for frames in (1, 5):
        n = 100 * frames
        columns = {
            "path": [f"{at}.jpg" for at in range(n)],
            "label": ["cat"] * n,
            "group": [f"patient {at % 100}" for at in range(n)],
            "A": answered(n, [at for at in range(n) if 8 <= at % 100 < 11]),
            "B": answered(n, [at for at in range(n) if at % 100 < 8]),
        }
        saved = tmp_path / f"{frames}.json"
        source = table(tmp_path / f"{frames}.csv", columns)
        assert main(["compare", str(source), "--save", str(saved), "--resamples", "50"]) == 0
        found[frames] = json.loads(saved.read_text(encoding="utf-8"))["pairs"][0]["p"]
        said = " ".join(capsys.readouterr().out.split())
        assert ("The 500 test images belong to 100 groups" in said) == (frames == 5)
    assert found[5] == pytest.approx(binomtest(3, 11).pvalue)
    # a group of each image is none: half of the outcomes like the observed one count
    assert found[1] == pytest.approx(found[5] - binom.pmf(3, 11, 0.5))


def test_the_same_difference_with_every_seed_is_no_certainty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = {"path": [f"{at}.jpg" for at in range(500)], "label": ["cat"] * 500}
    for seed in range(3):
        columns[f"A@{seed}"] = answered(500, range(100 + 10 * seed, 105 + 10 * seed))
        columns[f"B@{seed}"] = answered(500, range(10 * seed, 6 + 10 * seed))
    source = table(tmp_path / "answers.csv", columns)
    assert main(["compare", str(source), "--resamples", "50"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Too few images or seeds to decide" in said
    assert "Over 3 seeds: the verdicts are about the recipes" in said
    assert "one training in ten of a single recipe fails" in said


def test_unequal_numbers_of_seeds_do_not_contradict_themselves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    n = 120
    columns = {"path": [f"{at}.jpg" for at in range(n)], "label": ["cat"] * n}
    for seed, right in enumerate((110, 70, 78)):
        columns[f"A@{seed}"] = answered(n, range(right, n))
    columns["B@0"] = answered(n, range(96, n))
    source = table(tmp_path / "answers.csv", columns)
    saved = tmp_path / "verdicts.json"
    assert main(["compare", str(source), "--resamples", "50", "--save", str(saved)]) == 0
    found = json.loads(saved.read_text(encoding="utf-8"))
    first, second = found["standings"]
    assert (first["name"], first["best"]) == ("B", 1)
    assert (second["name"], second["seeds"]) == ("A", 3)
    assert second["best"] >= first["best"]
    gap = second["accuracy"]["value"] - first["accuracy"]["value"]
    assert found["pairs"][0]["accuracy"]["value"] == pytest.approx(gap)
    said = " ".join(capsys.readouterr().out.split())
    assert "a single seed are only about these trained models" in said
    assert "Over" not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "nowhere"], "neither a folder nor a file"),
        (["compare", "{one}", "{other}"], "paired test needs the same images"),
        (["compare", "{one}", "--split", "train"], "expected test or valid"),
        (["compare", "{one}", "--save", "x.txt"], "ends in .csv, .md or .json"),
        (["compare", "{one}", "--lang", "fr"], "expected 'en' or 'pt'"),
        (["power", "--n", "500", "--difference", "0"], "more than 0"),
        (["power", "--n", "500", "--difference", "200"], "at most 100 points"),
        (["power", "--n", "1", "--difference", "2"], "2 test images or more"),
        (["claim", "--n", "500", "87.4"], "2 to 50 models"),
        (["claim", "--n", "500", "87.4", "a=84.6"], "or none of them"),
        (["claim", "--n", "500", "87.4", "84.5"], "no number of 500 images"),
        (["power", "--n", "500", "--difference", "2", "--accuracy", "120"], "less than 100 %"),
        (["power", "--n", "500", "--difference", "2", "--disagreement", "0"], "more than 0"),
        (["power", "--n", "500", "--difference", "2", "--contenders", "1"], "2 or more"),
        (["audit", "nowhere"], "nowhere"),
        (["audit", "{one}", "--to", "{one}"], "holds no earlier audit"),
    ],
)
def test_mistakes_end_with_two_and_a_remedy(
    arguments: list[str],
    said: str,
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    fake_study(tmp_path / "other", CLASSES, per_class=7, epochs=2, contenders=1)
    places = {"one": runs / "one", "other": tmp_path / "other"}
    assert main([word.format(**places) for word in arguments]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert said in message
    assert "Traceback" not in message


def test_power_prints_what_the_function_says(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["power", "--n", "500", "--difference", "2.8"]) == 0
    out = capsys.readouterr().out
    found = podium.power(500, 0.028)
    assert f"power {100 * found.power:.0f} %" in out
    assert f"{found.images:,}" in out
    assert main(["power", "--n", "160", "--difference", "5", "--like", str(runs / "many"),
                 "--seeds", "3"]) == 0  # fmt: skip
    assert "3 seeds each" in capsys.readouterr().out


def grouped_answers(path: Path, groups: int) -> Path:
    """200 images in groups; `good` makes its mistakes in few groups, `poor` in many."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "group", "good", "poor"])
        for at in range(200):
            group = at * groups // 200
            wrong = group in (0, 1), at % 4 == 0
            rows.writerow([f"{at}.jpg", "cat", f"patient {group}",
                           *("dog" if one else "cat" for one in wrong)])  # fmt: skip
    return path


def test_groups_are_told_with_what_they_are_worth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = grouped_answers(tmp_path / "answers.csv", 20)
    saved = tmp_path / "pairs.json"
    assert main(["compare", str(answers), "--save", str(saved)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "200 test images belong to 20 groups" in told
    assert "(design effect)" in told
    stored = json.loads(saved.read_text())["grouping"]
    assert (stored["images"], stored["groups"]) == (200, 20)
    assert 1 < stored["design_effect"] <= 10
    few = grouped_answers(tmp_path / "few.csv", 4)
    assert main(["compare", str(few)]) == 0
    assert "so there can be no winner" in " ".join(capsys.readouterr().out.split())

    plan = ["power", "--n", "500", "--difference", "5"]
    assert main([*plan, "--groups", "50", "--like", str(answers)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "500 test images in 50 groups" in told
    assert "independent images" in told
    assert main([*plan, "--like", str(answers)]) == 0  # groups of ten images, as there
    assert "500 test images in 50 groups" in capsys.readouterr().out
    assert main([*plan, "--groups", "8", "--design-effect", "3"]) == 0
    assert "fewer than 10 groups" in capsys.readouterr().out
    for wrong, said in ((["--groups", "50"], "how alike the images of a group are"),
                        (["--design-effect", "3"], "give --groups as well")):  # fmt: skip
        assert main([*plan, *wrong]) == 2
        assert said in " ".join(capsys.readouterr().err.split())


def leaky(folder: Path) -> tuple[Path, Path]:
    """Pictures, and the one of train that lies in test, too."""
    data = write_pictures(folder / "data", {"train": 8, "valid": 3, "test": 3}, side=64)
    source = next((data / "train" / "noise").glob("*.png"))
    shutil.copy(source, data / "test" / "noise" / "copied.png")
    return data, source


def test_audit_finds_a_leak_and_writes_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, source = leaky(tmp_path)
    Image.open(source).save(data / "valid" / "noise" / "again.bmp")
    (data / "train" / "circle" / "torn.png").write_bytes(source.read_bytes()[:200])
    to = tmp_path / "out"
    assert main(["audit", str(data), "--to", str(to), "--no-labels"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "of 10 test images" in out
    assert "have an identical file or a likely near-duplicate in train or validation" in out
    found = json.loads((to / "audit.json").read_text(encoding="utf-8"))
    across = {
        kind: {frozenset((pair["first"], pair["second"])) for pair in found["pairs"]
               if pair["kind"] == kind}
        for kind in ("same_file", "same_pixels")
    }  # fmt: skip
    name = f"train/noise/{source.name}"
    assert across["same_file"] == {frozenset((name, "test/noise/copied.png"))}
    assert frozenset((name, "valid/noise/again.bmp")) in across["same_pixels"]
    assert [one["kind"] for one in found["oddities"]] == ["unreadable"]
    assert "torn.png" in (to / "index.html").read_text(encoding="utf-8")
    assert (to / "duplicates.csv").is_file()


@pytest.mark.usefixtures("undrawn")
def test_the_study_audits_before_it_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.study.test_study import write_study

    data, _ = leaky(tmp_path)
    study = write_study(tmp_path, data, contenders={"a": {"model": "simple_resnet", "epochs": 1}})
    assert main(["run", str(study), "--runs", str(tmp_path / "runs"), "--workers", "0"]) == 0
    captured = capsys.readouterr()
    said = " ".join(captured.err.split())
    assert "of 10 test images have a duplicate, or a likely one, in another split" in said
    page = (tmp_path / "runs" / "tiny" / "report" / "index.html").read_text(encoding="utf-8")
    assert "of 10 test images have an identical or nearly identical image" in page
    assert "data:image/jpeg;base64," in page


def test_claim_says_for_which_overlap_published_accuracies_differ(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["claim", "--n", "500", "87.4", "84.6"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    (found,) = podium.claim(500, [437, 423])
    assert "A against B: 437 against 423 of 500 test images right" in told
    assert f"most {found.most.discordant} images (28.0 %)" in told
    assert f"p = {found.most.p:.2f}" in told
    assert f"right on {found.holds_up_to} images or fewer" in told

    assert main(["claim", "--n", "500", "plain=80.8", "policy=87.4", "more=87.2"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert '"policy is better than plain" holds at the 5 % level, whatever the overlap.' in told
    assert '"policy is better than more" cannot hold' in told
    assert "adjusted by Holm over the 3 pairs" in told

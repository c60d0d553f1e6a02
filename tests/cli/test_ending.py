"""What `podium report` and `podium run` end with, on a terminal and in a pipe."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from statsmodels.stats.proportion import proportion_confint

from podium.auditing import Audit, DuplicatePair, write_audit
from podium.cli import ending
from podium.cli.app import main
from podium.reporting.words.labels import labels
from podium.reporting.words.podium_words import (
    next_commands,
    outlook_sentence,
    steps,
    verdict_sentence,
)
from podium.results.study import StudyResults, gather
from podium.runs.folder import StudyFolder
from tests.conftest import reports_undrawn
from tests.fake_study import fake_study

CLASSES = ("archery", "boxing", "chess", "diving", "fencing")


def study(root: Path, skill: tuple[float, ...], seeds: tuple[int, ...] = (0,)) -> StudyFolder:
    return fake_study(
        root, CLASSES, contenders=len(skill), per_class=24, epochs=2, seeds=seeds, skill=skill
    )


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """The third of three contenders wins; the others are alike."""
    return study(tmp_path_factory.mktemp("runs") / "apart", (0.6, 0.62, 0.97))


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return study(tmp_path_factory.mktemp("runs") / "tied", (0.7, 0.74), (0, 1))


def told(folder: StudyFolder, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What `podium report` prints, with every line as it is."""
    with reports_undrawn():
        assert main(["report", str(folder.path), *options]) == 0
    return capsys.readouterr().out


def test_places_and_intervals_are_those_of_the_runs(
    apart: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = told(apart, capsys).splitlines()
    rows = [line for line in lines if "█" in line]
    assert [line.split()[:2] for line in rows] == [["█████", "1"], ["███", "2–3"], ["███", "2–3"]]
    test = apart.run("inception_resnet", 0).read_predictions("test")
    right, n = int((test.predicted == test.labels).sum()), len(test)
    low, high = (100 * end for end in proportion_confint(right, n, method="wilson"))
    assert f"{100 * right / n:.2f} %" in rows[0]
    assert f"{low:.1f}–{high:.1f} %" in rows[0]


def test_terminal_and_page_say_the_same_sentence(
    apart: StudyFolder, tied: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (apart, tied):
        for lang in ("en", "pt"):
            said = told(folder, capsys, "--lang", lang)
            sentence = verdict_sentence(gather(folder), labels(lang))
            assert sentence in said
            assert sentence in (folder.report / "index.html").read_text(encoding="utf-8")


def test_too_few_images_are_said_to_be_so_with_the_command_that_plans_enough(
    tied: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    said = told(tied, capsys)
    assert "Too few images or seeds to decide: on these 120 test images" in said
    assert "ied for first" not in said
    found = re.search(r"differences in accuracy of about ([\d.]+) points or more", said)
    command = re.search(r"podium (power .*?)  #", said)
    assert found is not None
    assert command is not None
    assert main(command[1].split()) == 0  # the printed command gives the printed number
    assert f"with 80 % power: {found[1]} points" in capsys.readouterr().out


def test_a_winner_is_exported_next(apart: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    said = told(apart, capsys)
    winner = apart.run("inception_resnet", 0).path
    assert f"podium export {winner}  #" in said
    assert "podium power" not in said
    assert len(next_commands(gather(apart), labels("en"))) == 3


def test_one_contender_is_no_contest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = study(tmp_path / "one", (0.7,))
    said = told(folder, capsys)
    assert "SimpleResNet reached a test accuracy of" in said
    assert "power" not in said


def test_other_test_images_are_not_ranked_by_tests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = study(tmp_path / "other", (0.6, 0.9))
    run = folder.run("simple_resnet", 0)
    run.read_predictions("test").take(slice(60)).write(run.predictions("test"))
    said = told(folder, capsys)
    assert "SimpleResNet + AutoAugment had the highest test accuracy" in said
    assert "power" not in said


def test_contenders_that_are_always_right_have_no_outlook(tmp_path: Path) -> None:
    folder = study(tmp_path / "perfect", (0.9, 0.9))
    for name in ("simple_resnet", "simple_resnet-autoaugment"):
        run = folder.run(name, 0)
        test = run.read_predictions("test")
        test.logits[range(len(test)), test.labels] = 99
        test.write(run.predictions("test"))
    results = gather(folder)
    assert results.outlook is None
    assert outlook_sentence(results, labels("en")) == ""


def test_equivalence_within_a_chosen_margin_is_no_lack_of_images(tmp_path: Path) -> None:
    folder = study(tmp_path / "same", (0.9, 0.9))
    first, second = folder.runs(folder.read_spec())
    first.read_predictions("test").write(second.predictions("test"))
    assert "Too few images to decide" in verdict_sentence(gather(folder), labels("en"))
    spec = folder.read_spec().model_copy(update={"margin": 10.0})
    folder.spec.write_text(spec.to_yaml(), encoding="utf-8")
    said = verdict_sentence(gather(folder), labels("en"))
    assert said.endswith("less than the margin of 10.0 points, judged by these 120 test images.")


def test_steps_hold_all_contenders_and_the_leaders_first(
    apart: StudyFolder, tied: StudyFolder
) -> None:
    def names(results: StudyResults) -> list[list[str]]:
        return [[one.name for one in step] for step in steps(results)]

    assert names(gather(apart))[0] == ["inception_resnet"]
    assert sorted(map(len, names(gather(apart)))) == [1, 2]
    assert list(map(len, names(gather(tied)))) == [2]


def test_many_contenders_are_counted(
    apart: StudyFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "MOST_ROWS", 2)
    said = told(apart, capsys)
    assert said.count("█") == 5 + 3
    assert "and 1 more in the report" in said


def test_the_audit_has_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = study(tmp_path / "audited", (0.7, 0.9))
    assert "Audit:" not in told(folder, capsys)
    leak = DuplicatePair(
        "near", "train/a.jpg", "test/b.jpg", "train", "test", "chess", "chess", 3, 0.98
    )
    audit = Audit(
        fingerprint=str(folder.read_data()["fingerprint"]), root="somewhere",
        class_counts={"train": {}, "valid": {}, "test": {}}, oddities=(),
        totals={"images": 100, "classes": 5, "greyscale": 0, "skipped": 0, "train": 50,
                "valid": 10, "test": 40},
        pairs=(leak,), groups=(), labels=None, seconds={"total": 1.0},
        settings={"max_distance": 14, "min_similarity": 0.9, "tiny": 32, "extreme_shape": 4.0},
    )  # fmt: skip
    write_audit(audit, folder.audit)
    said = told(folder, capsys)
    assert "Audit: 100 images of 5 classes were checked. This needs your attention: " in said
    assert "1 of 40 test images" in said


def test_a_seed_that_one_contender_lacks_does_not_speak_for_the_others(tmp_path: Path) -> None:
    folder = study(tmp_path / "lacks", (0.6, 0.62, 0.9), (0, 1, 2))
    whole = gather(folder).outlook
    shutil.rmtree(folder.run("simple_resnet", 2).path)
    found = gather(folder).outlook
    assert whole is not None
    assert found is not None
    assert (whole.seeds, found.seeds) == (3, 3)

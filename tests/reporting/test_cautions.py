"""What to know before believing a figure: chance, memory, too few images to calibrate."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from timm.data.imagenet_info import ImageNetInfo

from podium.deploy.publish.card_results import calibration
from podium.reporting.build import build_report
from podium.reporting.markdown import escape_markdown
from podium.reporting.page.panel import calibration_caution, groups_caution
from podium.reporting.words.cautions import at_chance, imagenet_classes, majority, may_be_known
from podium.reporting.words.labels import labels
from podium.reporting.words.recipes import run_title
from podium.results.study import StudyResults, gather
from podium.runs.predictions import Predictions
from podium.statistics.calibration import LEAST_TO_PROMISE
from tests.fake_study import fake_study

BREEDS = ("beagle", "Boxer", "german_short-haired_pointer", "Samoyed", "my own dog")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    """Two of the paper's contenders at chance on five breeds, three that learned them."""
    root = tmp_path_factory.mktemp("runs") / "breeds"
    folder = fake_study(root, BREEDS, per_class=12, epochs=2, skill=(0.2, 0.2, 0.9, 0.9, 0.95))
    return gather(folder)


def test_the_majority_is_the_most_frequent_label_not_the_most_frequent_answer() -> None:
    test = Predictions(
        ("a", "b", "c"),
        ("1", "2", "3", "4", "5"),
        np.array([1, 1, 2, 1, 0]),
        np.eye(3, dtype=np.float32)[[0, 0, 0, 0, 0]],
    )
    assert majority(test) == ("b", 0.6)


def test_a_contender_at_chance_is_named_and_one_above_it_is_not(study: StudyResults) -> None:
    told = at_chance(study, labels("en"))
    named = {
        run_title(run, labels("en"))
        for run in study.runs
        if any(run_title(run, labels("en")) in one for one in told)
    }
    low = {run_title(run, labels("en")) for run in study.runs if run.scores.accuracy < 0.5}
    assert named == low
    assert low
    assert all("would reach 20.0 %" in one for one in told)
    assert len(at_chance(study, labels("pt"))) == len(told)


def test_imagenet_classes_are_those_of_timm() -> None:
    info = ImageNetInfo("imagenet-1k")
    numbers = info.label_names()
    assert imagenet_classes(numbers) == numbers
    first = [info.index_to_description(at).split(",")[0] for at in range(1000)]
    assert imagenet_classes(first) == first
    assert imagenet_classes(["Golden_Retriever", "n00000000", "frisbee golf", "", "class-000"]) == [
        "Golden_Retriever"
    ]


def test_the_names_are_read_without_torch() -> None:
    code = (
        "import sys; from podium.reporting.words.cautions import imagenet_classes; "
        "assert imagenet_classes(['beagle']); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_that_imagenet_may_have_held_the_pictures_is_said_of_pretrained_ones_alone(
    study: StudyResults,
) -> None:
    (told,) = may_be_known(study, labels("en"))
    assert told.startswith("4 of 5 class names are ImageNet classes")
    assert "may have been trained on" in told
    scratch = tuple(one for one in study.contenders if not one.runs[0].recipe.pretrained)
    assert 0 < len(scratch) < len(study.contenders)
    assert may_be_known(replace(study, contenders=scratch), labels("en")) == []


@pytest.mark.usefixtures("undrawn")
def test_the_page_says_all_of_it(study: StudyResults, tmp_path: Path) -> None:
    page = build_report(study.folder).index.read_text(encoding="utf-8")
    assert "is no better than always predicting the most frequent class" in page
    assert "by always guessing the most frequent class</dt><dd>20.00 %" in page
    assert "4 of 5 class names are ImageNet classes" in page


def test_few_images_promise_nothing_of_the_probabilities(study: StudyResults) -> None:
    say = labels("en")
    run = replace(study.runs[2], temperature=1.7, valid_n=LEAST_TO_PROMISE, valid_mistakes=9)
    assert calibration_caution(run, say) == ""
    few = calibration_caution(replace(run, valid_n=60), say)
    assert few.startswith("The temperature was fitted on 60 validation images.")
    assert f"fewer than {LEAST_TO_PROMISE}" in few
    none = calibration_caution(replace(run, valid_n=5, valid_mistakes=2, temperature=1.0), say)
    assert "No temperature was fitted (5 validation images, 2 of them misclassified)" in none
    assert run.valid_n == LEAST_TO_PROMISE


@pytest.mark.parametrize("lang", ["en", "pt"])
def test_groups_promise_nothing_of_the_calibration_error(study: StudyResults, lang: str) -> None:
    say, run = labels(lang), study.runs[0]
    assert groups_caution(run, say) == ""
    grouped = replace(run, groups=np.arange(len(run.test)) // 2)
    told = groups_caution(grouped, say)
    assert told == say("cal_groups")
    assert escape_markdown(told) in "\n".join(calibration(grouped, [], say))
    assert escape_markdown(told) not in "\n".join(calibration(run, [], say))

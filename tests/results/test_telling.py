"""The telling images: each follows its rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from podium.results.study import StudyResults, gather
from podium.results.telling import telling_images
from podium.runs.predictions import Predictions
from tests.fake_study import fake_study

CLASSES = ("archery", "boxing", "chess", "diving")


def answered(test: Predictions, said: dict[int, str], sure: float = 5.0) -> Predictions:
    """The same images, answered correctly but for those in `said`."""
    logits = np.zeros_like(test.logits)
    logits[np.arange(len(test)), test.labels] = sure
    for row, name in said.items():
        logits[row] = 0
        logits[row, CLASSES.index(name)] = sure
    return Predictions(test.class_names, test.paths, test.labels, logits)


@pytest.fixture
def results(tmp_path: Path) -> StudyResults:
    """Eight images, two a class. The third contender is the best."""
    folder = fake_study(tmp_path / "told", CLASSES, contenders=3, per_class=2, epochs=1)
    said = (
        {0: "boxing", 1: "boxing", 2: "chess", 3: "archery", 4: "diving"},
        {0: "chess", 1: "boxing", 2: "chess", 3: "chess", 5: "boxing"},
        {0: "diving", 1: "boxing"},
    )
    for run, wrong in zip(folder.runs(folder.read_spec()), said, strict=True):
        for split in ("test", "valid"):
            answered(run.read_predictions(split), wrong).write(run.predictions(split))
    return gather(folder)


def test_each_image_follows_its_rule(results: StudyResults) -> None:
    paths = results.runs[0].test.paths
    found = telling_images(results, paths)
    # 0 and 1 are wrong by all and equally improbable: the first path is taken. 2 and 3 are right
    # by the best alone, 3 with more different answers. No other has as many, so a hard one follows
    assert [(one.kind, paths.index(one.path)) for one in found] == [
        ("all_wrong", 0),
        ("only_best", 3),
        ("hard", 1),
    ]
    assert found[0].true == "archery"
    assert sorted(found[0].said) == ["boxing", "chess", "diving"]
    assert sorted(found[1].said) == ["archery", "chess"]


def test_without_stored_images_nothing_is_shown(results: StudyResults) -> None:
    assert telling_images(results, ()) == []
    (only,) = telling_images(results, results.runs[0].test.paths[2:3])
    assert only.kind == "only_best"


def test_hard_ones_fill_up_and_nothing_that_all_get_right_is_shown(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "one", CLASSES, contenders=1, per_class=2, epochs=1)
    run = folder.run("simple_resnet", 0)
    for split in ("test", "valid"):
        answered(run.read_predictions(split), {5: "boxing", 2: "diving"}).write(
            run.predictions(split)
        )
    results = gather(folder)
    found = telling_images(results, results.runs[0].test.paths)
    paths = results.runs[0].test.paths
    assert [(one.kind, paths.index(one.path), one.said) for one in found] == [
        ("hard", 2, ("diving",)),
        ("hard", 5, ("boxing",)),
    ]
    assert all(one.own < 0.5 for one in found)

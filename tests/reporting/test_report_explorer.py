"""What the report's script is given: answers, pictures within a budget, a list within a bound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from podium.reporting.figures.explanations import explanation_figure, explanations_shown
from podium.reporting.figures.style import figure_style
from podium.reporting.page.explorer import Explorer
from podium.reporting.page.image_store import ImageStore, by_turns, storage_order
from podium.reporting.words.labels import labels
from podium.reporting.words.recipes import run_title
from podium.results.study import StudyResults, gather
from podium.runs.pictures import read_pictures, write_pictures
from podium.runs.predictions import Predictions
from podium.statistics import likeliest as answers_module
from podium.statistics.calibration import calibrated_probabilities
from podium.statistics.likeliest import top_classes
from tests.fake_study import ODD_NAMES, fake_study

EN = labels("en")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    """Two contenders on classes with hostile names."""
    root = tmp_path_factory.mktemp("runs") / "odd"
    folder = fake_study(root, ODD_NAMES, contenders=2, epochs=1, explanations=True,
                        skill=(0.6, 0.7))  # fmt: skip
    return gather(folder)


def block(explorer: Explorer, store: ImageStore) -> dict[str, Any]:
    text = str(explorer.block(store, EN))
    assert not set("<>&") & set(text)
    found: dict[str, Any] = json.loads(text)
    return found


def test_answers_are_the_softmax_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (50, 7)).astype(np.float32)
    logits[3] = 1.0  # all equal
    logits[4] = [0, 500, 0, 0, 0, 0, 0]
    made = Predictions(tuple("abcdefg"), tuple(map(str, range(50))), np.arange(50) % 7, logits)
    monkeypatch.setattr(answers_module, "CHUNK", 28)  # four images at a time
    found = top_classes(made, temperature=1.7)
    shares = calibrated_probabilities(made, 1.7)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :3]
    assert (found.top == order).all()
    assert (found.top[:, 0] == made.predicted).all()
    assert found.share == pytest.approx(np.take_along_axis(shares, order, axis=1))
    assert found.own == pytest.approx(shares[np.arange(50), made.labels])
    assert top_classes(made, 99, temperature=1.0).top.shape == (50, 7)


def test_a_shelf_keeps_each_picture_once_and_within_its_room() -> None:
    store = ImageStore(room=1000)
    assert store.put(b"x" * 300, "a.jpg") == 0
    left = store.room
    assert store.put(b"x" * 300, "a.jpg") == 0
    assert store.put(b"x" * 300, "copy of a.jpg") == 0
    assert store.room == left
    assert store.put(b"y" * 600, "b.jpg") is None
    assert store.put(b"z" * 300, "a.jpg", "a-run") == 1
    assert len(store.style) == 1000 - store.room
    assert (store.number("a.jpg"), store.number("a.jpg", "a-run")) == (0, 1)
    assert store.number("b.jpg") is None


def test_pictures_are_kept_wrong_ones_first_and_class_by_class() -> None:
    given = np.array([0, 0, 0, 1, 1, 2])
    assert list(by_turns(range(6), given)) == [0, 3, 5, 1, 4, 2]
    assert list(by_turns([], given)) == []
    paths = [f"{number}.jpg" for number in range(6)]
    stored = dict.fromkeys(paths[:5], b"")
    order = storage_order(paths, given, np.array([0, 2, 3, 0, 1, 9]), stored)
    assert order == [2, 4, 1, 0, 3]  # the last has no picture


def test_the_block_says_what_the_runs_said(results: StudyResults) -> None:
    explorer, store = Explorer(results), ImageStore()
    explorer.fill(store, results.folder.read_thumbnails())
    data = block(explorer, store)
    assert data["classes"] == list(ODD_NAMES)
    assert sorted(data["pictures"]) == sorted(store.numbers["", path] for path in data["paths"])
    for told, run in zip(data["runs"], results.runs, strict=True):
        test = run.test
        rows = [test.paths.index(path) for path in data["paths"]]
        assert told["top"][0] == test.predicted[rows].tolist()
        wrong = (test.predicted != test.labels)[rows]
        assert run.temperature != 1
        shares = calibrated_probabilities(test, run.temperature)
        own = np.rint(1000 * shares[rows, test.labels[rows]])
        assert told["own"] == own[wrong].tolist()
        assert set(map(int, told["maps"])) == {
            data["paths"].index(path) for path in run.explanations if "#" not in path
        }
        for image, (first, second) in told["maps"].items():
            path = data["paths"][int(image)]
            assert store.numbers[run.slug, path] == first
            assert (second >= 0) == bool(wrong[int(image)])


def test_a_large_study_lists_some_images_but_recalls_of_all(results: StudyResults) -> None:
    most = 40
    explorer = Explorer(results, most)
    data = block(explorer, ImageStore())
    assert len(data["paths"]) == most // 2
    assert data["total"] == 50
    wrong = {path for run in results.runs
             for path, label, said in zip(run.test.paths, run.test.labels, run.test.predicted,
                                          strict=True) if label != said}  # fmt: skip
    listed = set(data["paths"])
    assert listed <= wrong or wrong <= listed
    for told, run in zip(data["runs"], results.runs, strict=True):
        assert sum(told["correct"]) == run.scores.correct
    assert sum(data["support"]) == 50


def test_runs_of_other_images_and_other_class_orders_fit(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "s", ("a", "b", "c"), contenders=2, epochs=1)
    first, second = folder.runs(folder.read_spec())
    test = second.read_predictions("test")
    turned = Predictions(
        ("c", "b", "a"), test.paths[:10], 2 - test.labels[:10], test.logits[:10, ::-1]
    )
    turned.write(second.predictions("test"))
    data = block(Explorer(gather(folder)), ImageStore())
    one, other = data["runs"]
    assert one["top"][0] == first.read_predictions("test").predicted.tolist()
    assert other["top"][0] == [*test.predicted[:10].tolist(), *[-1] * 5]
    assert other["support"] == [5, 5, 0]
    assert data["labels"] == test.labels.tolist()


def test_explanations_are_right_ones_then_the_surest_wrong_ones(results: StudyResults) -> None:
    run = results.runs[0]
    shown = explanations_shown(
        run.test, run.top_classes, run.explanations, results.folder.read_thumbnails()
    )
    kinds = [one.right for one in shown]
    assert kinds == sorted(kinds, reverse=True)
    assert (kinds.count(True), kinds.count(False)) == (6, 6)
    sure = [one.probability for one in shown if not one.right]
    assert sure == sorted(sure, reverse=True)
    for one in shown:
        assert one.of_predicted == run.explanations[one.path]
        assert one.of_true == run.explanations.get(f"{one.path}#label")
        assert (one.of_true is None) == one.right
    with figure_style():
        figure = explanation_figure(shown, run_title(run, EN), EN)
    assert len(figure.axes) == 6 * 2 + 6 * 3
    assert figure.bbox.height > 0
    boxes = [axes.get_position() for axes in figure.axes]
    assert all(box.x0 >= 0 and box.x1 <= 1 and box.y0 >= 0 and box.y1 <= 1 for box in boxes)


def test_a_file_of_other_images_explains_nothing(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "s", ("a", "b"), contenders=1, epochs=1)
    (run,) = folder.runs(folder.read_spec())
    assert read_pictures(run.explanations) == {}
    write_pictures(run.explanations, [("test/elsewhere.jpg", b"jpeg"), ("x#label", b"jpeg")])
    (found,) = gather(folder).runs
    assert explanations_shown(found.test, found.top_classes, found.explanations, {}) == []
    assert block(Explorer(gather(folder)), ImageStore())["runs"][0]["maps"] == {}

"""Pictures through a run's model, against the evaluation of the same pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from podium.data.images import load_rgb
from podium.deploy.predictor import load_predictor
from podium.results.study import gather
from podium.runs.folder import RunFolder, StudyFolder
from tests.conftest import device


def test_predictions_are_those_of_the_evaluation(small_run: RunFolder, pictures: Path) -> None:
    predictor, model = load_predictor(small_run, device=device())
    known = small_run.read_predictions("test")
    shown = [load_rgb(pictures / path) for path in known.paths]
    logits = predictor.compute(np.stack([predictor.pixels(one) for one in shown]))
    np.testing.assert_allclose(logits, known.logits, atol=2e-5)
    assert predictor.class_names == known.class_names
    assert model.flip_test
    probabilities = predictor.probabilities(known.logits)
    softmax = np.exp(known.logits.astype(float) / predictor.temperature)
    np.testing.assert_allclose(probabilities, softmax / softmax.sum(1, keepdims=True), rtol=1e-9)
    guesses = predictor.predict(shown, top=2)
    assert [one[0].name for one in guesses] == [
        known.class_names[number] for number in known.predicted
    ]
    assert all(len(one) == 2 and one[0].probability >= one[1].probability for one in guesses)
    assert predictor.predict([]) == []


def test_the_report_gives_the_probabilities_of_predict(
    small_run: RunFolder, pictures: Path
) -> None:
    predictor, _ = load_predictor(small_run, device=device())
    assert predictor.temperature != 1
    run = gather(StudyFolder(small_run.path.parent.parent)).runs[0]
    guesses = predictor.predict([load_rgb(pictures / path) for path in run.test.paths], top=3)
    found = [[one.probability for one in of_image] for of_image in guesses]
    np.testing.assert_allclose(run.top_classes.share, found, atol=1e-4)

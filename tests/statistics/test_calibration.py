from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit, softmax
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss
from statsmodels.stats.weightstats import DescrStatsW

from podium.errors import ConfigError, DataError
from podium.reporting.figures.reliability import reliability_figure
from podium.reporting.figures.style import figure_style, save_figure
from podium.reporting.words.labels import labels
from podium.runs.predictions import Predictions
from podium.statistics.calibration import (
    TEMPERATURES,
    calibrated_probabilities,
    calibration,
    ece,
    expected_if_perfect,
    fit_temperature,
    reliability_bins,
)
from podium.statistics.calibration_error import error_interval
from podium.statistics.losses import brier, mean_losses, nll
from podium.statistics.metrics import negative_log_likelihood, wilson_interval

Floats = npt.NDArray[np.float64]


def predictions(labels: npt.NDArray[np.int64], logits: Floats) -> Predictions:
    names = tuple(f"class {number}" for number in range(logits.shape[1]))
    paths = tuple(f"test/{number}.jpg" for number in range(len(labels)))
    return Predictions(names, paths, labels, logits.astype(np.float32))


def drawn(
    seed: int, n: int = 500, classes: int = 10, true_temperature: float = 1.0, spread: float = 2.5
) -> Predictions:
    """Labels drawn from softmax(logits / true temperature): that temperature is the right one."""
    random = np.random.default_rng(seed)
    logits = (random.normal(size=(n, classes)) * spread).astype(np.float32).astype(np.float64)
    share = softmax(logits / true_temperature, axis=1).cumsum(axis=1)
    truth = (random.random((n, 1)) > share).sum(axis=1).clip(0, classes - 1)
    return predictions(truth.astype(np.int64), logits)


def two_classes(confidence: Floats, right: npt.NDArray[np.bool_]) -> Predictions:
    """Predictions whose confidences, above 0.5, are as given."""
    logits = np.stack([logit(confidence), np.zeros_like(confidence)], axis=1)
    return predictions(np.where(right, 0, 1).astype(np.int64), logits)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_scores_agree_with_scikit_learn(temperature: float) -> None:
    made = drawn(1)
    shares = softmax(made.logits.astype(np.float64) / temperature, axis=1)
    assert calibrated_probabilities(made, temperature) == pytest.approx(shares)
    assert nll(made, temperature).value == pytest.approx(log_loss(made.labels, shares))
    oracle = brier_score_loss(made.labels, shares, labels=range(10), scale_by_half=False)
    assert brier(made, temperature).value == pytest.approx(oracle)
    if temperature == 1:
        assert nll(made).value == pytest.approx(negative_log_likelihood(made))
        assert calibrated_probabilities(made) == pytest.approx(made.probabilities)


def test_the_brier_score_spans_0_to_2() -> None:
    labels = np.array([0, 1, 2] * 10)
    sure = 200 * np.eye(3)[labels]
    value, low, high = brier(predictions(labels, sure))
    assert (value, low) == pytest.approx((0, 0))
    assert 0.1 < high < 0.3  # 30 of 30 right leave 90 % accuracy possible: a score of 0.2
    value, low, high = brier(predictions((labels + 1) % 3, sure))
    assert (value, high) == pytest.approx((2, 2))
    assert 1.7 < low < 1.9


@pytest.mark.parametrize("seed", range(3))
def test_bins_agree_with_scikit_learns_quantile_bins(seed: int) -> None:
    # 600 = 15 bins of 40
    made = drawn(seed, n=600)
    confidence = made.probabilities.max(axis=1)
    right = made.predicted == made.labels
    share, said = calibration_curve(right, confidence, n_bins=15, strategy="quantile")
    bins = reliability_bins(made)
    assert [part.confidence for part in bins] == pytest.approx(said)
    assert [part.accuracy for part in bins] == pytest.approx(share)
    assert [part.n for part in bins] == [40] * 15
    assert ece(made).value == pytest.approx(np.abs(share - said).mean())
    for part in bins:
        assert (part.low, part.high) == wilson_interval(round(part.accuracy * part.n), part.n)


def test_a_worked_calibration_error() -> None:
    # 40 images at 0.6, 30 of them right, and 60 at 0.9, 48 right: 0.4 x 0.15 + 0.6 x 0.1
    confidence = np.repeat([0.6, 0.9], [40, 60])
    right = np.concatenate([np.arange(40) < 30, np.arange(60) < 48])
    made = two_classes(confidence, right)
    bins = reliability_bins(made)
    assert [part.n for part in bins] == [40, 60]  # equal confidences are not torn apart
    assert ece(made).value == pytest.approx(0.12, abs=1e-6)
    found = calibration(made)
    assert found.overconfidence.value == pytest.approx(0, abs=1e-6)
    assert found.histogram[12] + found.histogram[11] == 40
    assert sum(found.histogram) == found.n == 100


@pytest.mark.parametrize(("n", "count"), [(1, 1), (39, 1), (40, 2), (50, 2), (299, 14), (5000, 15)])
def test_few_images_get_few_bins(n: int, count: int) -> None:
    bins = reliability_bins(drawn(0, n=n))
    assert len(bins) == count
    assert sum(part.n for part in bins) == n
    assert n < 20 or min(part.n for part in bins) >= 20


@given(
    confidence=st.lists(st.sampled_from([0.55, 0.7, 0.8, 0.9, 0.99]), min_size=1, max_size=200),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_the_order_of_images_changes_nothing(confidence: list[float], seed: int) -> None:
    random = np.random.default_rng(seed)
    values = np.array(confidence)
    made = two_classes(values, random.random(len(values)) < values)
    order = random.permutation(len(values))
    shuffled = predictions(made.labels[order], made.logits[order].astype(np.float64))
    for one, other in zip(reliability_bins(made), reliability_bins(shuffled), strict=True):
        assert (one.n, one.accuracy) == (other.n, other.accuracy)
        assert one.confidence == pytest.approx(other.confidence)
        assert one.n >= min(20, len(values))


# --- intervals: simulations -------------------------------------------------------------------


def holds(hits: int, tries: int, share: float) -> bool:
    """Whether `hits` of `tries` is compatible with a coverage of `share` (at 1 in 1,000)."""
    return bool(binomtest(hits, tries, share).pvalue > 0.001)


# the true accuracy at a confidence
MAPS: dict[str, Callable[[Floats], Floats]] = {
    "overconfident": lambda c: expit(logit(c) / 1.6),
    "very overconfident": lambda c: expit(logit(c) / 2.5),
    "shifted": lambda c: expit(logit(c) - 0.8),
}


def covered(truth_of: Callable[[Floats], Floats], n: int, tries: int, seed: int) -> int:
    """How often the interval of the calibration error holds the true one of 15 bins."""
    random = np.random.default_rng(seed)

    def confidences(count: int) -> Floats:
        return np.sort(random.beta(3, 1.2, count).clip(0.02, 1 - 1e-6))

    def means(values: Floats) -> Floats:
        return np.array([part.mean() for part in np.array_split(values, 15)])

    many = confidences(300_000)
    true_error = np.abs(means(truth_of(many)) - means(many)).mean()
    hits = 0
    for _ in range(tries):
        said = confidences(n)
        right = (random.random(n) < truth_of(said)).astype(float)
        size = np.array([len(part) for part in np.array_split(said, 15)])
        _, low, high = error_interval(means(said), means(right), size, replicates=200)
        hits += int(low <= true_error <= high)
    return hits


def test_the_interval_of_the_error_covers_the_true_one() -> None:
    tries = 150
    hits = [covered(truth, n, tries, seed=n) for truth in MAPS.values() for n in (500, 5000)]
    assert all(holds(count, tries, 0.95) for count in hits), hits
    # 900 sets in all: the promise is 94 to 96.5 %, and chance moves the count by 0.7 points
    assert 0.933 <= sum(hits) / (tries * len(hits)) <= 0.972, hits


def test_near_perfection_the_interval_is_wide_rather_than_wrong() -> None:
    hits = covered(lambda c: c, 500, 200, seed=3)
    assert hits >= 187, hits  # 95 % or more, less three standard deviations


def test_luck_is_not_taken_for_proof() -> None:
    # accuracies that are the confidences to the image: no such model is known to be perfect
    size = np.full(10, 40)
    said = np.linspace(0.55, 0.95, 10)
    value, low, high = error_interval(said, np.round(said * 40) / 40, size)
    assert value < 0.01
    assert low == 0
    assert high > 0.02


def test_a_few_images_all_right_do_not_rule_out_overconfidence() -> None:
    value, low, high = error_interval(np.array([0.999]), np.array([1.0]), np.array([30]))
    assert value == pytest.approx(0.001)
    assert low == 0
    # 30 of 30 is compatible with an accuracy of 90 %: 0.9 ^ 30 = 4 %
    assert 0.09 < high < 0.13


def test_the_range_of_a_perfect_model_is_what_perfect_models_show() -> None:
    # an independent simulation of whole predictions, with labels drawn from the probabilities
    random = np.random.default_rng(5)
    made = drawn(2, n=400)
    share = made.probabilities.cumsum(axis=1)
    errors = []
    for _ in range(400):
        truth = (random.random((400, 1)) > share).sum(axis=1).clip(0, 9).astype(np.int64)
        other = Predictions(made.class_names, made.paths, truth, made.logits)
        bins = reliability_bins(other)
        errors.append(sum(abs(b.accuracy - b.confidence) * b.n / 400 for b in bins))
    mean, low, high = expected_if_perfect(made)
    assert mean == pytest.approx(np.mean(errors), abs=4 * float(np.std(errors)) / 20)
    assert holds(int(sum(low <= error <= high for error in errors)), 400, 0.95)


def test_beyond_chance_tells_a_perfect_model_from_an_overconfident_one() -> None:
    false = sum(calibration(drawn(seed, n=300)).beyond_chance for seed in range(30))
    assert false <= 4  # 2.5 % of 30 is 1
    assert all(
        calibration(drawn(seed, n=300, true_temperature=2.5)).beyond_chance for seed in range(5)
    )


def model_and_truth(
    random: np.random.Generator, n: int, margin: float, temperature: float, classes: int = 10
) -> tuple[Floats, Floats]:
    """Logits of a model that has a favourite in each image, and the true chances of the classes."""
    logits = random.normal(size=(n, classes))
    favourite = random.integers(0, classes, n)
    logits[np.arange(n), favourite] += temperature * random.gamma(8.0, margin / 8, n)
    return logits, softmax(logits / temperature, axis=1)


@pytest.mark.parametrize("temperature", [1.0, 2.5])  # honest, and far too sure
@pytest.mark.parametrize(("margin", "accuracy"), [(4.0, 0.75), (8.0, 0.95), (11.0, 0.99)])
@pytest.mark.parametrize("n", [50, 500])
def test_intervals_of_nll_brier_and_overconfidence_cover(
    n: int, margin: float, accuracy: float, temperature: float
) -> None:
    tries, random = 300, np.random.default_rng(11)
    logits, chances = model_and_truth(random, 60_000, margin, temperature)
    logs = np.log(softmax(logits, axis=1))
    said, top = np.exp(logs), logits.argmax(axis=1)
    right = chances[np.arange(len(top)), top]
    assert right.mean() == pytest.approx(accuracy, abs=0.04)
    truth = (
        -(chances * logs).sum(axis=1).mean(),
        (np.square(said).sum(axis=1) - 2 * (chances * said).sum(axis=1) + 1).mean(),
        (said.max(axis=1) - right).mean(),
    )
    held = np.zeros(3, int)
    for _ in range(tries):
        at = random.integers(0, len(logits), n)
        labels = (random.random((n, 1)) > chances[at].cumsum(axis=1)).sum(axis=1).clip(0, 9)
        found = mean_losses(predictions(labels.astype(np.int64), logits[at]), 1.0)
        held += [one.low <= true <= one.high for one, true in zip(found, truth, strict=True)]
    # 95 %, less three standard deviations of the count; before, 50 images at 98 % gave 40 to 80 %
    assert held.min() / tries >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / tries), held


@pytest.mark.parametrize("wrong", [0, 1, 2])
@pytest.mark.parametrize("n", [2, 3, 20, 50, 100])
def test_no_interval_is_an_impossible_one(n: int, wrong: int) -> None:
    right = np.arange(n) >= wrong
    found = calibration(two_classes(np.full(n, 0.9999), right))
    for one, least, most in (
        (found.nll, 0, math.inf),
        (found.brier, 0, 2),
        (found.overconfidence, -1, 1),
    ):
        assert least <= one.low <= one.value <= one.high <= most
        assert one.high - one.low > 0.02  # no number of images is certainty
        assert one.high < math.inf


def test_intervals_count_one_image_more_that_is_right_and_one_that_is_wrong() -> None:
    made = drawn(3, n=40, classes=4)
    said = made.probabilities.astype(np.float64)
    losses, expected = [], np.zeros((40, 2))
    for at, (share, label) in enumerate(zip(said, made.labels, strict=True)):
        truths = np.eye(4)
        score = [float(((share - truth) ** 2).sum()) for truth in truths]
        top = int(share.argmax())
        losses.append(score[label])
        others = [k for k in range(4) if k != top]
        expected[at] = score[top], np.average([score[k] for k in others], weights=share[others])
    values = [*losses, *expected.mean(axis=0)]
    oracle = DescrStatsW(values).tconfint_mean()
    assert brier(made) == pytest.approx((np.mean(losses), *oracle), rel=1e-5)


def test_one_class_cannot_be_mistaken() -> None:
    found = calibration(drawn(0, n=30, classes=1))
    assert found.nll == found.brier == found.overconfidence == (0, 0, 0)


def test_a_chunk_at_a_time_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    made = drawn(5, n=300)
    whole = calibration(made)
    monkeypatch.setattr("podium.statistics.losses._CHUNK", 700)
    assert calibration(made) == whole


# --- temperature ------------------------------------------------------------------------------


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 2.5])
def test_the_right_temperature_is_found(true_temperature: float) -> None:
    made = drawn(4, n=4000, true_temperature=true_temperature)
    found = fit_temperature(made)
    assert found == pytest.approx(true_temperature, rel=0.1)
    oracle = minimize_scalar(
        lambda inverse: log_loss(
            made.labels, softmax(made.logits.astype(np.float64) * inverse, axis=1)
        ),
        bounds=(1 / 20, 20),
        method="bounded",
        options={"xatol": 1e-7},
    )
    assert found == pytest.approx(1 / oracle.x, rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_no_temperature_is_likelier(seed: int) -> None:
    made = drawn(seed, n=60, true_temperature=1.7)
    best = nll(made, fit_temperature(made)).value
    for temperature in np.geomspace(*TEMPERATURES, 60):
        assert best <= nll(made, float(temperature)).value + 1e-9


def test_a_temperature_of_valid_mends_test() -> None:
    valid = drawn(1, n=500, true_temperature=2.5)
    test = drawn(2, n=500, true_temperature=2.5)
    before, after = calibration(test), calibration(test, fit_temperature(valid))
    assert before.accuracy == after.accuracy
    assert after.nll.value < before.nll.value
    assert after.ece.value < before.ece.value / 2
    assert before.overconfidence.low > 0
    assert after.overconfidence.low < 0 < after.overconfidence.high


def test_where_images_cannot_say_the_logits_stay() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(100, 5))
    right = logits.argmax(axis=1).astype(np.int64)
    assert fit_temperature(predictions(right, logits)) == 1  # not one mistake
    assert fit_temperature(drawn(0, n=19, true_temperature=3)) == 1  # too few
    assert fit_temperature(drawn(0, n=50, classes=1)) == 1
    assert fit_temperature(predictions(right, np.zeros((100, 5)))) == 1  # nothing to scale
    wrong = logits.argmin(axis=1).astype(np.int64)
    assert fit_temperature(predictions(wrong, logits)) == pytest.approx(TEMPERATURES[1])


# --- refusals and edges -----------------------------------------------------------------------


def test_what_cannot_be_scored_is_refused() -> None:
    made = drawn(0, n=30)
    made.logits[3, 1] = np.nan
    for refuse in (nll, brier, ece, expected_if_perfect, fit_temperature, calibration):
        with pytest.raises(DataError, match=r"test/3\.jpg"):
            refuse(made)
        with pytest.raises(DataError, match="got none"):
            refuse(predictions(np.zeros(0, np.int64), np.zeros((0, 3))))
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="positive"):
            calibration(drawn(0, n=30), temperature)
    with pytest.raises(ConfigError, match="bins"):
        ece(drawn(0, n=30), bins=0)


@given(
    n=st.integers(1, 60),
    classes=st.integers(1, 4),
    spread=st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1e4]),
    seed=st.integers(0, 100),
)
@settings(max_examples=40, deadline=None)
def test_any_predictions_give_figures_in_range(
    n: int, classes: int, spread: float, seed: int
) -> None:
    made = drawn(seed, n=n, classes=classes, spread=spread)
    temperature = fit_temperature(made)
    assert TEMPERATURES[0] - 1e-9 <= temperature <= TEMPERATURES[1] + 1e-9
    found = calibration(made, temperature)
    assert found.n == sum(part.n for part in found.bins) == n
    assert 0 <= found.ece.low <= found.ece.high <= 1
    assert 0 <= found.ece.value <= 1
    perfect = found.expected_if_perfect
    assert 0 <= perfect.low <= perfect.high <= 1
    for one in (found.nll, found.brier, found.overconfidence):
        assert one.low <= one.value <= one.high
    assert -1e-12 <= found.brier.value <= 2
    assert calibration(made, temperature) == found


@pytest.mark.parametrize("lang", ["en", "pt"])
@pytest.mark.parametrize(("n", "classes"), [(1, 3), (50, 10), (500, 100)])
def test_the_figure_says_what_was_measured(n: int, classes: int, lang: str, tmp_path: Path) -> None:
    made = drawn(3, n=n, classes=classes, true_temperature=2)
    before, after = calibration(made), calibration(made, 1.9)
    say = labels(lang)
    with figure_style():
        figure = reliability_figure(before, after, "SimpleResNet", say)
        (written,) = save_figure(figure, tmp_path / "reliability", dpi=60, formats=["png"])
    assert written.stat().st_size > 5000
    top = figure.axes[:2]
    for axes, found in zip(top, (before, after), strict=True):
        dots = axes.lines[-1]
        assert dots.get_xdata() == pytest.approx([100 * part.confidence for part in found.bins])
        assert dots.get_ydata() == pytest.approx([100 * part.accuracy for part in found.bins])
        assert say.percent(found.ece.value, 1) in axes.get_title(loc="left")
    assert say.number(1.9, 2) in top[1].get_title(loc="left")


# --- shipping ---------------------------------------------------------------------------------


def test_the_temperature_ships_with_the_model(pictures: Path, tmp_path: Path) -> None:
    import torch

    from podium.config.machine import Machine
    from podium.config.settings import RunSpec
    from podium.data.indexing import build_index
    from podium.errors import RunFolderError
    from podium.evaluation.trained import load_run
    from podium.runs.folder import RunFolder
    from podium.runtime.events import silent
    from podium.study.contender import Assignment, train_and_score

    run = RunFolder(tmp_path / "simple_resnet" / "seed-0", "simple_resnet", 0)
    recipe = RunSpec(model="simple_resnet", image_size=32, epochs=1, batch_size=16)
    machine = Machine(device="cpu", workers=0)
    index = build_index(pictures)

    def train() -> None:
        given = Assignment(run, index, recipe, "simple_resnet", machine)
        train_and_score(given, silent, threading.Event())

    train()
    expected = fit_temperature(run.read_predictions("valid"))
    described = json.loads(run.model.read_text())
    assert described["temperature"] == expected == run.read_done()["temperature"]
    assert described["format"] == 1
    model = load_run(run)
    assert model.temperature == expected
    test = run.read_predictions("test")
    found = model.probabilities(torch.from_numpy(test.logits))
    assert found.numpy() == pytest.approx(calibrated_probabilities(test, expected), abs=1e-5)

    # a run of before has none, and stays as it was
    del described["temperature"]
    run.model.write_text(json.dumps(described))
    assert load_run(run).temperature == 1
    for wrong in (0, -2, "warm"):
        run.model.write_text(json.dumps({**described, "temperature": wrong}))
        with pytest.raises(RunFolderError, match=r"model\.json"):
            load_run(run)

    # killed between the predictions and the closing record: the same in the end
    run.model.write_text(json.dumps(described))
    run.done.unlink()
    train()
    assert json.loads(run.model.read_text())["temperature"] == expected

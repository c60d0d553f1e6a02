"""Predictions of many classes: what a file keeps, and that what follows from it is exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.special import log_softmax, logsumexp
from sklearn.metrics import log_loss, top_k_accuracy_score

from podium.errors import DataError, RunFolderError
from podium.runs.predictions import MOST_WHOLE, Predictions, TopPredictions
from podium.runs.top_logits import KEPT
from podium.statistics.calibration import calibration, fit_temperature
from podium.statistics.likeliest import top_classes
from podium.statistics.metrics import negative_log_likelihood, per_class, scores, top_k_accuracy
from podium.statistics.scoring import find_metric
from podium.statistics.table_sources import column_of

CLASSES, IMAGES, T = 400, 300, 1.7


def predictions(classes: int = CLASSES, n: int = IMAGES, seed: int = 0) -> Predictions:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    logits = random.normal(scale=2, size=(n, classes)).astype(np.float32)
    logits[np.arange(n), labels] += random.normal(4, 4, n).astype(np.float32)
    names = tuple(f"class {number}" for number in range(classes))
    return Predictions(names, tuple(f"test/{at}.jpg" for at in range(n)), labels, logits)


@pytest.fixture(scope="module")
def whole() -> Predictions:
    return predictions()


@pytest.fixture(scope="module")
def kept(whole: Predictions, tmp_path_factory: pytest.TempPathFactory) -> TopPredictions:
    path = tmp_path_factory.mktemp("kept") / "predictions-test.parquet"
    whole.for_file(T).write(path)
    found = Predictions.read(path)
    assert isinstance(found, TopPredictions)
    return found


def test_few_classes_keep_every_logit(tmp_path: Path) -> None:
    few = predictions(MOST_WHOLE)
    assert few.for_file(T) is few
    few.write(tmp_path / "a.parquet")
    assert pq.read_schema(tmp_path / "a.parquet").names == ["path", "label", "logits"]
    assert np.array_equal(Predictions.read(tmp_path / "a.parquet").logits, few.logits)
    assert isinstance(predictions(MOST_WHOLE + 1, 3).for_file(T), TopPredictions)


def test_the_file_of_a_thousand_classes_takes_a_quarter_of_a_kilobyte(tmp_path: Path) -> None:
    many = predictions(1000, 2000)
    many.write(tmp_path / "whole.parquet")
    many.for_file(T).write(tmp_path / "kept.parquet")
    whole, kept = ((tmp_path / f"{name}.parquet").stat().st_size for name in ("whole", "kept"))
    assert kept / 2000 < 260
    assert whole / 2000 > 3500


def test_the_largest_logits_are_kept_as_they_are(whole: Predictions, kept: TopPredictions) -> None:
    order = np.argsort(-whole.logits, axis=1, kind="stable")[:, :KEPT]
    assert np.array_equal(kept.top.classes, order)
    assert np.array_equal(kept.top.logits, np.take_along_axis(whole.logits, order, 1))
    assert np.array_equal(kept.predicted, whole.predicted)
    assert (kept.paths, kept.class_names) == (whole.paths, whole.class_names)
    assert np.array_equal(kept.labels, whole.labels)
    spread = kept.logits
    assert spread.shape == whole.logits.shape
    assert np.array_equal(np.take_along_axis(spread, order, 1), kept.top.logits)
    rows = np.arange(IMAGES)
    assert np.array_equal(spread[rows, kept.labels], whole.logits[rows, whole.labels])
    assert np.allclose(logsumexp(spread, axis=1), logsumexp(whole.logits, axis=1), atol=1e-5)
    some = kept.take(np.array([5, 2]))
    assert some.paths == (kept.paths[5], kept.paths[2])
    assert np.array_equal(some.logits, spread[[5, 2]])


def test_equal_logits_go_to_the_first_class() -> None:
    labels = np.array([399, 3])
    flat = Predictions(
        predictions().class_names, ("a", "b"), labels, np.zeros((2, 400), np.float32)
    )
    kept = TopPredictions.of(flat, T)
    assert kept.top.classes.tolist() == [list(range(KEPT))] * 2
    assert top_k_accuracy(kept, 5) == top_k_accuracy(flat, 5) == 0.5
    assert np.allclose(kept.logits, 0, atol=1e-6)


def test_scores_are_those_of_every_logit(whole: Predictions, kept: TopPredictions) -> None:
    exact, found = scores(whole), scores(kept)
    assert found.nll == pytest.approx(exact.nll, rel=1e-6)
    for name in ("n", "correct", "accuracy", "macro_precision", "macro_f1", "top5_accuracy"):
        assert getattr(found, name) == getattr(exact, name)
    assert per_class(kept) == per_class(whole)
    numbers = np.arange(CLASSES)
    for k in (1, 2, 10, KEPT):
        oracle = top_k_accuracy_score(whole.labels, whole.logits, k=k, labels=numbers)
        assert top_k_accuracy(kept, k) == pytest.approx(oracle)
    shares = np.exp(log_softmax(whole.logits.astype(np.float64), axis=1))
    oracle = log_loss(whole.labels, shares, labels=numbers)
    assert negative_log_likelihood(kept) == pytest.approx(oracle, rel=1e-6)
    for temperature in (1.0, T):
        one, two = (top_classes(those, temperature=temperature) for those in (whole, kept))
        assert np.array_equal(one.top, two.top)
        assert np.allclose(one.share, two.share, rtol=1e-6)
        assert np.allclose(one.own, two.own, rtol=1e-6)
    with pytest.raises(DataError, match="needs every logit"):
        top_classes(kept, temperature=T / 2)


@pytest.mark.parametrize("temperature", [1.0, T])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_calibration_is_that_of_every_logit(temperature: float, scale: float) -> None:
    """Also of a model so sure that the other classes have hardly any probability."""
    found = predictions()
    sharp = Predictions(
        found.class_names, found.paths, found.labels, found.logits * np.float32(scale)
    )
    exact = calibration(sharp, temperature)
    kept = calibration(TopPredictions.of(sharp, T), temperature)
    for name in ("overconfidence", "nll", "brier", "ece", "expected_if_perfect"):
        one, two = getattr(exact, name), getattr(kept, name)
        expected = (one.value, one.low, one.high)
        assert (two.value, two.low, two.high) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert kept.histogram == exact.histogram
    assert kept.accuracy == exact.accuracy


def test_what_needs_every_logit_says_so(kept: TopPredictions) -> None:
    with pytest.raises(DataError, match=r"at 1 and 1\.7"):
        calibration(kept, 1.3)
    with pytest.raises(DataError, match="holds the 20 largest of 400 classes"):
        fit_temperature(kept)
    with pytest.raises(DataError, match="holds 20 of 400"):
        top_k_accuracy(kept, 21)
    assert top_k_accuracy(kept, 400) == 1.0 or top_k_accuracy(kept, KEPT) < 1


@pytest.mark.parametrize(
    "name",
    ["balanced_accuracy", "macro_f1", "mcc", "log_loss", "top5_accuracy", "accuracy_at_90"],
)
def test_metrics_of_a_comparison_are_exact(
    name: str, whole: Predictions, kept: TopPredictions
) -> None:
    metric = find_metric(name)
    expected = metric.score(whole.logits, whole.labels)
    column = column_of(Path(), "a", "a", 0, "a", kept, metric=metric)
    assert column.logits is not None
    assert metric.score(column.logits, kept.labels) == pytest.approx(expected, rel=1e-6)
    assert not column.notices
    assert not column_of(Path(), "a", "a", 0, "a", kept).notices  # accuracy


def test_a_metric_that_needs_every_logit_is_told_as_approximate(
    whole: Predictions, kept: TopPredictions
) -> None:
    metric = find_metric("auroc")
    column = column_of(Path(), "a", "a", 0, "a", kept, metric=metric)
    (told,) = column.notices
    assert "AUROC is compared approximately: the files hold the 20 largest logits of 400" in told
    assert not column_of(Path(), "a", "a", 0, "a", whole, metric=metric).notices


def test_other_logits_are_reduced_alike(whole: Predictions, kept: TopPredictions) -> None:
    assert np.allclose(kept.reduced(whole.logits), kept.logits, atol=1e-5)
    moved = whole.logits.copy()
    moved[7, kept.top.classes[7, 3]] += 1
    apart = np.abs(kept.reduced(moved) - kept.logits).max(axis=1)
    assert apart.argmax() == 7
    assert whole.reduced(moved) is moved


def test_broken_logits_are_refused_with_the_image(whole: Predictions) -> None:
    logits = whole.logits.copy()
    logits[4, 9] = np.nan
    broken = Predictions(whole.class_names, whole.paths, whole.labels, logits)
    with pytest.raises(DataError, match=r"1 of\s+300 images, such as test/4.jpg"):
        calibration(TopPredictions.of(broken, T), T)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.drop_columns(["squares"]),
        lambda table: table.drop_columns(["logits"]),
        lambda table: table.replace_schema_metadata({"class_names": '["class 1", "class 2"]'}),
    ],
)
def test_a_damaged_file_is_refused(change: Any, kept: TopPredictions, tmp_path: Path) -> None:
    kept.write(tmp_path / "a.parquet")
    table = change(pq.read_table(tmp_path / "a.parquet"))
    pq.write_table(table, tmp_path / "b.parquet")
    with pytest.raises(RunFolderError, match="not a Podium predictions file"):
        Predictions.read(tmp_path / "b.parquet")

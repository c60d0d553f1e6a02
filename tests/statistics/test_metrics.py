from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.special import logsumexp
from sklearn.metrics import classification_report, confusion_matrix, log_loss, top_k_accuracy_score

from podium.errors import DataError
from podium.runs.predictions import Predictions
from podium.statistics import metrics
from podium.statistics.metrics import (
    confusion,
    most_confused,
    negative_log_likelihood,
    per_class,
    scores,
    top_k_accuracy,
    wilson_interval,
)


def predictions(labels: list[int], logits: np.ndarray) -> Predictions:
    names = tuple(f"class {number}" for number in range(logits.shape[1]))
    paths = tuple(f"test/{number}.jpg" for number in range(len(labels)))
    return Predictions(names, paths, np.asarray(labels, np.int64), logits.astype(np.float32))


def voted(labels: list[int], votes: list[int], classes: int) -> Predictions:
    """Predictions whose largest logit is that of `votes`."""
    return predictions(labels, np.eye(classes)[votes] * 3)


def drawn(seed: int, n: int = 300, classes: int = 12) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels]
    return predictions(labels.tolist(), logits)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scikit_learns_report(seed: int) -> None:
    made = drawn(seed)
    oracle = classification_report(
        made.labels,
        made.predicted,
        target_names=made.class_names,
        output_dict=True,
        zero_division=0,
    )
    total = scores(made)
    assert total.n == 300
    assert total.accuracy == pytest.approx(oracle["accuracy"])
    assert total.correct == round(oracle["accuracy"] * 300)
    macro = oracle["macro avg"]
    assert total.macro_precision == pytest.approx(macro["precision"])
    assert total.macro_recall == pytest.approx(macro["recall"])
    assert total.macro_f1 == pytest.approx(macro["f1-score"])
    for one in per_class(made):
        expected = oracle[one.name]
        assert one.precision == pytest.approx(expected["precision"])
        assert one.recall == pytest.approx(expected["recall"])
        assert one.f1 == pytest.approx(expected["f1-score"])
        assert one.support == expected["support"]
    assert (confusion(made) == confusion_matrix(made.labels, made.predicted)).all()
    few = np.array([4, 0, 3])
    assert (confusion(made, few) == confusion(made)[np.ix_(few, few)]).all()


def test_top_k_and_likelihood_agree_with_scikit_learn() -> None:
    made = drawn(7)
    every = range(12)
    oracle = top_k_accuracy_score(made.labels, made.logits, k=5, labels=every)
    assert scores(made).top5_accuracy == pytest.approx(oracle)
    assert top_k_accuracy(made, 1) == scores(made).accuracy
    expected = log_loss(made.labels, made.probabilities, labels=every)
    assert scores(made).nll == pytest.approx(expected)


def test_a_chunk_at_a_time_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    made = drawn(9)
    made.logits[::3] = made.logits[::3].round()  # ties
    whole = scores(made), top_k_accuracy(made, 3)
    order = np.argsort(-made.logits, axis=1, kind="stable")[:, :3]
    assert whole[1] == (order == made.labels[:, None]).any(axis=1).mean()
    monkeypatch.setattr(metrics, "_CHUNK", 100)
    assert (scores(made), top_k_accuracy(made, 3)) == whole


def test_likelihood_of_logits_whose_softmax_underflows_is_finite() -> None:
    made = predictions([0], np.array([[-2000.0, 0.0]]))
    assert negative_log_likelihood(made) == pytest.approx(2000.0 + logsumexp([-2000.0, 0.0]))


@given(
    classes=st.integers(2, 8), images=st.integers(1, 6), seed=st.integers(0, 2**32 - 1)
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_macro_recall_equals_accuracy_on_a_balanced_test_set(
    classes: int, images: int, seed: int
) -> None:
    labels = np.repeat(np.arange(classes), images).tolist()
    votes = np.random.default_rng(seed).integers(0, classes, len(labels)).tolist()
    total = scores(voted(labels, votes, classes))
    assert total.macro_recall == pytest.approx(total.accuracy)


def test_macro_recall_differs_from_accuracy_on_an_unbalanced_one() -> None:
    total = scores(voted([0, 0, 0, 1], [0, 0, 0, 0], 2))
    assert (total.accuracy, total.macro_recall) == (0.75, 0.5)


def test_papers_table_1_has_recall_and_precision_swapped() -> None:
    # columns as printed: Rec., Prec., F1, Acc.; every class has 5 test images
    printed = [
        (82.57, 80.80, 80.34, 80.80),
        (88.79, 87.40, 87.26, 87.40),
        (77.61, 76.60, 75.56, 76.60),
        (86.24, 84.60, 84.25, 84.60),
        (97.71, 97.20, 97.10, 97.20),
    ]
    for headed_recall, headed_precision, _, accuracy in printed:
        assert headed_precision == accuracy != headed_recall
        # and our macro recall is that column: a balanced set with the paper's accuracy
        labels = np.repeat(np.arange(100), 5).tolist()
        wrong = 500 - round(accuracy * 5)
        votes = [(label + 1) % 100 if i < wrong else label for i, label in enumerate(labels)]
        assert round(100 * scores(voted(labels, votes, 100)).macro_recall, 2) == headed_precision


def test_class_without_test_image_is_reported_but_left_out_of_the_means() -> None:
    made = voted([0, 0, 1, 1], [0, 2, 1, 1], 3)
    total, (first, second, third) = scores(made), per_class(made)
    assert (third.support, third.predicted, third.shown) == (0, 1, (0, None, 0))
    assert (third.precision, third.recall, third.f1) == (0, 0, 0)
    assert first.shown == (first.precision, first.recall, first.f1)
    assert total.macro_recall == pytest.approx((first.recall + second.recall) / 2) == 0.75
    assert total.macro_f1 == pytest.approx((2 / 3 + 1) / 2)


def test_class_that_is_never_predicted_counts_as_precision_zero_and_shows_none() -> None:
    made = voted([0, 1], [0, 0], 2)
    second = per_class(made)[1]
    assert (second.precision, second.recall, second.shown) == (0, 0, (None, 0, 0))
    assert scores(made).macro_precision == 0.25
    absent = per_class(voted([0, 1], [0, 0], 3))[2]
    assert absent.shown == (None, None, None)


def test_most_confused_pairs_in_order() -> None:
    labels = [0] * 4 + [1] * 2 + [2] * 2
    votes = [1, 1, 0, 2, 0, 0, 2, 1]
    pairs = most_confused(voted(labels, votes, 3), 3)
    assert [(p.true, p.predicted, p.images, p.share) for p in pairs] == [
        ("class 1", "class 0", 2, 1.0),  # of equal counts, the larger share first
        ("class 0", "class 1", 2, 0.5),
        ("class 2", "class 1", 1, 0.5),
    ]
    assert most_confused(voted([0, 1], [0, 1], 2), 5) == []


def test_no_top5_for_five_classes_or_fewer() -> None:
    assert scores(voted([0], [0], 5)).top5_accuracy is None
    assert scores(voted([0], [0], 6)).top5_accuracy == 1.0


def test_wilson_interval_of_the_papers_best() -> None:
    # 486 of 500: the formula with z = 1.959964
    z, n, p = 1.959963984540054, 500, 0.972
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert wilson_interval(486, 500) == pytest.approx((middle - half, middle + half))
    assert wilson_interval(5, 5)[1] == pytest.approx(1.0)
    assert wilson_interval(0, 5)[0] == pytest.approx(0.0)


def test_no_image_is_refused() -> None:
    with pytest.raises(DataError, match="got none"):
        scores(predictions([], np.zeros((0, 3))))

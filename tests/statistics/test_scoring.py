"""Metrics against scikit-learn, their limits in words, and verdicts that go by them."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn import metrics as sklearn_metrics

import podium
from podium.config.registry import METRICS
from podium.errors import ConfigError
from podium.statistics.influence import MOST_UNITS, Influence, image_values, influences
from podium.statistics.paired import mcnemar
from podium.statistics.resample import resampled_macro_f1
from podium.statistics.scoring import ACCURACY, Metric, find_metric, noted, refuse_metric
from podium.statistics.table import ContenderPredictions, PredictionTable
from podium.statistics.verdicts import compare_contenders


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS, "_found", dict(METRICS._found))
    monkeypatch.setattr(METRICS, "_origin", dict(METRICS._origin))


def answers(
    seed: int, n: int, classes: int, skill: float = 1.0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Logits with ties, and labels of very unequal classes."""
    random = np.random.default_rng(seed)
    labels = random.choice(classes, n, p=np.arange(1, classes + 1) / sum(range(classes + 1)))
    logits = random.normal(size=(n, classes)).astype(np.float32)
    logits[np.arange(n), labels] += skill
    return logits, labels


def test_the_names_that_settings_know_are_those_that_are_defined() -> None:
    assert {name for name in METRICS._found if name not in METRICS._origin} == set(METRICS.built_in)
    assert all(find_metric(name).name == name for name in METRICS.built_in)


@pytest.mark.parametrize(("n", "classes"), [(60, 2), (200, 5), (400, 12)])
def test_ours_are_those_of_scikit_learn(n: int, classes: int) -> None:
    logits, labels = answers(classes, n, classes)
    exponentials = np.exp(logits.astype(np.float64))
    shares = exponentials / exponentials.sum(axis=1, keepdims=True)
    predicted, every = logits.argmax(axis=1), np.arange(classes)
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, predicted),
        "macro_f1": sklearn_metrics.f1_score(labels, predicted, average="macro"),
        "mcc": sklearn_metrics.matthews_corrcoef(labels, predicted),
        "log_loss": sklearn_metrics.log_loss(labels, shares, labels=every),
    }
    if classes > 2:
        expected["auroc"] = sklearn_metrics.roc_auc_score(
            labels, shares, multi_class="ovr", average="macro", labels=every
        )
        expected["top3_accuracy"] = sklearn_metrics.top_k_accuracy_score(
            labels, logits, k=3, labels=every
        )
    else:
        expected["auroc"] = sklearn_metrics.roc_auc_score(labels, shares[:, 1])
    if classes > 5:
        expected["top5_accuracy"] = sklearn_metrics.top_k_accuracy_score(
            labels, logits, k=5, labels=every
        )
    for name, value in expected.items():
        assert find_metric(name).score(logits, labels) == pytest.approx(value, abs=1e-12), name


def test_a_class_without_images_is_left_out_of_means_over_classes() -> None:
    logits, labels = answers(3, 200, 5)
    kept = labels != 2
    logits, labels = logits[kept], labels[kept]
    predicted, there = logits.argmax(axis=1), np.unique(labels)
    recalls = sklearn_metrics.recall_score(labels, predicted, labels=there, average="macro")
    assert find_metric("balanced_accuracy").score(logits, labels) == pytest.approx(recalls)
    f1 = sklearn_metrics.f1_score(labels, predicted, labels=there, average="macro")
    assert find_metric("macro_f1").score(logits, labels) == pytest.approx(f1)
    exponentials = np.exp(logits.astype(np.float64))
    shares = exponentials / exponentials.sum(axis=1, keepdims=True)
    areas = [sklearn_metrics.roc_auc_score(labels == c, shares[:, c]) for c in there]
    assert find_metric("auroc").score(logits, labels) == pytest.approx(np.mean(areas))


def test_ties_give_what_chance_gives() -> None:
    logits, labels = np.zeros((40, 4), np.float32), np.arange(40) % 4
    found = {name: find_metric(name).score(logits, labels) for name in METRICS.built_in}
    assert found["auroc"] == 0.5
    assert found["mcc"] == 0.0
    assert found["accuracy"] == found["balanced_accuracy"] == 0.25
    assert found["log_loss"] == pytest.approx(math.log(4))
    assert found["accuracy_at_90"] == 0.25
    assert found["top3_accuracy"] == 0.75  # of equals the first classes, as in accuracy


@pytest.mark.parametrize(
    ("name", "classes", "told"),
    [
        ("auroc", 3, "got nan on 9 images of 1 classes"),
        ("mcc", 3, "cannot rank anything"),
        ("top5_accuracy", 4, "perfect predictions and their reverse both give 1"),
    ],
)
def test_what_can_rank_nothing_is_told_before_the_training(
    name: str, classes: int, told: str
) -> None:
    labels = np.zeros(9, np.int64) if classes == 3 else np.arange(9) % 4
    with pytest.raises(ConfigError, match=told):
        refuse_metric(find_metric(name), labels, classes, "valid")
    refuse_metric(ACCURACY, labels, classes, "valid")
    refuse_metric(find_metric("macro_f1"), np.arange(9) % 3, 3, "valid")


def test_a_function_becomes_a_metric_by_one_line() -> None:
    @podium.register_metric
    def kappa(logits: Any, labels: Any) -> float:
        return float(sklearn_metrics.cohen_kappa_score(labels, logits.argmax(axis=1)))

    logits, labels = answers(1, 50, 3)
    assert find_metric("kappa").score(logits, labels) == kappa(logits, labels)
    assert (find_metric("kappa").title, find_metric("kappa").text(0.25)) == ("kappa", "0.25")

    @podium.register_metric(name="cost", title="Cost", greater_is_better=False, bounds=(0, 9))
    def price(logits: Any, labels: Any) -> float:
        return float((logits.argmax(axis=1) != labels).mean() * 9)

    cost = find_metric("cost")
    assert cost.merit(cost.score(logits, labels)) < 0
    refuse_metric(cost, labels, 3, "valid")
    assert METRICS.provenance("cost").startswith("tests.statistics.test_scoring:")  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="one of Podium's"):
        podium.register_metric(name="macro_f1")(price)
    with pytest.raises(ConfigError, match="taken by the validation loss"):
        podium.register_metric(name="loss")(price)


@pytest.mark.parametrize(
    ("function", "settings", "told"),
    [
        (lambda logits, labels: math.nan, {}, "expected a finite number, got nan"),
        (lambda logits, labels: 2.0, {"bounds": (0, 1)}, "expected a number from 0 to 1, got 2"),
        (lambda logits, labels: 1 / 0, {}, "failed on 9 images.*ZeroDivisionError"),
        (lambda logits, labels: "high", {}, "failed on 9 images.*ValueError"),
        (lambda logits, labels: 1.0, {}, "cannot rank anything"),
        (
            lambda logits, labels: float((logits.argmax(1) != labels).mean()),
            {},
            "higher is declared better.*greater_is_better=False",
        ),
    ],
)
def test_a_metric_that_cannot_be_used_is_refused_with_the_reason(
    function: Any, settings: dict[str, Any], told: str
) -> None:
    podium.register_metric(name="odd", **settings)(function)
    with pytest.raises(ConfigError, match=told):
        refuse_metric(find_metric("odd"), np.arange(9) % 3, 3, "valid")


@pytest.mark.parametrize("offered", [3, "text", dict, lambda logits: 1.0])
def test_what_is_no_function_of_logits_and_labels_is_told(offered: Any) -> None:
    with pytest.raises(ConfigError, match="expected a function of logits"):
        podium.register_metric(name="odd")(offered)


def test_a_record_brings_the_metric_back_without_its_function() -> None:
    podium.register_metric(name="odd", title="Odd", greater_is_better=False)(
        lambda logits, labels: 1.0
    )
    done = {"metric": {**find_metric("odd").described(), "valid": 0.5, "test": 0.25}}
    found = noted(json.loads(json.dumps(done)))
    assert (found.metric.title, found.valid, found.test, found.valid_merit) == (
        "Odd", 0.5, 0.25, -0.5,
    )  # fmt: skip
    assert found.metric.score(*answers(1, 9, 3)) == 1.0
    del METRICS._found["odd"]
    with pytest.raises(ConfigError, match="no metric 'odd'"):
        found.metric.score(*answers(1, 9, 3))
    strange = noted({"metric": {"name": "evil:code", "valid": 1}}).metric
    with pytest.raises(ConfigError, match="--import evil"):
        strange.score(*answers(1, 9, 3))
    assert pickle.loads(pickle.dumps(strange)).name == "evil:code"
    assert noted({"valid_accuracy": 0.5}).metric is ACCURACY
    damaged: Any
    for damaged in ({"metric": 3}, {"metric": {}}, {"metric": {"name": "auroc", "valid": "x"}}):
        with pytest.raises((TypeError, ValueError)):
            noted(damaged)


# ---------------------------------------------------------------- verdicts by a metric


def sheet(
    metric: str, skills: tuple[float, ...], *, n: int = 300, seeds: int = 1
) -> PredictionTable:
    classes, (_, labels) = 5, answers(0, n, 5)
    contenders = []
    for number, skill in enumerate(skills):
        random = np.random.default_rng(number)
        logits = []
        for _ in range(seeds):
            one = random.normal(size=(n, classes)).astype(np.float32)
            one[np.arange(n), labels] += skill
            logits.append(one)
        predicted = np.stack([one.argmax(axis=1) for one in logits])
        name = f"c{number}"
        contenders.append(
            ContenderPredictions(name, name, tuple(range(seeds)), predicted, logits=tuple(logits))
        )
    names = tuple(map(str, range(classes)))
    paths = tuple(map(str, range(n)))
    return PredictionTable(names, paths, labels, tuple(contenders), metric=find_metric(metric))


def test_a_mean_over_images_is_judged_exactly_as_accuracy_is() -> None:
    own = replace(ACCURACY, name="my_accuracy")
    made = sheet("accuracy", (1.5, 1.0))
    (plain,) = compare_contenders(made, resamples=0).pairs
    (pair,) = compare_contenders(replace(made, metric=own), resamples=0).pairs
    counts = round(plain.only_first), round(plain.only_second)
    assert pair.p == pytest.approx(mcnemar(*counts), rel=1e-9)
    assert pair.judged.value == pytest.approx(plain.accuracy.value)
    assert pair.judged.low == pytest.approx(plain.accuracy.low, abs=0.005)
    (plain,) = compare_contenders(sheet("accuracy", (1.5, 1.0), seeds=3), resamples=0).pairs
    made = replace(sheet("accuracy", (1.5, 1.0), seeds=3), metric=own)
    (pair,) = compare_contenders(made, resamples=0).pairs
    assert pair.p == pytest.approx(plain.p)


@pytest.mark.parametrize("name", ["macro_f1", "balanced_accuracy", "auroc", "mcc"])
def test_the_jackknife_varies_as_a_bootstrap_of_the_images(name: str) -> None:
    made, metric = sheet(name, (1.5, 1.0)), find_metric(name)
    pair = compare_contenders(made, resamples=0).pair("c0", "c1")
    first, second = (one.logits[0] for one in made.contenders)
    random, drawn = np.random.default_rng(1), []
    for _ in range(400):
        rows = random.integers(0, 300, 300)
        apart = [metric.score(one[rows], made.labels[rows]) for one in (first, second)]
        drawn.append(apart[0] - apart[1])
    assert (pair.judged.high - pair.judged.low) / 3.92 == pytest.approx(np.std(drawn), rel=0.2)
    expected = metric.score(first, made.labels) - metric.score(second, made.labels)
    assert pair.judged.value == pytest.approx(expected)
    if name == "macro_f1":
        predicted = np.concatenate([one.predicted for one in made.contenders])
        spread = np.subtract(*resampled_macro_f1(made.labels, predicted, 5, resamples=400)).std()
        assert (pair.judged.high - pair.judged.low) / 3.92 == pytest.approx(spread, rel=0.2)


def test_of_a_loss_the_smaller_wins_and_places_follow() -> None:
    verdicts = compare_contenders(sheet("log_loss", (0.2, 2.0)), resamples=0)
    (pair,) = verdicts.pairs
    assert pair.judged.value > 0
    assert pair.winner == "c1"
    assert verdicts.pair("c1", "c0").winner == "c1"
    assert verdicts.pair("c1", "c0").judged.value == -pair.judged.value
    assert [one.name for one in verdicts.standings] == ["c1", "c0"]
    assert verdicts.standings[0].judged.value < verdicts.standings[1].judged.value
    assert verdicts.metric.name == "log_loss"


def test_many_images_are_left_out_in_blocks_and_groups_as_a_whole() -> None:
    made = sheet("macro_f1", (1.5,), n=2 * MOST_UNITS)
    found = influences(made)
    assert isinstance(found, Influence)
    assert found.groups is not None
    assert np.bincount(found.groups).tolist() == [2] * MOST_UNITS
    plain = find_metric("macro_f1").score(made.contenders[0].logits[0], made.labels)
    assert found.values[0].mean() == pytest.approx(plain)
    groups = np.arange(300) // 3
    logits, labels = answers(4, 300, 5)
    own = replace(ACCURACY, name="my_accuracy", per_image=None)
    values = image_values(own, logits, labels, groups)
    right = np.asarray(logits.argmax(axis=1) == labels, np.float64)
    of_groups = [np.bincount(groups, one) for one in (values, right)]
    assert of_groups[0] == pytest.approx(of_groups[1])
    assert image_values(own, logits, labels) == pytest.approx(right)


def test_where_a_metric_cannot_be_computed_verdicts_rest_on_accuracy_and_say_so() -> None:
    made = replace(sheet("accuracy", (1.5, 1.0)), metric=noted({"metric": {"name": "a:b"}}).metric)
    verdicts = compare_contenders(made, resamples=0)
    assert verdicts.metric is ACCURACY
    assert "--import a" in verdicts.why_accuracy
    plain = compare_contenders(sheet("accuracy", (1.5, 1.0)), resamples=0)
    assert verdicts.pairs == plain.pairs
    assert plain.why_accuracy == ""


def test_a_metric_says_its_value_in_its_unit() -> None:
    assert find_metric("macro_f1").text(0.5) == "50.0 %"
    assert find_metric("log_loss").text(1.23456) == "1.235"
    assert isinstance(find_metric("mcc"), Metric)

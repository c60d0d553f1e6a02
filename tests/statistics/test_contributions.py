"""Balanced accuracy and AUROC, judged by class: against other implementations, and by counting."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from podium.statistics.contributions import auroc_contributions, class_weights, effective_images
from podium.statistics.influence import Influence, image_values, influences
from podium.statistics.paired import mcnemar, sign_flip
from podium.statistics.scoring import find_metric
from podium.statistics.verdicts import compare_contenders
from tests.statistics.metric_studies import FIVE, MetricSetting, counted_by_metric, tables

Values = npt.NDArray[np.float64]


def delong(scores: list[Values], positive: npt.NDArray[np.bool_]) -> tuple[Values, Values]:
    """Areas and their covariance by structural components, every pair of images compared."""
    above, below = [], []
    for one in scores:
        won = one[positive][:, None] - one[~positive][None]
        kernel = np.where(won > 0, 1.0, np.where(won == 0, 0.5, 0.0))
        above.append(kernel.mean(axis=1))
        below.append(kernel.mean(axis=0))
    covariance = np.cov(above) / positive.sum() + np.cov(below) / (~positive).sum()
    return np.mean(above, axis=1), covariance


def test_of_two_classes_the_variance_is_delongs() -> None:
    random = np.random.default_rng(0)
    labels = (np.arange(900) < 300).astype(np.int64)
    shared = random.normal(size=900) + labels
    scores = [np.round(shared + random.normal(size=900), 1) for _ in range(2)]  # with ties
    areas, covariance = delong(scores, labels == 1)
    values = [auroc_contributions(np.stack([-one, one], axis=1), labels) for one in scores]
    assert [one.mean() for one in values] == pytest.approx(areas)
    assert [roc_auc_score(labels, one) for one in scores] == pytest.approx(areas)
    # but for n / (n - 3) within a class, where DeLong has n / (n - 1)
    assert np.cov(values) / 900 == pytest.approx(covariance, rel=0.01)


def test_of_several_classes_it_is_the_mean_against_the_rest() -> None:
    random = np.random.default_rng(1)
    labels = random.choice(5, 400, p=FIVE)
    shares = random.dirichlet(np.ones(5), 400)
    shares[np.arange(400), labels] += 0.2
    shares /= shares.sum(axis=1, keepdims=True)
    expected = roc_auc_score(labels, shares, multi_class="ovr", average="macro")
    assert auroc_contributions(shares, labels).mean() == pytest.approx(expected)
    alone = auroc_contributions(shares, np.zeros(400, np.int64))
    assert np.isnan(alone).all()  # one class has no curve


def test_balanced_accuracy_is_a_mean_weighted_by_class() -> None:
    (table,) = tables(MetricSetting("balanced_accuracy", 200, FIVE), 1)
    found = influences(table)
    assert isinstance(found, Influence)
    assert found.swapped is not None
    assert found.groups is None
    for one, values, swapped in zip(table.contenders, found.values, found.swapped, strict=True):
        expected = balanced_accuracy_score(table.labels, one.predicted[0])
        assert values.mean() == pytest.approx(expected)
        assert swapped.mean() == pytest.approx(expected)
    support = np.bincount(table.labels)
    assert effective_images(table.labels) == pytest.approx(25 / (1 / support).sum())
    assert class_weights(table.labels).mean() == pytest.approx(1)


def test_its_p_is_that_of_all_flips_of_the_weighted_differences() -> None:
    (table,) = tables(MetricSetting("balanced_accuracy", 60, (0.7, 0.2, 0.1), (2.6, 1.6)), 1)
    first, second = (one.predicted[0] == table.labels for one in table.contenders)
    weighted = (class_weights(table.labels) * (first.astype(float) - second))[first != second]
    signs = np.array(list(itertools.product((-1, 1), repeat=len(weighted))))
    reached = np.abs(signs @ weighted) >= abs(weighted.sum()) - 1e-9
    (pair,) = compare_contenders(table, resamples=0).pairs
    assert pair.p == pytest.approx(reached.mean(), abs=0.01)


def test_with_equal_classes_it_is_mcnemars_test_and_groups_are_flipped_whole() -> None:
    (table,) = tables(MetricSetting("balanced_accuracy", 200, (0.5, 0.5), (2.6, 1.8)), 1)
    table = replace(table, labels=np.arange(200) % 2)
    first, second = (one.predicted[0] == table.labels for one in table.contenders)
    (pair,) = compare_contenders(table, resamples=0).pairs
    counts = int((first & ~second).sum()), int((second & ~first).sum())
    assert pair.p == pytest.approx(mcnemar(*counts))
    groups = np.arange(200) // 10
    (grouped,) = compare_contenders(replace(table, groups=groups), resamples=0).pairs
    apart = first.astype(np.int64) - second
    assert grouped.p == pytest.approx(sign_flip(np.bincount(groups, apart).astype(np.int64)))


def test_an_area_of_one_still_has_an_interval() -> None:
    (table,) = tables(MetricSetting("auroc", 100, (0.5, 0.5)), 1)
    sure = 10 * np.eye(2, dtype=np.float32)[table.labels]
    found = influences(replace(table, contenders=(replace(table.contenders[0], logits=(sure,)),)))
    assert isinstance(found, Influence)
    alone = found.score(0)
    assert alone.value == alone.high == 1
    assert 0.93 < alone.low < 0.98
    # the smaller of two classes decides how sure one can be
    labels = (np.arange(100) < 10).astype(np.int64)
    values = image_values(find_metric("auroc"), 10 * np.eye(2, dtype=np.float32)[labels], labels)
    few = replace(found, values=(values[None],), labels=labels).score(0)
    assert few.low < alone.low


@pytest.mark.parametrize(
    "setting",
    [MetricSetting("balanced_accuracy", 150, FIVE), MetricSetting("auroc", 100, (0.5, 0.5))],
    ids=["balanced accuracy", "AUROC"],
)
def test_two_equal_models_are_rarely_told_apart(setting: MetricSetting) -> None:
    claimed, held, alone = counted_by_metric(setting, 200)  # two standard deviations of 5 and 95 %
    assert claimed <= 8.1
    assert held >= 91.9
    assert alone >= 90.0

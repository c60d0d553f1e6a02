"""Balanced accuracy and AUROC, judged by class: against other implementations, and by counting."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import rankdata, ttest_ind
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from podium.statistics.contributions import (
    area_variance,
    auroc_contributions,
    class_freedom,
    class_weights,
    effective_images,
)
from podium.statistics.influence import Influence, image_values, influences
from podium.statistics.intervals import accuracy_interval, score_interval
from podium.statistics.paired import SeedEffect, mcnemar, seed_effect, sign_flip
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


def test_the_modelled_variance_is_that_of_exponential_ranks() -> None:
    # Hanley & McNeil (1982) with equal classes, and by drawing: their model is exact there
    n, area = 30, 0.9
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    told = area * (1 - area) + (n - 1) * (first - area**2) + (n - 1) * (second - area**2)
    assert area_variance(area, np.array([n, n])) == pytest.approx(told / n**2)
    random = np.random.default_rng(2)
    rank = rankdata(random.exponential(np.repeat([1, 9], n), (4000, 2 * n)), axis=1)
    areas = (rank[:, n:].sum(axis=1) - n * (n + 1) / 2) / n**2
    assert areas.mean() == pytest.approx(area, abs=0.003)
    assert areas.var() == pytest.approx(told / n**2, rel=0.08)
    # of many classes it falls with their number, and it is 0 where nothing is ranked wrongly
    assert area_variance(area, np.full(10, n)) < area_variance(area, np.array([n, n])) / 4
    assert area_variance(1.0, np.array([n, n])) == 0


def test_the_interval_of_an_area_has_the_variance_of_its_bounds() -> None:
    labels = np.arange(60) % 2
    effect = SeedEffect(1.0, 0.0, 0.0, 0.0, seeds=1, count=60, freedom=1)
    found = score_interval(find_metric("auroc"), effect, labels, 1.0)
    grid = np.linspace(0.5, 1, 50_001)[:-1]
    apart = np.array([area_variance(float(one), np.array([30, 30])) for one in grid])
    kept = grid[(1 - grid) ** 2 <= 1.959964**2 * apart]
    assert found.low == pytest.approx(kept.min(), abs=2e-5)
    assert found.high == 1
    worst = score_interval(find_metric("auroc"), replace(effect, mean=0.0), labels, 1.0)
    assert worst.low == 0
    assert worst.high == pytest.approx(1 - kept.min(), abs=2e-5)


@pytest.mark.parametrize("sizes", [(90, 5), (30, 30), (12, 2)])
def test_degrees_of_freedom_are_welchs_where_classes_vary_alike(sizes: tuple[int, int]) -> None:
    samples = []
    for size in sizes:
        values = np.random.default_rng(size).normal(size=size)
        samples.append((values - values.mean()) / values.std(ddof=1))
    expected = ttest_ind(*samples, equal_var=False).df
    assert class_freedom(np.repeat([0, 1], sizes)) == pytest.approx(expected)
    assert class_freedom(np.repeat([0, 1], (1, 1))) == 2  # each is one image away from the mean


def test_a_correlation_of_one_still_has_an_interval() -> None:
    (table,) = tables(MetricSetting("mcc", 100, (0.5, 0.5)), 1)
    sure = 10 * np.eye(2, dtype=np.float32)[table.labels]
    found = influences(replace(table, contenders=(replace(table.contenders[0], logits=(sure,)),)))
    assert isinstance(found, Influence)
    score = found.score(0)
    # in -1..1 it is twice an accuracy: the bounds are those of 100 of 100 correct
    low = accuracy_interval(seed_effect(np.ones((1, 100))), 100).low
    assert score.value == score.high == 1
    assert score.low == pytest.approx(2 * low - 1)


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

"""The paired tests and intervals against other implementations and their definitions."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binom, binomtest, norm, permutation_test, t as student, ttest_ind
from sklearn.metrics import f1_score
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from podium.statistics.families import holm
from podium.statistics.metrics import wilson_interval
from podium.statistics.paired import (
    SeedEffect,
    by_group,
    design_effect,
    mcnemar,
    paired_interval,
    parts,
    quantiles,
    seed_effect,
    sign_flip,
    unpaired_effect,
)
from podium.statistics.resample import macro_f1, resampled_macro_f1

Z = float(norm.ppf(0.975))


@pytest.mark.parametrize("first", [0, 1, 2, 5, 17, 40, 200])
@pytest.mark.parametrize("second", [0, 1, 3, 8, 21, 60])
def test_mcnemar_is_a_two_sided_binomial_test_with_half_of_the_observed_outcome(
    first: int, second: int
) -> None:
    exact = statsmodels_mcnemar([[0, first], [second, 0]], exact=True).pvalue
    if first + second:
        assert binomtest(first, first + second).pvalue == pytest.approx(exact)
    half = 0.0 if first == second else binom.pmf(first, first + second, 0.5)
    assert mcnemar(first, second) == pytest.approx(max(exact - half, 1e-12), rel=1e-9)
    assert mcnemar(second, first) == mcnemar(first, second)


def test_published_example_of_mcnemar_and_of_tango() -> None:
    # Airway hyper-responsiveness of 21 children before and after a transplantation: 1 + 7
    # discordant (Bentur et al., 2009). Mid-p: Fagerland, Lydersen & Laake (2013), 0.039; Tango's
    # interval: the same authors (2014, Statistics in Medicine 33, 2850-2875).
    assert mcnemar(1, 7) == pytest.approx(0.039, abs=5e-4)
    assert paired_interval(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


def likeliest(first: int, second: int, n: int, difference: float) -> float:
    """Tango's statistic of a difference, with the likelihood maximised by search."""

    def loss(share: float) -> float:  # share: only the second is right
        cells = (share + difference, share, 1 - 2 * share - difference)
        counts = (first, second, n - first - second)
        return -sum(c * math.log(p) for c, p in zip(counts, cells, strict=True) if c)

    low, high = max(0.0, -difference), (1 - difference) / 2
    margin = 1e-13
    found = minimize_scalar(
        loss, bounds=(low + margin, high - margin), method="bounded", options={"xatol": 1e-13}
    )
    variance = n * (2 * float(found.x) + difference * (1 - difference))
    return (first - second - n * difference) / math.sqrt(variance)


@pytest.mark.parametrize(
    ("first", "second", "n"),
    [(1, 7, 21), (40, 20, 160), (30, 42, 500), (3, 1, 44), (12, 0, 100), (0, 4, 500), (5, 5, 10)],
)
def test_at_the_bounds_of_tangos_interval_the_score_statistic_is_z(
    first: int, second: int, n: int
) -> None:
    low, high = paired_interval(first, second, n)
    assert likeliest(first, second, n, low) == pytest.approx(Z, abs=2e-3)
    assert likeliest(first, second, n, high) == pytest.approx(-Z, abs=2e-3)


def test_tangos_interval_without_a_disagreement_is_that_of_a_share() -> None:
    # nobody differs: n d^2 = z^2 |d| (1 - |d|), so the bound is z^2 / (n + z^2), as Wilson's of 0
    low, high = paired_interval(0, 0, 44)
    assert high == pytest.approx(Z**2 / (44 + Z**2))
    assert high == pytest.approx(wilson_interval(0, 44)[1])
    assert low == pytest.approx(-high)


counts = st.integers(0, 60)


@settings(deadline=None, max_examples=150)
@given(counts, counts, counts, st.sampled_from([0.8, 0.95, 0.99]))
def test_tangos_interval_holds_the_difference_and_is_mirrored(
    first: int, second: int, alike: int, confidence: float
) -> None:
    n = max(1, first + second + alike)
    low, high = paired_interval(first, second, n, confidence)
    assert -1 <= low <= (first - second) / n <= high <= 1
    mirrored = paired_interval(second, first, n, confidence)
    assert mirrored == pytest.approx((-high, -low), abs=1e-9)
    wide = paired_interval(first, second, n, 0.999)
    assert wide[0] <= low + 1e-9
    assert wide[1] >= high - 1e-9


def test_tangos_interval_narrows_with_the_images() -> None:
    widths = [np.ptp(paired_interval(8 * k, 5 * k, 100 * k)) for k in (1, 4, 16)]
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.1)
    assert widths[1] / widths[2] == pytest.approx(2, rel=0.05)


def test_holm_by_hand() -> None:
    # Holm (1979): the smallest p times 4, the next times 3 ..., never below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_agrees_with_its_definition_and_statsmodels(p: list[float]) -> None:
    order = sorted(range(len(p)), key=p.__getitem__)
    expected, floor = [0.0] * len(p), 0.0
    for rank, at in enumerate(order):
        floor = max(floor, min(1.0, (len(p) - rank) * p[at]))
        expected[at] = floor
    adjusted = holm(p)
    assert adjusted == pytest.approx(expected, abs=1e-12)
    with mock.patch("gc.collect"):  # statsmodels does so at every call, and it takes long
        assert adjusted == list(multipletests(p, method="holm")[1])
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))


totals = st.lists(st.integers(-6, 6), min_size=1, max_size=9)


@settings(deadline=None, max_examples=60)
@given(totals)
def test_the_sign_flip_test_is_the_sum_over_all_signs(found: list[int]) -> None:
    sums = [sum(s * t for s, t in zip(signs, found, strict=True))
            for signs in product((-1, 1), repeat=len(found))]  # fmt: skip
    expected = np.mean([abs(one) >= abs(sum(found)) for one in sums])
    assert sign_flip(np.array(found)) == pytest.approx(expected, abs=1e-12)
    equal = np.mean([abs(one) == abs(sum(found)) for one in sums])
    if sum(found):
        middle = sign_flip(np.array(found), mid=True)
        assert middle == pytest.approx(expected - equal / 2, abs=1e-12)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (5, 0), (7, 1), (30, 12), (5_000, 4_800)])
def test_of_single_differences_the_sign_flip_test_is_mcnemars(first: int, second: int) -> None:
    found = np.array([1] * first + [-1] * second + [0] * 50)
    assert sign_flip(found, mid=True) == pytest.approx(mcnemar(first, second), rel=1e-9)
    assert sign_flip(3 * found) == pytest.approx(sign_flip(found))  # three seeds, all the same


def test_the_sign_flip_test_agrees_with_scipys(monkeypatch: pytest.MonkeyPatch) -> None:
    # sizes for Fourier transforms; and for random flips, as where there is too much to add up
    for count, size in ((12, 40), (4_000, 9)):
        found = np.random.default_rng(count).integers(-size, size + 2, count)
        oracle = permutation_test(
            (found,), np.sum, permutation_type="samples", n_resamples=20_000, batch=1_000, rng=1
        )
        exact = sign_flip(found)
        tolerance = 1e-12 if count == 12 else 0.015  # scipy takes all 4,096 flips, or 20,000
        assert exact == pytest.approx(oracle.pvalue, abs=tolerance)
        with monkeypatch.context() as patch:
            patch.setattr("podium.statistics.paired.MOST_WORK", 1)
            assert sign_flip(found) == pytest.approx(exact, abs=0.015)
            assert sign_flip(found) == sign_flip(-found[::-1])  # a fixed seed, whatever the order


def answers(seed: int, n: int = 60, classes: int = 9) -> tuple[npt.NDArray[np.int64], ...]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes - 2, n)  # two classes never occur as labels
    wrong = random.integers(0, classes, (3, n))
    return labels, np.where(random.random((3, n)) < 0.6, labels, wrong)


def scikit_f1(labels: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64]) -> float:
    present = np.unique(labels)
    return float(f1_score(labels, predicted, labels=present, average="macro", zero_division=0))


@pytest.mark.parametrize("seed", range(4))
def test_macro_f1_is_that_of_scikit_learn(seed: int) -> None:
    labels, predicted = answers(seed)
    for one in predicted:
        assert macro_f1(labels, one, 9) == pytest.approx(scikit_f1(labels, one))


def test_resamples_are_those_of_the_images_and_common_to_all_models() -> None:
    labels, predicted = answers(5)
    found = resampled_macro_f1(labels, predicted, 9, resamples=40, seed=3)
    random = np.random.default_rng(3)
    for column in range(40):
        drawn = random.integers(0, 60, 60)
        expected = [scikit_f1(labels[drawn], one[drawn]) for one in predicted]
        assert found[:, column] == pytest.approx(expected)
    assert np.array_equal(found, resampled_macro_f1(labels, predicted, 9, resamples=40, seed=3))
    assert not np.array_equal(found, resampled_macro_f1(labels, predicted, 9, resamples=40, seed=4))


def test_many_resamples_in_parts_are_the_same_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, predicted = answers(6)
    at_once = resampled_macro_f1(labels, predicted, 9, resamples=50)
    monkeypatch.setattr("podium.statistics.resample.MOST_WEIGHTS", 60 * 7)
    in_parts = resampled_macro_f1(labels, predicted, 9, resamples=50)
    assert in_parts == pytest.approx(at_once, abs=1e-12)  # but for the order of the sums


@pytest.mark.parametrize(("seeds", "n"), [(2, 12), (3, 40), (5, 25)])
def test_mean_squares_are_those_of_a_two_way_analysis_of_variance(seeds: int, n: int) -> None:
    random = np.random.default_rng(seeds)
    values = random.choice([-1.0, 0.0, 1.0], (seeds, n), p=[0.1, 0.7, 0.2])
    effect = seed_effect(values)
    by_seed = np.repeat(np.eye(seeds), n, axis=0)
    by_image = np.tile(np.eye(n), (seeds, 1))
    # nested least squares: what the seeds, then the images explain (the layout is balanced)
    fits = [
        OLS(values.ravel(), np.column_stack(columns)).fit()
        for columns in ([np.ones(seeds * n)], [by_seed], [by_seed, by_image[:, 1:]])
    ]
    squares = {
        "seed": (fits[0].ssr - fits[1].ssr) / (fits[0].df_resid - fits[1].df_resid),
        "image": (fits[1].ssr - fits[2].ssr) / (fits[1].df_resid - fits[2].df_resid),
        "rest": fits[2].mse_resid,
    }
    assert effect.mean == pytest.approx(values.mean())
    assert effect.seed_square == pytest.approx(squares["seed"])
    assert effect.image_square == pytest.approx(squares["image"])
    assert effect.rest_square == pytest.approx(squares["rest"])
    # without images or without seeds to speak of it is the variance of a plain mean
    assert effect.seed_square / effect.count == pytest.approx(
        values.mean(axis=1).var(ddof=1) / seeds
    )
    assert effect.image_square / effect.count == pytest.approx(values.mean(axis=0).var(ddof=1) / n)


def test_seeds_that_all_say_the_same_leave_the_interval_of_the_images() -> None:
    random = np.random.default_rng(0)
    one = random.choice([-1.0, 0.0, 1.0], 400, p=[0.05, 0.85, 0.1])
    effect = seed_effect(np.tile(one, (4, 1)))
    half = Z * one.std(ddof=1) / 20
    assert effect.interval() == pytest.approx((one.mean() - half, one.mean() + half))
    # so does p, which is that of the normal test of a mean
    assert effect.p_value() == pytest.approx(2 * norm.sf(abs(one.mean()) / (half / Z)), rel=1e-6)


def test_images_that_all_say_the_same_leave_students_interval_of_the_seeds() -> None:
    by_seed = np.array([0.01, 0.03, 0.02, 0.05])
    effect = seed_effect(np.tile(by_seed[:, None], (1, 50)))
    margin = student.ppf(0.975, 3) * by_seed.std(ddof=1) / 2
    assert effect.interval() == pytest.approx((0.0275 - margin, 0.0275 + margin))
    p = 2 * student.sf(0.0275 / (by_seed.std(ddof=1) / 2), 3)
    assert effect.p_value() == pytest.approx(p, rel=1e-6)


@settings(deadline=None, max_examples=100)
@given(st.integers(2, 4), st.integers(2, 30), st.floats(0.02, 0.6), st.integers(0, 10_000))
def test_no_claim_over_seeds_is_surer_than_with_the_seeds_taken_as_fixed(
    seeds: int, n: int, often: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    values = random.choice([-1.0, 0.0, 1.0], (seeds, n), p=[often / 3, 1 - often, often * 2 / 3])
    effect = seed_effect(values)
    fixed = seed_effect(values.mean(axis=0, keepdims=True))
    assert fixed.mean == pytest.approx(effect.mean)
    # the normal test of a mean over images, here from scratch
    error = values.mean(axis=0).std(ddof=1) / math.sqrt(n)
    p = 2 * norm.sf(abs(effect.mean) / error) if error else float(effect.mean == 0)
    assert fixed.p_value() == pytest.approx(max(p, 1e-12), rel=1e-5)
    assert effect.p_value() >= p * (1 - 1e-6)
    assert effect.p_value(0.0, 10 * effect.freedom) >= p * (1 - 1e-6)
    wide, narrow = effect.interval(), fixed.interval()
    assert wide[0] <= narrow[0] + 1e-12
    assert wide[1] >= narrow[1] - 1e-12


@pytest.mark.parametrize("counts", [(3, 3), (5, 2), (2, 7)])
def test_seeds_of_their_own_are_compared_as_welch_does(counts: tuple[int, int]) -> None:
    random = np.random.default_rng(sum(counts))
    by_seed = [random.normal(0.8, sd, count) for sd, count in zip((0.1, 0.01), counts, strict=True)]
    # images that all say the same, so that the seeds alone vary
    values = [np.tile(one[:, None], (1, 40)) for one in by_seed]
    difference = values[0].mean(axis=0) - values[1].mean(axis=0)
    effect = unpaired_effect(
        seed_effect(values[0]), seed_effect(values[1]), seed_effect(difference[None])
    )
    oracle = ttest_ind(*by_seed, equal_var=False)
    assert effect.freedom == pytest.approx(oracle.df)
    assert effect.p_value() == pytest.approx(oracle.pvalue, rel=1e-6)
    interval = oracle.confidence_interval()
    assert effect.interval() == pytest.approx((interval.low, interval.high))


def test_groups_of_images_give_the_cluster_robust_error_of_a_mean() -> None:
    random = np.random.default_rng(2)
    groups = np.repeat(np.arange(30), random.integers(1, 12, 30))
    values = random.normal(0.1, 1, 30)[groups] + random.normal(0, 1, len(groups))
    fit = OLS(values, np.ones(len(groups))).fit(
        cov_type="cluster", cov_kwds={"groups": groups}, use_t=True
    )
    effect = seed_effect(values[None], groups)
    assert by_group(values[None], groups).shape == (1, 30)
    assert effect.mean == pytest.approx(values.mean())
    assert effect.interval() == pytest.approx(tuple(fit.conf_int()[0]))
    assert effect.p_value() == pytest.approx(float(fit.pvalues[0]), rel=1e-4)


def test_images_that_are_alike_count_as_one() -> None:
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(50), 10)
    alike = random.choice([-1.0, 0.0, 1.0], 50)[groups]
    assert design_effect(alike, groups) == pytest.approx(10)
    assert 1 <= design_effect(random.choice([-1.0, 0.0, 1.0], 500), groups) < 2
    assert design_effect(np.zeros(500), groups) == pytest.approx(10)  # nothing shows otherwise
    assert design_effect(alike, None) == 1


def test_pooling_takes_the_larger_square_and_more_degrees_of_freedom() -> None:
    effect = SeedEffect(0.02, seed_square=0.2, image_square=0.3, rest_square=0.1, seeds=3,
                        count=1500, freedom=2)  # fmt: skip

    def p_of(square: float, freedom: int) -> float:
        def reach(p: float) -> float:
            t, z = student.isf(p / 2, freedom), norm.isf(p / 2)
            return float(t * t * square + z * z * (0.3 - 0.1) - 0.02**2 * 1500)

        return float(brentq(reach, 1e-9, 1 - 1e-9, xtol=1e-14))

    assert effect.p_value() == pytest.approx(p_of(0.2, 2), rel=1e-6)
    assert effect.p_value(0.05, 8) == pytest.approx(p_of(0.2, 8), rel=1e-6)
    assert effect.p_value(0.5, 8) == pytest.approx(p_of(0.5, 8), rel=1e-6)
    assert replace(effect, mean=0.0).p_value() == 1.0
    assert replace(effect, mean=5.0, count=10**9).p_value(0.2, 98) == 1e-12
    assert parts(0.2, 0.3, 0.1, 3) == pytest.approx((0.15, 0.25))  # the rest is in both
    assert parts(0.2, 0.3, 0.1, 2) == pytest.approx((0.2, 0.2))


@pytest.mark.parametrize("p", [0.05, 0.005, 1e-6])
@pytest.mark.parametrize("freedom", [1, 2, 8, 60])
def test_quantiles_are_those_of_scipy(freedom: int, p: float) -> None:
    assert quantiles(freedom, p) == pytest.approx(
        (student.isf(p / 2, freedom), norm.isf(p / 2)), rel=1e-9
    )

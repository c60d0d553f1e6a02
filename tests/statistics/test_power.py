"""Power and plans: against enumeration, against simulated studies, and against themselves."""

from __future__ import annotations

import math
import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import multinomial, norm, t as student

from podium.errors import ConfigError
from podium.statistics.assumptions import (
    TYPICAL_SHARE,
    Assumptions,
    independent_disagreement,
)
from podium.statistics.paired import (
    mcnemar,
    quantiles,
    seed_effect,
    sign_flip,
    unpaired_effect,
)
from podium.statistics.power import plan, power_models, power_recipes
from tests.statistics.studies_simulated import (
    NOISE,
    OWN,
    SHARED,
    accuracy_at,
    right_answers,
    skill_for,
)


@pytest.mark.parametrize(
    ("n", "difference", "disagreement", "level"),
    [(12, 0.3, 0.5, 0.05), (25, 0.2, 0.2, 0.05), (25, -0.2, 0.4, 0.01), (20, 0.0, 0.6, 0.05),
     (18, 0.9, 1.0, 0.005), (5, 0.2, 0.3, 0.05)],
)  # fmt: skip
def test_power_of_two_models_is_the_sum_over_all_outcomes(
    n: int, difference: float, disagreement: float, level: float
) -> None:
    cells = [(disagreement + difference) / 2, (disagreement - difference) / 2, 1 - disagreement]
    expected = sum(
        multinomial.pmf([first, second, n - first - second], n, cells)
        for first in range(n + 1)
        for second in range(n + 1 - first)
        if mcnemar(first, second) < level
    )
    found = power_models(n, difference, disagreement, level)
    assert found == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(("difference", "disagreement"), [(0.028, 0.12), (0.06, 0.15), (0.0, 0.2)])
def test_power_of_two_models_agrees_with_simulated_pairs(
    difference: float, disagreement: float
) -> None:
    random = np.random.default_rng(1)
    cells = [(disagreement + difference) / 2, (disagreement - difference) / 2, 1 - disagreement]
    drawn = random.multinomial(500, cells, 20_000)[:, :2]
    found = np.mean([mcnemar(int(a), int(b)) < 0.05 for a, b in drawn])
    assert power_models(500, difference, disagreement) == pytest.approx(found, abs=0.02)


def test_models_that_never_disagree_are_never_told_apart() -> None:
    assert power_models(1000, 0.0, 0.0) == 0.0
    assert power_models(4, 1.0, 1.0) == 0.0  # 4 to 0 has p = 0.0625
    assert power_models(5, 1.0, 1.0) == pytest.approx(1.0)


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 3000), st.floats(0.001, 0.5), st.floats(0, 1))
def test_power_is_a_chance_and_the_sign_does_not_matter(n: int, d: float, more: float) -> None:
    disagreement = d + more * (1 - d)
    power = power_models(n, d, disagreement)
    assert 0 <= power <= 1 + 1e-9
    assert power == power_models(n, -d, disagreement)
    assert power >= power_models(n, d, disagreement, 0.005)


def facts(skills: tuple[float, float], seed_sd: float) -> tuple[float, float, float]:
    """Disagreement, sd over seeds of the accuracy difference, and the images' share."""
    random = np.random.default_rng(11)
    n = 1_500_000
    shared = random.normal(0, SHARED, n)
    outcomes = np.zeros((2, n))
    for sign, skill in zip((1, -1), skills, strict=True):
        own = random.normal(0, OWN, n)
        for seed in range(2):  # two trainings for each image: what they share is the image's
            level = skill + random.normal(0, seed_sd, n) + random.normal(0, NOISE, n)
            outcomes[seed] += sign * (level + shared + own > 0)
    levels = np.asarray(skills)[:, None] + random.normal(0, seed_sd, (2, n))
    spread = math.sqrt(SHARED**2 + OWN**2 + NOISE**2)
    accuracies = norm.cdf(levels / spread)
    variance = float(outcomes.var())
    share = float(np.cov(outcomes)[0, 1]) / (variance - np.subtract(*accuracies).var())
    return float((outcomes != 0).mean()), float(np.subtract(*accuracies).std()), share


@pytest.mark.parametrize(
    ("seeds", "n", "seed_sd", "accuracies", "contenders"),
    [
        (3, 300, 0.0, (0.88, 0.82), 2),
        (3, 300, 0.1, (0.90, 0.82), 2),
        (3, 500, 0.3, (0.95, 0.80), 2),
        (5, 300, 0.1, (0.87, 0.82), 2),
        (2, 500, 0.05, (0.92, 0.80), 2),
        (3, 300, 0.1, (0.90, 0.82), 4),
    ],
)
def test_power_of_two_recipes_agrees_with_simulated_studies(
    seeds: int, n: int, seed_sd: float, accuracies: tuple[float, float], contenders: int
) -> None:
    random = np.random.default_rng(2)
    first, second = (skill_for(one, seed_sd) for one in accuracies)
    level = 0.05 / math.comb(contenders, 2)
    skills = [first, second] + [(first + second) / 2] * (contenders - 2)
    studies, found = (4_000 if contenders == 2 else 10_000), 0  # an error below one point
    for _ in range(studies):
        right = right_answers(random, skills, n, seeds=seeds, seed_sd=seed_sd).astype(np.float64)
        effects = [seed_effect(right[i] - right[j]) for i, j in combinations(range(contenders), 2)]
        pooled = sum(effect.seed_square for effect in effects) / len(effects)
        difference = right[0] - right[1]
        p = max(  # as `judge` has it
            effects[0].p_value(pooled, (contenders - 1) * (seeds - 1)),
            sign_flip(difference.sum(axis=0).astype(np.int64), mid=True),
        )
        if contenders > 2:
            alone = [seed_effect(one) for one in right[:2]]
            fixed = seed_effect(difference.mean(axis=0, keepdims=True))
            p = max(p, unpaired_effect(alone[0], alone[1], fixed).p_value())
        found += p < level
    disagreement, sd, share = facts((first, second), seed_sd)
    printed = power_recipes(
        n, seeds, accuracies[0] - accuracies[1], disagreement,
        seed_sd=sd, image_share=share, contenders=contenders, level=level,
    )  # fmt: skip
    assert 0.15 < printed < 0.97  # where a difference of two points would show
    assert printed == pytest.approx(found / studies, abs=0.02)


def test_the_facts_of_the_simulation_are_those_of_its_model() -> None:
    skills = skill_for(0.9, 0.1), skill_for(0.82, 0.1)
    right = right_answers(
        np.random.default_rng(3), list(skills), 400_000, seeds=2, seed_sd=0.0
    ).mean(axis=(1, 2))
    assert right == pytest.approx([accuracy_at(one) for one in skills], abs=0.002)
    disagreement, sd, share = facts(skills, 0.0)
    assert (sd, share) == pytest.approx((0.0, 0.5), abs=0.2)
    assert abs(0.9 - 0.82) < disagreement < independent_disagreement(0.9, 0.82)


def test_more_seeds_and_images_find_more_and_more_contenders_less() -> None:
    def power(n: int = 500, seeds: int = 3, sd: float = 0.01, contenders: int = 2) -> float:
        level = 0.05 / math.comb(contenders, 2)
        return power_recipes(n, seeds, 0.04, 0.14, seed_sd=sd, image_share=0.5,
                             contenders=contenders, level=level)  # fmt: skip

    assert power(n=200) < power() < power(n=2000)
    assert power(seeds=2) < power() < power(seeds=6)
    assert power(sd=0.03) < power() < power(sd=0.0)
    assert power(contenders=5) < power()
    # seeds alone, without an end of images, never see beyond the seeds' own spread
    assert power(n=10_000_000, sd=0.03) < 0.5


@pytest.mark.parametrize(
    ("contenders", "seeds"), [(2, 2), (2, 3), (3, 2), (3, 3), (4, 3), (6, 2), (6, 5)]
)
def test_squares_are_drawn_as_seed_effects_of_all_contenders_give_them(
    contenders: int, seeds: int
) -> None:
    """What contenders and seeds add is drawn at once, in memory that grows with neither."""
    n, difference, apart, sd, share = 400, 0.05, 0.16, 0.015, 0.4
    random = np.random.default_rng(5)
    draws, level = 40_000, 0.05
    total = apart - difference**2
    image, rest = share * total, (1 - share) * total
    effects = random.normal(0, math.sqrt((n * sd**2 + rest) / 2), (draws, contenders, seeds))
    own = (effects[:, 0] - effects[:, 1]).var(axis=1, ddof=1)
    centred = effects - effects.mean(1, keepdims=True)
    centred -= centred.mean(2, keepdims=True)
    freedom = (contenders - 1) * (seeds - 1)
    pooled = 2 * (centred**2).sum((1, 2)) / freedom
    square = (seeds * image + rest) * random.chisquare(n - 1, draws) / (n - 1)
    more = (seeds - 1) * (n - 1)
    noise = rest * random.chisquare(more, draws) / more
    means = random.normal(
        difference, math.sqrt(sd**2 / seeds + image / n + rest / (seeds * n)), draws
    )
    t, z = quantiles(freedom, level)
    images = z * z * np.maximum(square - noise, 0)
    reach = np.maximum(t * t * np.maximum(own, pooled) + images, z * z * square)
    if contenders > 2:
        each = effects[:, :2].var(axis=2, ddof=1)
        welch = each.sum(axis=1)
        freedom_of_two = (seeds - 1) * welch**2 / (each**2).sum(axis=1)
        reach = np.maximum(reach, student.ppf(level / 2, freedom_of_two) ** 2 * welch + images)
    found = float((means**2 * seeds * n > reach).mean())
    assert power_recipes(
        n, seeds, difference, apart, seed_sd=sd, image_share=share, contenders=contenders
    ) == pytest.approx(found, abs=0.012)  # four standard errors


def test_memory_does_not_grow_with_contenders_or_seeds() -> None:
    tracemalloc.start()
    made = plan(500, 0.05, seeds=40, given=Assumptions(contenders=50))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0 < made.power < 1
    assert peak < 30e6


@pytest.mark.parametrize(
    ("difference", "given"),
    [(0.028, Assumptions()), (0.05, Assumptions(contenders=5)), (0.1, Assumptions(accuracy=0.6)),
     (0.02, Assumptions(disagreement=0.1, target=0.9))],
)  # fmt: skip
def test_a_plans_images_are_enough_and_one_fewer_is_not(
    difference: float, given: Assumptions
) -> None:
    made = plan(500, difference, given=given)
    disagreement = given.disagreement_at(difference)
    assert (made.disagreement, made.level) == (disagreement, given.level)
    assert made.power == power_models(500, difference, disagreement, given.level)
    for images, target in ((made.images, given.target), (made.images_90, 0.9)):
        assert images is not None

        def power(n: int) -> float:
            return power_models(n, difference, disagreement, given.level)

        assert power(images) >= target > power(images - 1)
        # the power of an exact test is a saw: with more images it falls a little now and then
        assert min(power(images + more) for more in range(0, images // 2, 7)) > target - 0.015
        assert max(power(images - fewer) for fewer in range(images // 10, images // 2, 7)) < target
    assert made.images_90 is not None
    assert made.images is not None
    assert made.images_90 >= made.images


def test_a_plans_smallest_difference_is_found_and_a_smaller_one_is_not() -> None:
    given = Assumptions()
    made = plan(500, 0.028, given=given)
    assert made.smallest is not None

    def power(difference: float) -> float:
        return power_models(500, difference, given.disagreement_at(difference))

    assert power(made.smallest) >= 0.8 > power(made.smallest - 0.0001)
    again = plan(500, made.smallest, given=given)
    assert again.power >= 0.8
    assert again.images is not None
    assert again.images == pytest.approx(500, rel=0.03)


def test_a_plan_of_recipes_names_enough_seeds_and_images() -> None:
    given = Assumptions(seed_sd=0.015)
    made = plan(500, 0.05, seeds=3, given=given)

    def power(n: int, seeds: int) -> float:
        return power_recipes(n, seeds, 0.05, given.disagreement_at(0.05), seed_sd=0.015,
                             image_share=0.5)  # fmt: skip

    assert made.power == power(500, 3)
    assert made.needed_seeds is not None
    assert made.needed_seeds > 2
    assert power(500, made.needed_seeds) >= 0.8 > power(500, made.needed_seeds - 1)
    assert made.images is not None
    assert power(made.images, 3) >= 0.8 > power(made.images - 1, 3)


def test_what_no_number_of_images_or_seeds_finds_is_none() -> None:
    hopeless = plan(200, 0.01, seeds=3, given=Assumptions(seed_sd=0.05))
    assert hopeless.images is None
    assert hopeless.images_90 is None
    assert hopeless.needed_seeds is None
    assert plan(4, 0.1).smallest is None  # p of 4 images is 0.0625 at best


def test_disagreement_follows_from_the_accuracy() -> None:
    given = Assumptions(accuracy=0.85)
    assert given.disagreement_at(0.04) == pytest.approx(TYPICAL_SHARE * (0.87 * 0.17 + 0.83 * 0.13))
    assert given.disagreement_at(0.9) == 0.9
    assert Assumptions(accuracy=0.99).disagreement_at(0.1) >= 0.1
    assert Assumptions(disagreement=0.2).disagreement_at(0.04) == 0.2
    assert Assumptions(disagreement=0.2).disagreement_at(-0.3) == 0.3
    assert independent_disagreement(0.5, 0.9) == pytest.approx(0.5)
    assert [Assumptions(contenders=k).level for k in (2, 3, 5)] == pytest.approx(
        [0.05, *(2 * norm.sf(q / 2**0.5) for q in (3.314, 3.858))], rel=2e-3
    )  # Tukey's range at 5 %, from the usual tables


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"n": 1}, "n: expected 2 test images or more, at most 10,000,000, got 1"),
        ({"n": 10**9}, "n: expected 2 test images or more, at most 10,000,000, got 1000000000"),
        ({"n": 3.5}, r"n: expected a whole number, got 3\.5"),
        ({"n": "500"}, "n: expected a whole number, got '500'"),
        ({"n": math.nan}, "n: expected a whole number, got nan"),
        ({"seeds": 2.5}, r"seeds: expected a whole number, got 2\.5"),
        (
            {"given": Assumptions(contenders=2.5)},  # type: ignore[arg-type]
            "contenders: expected a whole number",
        ),
        ({"difference": math.nan}, "difference: expected more than 0"),
        ({"given": Assumptions(seed_sd=math.nan)}, "seed_sd of 0 or more"),
        ({"given": Assumptions(seed_sd=math.inf)}, "seed_sd of 0 or more"),
        ({"given": Assumptions(image_share=math.nan)}, "image_share of 0 to 1"),
        ({"given": Assumptions(accuracy=math.nan)}, "accuracy: expected more than 0"),
        ({"given": Assumptions(target=math.nan)}, "power: expected more than 0"),
        ({"given": Assumptions(disagreement=math.nan)}, "disagreement: expected more than 0"),
        ({"difference": 0.0}, "difference: expected more than 0 and at most 100 points, got 0"),
        ({"difference": -0.1}, "at most 100 points, got -10"),
        ({"difference": 1.5}, "at most 100 points, got 150"),
        ({"seeds": 0}, "seeds: expected 1 or more, got 0"),
        ({"given": Assumptions(accuracy=1.0)}, "less than 100 %, got 100 %"),
        ({"given": Assumptions(accuracy=0.0)}, "accuracy: expected more than 0"),
        ({"given": Assumptions(contenders=1)}, "contenders: expected 2 or more, got 1"),
        ({"given": Assumptions(target=1.0)}, "power: expected more than 0 and less than 1, got 1"),
        ({"given": Assumptions(disagreement=0.0)}, "disagreement: expected more than 0"),
        ({"given": Assumptions(disagreement=1.2)}, "at most 100 %, got 120 %"),
        ({"given": Assumptions(seed_sd=-0.1)}, "seed_sd of 0 or more"),
        ({"given": Assumptions(image_share=1.1)}, "image_share of 0 to 1"),
    ],
)
def test_impossible_plans_are_refused(values: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        plan(**{"n": 500, "difference": 0.03, **values})  # type: ignore[arg-type]
    assert caught.value.exit_code == 2


def test_impossible_powers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"disagreement: expected 5 to 100 % .* got 4 %"):
        power_models(100, 0.05, 0.04)
    with pytest.raises(ConfigError, match="got 110 %"):
        power_models(100, 0.05, 1.1)
    with pytest.raises(ConfigError, match="seeds: expected 2 or more for a test over seeds, got 1"):
        power_recipes(100, 1, 0.05, 0.1, seed_sd=0.01, image_share=0.5)
    with pytest.raises(ConfigError, match="seed_sd of 0 or more"):
        power_recipes(100, 3, 0.05, 0.1, seed_sd=-1, image_share=0.5)


def test_trainings_that_never_vary_are_no_obstacle() -> None:
    """Seeds of the same accuracy, and a difference as large as the disagreement: nothing varies."""
    found = power_recipes(500, 3, 0.2, 0.2, seed_sd=0.0, image_share=1.0, contenders=4)
    two = power_recipes(500, 3, 0.2, 0.2, seed_sd=0.0, image_share=1.0, contenders=2)
    assert found == pytest.approx(two)
    assert found > 0.99

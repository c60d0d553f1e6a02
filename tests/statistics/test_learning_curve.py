"""Learning curves: laws against a known truth and another fit, and what may not be said."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import least_squares

from podium.statistics.learning_curve import Fit, crossing, fit_curves

SIZES = np.array([500, 1000, 2000, 4000, 7000, 10_000], np.float64)
Numbers = npt.NDArray[np.float64]


def draw(
    random: np.random.Generator,
    law: tuple[float, float, float],
    *,
    seeds: int = 5,
    images: int = 500,
    sizes: Numbers = SIZES,
    hard: Numbers | None = None,
    noise: float = 0.02,
) -> list[Numbers]:
    """Right or wrong by size: an image is learned with more of the training images, the hard ones
    late; each seed's draw makes it easier or harder by chance."""
    floor, factor, exponent = law
    hard = random.random(images) if hard is None else hard
    found = []
    for size in sizes:
        error = floor + factor * size**-exponent
        apart = random.normal(0, noise, (seeds, images)) + random.normal(0, 0.004, (seeds, 1))
        found.append((hard + apart > error).astype(np.float64))
    return found


def fit(random: np.random.Generator, law: tuple[float, float, float], **options: object) -> Fit:
    rows = draw(random, law, **options)  # type: ignore[arg-type]
    sizes = options.get("sizes", SIZES)
    return fit_curves([rows], [np.asarray(sizes)], resamples=400)[0]


def test_the_law_is_that_of_least_squares() -> None:
    """Against scipy's general optimiser on the same weighted squares."""
    random = np.random.default_rng(1)
    rows = draw(random, (0.05, 4.0, 0.5), images=4000)
    found = fit_curves([rows], [SIZES], resamples=400)[0]
    errors = np.array([1 - one.mean() for one in rows])
    again = fit_curves([rows], [SIZES], resamples=400)[0]
    assert np.array_equal(found.laws, again.laws)  # no chance in it
    mine = 1 - found.accuracy(SIZES)[0]

    def apart(law: Numbers) -> Numbers:
        return np.asarray(abs(law[0]) + abs(law[1]) * SIZES ** -abs(law[2]) - errors)

    other = least_squares(apart, [0.05, 4.0, 0.5], x_scale=[0.01, 1, 0.1]).x
    assert mine == pytest.approx(apart(other) + errors, abs=2e-3)
    assert found.laws[0, 0] >= 0


def test_a_gain_costs_what_the_true_law_says() -> None:
    random = np.random.default_rng(11)
    law = (0.04, 3.0, 0.45)
    found = fit(random, law, images=6000)
    assert found.silence is None
    assert found.foretold is not None
    assert found.foretold.holds
    extra = found.extra(0.01)
    assert extra is not None
    truth = (law[1] / (law[1] * 10_000 ** -law[2] - 0.01)) ** (1 / law[2]) - 10_000
    assert extra.low is not None
    assert extra.high is not None
    assert extra.low < truth < extra.high
    assert found.extra(0.005).high < extra.high  # type: ignore[union-attr,operator]


def test_the_interval_holds_the_truth() -> None:
    """Of 100 curves, those about which something is said are rarely wrong: 95 % intended."""
    random, images = np.random.default_rng(500), 500
    law = (0.03, 2.5, 0.4)
    gain = 0.01
    truth = (law[1] / (law[1] * 10_000 ** -law[2] - gain)) ** (1 / law[2]) - 10_000
    held, said = 0, 0
    for _ in range(100):
        extra = fit(random, law, images=images).extra(gain)
        if extra is None:
            continue
        said += 1
        low = 40_000 if extra.low is None else extra.low
        high = np.inf if extra.high is None else extra.high
        held += low <= truth <= high
    assert said >= 80
    assert held / said >= 0.90


def test_what_cannot_be_said() -> None:
    random = np.random.default_rng(4)
    law = (0.05, 4.0, 0.5)
    few = fit(random, law, sizes=np.array([1000.0, 5000.0, 10_000.0]))
    assert (few.silence, few.foretold, few.extra(0.02)) == ("few_sizes", None, None)
    assert fit(random, law, seeds=2).silence == "few_seeds"
    assert fit(random, (0.2, 0.0, 0.5)).silence == "flat"
    # a curve with a step between the half and the whole follows no law
    hard = random.random(3000)
    rows = draw(random, (0.3, 0.0, 0.5), images=3000, hard=hard)
    rows[-1] = draw(random, (0.1, 0.0, 0.5), images=3000, hard=hard)[-1]
    stepped = fit_curves([rows], [SIZES], resamples=400)[0]
    assert stepped.silence == "misfit"
    assert stepped.foretold is not None
    assert stepped.foretold.measured > stepped.foretold.high


def test_a_gain_out_of_reach_has_no_price() -> None:
    random = np.random.default_rng(5)
    found = fit(random, (0.1, 4.0, 0.6), images=6000)
    beyond = found.extra(0.2)  # more than there are errors above the floor
    assert beyond is not None
    assert (beyond.value, beyond.low, beyond.high) == (None, None, None)


def test_where_a_contender_overtakes_another() -> None:
    random = np.random.default_rng(7)
    hard = random.random(6000)
    flat, steep = (0.10, 0.9, 0.4), (0.02, 10.0, 0.5)
    rows = [draw(random, law, images=6000, hard=hard) for law in (flat, steep)]
    first, second = fit_curves(rows, [SIZES, SIZES], resamples=400)
    found = crossing(first, second)
    grid = np.geomspace(500, 50_000, 20_000)
    errors = [floor + factor * grid**-exponent for floor, factor, exponent in (flat, steep)]
    truth = grid[np.argmax(errors[1] < errors[0])]
    assert found is not None
    assert found.first == 0
    assert found.low <= truth <= found.high
    assert crossing(first, first) is None
    turned = crossing(second, first)
    assert turned is not None
    assert (turned.first, turned.size) == (1, found.size)


def test_groups_of_images_widen_the_interval() -> None:
    random = np.random.default_rng(7)
    groups = np.repeat(np.arange(100), 30)
    hard = np.repeat(random.random(100), 30)
    rows = draw(random, (0.04, 3.0, 0.45), images=3000, hard=hard)
    alone, grouped = (fit_curves([rows], [SIZES], of, resamples=400)[0] for of in (None, groups))
    ends = [one.accuracy(SIZES[-1:])[1:, 0] for one in (alone, grouped)]
    assert ends[1].std() > 2 * ends[0].std()

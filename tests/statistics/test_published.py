"""What published accuracies can show, against every possible table of who was right where."""

from __future__ import annotations

from itertools import product

import pytest
from scipy.stats import binom
from statsmodels.stats.multitest import multipletests

from podium.errors import ConfigError
from podium.statistics.published import claim, counts_of


def mid_p(only_first: int, only_second: int) -> float:
    """McNemar's mid-p from the probabilities of a fair coin, one by one."""
    coin = binom(only_first + only_second, 0.5)
    fewer = min(only_first, only_second)
    if only_first == only_second:
        return 1.0
    return float(2 * sum(coin.pmf(k) for k in range(fewer)) + coin.pmf(fewer))


def overlaps(n: int, first: int, second: int) -> list[tuple[int, int]]:
    """(only first, only second) of every table with these margins."""
    return [
        (first - both, second - both)
        for both in range(n + 1)
        if both <= min(first, second) and first + second - both <= n
    ]


@pytest.mark.parametrize("n", [1, 7, 24])
def test_p_is_bounded_by_the_smallest_and_the_largest_of_all_tables(n: int) -> None:
    for first, second in product(range(n + 1), repeat=2):
        (found,) = claim(n, [first, second])
        more, fewer = max(first, second), min(first, second)
        tables = overlaps(n, more, fewer)
        values = [mid_p(*table) for table in tables]
        assert found.least.p == pytest.approx(min(values))
        assert found.most.p == pytest.approx(max(values))
        assert (found.typical.only_first, found.typical.only_second) in tables
        enough = [sum(table) for table, p in zip(tables, values, strict=True) if p <= 0.05]
        assert found.holds_up_to == (max(enough) if enough else None)
        expected = True if len(enough) == len(tables) else None if enough else False
        assert found.holds is expected


def test_several_pairs_are_adjusted_by_holm_from_below_and_from_above() -> None:
    right = [404, 437, 383, 423, 486]
    found = claim(500, right, ["a", "b", "c", "d", "e"])
    assert [one.names for one in found[:2]] == [("b", "a"), ("a", "c")]
    tables = [overlaps(500, one.right[0][0], one.right[1][0]) for one in found]
    values = [[mid_p(*table) for table in of] for of in tables]
    for bound, name in ((min, "least"), (max, "most")):
        _, expected, *_ = multipletests([bound(of) for of in values], method="holm")
        adjusted = [getattr(one, name).p for one in found]
        assert adjusted == pytest.approx(expected, abs=1e-10)
    # "inception made it worse" of the published study: 80.8 against 76.6 %
    assert found[1].holds is None
    assert found[1].holds_up_to is not None
    # seven pairs are significant whatever the overlap: Holm leaves the level to the other three
    assert sum(one.holds is True for one in found) == 7
    enough = [sum(t) for t, p in zip(tables[1], values[1], strict=True) if p <= 0.05 / 3]
    assert found[1].holds_up_to == max(enough)


def test_rounded_accuracies_bound_p_over_every_count_that_they_can_stand_for() -> None:
    n = 60
    for first, second in ((range(50, 53), range(46, 49)), (range(50, 53), range(49, 51))):
        (found,) = claim(n, [first, second])
        values = [
            mid_p(*table)
            for one, other in product(first, second)
            for table in overlaps(n, one, other)
        ]
        assert found.least.p == pytest.approx(min(values))
        assert found.most.p == pytest.approx(max(values))


@pytest.mark.parametrize(
    ("text", "n", "expected"),
    [
        ("87.4", 500, range(437, 438)),
        ("84.60 %", 500, range(423, 424)),
        ("100", 500, range(498, 501)),  # 99.5 % may have been rounded up
        ("0.0", 500, range(1)),
        ("87.4", 14_492, range(12_659, 12_674)),
    ],
)
def test_an_accuracy_stands_for_every_count_that_rounds_to_it(
    text: str, n: int, expected: range
) -> None:
    assert counts_of(text, n) == expected


def test_the_counts_are_those_whose_accuracy_is_within_half_a_unit() -> None:
    for n in (9, 37, 500):
        for tenths in range(1001):
            near = [k for k in range(n + 1) if abs(2000 * k - 2 * tenths * n) <= n]
            if near:
                assert list(counts_of(f"{tenths / 10:.1f}", n)) == near
            else:
                with pytest.raises(ConfigError, match="Is --n the number of test images"):
                    counts_of(f"{tenths / 10:.1f}", n)


@pytest.mark.parametrize("text", ["abc", "", "-1", "1e1", "nan", "101", "87,4"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected an accuracy"):
        counts_of(text, 500)


@pytest.mark.parametrize(
    ("n", "right", "names"),
    [
        (0, [0, 0], None),
        (10, [5], None),
        (10, [5, 11], None),
        (10, [5, -1], None),
        (10, [5, range(9, 12)], None),
        (10, [5, range(0)], None),
        (10, [5, 6], ["a"]),
        (10, [5, 6], ["a", "a"]),
    ],
)
def test_impossible_claims_are_refused(
    n: int, right: list[int | range], names: list[str] | None
) -> None:
    with pytest.raises(ConfigError, match="expected"):
        claim(n, right, names)

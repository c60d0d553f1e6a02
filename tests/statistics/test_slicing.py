"""Slices are cut from columns and paths alone; what gives none is told."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from podium.errors import ConfigError
from podium.statistics.slicing import LeftOut, Slicing, slices_of

N = 120


def cut(wanted: list[str] | None = None, **columns: list[Any]) -> Slicing:
    labels = np.arange(N, dtype=np.int64) % 3
    paths = [f"test/cam{n % 2}/{'night' if n % 3 == 0 else 'day'}-{n}.jpg" for n in range(N)]
    return slices_of(columns, labels, paths, wanted)


def sizes(found: Slicing) -> dict[str, int]:
    return {f"{one.column}={one.value}": one.n for one in found.slices}


def test_a_column_of_few_values_is_sliced_without_being_named() -> None:
    found = cut(site=["A"] * 70 + ["B"] * 30 + ["C"] * 20)
    assert sizes(found) == {"site=A": 70, "site=B": 30, "site=C": 20}
    assert found.left_out == ()
    assert np.flatnonzero(found.slices[1].inside).tolist() == list(range(70, 100))


def test_small_values_and_missing_ones_are_counted() -> None:
    found = cut(site=["A"] * 60 + ["B"] * 19 + ["C"] * 2 + [None] * 20 + [""] * 10 + [math.nan] * 9)
    assert sizes(found) == {"site=A": 60, "site=": 39}
    assert found.left_out == (LeftOut("site", "small", 2, 21),)


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        (["A"] * N, "one"),
        (["A"] * (N - 19) + ["B"] * 19, "one"),
        ([f"image {n}" for n in range(N)], "many"),
        (list(range(N)), "many"),  # a number of each image, perhaps
        ([("x", "y", "z")[n % 3] for n in range(N)], "class"),
    ],
)
def test_what_is_no_slice_unless_named(cells: list[Any], why: str) -> None:
    found = cut(column=cells)
    assert found.slices == ()
    assert [(one.column, one.why) for one in found.left_out] == [("column", why)]


def test_numbers_of_a_named_column_are_cut_into_quarters() -> None:
    ages: list[Any] = [20 + n // 2 for n in range(N - 10)] + [None] * 10
    found = cut(["age"], age=ages)
    assert [one.value for one in found.slices][:4] == ["20–33", "34–47", "48–60", "61–74"]
    assert sum(one.n for one in found.slices) == N - 10
    assert found.left_out == (LeftOut("age", "small", 1, 10),)
    quarters = np.quantile(ages[: N - 10], (0.25, 0.5, 0.75), method="lower")
    inside = found.slices[1].inside[: N - 10]
    assert inside.tolist() == [quarters[0] < age <= quarters[1] for age in ages[: N - 10]]


def test_text_of_numbers_is_numbers_and_a_few_are_values_in_their_order() -> None:
    found = cut(["dose", "grade"], dose=[f"{n}.5" for n in range(N)],
                grade=[(10, 9, 2.0)[n % 3] for n in range(N)])  # fmt: skip
    assert [one.value for one in found.slices if one.column == "grade"] == ["2", "9", "10"]
    assert len([one for one in found.slices if one.column == "dose"]) == 4


def test_patterns_on_paths_make_columns_and_unnamed_columns_none() -> None:
    found = cut([r"cam(?P<camera>\d)/(?P<time>night|day)"], site=["A"] * 60 + ["B"] * 60)
    assert sizes(found) == {"camera=0": 60, "camera=1": 60, "time=day": 80, "time=night": 40}


def test_a_column_that_is_not_there_is_told() -> None:
    assert cut(["lens"], site=["A"] * N).left_out == (LeftOut("lens", "missing", 0),)


def test_a_broken_pattern_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.slices: .* is not a regular expression"):
        cut(["(?P<camera>["])

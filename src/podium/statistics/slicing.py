"""Slices of a set of images: those of one camera, of one site, or of a range of ages."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from podium.errors import ConfigError

LEAST_IMAGES = 20
"""A smaller slice is not compared: hardly any difference could show in it."""
MOST_VALUES = 12
"""A column of more values is no slice unless it is named; numbers are then cut into quarters."""

Inside = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Slice:
    """The images with one value of a column: `inside` is True for those, shape (images,)."""

    column: str
    value: str
    """Empty: the images without a value."""
    inside: Inside

    @property
    def n(self) -> int:
        """Number of its images."""
        return int(np.count_nonzero(self.inside))


@dataclass(frozen=True)
class LeftOut:
    """A column, or values of one, that give no slice."""

    column: str
    why: Literal["missing", "one", "many", "class", "small"]
    """`missing`: there is no such column; `one`: all images but fewer than `LEAST_IMAGES` have the
    same value; `many`: more than `MOST_VALUES`, and not named;
    `class`: it only restates the classes; `small`: values of fewer than `LEAST_IMAGES` images."""
    values: int
    """How many values it has; for `small`, how many are left out."""
    images: int = 0
    """Images with those values, for `small`."""


@dataclass(frozen=True)
class Slicing:
    """The slices of a set of images, and what gives none."""

    slices: tuple[Slice, ...]
    left_out: tuple[LeftOut, ...] = ()


def slices_of(
    columns: Mapping[str, Sequence[Any]],
    labels: npt.NDArray[np.int64],
    paths: Sequence[str],
    wanted: Sequence[str] | None = None,
) -> Slicing:
    """Cut images into slices, by columns of their metadata and by their paths.

    Nothing here depends on a prediction: slices that were chosen by results would prove too much.

    Args:
        columns: a cell per image, by the column's name.
        labels: class index of each image, shape (images,).
        paths: of the images.
        wanted: names of columns, and regular expressions on the path with named groups; None: every
            column of 2 to `MOST_VALUES` values that says more than the class.

    Returns:
        The slices of `LEAST_IMAGES` images or more that leave as many outside.

    Examples:
        >>> import numpy as np
        >>> from podium.statistics.slicing import slices_of
        >>> columns = {"camera": ["A"] * 30 + ["B"] * 30 + ["C"] * 5}
        >>> found = slices_of(columns, np.zeros(65, np.int64), [str(n) for n in range(65)])
        >>> [(one.value, one.n) for one in found.slices]
        [('A', 30), ('B', 30)]
        >>> [(one.why, one.values, one.images) for one in found.left_out]
        [('small', 1, 5)]
    """
    if wanted is None:
        asked = dict(columns)
    else:
        asked = {}
        for one in wanted:
            asked |= by_pattern(one, paths) if "(?P<" in one else {one: columns.get(one, ())}
    slices: list[Slice] = []
    left_out: list[LeftOut] = []
    for name, cells in asked.items():
        if not len(cells):
            left_out.append(LeftOut(name, "missing", 0))
            continue
        values = _texts(cells, cut=wanted is not None)
        count = len(set(values) - {""})
        why: Literal["one", "many", "class"] | None = None
        if max(Counter(values).values()) > len(values) - LEAST_IMAGES:
            why = "one"
        elif wanted is None and count > MOST_VALUES:
            why = "many"
        elif wanted is None and _restates(values, labels):
            why = "class"
        if why is not None:
            left_out.append(LeftOut(name, why, count))
            continue
        made, small = _cut(name, values)
        slices += made
        left_out += small
    return Slicing(tuple(slices), tuple(left_out))


def by_pattern(pattern: str, paths: Sequence[str]) -> dict[str, list[str | None]]:
    """The columns that a regular expression finds in paths.

    Args:
        pattern: with named groups, each a column.
        paths: of the images.

    Returns:
        Name of the group -> what it matches in each path; None: nothing.

    Raises:
        ConfigError: it is not a regular expression.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"data.slices: '{pattern}' is not a regular expression ({error})."
        ) from None
    matches = [compiled.search(path) for path in paths]
    return {
        name: [match[name] if match else None for match in matches] for name in compiled.groupindex
    }


def _texts(cells: Sequence[Any], *, cut: bool) -> list[str]:
    """The cells as text, numbers of many values as their quarter; empty where there is none."""
    numbers = [_number(one) for one in cells]
    given = [one for one in numbers if one is not None]
    holds_numbers = all(
        number is not None for number, cell in zip(numbers, cells, strict=True) if _is_given(cell)
    )
    if cut and holds_numbers and len(set(given)) > MOST_VALUES:
        return _quarters(numbers)
    return [_text(one) if _is_given(one) else "" for one in cells]


def _is_given(cell: Any) -> bool:
    return not (cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell)))


def _text(cell: Any) -> str:
    return f"{cell:g}" if isinstance(cell, float) else str(cell).strip()


def _number(cell: Any) -> float | None:
    """A number, or text that is one; a truth value is none."""
    if isinstance(cell, bool) or not isinstance(cell, int | float | str) or not _is_given(cell):
        return None
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _quarters(numbers: Sequence[float | None]) -> list[str]:
    """Which quarter of the numbers each lies in, named by the least and greatest number there."""
    given = np.array([one for one in numbers if one is not None])
    ends = np.unique(np.quantile(given, (0.25, 0.5, 0.75), method="lower"))
    place = np.searchsorted(ends, given, side="left")  # a quarter holds its upper end
    names = {at: _range(given[place == at]) for at in np.unique(place).tolist()}
    found = iter(place.tolist())
    return ["" if one is None else names[next(found)] for one in numbers]


def _range(numbers: npt.NDArray[np.float64]) -> str:
    low, high = numbers.min(), numbers.max()
    return f"{low:g}" if low == high else f"{low:g}–{high:g}"


def _restates(values: Sequence[str], labels: npt.NDArray[np.int64]) -> bool:
    """Whether each value is of one class and each class of one value."""
    pairs = set(zip(values, labels.tolist(), strict=True))
    return len(pairs) == len(set(values)) == len(set(labels.tolist()))


def _cut(name: str, values: Sequence[str]) -> tuple[list[Slice], list[LeftOut]]:
    """The slices of a column: numbers and ranges in their order, others by size."""
    sizes = Counter(values)
    each = np.asarray(values, dtype=object)
    kept = [one for one, n in sizes.items() if n >= LEAST_IMAGES]
    first = {one: _number(one.partition("–")[0]) for one in kept}
    if all(value is not None for one, value in first.items() if one):
        kept.sort(key=lambda one: (one == "", first[one] or 0.0))
    else:
        kept.sort(key=lambda one: (one == "", -sizes[one], one))
    slices = [Slice(name, one, np.asarray(each == one, np.bool_)) for one in kept]
    small = [one for one in sizes if one not in kept]
    if not small:
        return slices, []
    images = sum(sizes[one] for one in small)
    return slices, [LeftOut(name, "small", len(small), images)]

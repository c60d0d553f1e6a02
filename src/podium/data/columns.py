"""Columns of an index in Arrow and NumPy memory, which are read like tuples.

A tuple of a million names is a million objects of Python, and every process has its own. A column
is a few buffers, which other processes map from a file.
"""

from __future__ import annotations

import operator
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, Self, TypeVar, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Cell = TypeVar("Cell", covariant=True)
Rows = npt.NDArray[np.int64]

BLOCK = 8192  # cells that an iteration makes at a time


class Column(Sequence[Cell], Generic[Cell]):
    """A column; equal to any sequence of the same cells."""

    def __init__(self, rows: Rows | None) -> None:
        self._rows = rows  # of the buffers, in this order; None: all of them

    @abstractmethod
    def _size(self) -> int:
        """Number of rows of the buffers."""

    @abstractmethod
    def _cell(self, row: int) -> Any: ...

    @abstractmethod
    def _cells(self, rows: Rows | slice) -> list[Any]: ...

    @abstractmethod
    def _on(self, rows: Rows | None) -> Self:
        """The same buffers with other rows."""

    def __len__(self) -> int:
        return self._size() if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Cell: ...

    @overload
    def __getitem__(self, at: slice) -> Self: ...

    def __getitem__(self, at: int | slice) -> Any:
        if isinstance(at, slice):
            return self.take(np.arange(*at.indices(len(self)), dtype=np.int64))
        at = operator.index(at)
        if not -len(self) <= at < len(self):
            raise IndexError(f"expected a number below {len(self)}, got {at}")
        at %= len(self)
        return self._cell(at if self._rows is None else int(self._rows[at]))

    def __iter__(self) -> Iterator[Cell]:
        for first in range(0, len(self), BLOCK):
            last = min(first + BLOCK, len(self))
            part = slice(first, last)
            yield from self._cells(part if self._rows is None else self._rows[part])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        further = f", ... {len(self):,} in all" if len(self) > 3 else ""
        return f"<{type(self).__name__} {', '.join(map(repr, self[:3]))}{further}>"

    def take(self, rows: Rows) -> Self:
        """Some of the rows, in this order; nothing is copied but the numbers of the rows.

        Args:
            rows: int64 of shape (m,).
        """
        return self._on(rows if self._rows is None else self._rows[rows])


class Texts(Column[str]):
    """A column of strings.

    Args:
        values: Arrow's strings, or binary values in UTF-8; no nulls.
        rows: rows of the column; None: all of them.

    Examples:
        >>> names = Texts.of(["a", "b", "c"])
        >>> names[1], len(names), names.find("c"), names.take(np.array([2, 0]))
        ('b', 3, 2, <Texts 'c', 'a'>)
    """

    def __init__(self, values: pa.Array, rows: Rows | None = None) -> None:
        super().__init__(rows)
        self._values = values
        # names that are not UTF-8 have surrogates, which Arrow's strings cannot hold
        self._is_binary = pa.types.is_large_binary(values.type)

    @classmethod
    def of(cls, texts: Sequence[str]) -> Texts:
        """Copy strings into a column; any string of Python can be held.

        Args:
            texts: the strings.
        """
        try:
            return cls(pa.array(texts, pa.large_string()))
        except UnicodeEncodeError:
            coded = (text.encode("utf-8", "surrogatepass") for text in texts)
            return cls(pa.array(coded, pa.large_binary(), size=len(texts)))

    @classmethod
    def joined(cls, parts: Sequence[Texts]) -> Texts:
        """The strings of several columns in a row."""
        kind = pa.large_binary() if any(one._is_binary for one in parts) else pa.large_string()
        found = [one.arrow().cast(kind) for one in parts]
        return cls(pa.concat_arrays(found) if found else pa.array([], kind))

    def arrow(self, part: slice = slice(None)) -> pa.Array:
        """The strings of some rows, as Arrow's.

        Args:
            part: of the rows; None: all of them.
        """
        if self._rows is None:
            first, last, _ = part.indices(len(self))
            return self._values.slice(first, last - first)
        return self._values.take(pa.array(self._rows[part]))

    def text(self) -> pa.Array:
        """The strings as Arrow's, which names that are not UTF-8 cannot be.

        Raises:
            pa.ArrowInvalid: there is such a name.
        """
        return self.arrow().cast(pa.large_string())

    def order(self) -> Rows | None:
        """The rows in the order of code points; None: they are in that order."""
        values = self.arrow()
        before, after = values.slice(0, max(0, len(values) - 1)), values.slice(1)
        # as bytes: UTF-8 sorts like code points
        if pc.all(pc.less_equal(before, after)).as_py() is not False:
            return None
        return pc.sort_indices(values).to_numpy().astype(np.int64)  # type: ignore[no-any-return]

    def find(self, text: str) -> int | None:
        """The row of a string, in a column that is sorted; None if it is not there.

        Args:
            text: the string.
        """
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self[middle] < text:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self) and self[low] == text else None

    def _size(self) -> int:
        return len(self._values)

    def _cell(self, row: int) -> Any:
        return self._decoded(self._values[row].as_py())

    def _cells(self, rows: Rows | slice) -> list[Any]:
        if isinstance(rows, slice):
            found = self._values.slice(rows.start, rows.stop - rows.start)
        else:
            found = self._values.take(pa.array(rows))
        return [*map(self._decoded, found.to_pylist())] if self._is_binary else found.to_pylist()

    def _decoded(self, cell: Any) -> Any:
        return cell.decode("utf-8", "surrogatepass") if self._is_binary else cell

    def _on(self, rows: Rows | None) -> Texts:
        return Texts(self._values, rows)


class Coded(Column[Any]):
    """A column of numbers into the few values that it has.

    Args:
        values: the different values.
        codes: place of each row's value; -1: the cell is None; int32 of shape (n,).
        rows: rows of the column; None: all of them.

    Examples:
        >>> sites = Coder()
        >>> for site in ("north", None, "south", "north"):
        ...     sites.add(site)
        >>> sites.column()
        <Coded 'north', None, 'south', ... 4 in all>
    """

    def __init__(
        self, values: Sequence[Any], codes: npt.NDArray[np.int32], rows: Rows | None = None
    ) -> None:
        super().__init__(rows)
        self.values, self._codes = values, codes

    @property
    def codes(self) -> npt.NDArray[np.int32]:
        """Place of each row's value in `values`; -1: None."""
        return self._codes if self._rows is None else self._codes[self._rows]

    def _size(self) -> int:
        return len(self._codes)

    def _cell(self, row: int) -> Any:
        code = int(self._codes[row])
        return None if code < 0 else self.values[code]

    def _cells(self, rows: Rows | slice) -> list[Any]:
        return [None if code < 0 else self.values[code] for code in self._codes[rows].tolist()]

    def _on(self, rows: Rows | None) -> Coded:
        return Coded(self.values, self._codes, rows)


class Coder:
    """Collects the cells of a `Coded` column, each value once."""

    def __init__(self) -> None:
        self.places: dict[Any, int] = {}
        self.values: list[Any] = []
        self._codes = array("i")

    def __len__(self) -> int:
        return len(self._codes)

    def add(self, cell: Any) -> None:
        """Append a cell."""
        self._codes.append(-1 if cell is None else self._place(cell))

    def pad(self, length: int) -> None:
        """Append None until there are `length` cells."""
        self._codes.extend([-1] * (length - len(self._codes)))

    def column(self, order: Rows | None = None) -> Coded:
        """The cells so far.

        Args:
            order: rows of the column; None: as they were appended.
        """
        codes = np.frombuffer(self._codes, dtype=np.int32).copy() if len(self) else _NO_CODES
        values: Sequence[Any] = self.values
        if len(values) > BLOCK and all(isinstance(one, str) for one in values):
            values = Texts.of(values)  # such as a name for each image
        return Coded(values, codes if order is None else codes[order])

    def _place(self, cell: Any) -> int:
        key = (type(cell), cell)  # 1, 1.0 and True are different values
        try:
            found = self.places.get(key)
        except TypeError:  # not hashable: kept as it is
            key, found = (type(cell), id(cell)), None
        if found is None:
            found = self.places[key] = len(self.values)
            self.values.append(cell)
        return found


def coded(cells: Iterable[Any]) -> Coded:
    """The column of these cells.

    Args:
        cells: the cells; each value is kept once.
    """
    coder = Coder()
    for cell in cells:
        coder.add(cell)
    return coder.column()


_NO_CODES = np.empty(0, dtype=np.int32)

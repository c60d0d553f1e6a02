"""The labels of a table: from a column, from one column per class, or from numbers and names."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from podium.config.text import decode_text
from podium.data.table_columns import ones
from podium.data.words import counted, listed, shown
from podium.errors import DataError, one_line

if TYPE_CHECKING:
    import pyarrow as pa

_DOT_ZERO = re.compile(r"([+-]?\d+)\.0+")
_WHOLE = re.compile(r"[+-]?\d+(\.0+)?")


def without_dot_zero(labels: Sequence[str | None]) -> list[str | None]:
    """Read `3.0` as `3` if all labels are whole numbers, as spreadsheets and data frames write.

    Args:
        labels: the labels, None where there is none.

    Examples:
        >>> without_dot_zero(["3.0", None, "4"]), without_dot_zero(["3.0", "3.5"])
        (['3', None, '4'], ['3.0', '3.5'])
    """
    known = {one for one in labels if one is not None}
    if not all(map(_WHOLE.fullmatch, known)):
        return list(labels)
    plain = {one: _DOT_ZERO.sub(r"\1", one) for one in known}
    return [one if one is None else plain[one] for one in labels]


def one_hot_labels(table: pa.Table, columns: Sequence[str]) -> list[str | None]:
    """The name of the column that has the 1, for each row.

    Args:
        table: the table.
        columns: of 0 and 1, with one 1 per row.
    """
    import numpy as np

    at = np.stack([ones(table.column(name)) for name in columns]).argmax(axis=0)
    return [columns[number] for number in at]


def named_labels(labels: Sequence[str | None], file: Path, place: str) -> list[str | None]:
    """Replace the numbers of classes by their names.

    Args:
        labels: numbers as text, None where there is none.
        file: see `class_names`.
        place: the table's name in messages.

    Raises:
        DataError: the file cannot be read, or a label is not in it.
    """
    names = class_names(file)
    unknown = sorted({one for one in labels if one is not None} - names.keys())
    if unknown:
        raise DataError(
            f"{place}: {counted(len(unknown), 'label')} that {file} does not name: "
            f"{shown(listed([*map(repr, unknown)]))}. It names {listed([*names])}."
        )
    return [one if one is None else names[one] for one in labels]


def class_names(file: Path) -> dict[str, str]:
    """Read the names of numbered classes.

    Args:
        file: JSON, a list of names or a mapping of numbers to names or of names to numbers; CSV
            with a number and a name per row; or text, one name per line. What is in the order of
            the classes is numbered from 0.

    Returns:
        Number, as text -> name.

    Raises:
        DataError: it cannot be read, or is not as described.
    """
    try:
        text = decode_text(file.read_bytes())
        if file.suffix.lower() == ".json":
            names = _from_json(json.loads(text))
        elif file.suffix.lower() == ".csv":
            names = _from_rows([row for row in csv.reader(text.splitlines()) if row])
        else:
            lines = [line.strip() for line in text.splitlines()]
            names = {str(at): line for at, line in enumerate(lines) if line}
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{file} cannot be read as names of classes ({one_line(error)}).") from None
    twice = sorted({one for one in names.values() if [*names.values()].count(one) > 1})
    if twice or not names:
        what = f"several classes named {listed([*map(repr, twice)])}" if twice else "no names"
        raise DataError(f"{file} has {what}: expected one name for each class.")
    return names


def _from_json(value: Any) -> dict[str, str]:
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        raise ValueError("expected a list of names, or a mapping of numbers to names")
    if value and all(isinstance(one, int) for one in value.values()):
        value = {number: name for name, number in value.items()}
    return {str(number).strip(): str(name).strip() for number, name in value.items()}


def _from_rows(rows: list[list[str]]) -> dict[str, str]:
    if any(len(row) != 2 for row in rows):
        raise ValueError("expected two columns, number and name")
    if rows and not rows[0][0].strip().isdecimal():
        rows = rows[1:]  # the names of the columns
    return {number.strip(): name.strip() for number, name in rows}

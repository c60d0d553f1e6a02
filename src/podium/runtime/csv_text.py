"""CSV tables for spreadsheets, in which no cell runs as a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence


def guard_cell(value: object) -> object:
    """Prefix an apostrophe to text that a spreadsheet would run as a formula (OWASP).

    Numbers are not formulas, so a class `-1` stays `-1`.

    Args:
        value: value of one cell.
    """
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return value if _is_number(value) else f"'{value}"
    return "" if value is None else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def csv_text(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a table for spreadsheets as CSV, with formulas made harmless.

    Args:
        head: names of the columns.
        rows: values of each row.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([[guard_cell(value) for value in row] for row in rows])
    return out.getvalue()

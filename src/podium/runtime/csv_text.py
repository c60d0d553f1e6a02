"""Tables for spreadsheets: CSV in which no cell runs as a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence


def guard_cell(value: object) -> object:
    """Text that a spreadsheet would run as a formula gets an apostrophe in front (OWASP).

    A number is none, so a class `-1` stays `-1`.
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
    """A table for spreadsheets as CSV; text that one would run is made harmless."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([[guard_cell(value) for value in row] for row in rows])
    return out.getvalue()

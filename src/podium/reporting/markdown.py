"""Markdown tables with every cell escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from podium.config.text import CONTROLS


def markdown_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", numbers: int = 0
) -> str:
    """A Markdown table, escaped.

    Args:
        head: column headings.
        rows: cells of each row.
        caption: printed below the table; empty: no caption.
        numbers: how many of the last columns to align right.
    """

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(map(escape_markdown, cells))} |"

    rule = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    table = [line(head), f"| {' | '.join(rule)} |", *map(line, rows)]
    return "\n".join([*table, *(["", escape_markdown(caption)] if caption else []), ""])


_SPACES = re.compile(r"[\t\n\v\f\r \x85\u2028\u2029]+")


_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~$&@]|:(?=//)|(?<=www)\.")


_LEADING = re.compile(r"^(?:[-+=]|\d+[.)](?=\s|$))")


def escape_markdown(text: str) -> str:
    """Escape text so that Markdown prints it verbatim, on one line.

    Args:
        text: any text; it cannot introduce markup, HTML, links, lists or tables.
    """
    line = CONTROLS.sub("\ufffd", _SPACES.sub(" ", text).strip(" "))
    line = _SPECIAL.sub(lambda found: f"\\{found[0]}", line)
    return _LEADING.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", line)

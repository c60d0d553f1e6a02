"""Tables in Markdown, every cell escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from podium.config.text import CONTROLS


def markdown_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", numbers: int = 0
) -> str:
    """A table, its last `numbers` columns to the right, and the caption below it, all escaped."""

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(map(escape_markdown, cells))} |"

    rule = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    table = [line(head), f"| {' | '.join(rule)} |", *map(line, rows)]
    return "\n".join([*table, *(["", escape_markdown(caption)] if caption else []), ""])


_SPACES = re.compile(r"[\t\n\v\f\r \x85\u2028\u2029]+")


_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~$&@]|:(?=//)|(?<=www)\.")


_LEADING = re.compile(r"^(?:[-+=]|\d+[.)](?=\s|$))")


def escape_markdown(text: str) -> str:
    """Text as Markdown prints it, on one line: no markup, HTML, link, list or table in it."""
    line = CONTROLS.sub("\ufffd", _SPACES.sub(" ", text).strip(" "))
    line = _SPECIAL.sub(lambda found: f"\\{found[0]}", line)
    return _LEADING.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", line)

"""Text files as people and other programs save them."""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Iterable, Sequence

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters that move the cursor, ring, recolour or change the direction of text; not
tabs and newlines."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def text_encoding(start: bytes) -> tuple[str, int]:
    """The encoding of a text, and the length of its byte order mark.

    UTF-8, unless the text begins with the byte order mark of UTF-16 (PowerShell 5's `>`, a
    spreadsheet's "Unicode text"), or every other byte is NUL, as in UTF-16 without a mark.

    Args:
        start: the first bytes of the text, 2 or more if there are that many.
    """
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding, len(mark)
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        units = start[first::2]
        if len(start) > 1 and units.count(0) > len(units) / 2:
            return encoding, 0
    return "utf-8", 0


def decode_text(content: bytes) -> str:
    """Decode a text file that a user or another program wrote: UTF-8 or UTF-16.

    Args:
        content: the bytes of the file.

    Raises:
        ValueError: it is in another encoding, or is not text; the message gives the line and
            what to do.
    """
    encoding, mark = text_encoding(content[:4096])
    try:
        text = content[mark:].decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, mark + error.start) + 1
        raise ValueError(
            f"line {line} is not {encoding.upper()}: save it as UTF-8, in a spreadsheet as 'CSV "
            "UTF-8'"
        ) from None
    if "\0" in text:
        raise ValueError("it contains NUL characters, so it is not a text file")
    return text


def words(text: str) -> tuple[str, ...]:
    """The words of a text: a compact way to write tuples of names."""
    return tuple(text.split())


def listed(
    names: Sequence[str], between: str = ", ", most: int = 5, more: str = " and {:,} more"
) -> str:
    """The first few names, and how many more there are.

    Args:
        names: the names to list.
        between: separator.
        most: number of names to show.
        more: format of the ending, which takes the number of further names.
    """
    rest = len(names) - most
    return between.join(names[:most]) + (more.format(rest) if rest > 0 else "")


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The known names that a misspelt name is closest to, best first.

    Args:
        name: what was given; upper and lower case are the same.
        known: the names that there are.
        most: number of names to return.

    Returns:
        Those nearly as close as the closest, or those that contain the name; perhaps none.

    Examples:
        >>> nearest("autoaugmnt", ["none", "autoaugment", "randaugment"])
        ['autoaugment']
        >>> nearest("f1", ["accuracy", "macro_f1"])
        ['macro_f1']
    """
    names = list(dict.fromkeys(known))
    shares = {
        one: difflib.SequenceMatcher(None, one.lower(), name.lower()).ratio() for one in names
    }
    best = max(shares.values(), default=0.0)
    near = [one for one in names if shares[one] >= max(0.6, best - 0.1)]
    near = near or [one for one in names if name and name.lower() in one.lower()]
    return sorted(near, key=lambda one: -shares[one])[:most]


def did_you_mean(name: str, known: Iterable[str], most: int = 3) -> str:
    """A sentence that suggests what a misspelt name may mean; empty if nothing is close.

    Args:
        name: what was given.
        known: the names that there are.
        most: number of names to suggest.

    Returns:
        The sentence with a space before it, to follow another one.

    Examples:
        >>> did_you_mean("epoch", ["epochs", "model"])
        ' Did you mean epochs?'
    """
    found = nearest(name, known, most)
    return f" Did you mean {' or '.join(found)}?" if found else ""

"""Counts, lists and paths in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from podium.config.text import listed as listed


def shown(path: str) -> str:
    """A path that can be printed and stored: bytes that are no UTF-8 become escapes."""
    return path.encode("utf-8", "backslashreplace").decode()


def named(classes: Sequence[str]) -> str:
    """The first five classes in quotes, and how many more there are."""
    return listed([*map(repr, classes)], more=" and {:,} more classes")


def counted(number: int, noun: str, several: str = "") -> str:
    """`1 image`, `2,000 images`."""
    return f"{number:,} {noun if number == 1 else several or f'{noun}s'}"

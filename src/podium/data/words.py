"""Formats counts, lists and paths for messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from podium.config.text import listed as listed


def shown(path: str) -> str:
    """Make a path printable: bytes that are not UTF-8 become escapes."""
    return path.encode("utf-8", "backslashreplace").decode()


def named(classes: Sequence[str]) -> str:
    """List the first five classes in quotes, and the number of further ones."""
    return listed([*map(repr, classes)], more=" and {:,} more classes")


def counted(number: int, noun: str, several: str = "") -> str:
    """Format a count: `1 image`, `2,000 images`.

    Args:
        number: the count.
        noun: singular of what is counted.
        several: plural; empty string: `noun` with an s.
    """
    return f"{number:,} {noun if number == 1 else several or f'{noun}s'}"


def in_study(settings: Mapping[str, Any]) -> str:
    """What to write into a study file.

    Args:
        settings: of the images; dotted key -> value.

    Examples:
        >>> in_study({"label": "species", "options.images": "photos"})
        'data: {label: species, options: {images: photos}}'
    """
    import yaml

    text: str = yaml.safe_dump(
        {"data": nested(settings)},
        default_flow_style=True,
        sort_keys=False,
        allow_unicode=True,
        width=10**6,
    )
    return text.strip()[1:-1]


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings within settings, from dotted keys.

    Args:
        settings: dotted key -> value.

    Examples:
        >>> nested({"label": "species", "options.images": "photos"})
        {'label': 'species', 'options': {'images': 'photos'}}
    """
    whole: dict[str, Any] = {}
    for key, value in settings.items():
        *inside, last = key.split(".")
        level = whole
        for part in inside:
            level = level.setdefault(part, {})
        level[last] = value
    return whole

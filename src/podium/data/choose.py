"""Chooses the source that reads a path: by what lies there, or by its prefix or ending."""

from __future__ import annotations

from pathlib import Path

from podium.data.table import is_table


def source_for(path: str) -> str:
    """Name the built-in source that reads a path.

    Args:
        path: a study's `data.path`.

    Examples:
        >>> source_for("my-images"), source_for("photos.csv")
        ('folder', 'table')
    """
    if is_table(Path(path).expanduser()):
        return "table"
    return "folder"

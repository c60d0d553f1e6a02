"""Chooses the source that reads a path: by what lies there, or by its prefix or ending."""

from __future__ import annotations

from pathlib import Path

from podium.data.archive_source import is_archive


def source_for(path: str) -> str:
    """Name the built-in source that reads a path.

    Args:
        path: a study's `data.path`.

    Examples:
        >>> source_for("my-images"), source_for("my-images.tar.gz"), source_for("hf:me/mine")
        ('folder', 'archive', 'hf')
    """
    if Path(path).is_dir():
        return "folder"  # whatever its name ends with
    for prefix in ("torchvision", "hf"):
        if path.startswith(f"{prefix}:"):
            return prefix
    if is_archive(path):
        return "archive"
    return "coco" if path.lower().endswith(".json") else "folder"

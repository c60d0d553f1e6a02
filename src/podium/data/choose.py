"""Chooses the source that reads a path: by what lies there, or by its prefix or ending."""

from __future__ import annotations

from pathlib import Path

from podium.data.archive_source import is_archive
from podium.data.coco import ENDING
from podium.data.packed_source import is_pack
from podium.data.table import is_table


def source_for(path: str, label: str | None = None) -> str:
    """Name the built-in source that reads a path.

    Args:
        path: a study's `data.path`.
        label: a study's `data.label`.

    Examples:
        >>> source_for("my-images"), source_for("photos.csv"), source_for("photos.tar.gz")
        ('folder', 'table', 'archive')
        >>> source_for("s3://bucket/packed")
        'pack'
        >>> source_for("hf:me/mine"), source_for("torchvision:CIFAR10"), source_for("traps.json")
        ('hf', 'torchvision', 'coco')
    """
    for prefix in ("torchvision", "hf"):
        if path.startswith(f"{prefix}:"):
            return prefix
    if is_pack(path):
        return "pack"
    place = Path(path).expanduser()
    if is_table(place, label):
        return "table"
    if place.is_dir():  # whatever its name ends with
        return "folder"
    if is_archive(path):
        return "archive"
    return "coco" if path.lower().endswith(ENDING) else "folder"

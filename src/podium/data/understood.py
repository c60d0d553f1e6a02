"""What was understood of a study's images: the first rows, and the settings that say so."""

from __future__ import annotations

from typing import Any

import yaml

from podium.config.data_settings import DataSpec
from podium.data.index import DataIndex
from podium.data.source import Source
from podium.data.words import nested, shown


def spelled_out(data: DataSpec, source: Source) -> str:
    """The YAML lines that state in a study what was given, and what the source guessed.

    Args:
        data: what was given.
        source: opened from it; it has been listed.

    Examples:
        >>> from podium.data.folder import FolderSource
        >>> print(spelled_out(DataSpec(path="photos", group="parent"), FolderSource("photos")))
        data:
          path: photos
          group: parent
    """
    values: dict[str, Any] = data.model_dump(mode="json", exclude_defaults=True)
    guessed = nested(source.chosen)
    options = {**values.pop("options", {}), **guessed.pop("options", {})}
    values |= guessed
    if options:
        values["options"] = options
    text: str = yaml.safe_dump({"data": values}, sort_keys=False, allow_unicode=True)
    return text.rstrip()


def first_rows(index: DataIndex, count: int) -> list[dict[str, str]]:
    """The first images of the training split, as a person would write them down.

    Args:
        index: the images.
        count: number of images, or fewer if there are not that many.

    Returns:
        For each image: column -> text; empty text where there is no value.
    """
    split = index.splits["train"]
    rows = []
    for at in range(min(count, len(split))):
        row: dict[str, Any] = {
            "path": split.paths[at],
            "label": index.classes[split.labels[at]],
            "split": split.name,
        }
        if any(one is not None for one in split.groups):
            row["group"] = split.groups[at]
        further = {name: cells[at] for name, cells in split.columns.items()}
        row |= {name: cell for name, cell in further.items() if name not in row}
        rows.append({name: "" if cell is None else shown(str(cell)) for name, cell in row.items()})
    return rows

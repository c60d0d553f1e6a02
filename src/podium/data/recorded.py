"""Opens the images of a finished study again, wherever they are now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from podium.config.registry import SOURCES
from podium.data.choose import source_for
from podium.data.fetch import resolve_data
from podium.data.folder import FolderSource
from podium.data.images import image_suffixes
from podium.data.layout import find_images
from podium.data.listing import open_source, source_name
from podium.data.source import Source
from podium.errors import DataError
from podium.runs.folder import StudyFolder

_FOLDERS = ("folder", "table", "coco")
"""Sources whose images are files, named relative to the root that `data.json` states."""


def study_source(study: StudyFolder, given: str | Path | None = None) -> Source:
    """Open a study's images by the paths that its runs recorded.

    Args:
        study: the study's folder.
        given: where the images are now: whatever `data.path` of a study takes, of the study's
            kind or another, such as an archive of its folder. None: their location when the study
            was run, or else what the study says.

    Raises:
        RunFolderError: it is not a study folder.
        ConfigError: the source does not exist, or does not take the study's options.
        DataError: the images are not there.
    """
    named = study.read_spec().data
    kind = source_name(named)
    if given is not None:
        changes: dict[str, Any] = {"path": str(given)}
        if kind in SOURCES.built_in and source_for(str(given)) != kind:
            # of another kind, which takes other options, or is the folder of a table's images
            changes |= {"source": "auto", "options": {}, "label": None}
        named = named.model_copy(update=changes)
    elif kind in _FOLDERS and study.data.is_file():
        root = study.read_data().get("root")
        if isinstance(root, str) and Path(root).is_dir():
            return FolderSource(Path(root), channels=named.channels)
    try:
        if source_name(named) != "folder" or named.label is not None:
            return open_source(named)
        folder = resolve_data(named.path)
        names_begin_here = kind in _FOLDERS and kind != "folder"
        if names_begin_here:
            return FolderSource(folder)
        root = find_images(folder, image_suffixes(named.channels)).root
        return FolderSource(folder, root, channels=named.channels)
    except DataError as error:
        if given is not None:
            raise
        raise DataError(
            f"The images of {study.path} are not where they were. {error} "
            "Give their place with --data FOLDER."
        ) from None

"""The folder source: images whose classes and splits are given by folder names."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from podium.config.registry import SOURCES
from podium.data.fetch import resolve_data
from podium.data.file_checks import file_stamp
from podium.data.images import image_suffixes, read_image_file
from podium.data.layout import Found, find_images
from podium.data.names import find_named_images, label_pattern
from podium.data.source import Item, Source
from podium.data.table_file import column_names, metadata_files
from podium.data.words import listed
from podium.errors import DataError


class LayoutSource(Source):
    """Images in folders that `podium.data.layout` interprets, wherever the folders are.

    Attributes:
        split_folders: the splits that have a folder; some may be empty.
    """

    split_folders: tuple[str, ...] = ()

    @abstractmethod
    def find(self) -> Found:
        """Find the images, and prepare `read` for names relative to the root that was found."""

    def list(self) -> Iterator[Item]:
        found = self.find()
        self.skipped, self.notices = found.skipped, found.notices
        self.split_folders = tuple(found.splits)
        for split, classes in found.splits.items():
            for label, paths in classes.items():
                for path in paths:
                    yield Item(path, label, split if found.is_split else None)


class FolderSource(LayoutSource):
    """A folder of images; `podium.data.layout` describes how it is read.

    Args:
        path: the folder.
        root: the folder inside it that names are relative to; None: `list` finds it.
        label: regular expression with a named group `(?P<label>...)`, searched in the path of
            each image at any depth; None: folders are the classes.
        channels: of each image, for which files are images; None: RGB.
    """

    def __init__(
        self,
        path: Path,
        root: Path | None = None,
        label: str | None = None,
        channels: int | None = None,
    ) -> None:
        self.path, self.root = path, path if root is None else root
        self.suffixes = image_suffixes(channels)
        self._pattern = None if label is None else label_pattern(label)

    def __reduce__(self) -> Any:
        return FolderSource, (self.path, self.root)  # other processes need not find it again

    def find(self) -> Found:
        try:
            found = self._interpreted()
        except DataError as error:
            raise DataError(f"{error}{self._about_tables()}") from None
        self.root, self.place = found.root, str(found.root)
        return found

    def _interpreted(self) -> Found:
        if self._pattern is not None:
            return find_named_images(self.path, self._pattern, self.suffixes)
        return find_images(self.path, self.suffixes)

    def _about_tables(self) -> str:
        """What to do if the classes are in a table of the folder; empty if there is none."""
        tables = metadata_files(self.path) if self.path.is_dir() else {}
        return "".join(
            f" {file.name} there has the columns {listed(column_names(file))}: if one of them is "
            "the class, name it with data: {label: COLUMN}."
            for file in [*tables.values()][:1]
        )

    def stamp_of(self, path: str) -> tuple[int, ...] | None:
        return file_stamp(f"{self.root}/{path}")

    def read(self, path: str) -> bytes:
        return read_image_file(self.root / path, path)


def _named(path: str, label: str | None = None, channels: int | None = None) -> FolderSource:
    return FolderSource(resolve_data(path), label=label, channels=channels)


SOURCES.register("folder", _named)

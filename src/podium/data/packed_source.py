"""The source of packs: images by ranges of bytes, from a folder, an object store or the web."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from podium.config.registry import SOURCES
from podium.data.columns import Texts
from podium.data.gather import FURTHER
from podium.data.mapped import read_mapped, write_mapped
from podium.data.pack_format import ABOUT, INDEX, OWN, UNDERWAY, read_about, shard_name
from podium.data.place import Place, is_address
from podium.data.source import Item, Source
from podium.errors import ConfigError, DataError, UnreadableImageError
from podium.runtime.cache import cache_root, mark_used

_CODED = ("label", "split", "group")
_CLIMBING = r"^$|^/|\x00|(^|[/\\])\.\.([/\\]|$)"


@dataclass(frozen=True)
class PackedImage:
    """An image in a pack."""

    place: Place
    """The pack's."""
    path: str
    """Its name in the pack."""
    shard: int
    offset: int
    length: int

    def read(self) -> bytes:
        """The bytes of its file.

        Raises:
            UnreadableImageError: they cannot be read.
        """
        shard = shard_name(self.shard)
        try:
            content = self.place.read(shard, self.offset, self.length)
        except OSError as error:
            raise UnreadableImageError(self.path, f"{shard}: {error.strerror or error}") from None
        if len(content) < self.length:
            raise UnreadableImageError(self.path, f"{shard} ends before it")
        return content


class PackedSource(Source):
    """Images that `podium data pack` has written.

    The index is kept in Podium's cache as a file that all processes map.

    Args:
        path: a folder, or an address such as `s3://bucket/folder`.
        channels: of each image; None: RGB.

    Raises:
        ConfigError: the address cannot be used, or the images were packed with other channels.
        DataError: there is no pack, or it is not complete.
    """

    def __init__(self, path: str, channels: int | None = None) -> None:
        self._place = Place(path)
        self._about = about = read_about(self._place)
        if about.channels != channels:
            kept = "as RGB" if about.channels is None else f"with {about.channels} channels"
            raise ConfigError(
                f"data.channels: the images of {path} were packed {kept}, got "
                f"{'none' if channels is None else channels}. Set the same, or pack them again."
            )
        self._table: pa.Table | None = None

    def list(self) -> Iterable[Item]:
        raise AssertionError("a pack has a table")

    def as_table(self) -> pa.Table:
        """The index; of each column one chunk, labels, splits and groups as dictionaries."""
        if self._table is None:
            self._table = self._opened()
            self._paths = Texts(self._table["path"].chunk(0))
            where = ("shard", "offset", "length")
            self._where = [self._table[name].chunk(0).to_numpy() for name in where]
        return self._table

    def names(self) -> Texts:
        """The paths of all images, sorted."""
        self.as_table()
        return self._paths

    def images(self) -> Iterator[PackedImage]:
        """All images, sorted by path; each can be read without the index, in any process."""
        for row, path in enumerate(self.names()):
            yield self._image(row, path)

    def read(self, path: str) -> bytes:
        row = self.names().find(path)
        if row is None:
            raise UnreadableImageError(path, "the pack has no such image")
        return self._image(row, path).read()

    def _image(self, row: int, path: str) -> PackedImage:
        return PackedImage(self._place, path, *(int(column[row]) for column in self._where))

    def _opened(self) -> pa.Table:
        copy = cache_root() / "packs" / f"{self._about.sha256[:32]}.arrow"
        try:
            table = read_mapped(copy)
            mark_used(copy)
            return table
        except (OSError, pa.ArrowException):
            table = self._converted()
        try:
            write_mapped(table, copy)
            return read_mapped(copy)
        except OSError:  # a cache that cannot be written costs memory
            return table

    def _converted(self) -> pa.Table:
        """The columns of the index as an index of images needs them."""
        try:
            content = self._place.read(INDEX)
        except OSError as error:
            raise DataError(
                f"{self.place}: {INDEX} cannot be read: {error.strerror or error}."
            ) from None
        if hashlib.sha256(content).hexdigest() != self._about.sha256:
            raise DataError(
                f"{self.place}: {INDEX} is not the one that was packed: copy or pack it again."
            )
        found = pq.read_table(pa.BufferReader(content)).combine_chunks()
        columns: dict[str, Any] = {"path": found["path"].cast(pa.large_string())}
        for name in found.column_names[1:]:
            cells = found[name]
            if name not in OWN or name in _CODED:
                text = pa.types.is_string(cells.type) or pa.types.is_null(cells.type)
                cells = (cells.cast(pa.large_string()) if text else cells).dictionary_encode()
            columns[name if name in OWN else f"{FURTHER}{name}"] = cells
        del columns["key"]
        paths = columns["path"]
        sorted_once = pc.all(pc.less(paths[:-1], paths[1:])).as_py() is not False
        if not sorted_once or pc.any(pc.match_substring_regex(paths, _CLIMBING)).as_py():
            raise DataError(f"{self.place}: {INDEX} has names that no pack has: it was changed.")
        return pa.table(columns).combine_chunks()


def is_pack(path: str) -> bool:
    """Whether a path is an address, or a folder with a pack or a part of one.

    Args:
        path: a folder that need not exist, or an address.
    """
    place = Path(path).expanduser()
    # Path.is_file raises where it may not look
    return is_address(path) or any(os.path.isfile(place / one) for one in (ABOUT, UNDERWAY))  # noqa: PTH113


SOURCES.register("pack", PackedSource)

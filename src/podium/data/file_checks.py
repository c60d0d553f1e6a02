"""Properties of each image file, cached between runs by its stamp and by the SHA-256 of its bytes.

A file is not read again if its stamp is the one that it had when it was read: size, times of
modification and of change, and inode. Size and time of modification are not enough: two files that
are swapped after an archive, an image layer or `rsync -t` gave them the same time would get each
other's properties. The time of change cannot be set, and the inode moves with a file that is
renamed. As in git, a stamp younger than two seconds is not trusted: the file may have been written
again within the same tick of its file system's clock. A file that is read again, but has known
bytes, is not decoded again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from podium.data.columns import Rows, Texts
from podium.data.grey import GreyValues
from podium.data.mapped import (
    Digests,
    as_numbers,
    binary_digests,
    digests_of,
    read_mapped,
    write_mapped,
)
from podium.runtime.cache import cache_root

FORMAT: Final = 5
"""Increase it whenever verdicts change: formats that are read, properties that are measured."""

STAMP: Final = ("size", "modified_ns", "changed_ns", "inode")
_SURE_NS = 2_000_000_000
_TWINS = 200_000  # 100 MB
_FLAGS: Final = ("grey", "deep_colour", "more_frames")


@dataclass(frozen=True)
class Verdict:
    """The properties of one file.

    Attributes:
        digest: SHA-256 of its bytes; '' if they could not be read.
        width: in pixels.
        height: in pixels.
        grey: whether it is stored without colour.
        error: why it cannot be read, or ''.
        values: range of grey values deeper than 8 bits; None for other images.
        deep_colour: whether its colour channels have 16 bits, of which the upper 8 are used.
        more_frames: whether it has more frames, pages or slices than the first, which is used.
    """

    digest: str = ""
    width: int = 0
    height: int = 0
    grey: bool = False
    error: str = ""
    values: GreyValues | None = None
    deep_colour: bool = False
    more_frames: bool = False


@dataclass(frozen=True, eq=False)
class Verdicts:
    """The properties of many files, one row per file.

    Attributes:
        digests: SHA-256 of the bytes; uint8 of shape (n, 32), 0 if they could not be read.
        sizes: width and height in pixels; int32 of shape (n, 2).
        flags: whether `grey`, `deep_colour` and `more_frames`; bool of shape (n, 3).
        errors: row -> why the file cannot be read.
        values: row -> range of grey values deeper than 8 bits.
    """

    digests: Digests
    sizes: npt.NDArray[np.int32]
    flags: npt.NDArray[np.bool_]
    errors: dict[int, str] = field(default_factory=dict)
    values: dict[int, GreyValues] = field(default_factory=dict)

    @classmethod
    def empty(cls, count: int) -> Verdicts:
        """Verdicts to be put."""
        return cls(
            np.zeros((count, 32), np.uint8),
            np.zeros((count, 2), np.int32),
            np.zeros((count, len(_FLAGS)), np.bool_),
        )

    def __len__(self) -> int:
        return len(self.digests)

    def __getitem__(self, row: int) -> Verdict:
        digest = self.digests[row]
        return Verdict(
            digest.tobytes().hex() if digest.any() else "",
            *self.sizes[row].tolist(),
            error=self.errors.get(row, ""),
            values=self.values.get(row),
            **dict(zip(_FLAGS, self.flags[row].tolist(), strict=True)),  # type: ignore[misc]
        )

    def put(self, row: int, verdict: Verdict) -> None:
        """Set the properties of a file."""
        if verdict.digest:
            self.digests[row] = np.frombuffer(bytes.fromhex(verdict.digest), np.uint8)
        self.sizes[row] = verdict.width, verdict.height
        self.flags[row] = [getattr(verdict, flag) for flag in _FLAGS]
        if verdict.error:
            self.errors[row] = verdict.error
        if verdict.values is not None:
            self.values[row] = verdict.values

    def copy(self, rows: Rows, others: Verdicts, theirs: Rows) -> None:
        """Set the properties of files to those of others.

        Args:
            rows: to set; int64 of shape (m,).
            others: verdicts without errors.
            theirs: rows of `others`; int64 of shape (m,).
        """
        self.digests[rows] = others.digests[theirs]
        self.sizes[rows] = others.sizes[theirs]
        self.flags[rows] = others.flags[theirs]
        if others.values:
            pairs = zip(rows.tolist(), theirs.tolist(), strict=True)
            self.values.update(
                (row, others.values[one]) for row, one in pairs if one in others.values
            )

    def take(self, rows: Rows) -> Verdicts:
        """The properties of some files, none of which has an error.

        Args:
            rows: int64 of shape (m,).
        """
        found = Verdicts.empty(len(rows))
        found.copy(np.arange(len(rows)), self, rows)
        return found

    def columns(self, rows: Rows) -> dict[str, pa.Array]:
        """The properties of readable files as columns of a table: see `of_columns`."""
        values = [self.values.get(row) for row in rows.tolist()] if self.values else None
        return {
            "sha256": binary_digests(self.digests[rows]),
            "width": pa.array(self.sizes[rows, 0]),
            "height": pa.array(self.sizes[rows, 1]),
            **{name: pa.array(self.flags[rows, at]) for at, name in enumerate(_FLAGS)},
            "values": pa.nulls(len(rows)) if values is None else pa.array(map(_plain, values)),
        }

    @classmethod
    def of_columns(cls, table: pa.Table) -> Verdicts:
        """The verdicts of a table with the columns of `columns`.

        Raises:
            KeyError: there are other columns.
            TypeError: a column has another type.
            ValueError: it holds other values.
        """
        sizes = [table[name].to_numpy() for name in ("width", "height")]
        flags = [table[name].to_numpy() for name in _FLAGS]
        values = table["values"]
        found: dict[int, GreyValues] = {}
        if values.null_count < len(values):
            kept = ((row, one) for row, one in enumerate(values.to_pylist()) if one is not None)
            found = {
                row: GreyValues(one["kind"], one["low"], one["high"], tuple(one["body"]))
                for row, one in kept
            }
        return cls(
            digests_of(table["sha256"]),
            np.stack(sizes, axis=1).astype(np.int32, copy=False),
            np.stack(flags, axis=1).astype(np.bool_, copy=False),
            values=found,
        )


def file_stamp(path: str) -> tuple[int, ...] | None:
    """What a file has as long as nobody writes to it; None if it is too young, or not to be told.

    Args:
        path: of a file.
    """
    if os.name != "posix":  # elsewhere there is no time of change, nor always an inode
        return None
    try:
        found = os.stat(path)  # noqa: PTH116 - a million of them are seconds
    except OSError:
        return None
    if max(found.st_mtime_ns, found.st_ctime_ns) > time.time_ns() - _SURE_NS:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


class VerdictCache:
    """Verdicts on the images of one folder, by path and stamp, and by the SHA-256 of their bytes.

    A cache that is damaged or cannot be written costs time, never correctness.

    Args:
        root: the folder of images.
        folder: folder of the cache; None: `index` in Podium's cache.
        channels: that images must have; None: they are decoded to RGB.

    Attributes:
        verdicts: what is known.
    """

    def __init__(self, root: Path, folder: Path | None = None, channels: int | None = None) -> None:
        place = folder or cache_root() / "index"
        name = f"{root.resolve()}" if channels is None else f"{root.resolve()}\0{channels}"
        key = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
        self.path = place / f"{key[:16]}.arrow"
        self._table = _NOTHING
        self.verdicts = Verdicts.empty(0)
        with contextlib.suppress(OSError, pa.ArrowException, KeyError, TypeError, ValueError):
            table = read_mapped(self.path)
            table.validate(full=True)
            if table.schema.metadata == _METADATA and table.schema.names == _NOTHING.schema.names:
                self.verdicts, self._table = Verdicts.of_columns(table), table
        self._sorted: tuple[Rows, npt.NDArray[np.uint64]] | None = None
        self._new: dict[int, Verdict] = {}

    def rows(self, paths: Texts, stamps: npt.NDArray[np.int64]) -> Rows:
        """Find the files whose stamps are known.

        Args:
            paths: of the files.
            stamps: of the files, 0 where unknown; int64 of shape (n, 4).

        Returns:
            Row of each file in `verdicts`, -1 if it must be read; int64 of shape (n,).
        """
        sought = paths.arrow()
        known = self._table["path"].combine_chunks().cast(sought.type)
        if known.equals(sought):
            rows = np.arange(len(sought))
        else:
            found = pc.index_in(sought, value_set=known)
            rows = pc.fill_null(found, -1).to_numpy().astype(np.int64)
        same = (rows >= 0) & (stamps[:, 0] != 0)
        for at, name in enumerate(STAMP):
            column = self._table[name].to_numpy()
            same[same] = column[rows[same]] == stamps[same, at]
        return np.where(same, rows, -1)

    def get(self, digest: str) -> Verdict | None:
        """The verdict on a file with these bytes; None if it is not known.

        Args:
            digest: SHA-256.
        """
        if (new := self._new.get(int(digest[:16], 16))) is not None and new.digest == digest:
            return new
        if self._sorted is None:  # threads may both do it, to the same end
            numbers = as_numbers(self.verdicts.digests)
            order = np.argsort(numbers)
            self._sorted = order, numbers[order]
        order, numbers = self._sorted
        raw = np.frombuffer(bytes.fromhex(digest), np.uint8)
        at = int(np.searchsorted(numbers, as_numbers(raw[None])[0]))
        if at == len(order) or not np.array_equal(self.verdicts.digests[order[at]], raw):
            return None
        return self.verdicts[int(order[at])]

    def note(self, verdict: Verdict) -> None:
        """Remember a file that was just decoded: of a set made even by copies, most have a twin."""
        if not verdict.error and len(self._new) < _TWINS:
            self._new[int(verdict.digest[:16], 16)] = verdict

    def save(
        self,
        paths: Texts,
        stamps: npt.NDArray[np.int64],
        verdicts: Verdicts,
        rows: Rows,
        *,
        whole: bool,
    ) -> None:
        """Write the verdicts on readable files, if the folder is writable and they are news.

        An unreadable file is decoded again, perhaps by a newer codec.

        Args:
            paths: of all files.
            stamps: of all files, as for `rows`.
            verdicts: on all files.
            rows: the files that were checked.
            whole: drop what else is known: what is gone is not kept forever.
        """
        names = paths.take(rows).arrow()
        columns = {
            "path": names.cast(pa.large_string()),
            **{name: pa.array(stamps[rows, at]) for at, name in enumerate(STAMP)},
            **verdicts.columns(rows),
        }
        table = pa.table(columns, metadata=_METADATA)
        if not whole:
            others = pc.invert(pc.is_in(self._table["path"], value_set=table["path"]))
            table = pa.concat_tables(
                [table, self._table.filter(others)], promote_options="default"
            ).sort_by("path")
        if not table.equals(self._table):
            self._table = _NOTHING  # Windows does not replace a file that is mapped
            with contextlib.suppress(OSError):
                write_mapped(table, self.path)


def _plain(values: GreyValues | None) -> dict[str, Any] | None:
    return (
        None
        if values is None
        else {
            "kind": values.kind,
            "low": values.low,
            "high": values.high,
            "body": [*values.body],
        }
    )


_METADATA = {b"podium-index": str(FORMAT).encode()}
_NOTHING = pa.table(
    {
        "path": pa.array([], pa.large_string()),
        **{name: pa.array([], pa.int64()) for name in STAMP},
        **Verdicts.empty(0).columns(np.empty(0, np.int64)),
    },
    metadata=_METADATA,
)

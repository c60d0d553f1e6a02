"""Checks what a source lists: images by split and class, with their groups and columns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from podium.config.data_settings import DataSpec
from podium.config.registry import SOURCES
from podium.data.advice import FOLDERS, ITEMS, Advice
from podium.data.choose import source_for
from podium.data.columns import Coded, Rows, Texts
from podium.data.file_checks import Verdicts
from podium.data.folder import FolderSource, LayoutSource
from podium.data.gather import gathered, gathered_table
from podium.data.image_table import ImageTable
from podium.data.layout import tell_lookalikes
from podium.data.source import Reader, Source
from podium.data.splits import Parts
from podium.errors import ConfigError, DataError, PodiumError, one_line


@dataclass(frozen=True, eq=False)
class Listing:
    """The images of a source, one row per image, sorted by path; no file has been read yet.

    Attributes:
        reader: reads the images.
        paths: names of the images, by code points.
        labels: class of each image, as its place in `names`; int32 of shape (n,).
        names: of the classes.
        parts: split -> rows of its images, ascending; int64. Without splits, all are `train`.
        skipped: kind -> number of things that were skipped.
        notices: sentences for the user.
        is_split: whether the source assigns images to splits.
        advice: remedies for error messages.
        groups: what each image belongs to; None: no image belongs to anything.
        columns: further metadata by name.
        likely_groups: columns that may name what images belong to.
        channels: that every image must have; None: images are decoded to RGB.
        checked: properties of the files, if the source knows them; None: they are to be read.
    """

    reader: Reader
    paths: Texts
    labels: npt.NDArray[np.int32]
    names: tuple[str, ...]
    parts: Parts
    skipped: Mapping[str, int]
    notices: tuple[str, ...]
    is_split: bool
    advice: Advice
    groups: Coded | None = None
    columns: Mapping[str, Coded] = field(default_factory=dict)
    likely_groups: tuple[str, ...] = ()
    channels: int | None = None
    checked: Verdicts | None = None

    def only(self, *splits: str) -> Listing:
        """The images of some splits alone.

        Args:
            splits: of the listing.
        """
        rows = np.sort(np.concatenate([self.parts[split] for split in splits]))
        parts = {split: np.searchsorted(rows, self.parts[split]) for split in splits}
        if len(rows) == len(self.paths):
            return replace(self, parts=parts)
        return replace(
            self,
            paths=Texts(self.paths.take(rows).arrow()),
            labels=self.labels[rows],
            parts=parts,
            groups=None if self.groups is None else self.groups.take(rows),
            columns={name: cells.take(rows) for name, cells in self.columns.items()},
            checked=None if self.checked is None else self.checked.take(rows),
        )

    def table(self, verdicts: Verdicts, rows: Rows) -> ImageTable:
        """The images that an index is made of.

        Args:
            verdicts: on all files.
            rows: of readable images, ascending; int64 of shape (n,).
        """
        deep = np.zeros(len(self.paths), np.bool_)
        deep[[*verdicts.values]] = True
        if len(rows) == len(self.paths):  # nothing is copied
            return ImageTable(self.paths, verdicts.digests, deep, self.groups, self.columns)
        return ImageTable(
            Texts(self.paths.take(rows).arrow()),
            verdicts.digests[rows],
            deep[rows],
            None if self.groups is None else self.groups.take(rows),
            {name: cells.take(rows) for name, cells in self.columns.items()},
        )

    @property
    def splits(self) -> dict[str, dict[str, list[str]]]:
        """Split -> class -> paths, as Python's strings: for few images."""
        found: dict[str, dict[str, list[str]]] = {split: {} for split in self.parts}
        for split, rows in self.parts.items():
            pairs = zip(self.paths.take(rows), self.labels[rows].tolist(), strict=True)
            for path, label in pairs:
                found[split].setdefault(self.names[label], []).append(path)
        return found

    @property
    def place(self) -> str:
        """The source's name in messages."""
        return self.reader.place


def listed_images(data: str | Path | Source | Listing, channels: int | None = None) -> Listing:
    """List the images of a folder or source, unless they are listed.

    Args:
        data: a folder, a source or its listing.
        channels: that every image must have; None: what the listing says, or RGB.
    """
    if not isinstance(data, Source | Listing):
        data = FolderSource(Path(data).expanduser(), channels=channels)
    found = data if isinstance(data, Listing) else list_images(data)
    return found if channels is None else replace(found, channels=channels)


def named_source(data: str | Path | DataSpec | Source, channels: int | None = None) -> Source:
    """Return a source unchanged, or the source that reads a path or a known data set.

    Args:
        data: a source, a study's `data`, whatever its `path` takes, or the name of a known set.
        channels: of each image; None: what `data` says, or RGB.

    Raises:
        DataError: there is no such path, or the data set is not on this machine.
    """
    if isinstance(data, Source):
        return data
    spec = data if isinstance(data, DataSpec) else DataSpec(path=str(data))
    return open_source(spec if channels is None else spec.model_copy(update={"channels": channels}))


def source_name(data: DataSpec) -> str:
    """Name of the source that reads a study's images."""
    return source_for(data.path, data.label) if data.source == "auto" else data.source


def open_source(data: DataSpec) -> Source:
    """Create the source that a study names, with its path and options.

    Options given as text are converted to the types of the source's signature.

    Args:
        data: the study's `data`.

    Raises:
        ConfigError: there is no such source, or it does not accept the options.
        DataError: it cannot be opened from the path.
    """
    name = source_name(data)
    factory = SOURCES[name]
    given = dict(data.options) if data.label is None else {**data.options, "label": data.label}
    if data.channels is not None and "channels" in _parameters(factory):
        given["channels"] = data.channels
    options = _typed(factory, data.path, given, name)
    try:
        made = factory(data.path, **options)
    except PodiumError:
        raise
    except Exception as error:
        raise DataError(
            f"source {name} cannot be opened from {data.path} "
            f"({type(error).__name__}: {one_line(error)})."
        ) from error
    if not isinstance(made, Source):
        raise ConfigError(f"source {name}: expected a podium.Source, got {type(made).__name__}.")
    return made


def list_images(source: Source) -> Listing:
    """List the images of a source, and check that they can be used.

    Args:
        source: the source.

    Raises:
        DataError: it cannot be listed; or items share a name, have an invalid name, have no
            label, have an unknown split, or only some of them have a split.
    """
    try:
        table = source.as_table()
        found = gathered(source.list()) if table is None else gathered_table(table)
        skipped = {str(kind): int(count) for kind, count in source.skipped.items()}
        notices = [str(notice) for notice in source.notices]
    except PodiumError:
        raise
    except Exception as error:
        raise DataError(
            f"{source.place} cannot be listed ({type(error).__name__}: {one_line(error)})."
        ) from error
    if wrong := found.wrong():
        raise DataError(f"{source.place}{wrong}")
    folders = source.split_folders if isinstance(source, LayoutSource) else ()
    parts = found.parts()
    empty = {split: np.empty(0, np.int64) for split in folders}
    return Listing(
        Reader(source),
        found.paths,
        found.labels,
        found.names,
        {**empty, **parts},
        skipped,
        (*notices, *tell_lookalikes(found.names)),
        is_split=found.is_split,
        advice=FOLDERS if isinstance(source, LayoutSource) else ITEMS,
        groups=found.groups,
        columns=found.columns,
        likely_groups=tuple(source.likely_groups),
        checked=found.checked,
    )


def _typed(
    factory: Callable[..., Any], path: str, options: Mapping[str, Any], source: str
) -> dict[str, Any]:
    """Convert options to the types of the source's signature: study files hold them as text."""
    # the signature of a class would be that of `Source.__new__`, which takes anything
    call: Any = factory.__init__ if inspect.isclass(factory) else factory
    given = (None, path) if inspect.isclass(factory) else (path,)
    try:
        inspect.signature(call).bind(*given, **options)
    except TypeError as error:
        known = _parameters(factory)
        further = ", ".join(name for name in known[1:] if name not in ("label", "channels"))
        raise ConfigError(
            f"source {source}: {error}. It takes data.path"
            f"{', data.label' if 'label' in known else ''}, and as data.options: "
            f"{further or 'none'}."
        ) from None
    except ValueError:  # written in C: it has no signature, and checks its arguments itself
        return dict(options)
    return {
        key: _as(_kind(call, key), value, f"data.options.{key}") for key, value in options.items()
    }


def _parameters(factory: Callable[..., Any]) -> list[str]:
    """Names of a source's arguments: its path, then its options; empty if it is written in C."""
    call: Any = factory.__init__ if inspect.isclass(factory) else factory
    try:
        return [*inspect.signature(call).parameters][1 if inspect.isclass(factory) else 0 :]
    except ValueError:
        return []


def _kind(call: Any, key: str) -> Any:
    """The type of a parameter; `Any` if it has no annotation, or one that cannot be resolved."""
    annotations = {
        one: kind for one, kind in getattr(call, "__annotations__", {}).items() if one == key
    }
    holder = SimpleNamespace(__annotations__=annotations)
    try:  # only this one: the others may be names that exist only for type checkers
        return get_type_hints(holder, getattr(call, "__globals__", None)).get(key, Any)
    except Exception:
        return Any


def _as(kind: Any, value: Any, key: str) -> Any:
    try:
        wanted: TypeAdapter[Any] = TypeAdapter(kind)
    except PydanticUserError:  # a user's class
        return value
    try:
        return wanted.validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Input should be ")
        raise ConfigError(f"{key}: expected {message}, got {value!r}.") from None

"""Checks what a source lists: images by split and class, with their groups and columns."""

from __future__ import annotations

import inspect
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from podium.config.data_settings import DataSpec
from podium.config.registry import SOURCES
from podium.data.advice import FOLDERS, ITEMS, Advice
from podium.data.choose import source_for
from podium.data.folder import FolderSource, LayoutSource
from podium.data.layout import tell_lookalikes
from podium.data.source import Item, Reader, Source
from podium.data.words import counted, listed, shown
from podium.errors import ConfigError, DataError, PodiumError, one_line

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Listing:
    """The images of a source; no file has been read yet.

    Attributes:
        reader: reads the images.
        splits: split -> class -> paths. Without splits, everything is `train`.
        skipped: kind -> number of things that were skipped.
        notices: sentences for the user.
        is_split: whether the source assigns images to splits.
        advice: remedies for error messages.
        groups: path -> group, of the images that have one.
        columns: path -> columns, of the images that have any.
        likely_groups: columns that may name what images belong to.
        channels: that every image must have; None: images are decoded to RGB.
    """

    reader: Reader
    splits: dict[str, dict[str, list[str]]]
    skipped: Mapping[str, int]
    notices: tuple[str, ...]
    is_split: bool
    advice: Advice
    groups: dict[str, str] = field(default_factory=dict)
    columns: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    likely_groups: tuple[str, ...] = ()
    channels: int | None = None

    @property
    def paths(self) -> list[str]:
        """All images, in the order of splits and classes."""
        return [
            path for classes in self.splits.values() for part in classes.values() for path in part
        ]

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
        items = [*source.list()]
        skipped = {str(kind): int(count) for kind, count in source.skipped.items()}
        notices = [str(notice) for notice in source.notices]
    except PodiumError:
        raise
    except Exception as error:
        raise DataError(
            f"{source.place} cannot be listed ({type(error).__name__}: {one_line(error)})."
        ) from error
    _refuse(source.place, items)
    folders = source.split_folders if isinstance(source, LayoutSource) else ()
    splits: dict[str, dict[str, list[str]]] = {split: {} for split in folders}
    for item in items:
        # one class if two Unicode spellings look the same
        label = unicodedata.normalize("NFC", item.label)
        splits.setdefault(item.split or "train", {}).setdefault(label, []).append(item.path)
    return Listing(
        Reader(source),
        splits,
        skipped,
        (*notices, *tell_lookalikes(splits)),
        is_split=any(item.split is not None for item in items),
        advice=FOLDERS if isinstance(source, LayoutSource) else ITEMS,
        groups={item.path: item.group for item in items if item.group is not None},
        columns={item.path: item.columns for item in items if item.columns},
        likely_groups=tuple(source.likely_groups),
    )


def _refuse(place: str, items: list[Any]) -> None:
    """Refuse items that cannot be used; reports all problems at once."""
    others = Counter(type(item).__name__ for item in items if not isinstance(item, Item))
    if others:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in others.most_common())
        raise DataError(f"{place}: expected only items of type podium.Item, got {kinds}.")
    if not items:
        raise DataError(f"{place} lists no images.")
    wrong: list[str] = []

    def report(what: str, faulty: Iterable[Any]) -> None:
        if found := [repr(one) for one in faulty]:
            examples = shown(listed([*dict.fromkeys(found)]))
            wrong.append(f"{counted(len(found), 'item')} {what}: {examples}")

    names = [item.path for item in items]
    report("without a relative name such as cat/1.jpg", (one for one in names if not _is_name(one)))
    if not wrong and len(set(names)) < len(names):
        times = Counter(names)
        report("with a duplicate name", (one for one in names if times[one] > 1))
    report(
        "without a label",
        (one.path for one in items if not (isinstance(one.label, str) and one.label.strip())),
    )
    report(
        "of a split that is not train, valid or test",
        (one.split for one in items if not (one.split is None or one.split in SPLITS)),
    )
    without = [one.path for one in items if one.split is None]
    if len(without) < len(items):
        report(f"without a split, while {len(items) - len(without):,} have one", without)
    report(
        "whose group is not a string",
        (one.group for one in items if not (one.group is None or isinstance(one.group, str))),
    )
    if wrong:
        raise DataError(
            f"{place} lists {counted(len(items), 'image')} that cannot be used: "
            f"{'; '.join(wrong)}. Fix the source, or the data that it reads."
        )


def _is_name(path: object) -> bool:
    """Whether it is a valid image name: one that stays inside the folder it is joined to."""
    if not isinstance(path, str) or not path or "\0" in path:
        return False
    climbs = ".." in path and ".." in path.replace("\\", "/").split("/")
    return not (climbs or path[0] == "/" or (os.name == "nt" and Path(path).is_absolute()))


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

"""What a source lists, checked: pictures by split and class, and whatever else is known of them."""

from __future__ import annotations

import inspect
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from podium.config.registry import SOURCES
from podium.config.settings import DataSpec
from podium.data.advice import FOLDERS, ITEMS, Advice
from podium.data.fetch import resolve_data
from podium.data.folder import FolderSource
from podium.data.layout import tell_lookalikes
from podium.data.source import Item, Reader, Source
from podium.data.words import counted, listed, shown
from podium.errors import ConfigError, DataError, PodiumError, one_line

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Listing:
    """What a source has; nothing was read yet.

    Attributes:
        reader: of the pictures.
        splits: split -> class -> paths. Without splits all is `train`.
        skipped: what was passed over, by kind.
        notices: what a user should know, a sentence each.
        is_split: whether the source says which picture is in which split.
        advice: what helps where pictures are missing.
        groups: path -> group, of the pictures that have one.
        columns: path -> whatever else is known, of the pictures of which it is.
    """

    reader: Reader
    splits: dict[str, dict[str, list[str]]]
    skipped: Mapping[str, int]
    notices: tuple[str, ...]
    is_split: bool
    advice: Advice
    groups: dict[str, str] = field(default_factory=dict)
    columns: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """What to call the source."""
        return self.reader.place


def as_source(data: str | Path | Source) -> Source:
    """A source as it is, or that of a folder."""
    return data if isinstance(data, Source) else FolderSource(Path(data).expanduser())


def named_source(data: str | Path | Source) -> Source:
    """A source as it is, or that of a folder or of a data set of ours; see `resolve_data`."""
    return data if isinstance(data, Source) else FolderSource(resolve_data(str(data)))


def open_source(data: DataSpec) -> Source:
    """The source that a study names, made with its path and options.

    An option's text becomes what the source's own signature says it is: a number, a switch.

    Raises:
        ConfigError: there is no such source, or it takes no such options.
        DataError: it cannot be opened from there.
    """
    factory = SOURCES[data.source]
    options = _typed(factory, data.path, data.options, data.source)
    try:
        made = factory(data.path, **options)
    except PodiumError:
        raise
    except Exception as error:
        raise DataError(
            f"source {data.source} cannot be opened from {data.path} "
            f"({type(error).__name__}: {one_line(error)})."
        ) from error
    if not isinstance(made, Source):
        raise ConfigError(
            f"source {data.source}: expected a podium.Source, got {type(made).__name__}."
        )
    return made


def list_images(source: Source) -> Listing:
    """Everything that a source lists, once it is sure that it can be used.

    Raises:
        DataError: it cannot be listed; or two pictures have one name, some have no label or a
            name that cannot be one, or splits are unknown or not told of all.
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
    folders = source.split_folders if isinstance(source, FolderSource) else ()
    splits: dict[str, dict[str, list[str]]] = {split: {} for split in folders}
    for item in items:
        # one class, where two spellings look the same
        label = unicodedata.normalize("NFC", item.label)
        splits.setdefault(item.split or "train", {}).setdefault(label, []).append(item.path)
    return Listing(
        Reader(source),
        splits,
        skipped,
        (*notices, *tell_lookalikes(splits)),
        is_split=any(item.split is not None for item in items),
        advice=FOLDERS if isinstance(source, FolderSource) else ITEMS,
        groups={item.path: item.group for item in items if item.group is not None},
        columns={item.path: item.columns for item in items if item.columns},
    )


def _refuse(place: str, items: list[Any]) -> None:
    """Stop where what is listed can be used in no way, or in several; all that is wrong at once."""
    others = Counter(type(item).__name__ for item in items if not isinstance(item, Item))
    if others:
        told = ", ".join(f"{count:,} {kind}" for kind, count in others.most_common())
        raise DataError(f"{place} lists {told}: expected podium.Item alone.")
    if not items:
        raise DataError(f"{place} lists no picture.")
    wrong: list[str] = []

    def tell(what: str, faulty: Iterable[Any]) -> None:
        if found := [repr(one) for one in faulty]:
            told = shown(listed([*dict.fromkeys(found)]))
            wrong.append(f"{counted(len(found), 'item')} {what}: {told}")

    names = [item.path for item in items]
    tell("without a relative name such as cat/1.jpg", (one for one in names if not _is_name(one)))
    if not wrong and len(set(names)) < len(names):
        times = Counter(names)
        tell("with a name that others have, too", (one for one in names if times[one] > 1))
    tell(
        "without a label",
        (one.path for one in items if not (isinstance(one.label, str) and one.label.strip())),
    )
    tell(
        "of a split that is not train, valid or test",
        (one.split for one in items if not (one.split is None or one.split in SPLITS)),
    )
    without = [one.path for one in items if one.split is None]
    if len(without) < len(items):
        tell(f"without a split, while {len(items) - len(without):,} have one", without)
    tell(
        "whose group is no text",
        (one.group for one in items if not (one.group is None or isinstance(one.group, str))),
    )
    if wrong:
        raise DataError(
            f"{place} lists {counted(len(items), 'picture')} that cannot be used so: "
            f"{'; '.join(wrong)}. Mend the source, or what it reads."
        )


def _is_name(path: object) -> bool:
    """Whether it can be a picture's name: one that never leads out of where it is joined to."""
    if not isinstance(path, str) or not path or "\0" in path:
        return False
    climbs = ".." in path and ".." in path.replace("\\", "/").split("/")
    return not (climbs or path[0] == "/" or (os.name == "nt" and Path(path).is_absolute()))


def _typed(
    factory: Callable[..., Any], path: str, options: Mapping[str, Any], source: str
) -> dict[str, Any]:
    """Options as the source's own signature wants them: study files hold plain words as text."""
    # the signature of a class would be that of `Source.__new__`, which takes anything
    call: Any = factory.__init__ if inspect.isclass(factory) else factory
    given = (None, path) if inspect.isclass(factory) else (path,)
    try:
        inspect.signature(call).bind(*given, **options)
    except TypeError as error:
        known = [*inspect.signature(call).parameters][len(given) - 1 :]
        raise ConfigError(
            f"source {source}: {error}. It takes data.path, and as data.options: "
            f"{', '.join(known[1:]) or 'none'}."
        ) from None
    except ValueError:  # written in C: it says for itself what it takes
        return dict(options)
    return {key: _as(_kind(call, key), value, f"data.options.{key}")
            for key, value in options.items()}  # fmt: skip


def _kind(call: Any, key: str) -> Any:
    """What a parameter is to be; anything where that is not said, or can be known in no way."""
    annotations = {
        one: kind for one, kind in getattr(call, "__annotations__", {}).items() if one == key
    }
    alone = SimpleNamespace(__annotations__=annotations)
    try:  # by itself: the others may be names that are there for type checkers alone
        return get_type_hints(alone, getattr(call, "__globals__", None)).get(key, Any)
    except Exception:
        return Any


def _as(kind: Any, value: Any, key: str) -> Any:
    try:
        wanted: TypeAdapter[Any] = TypeAdapter(kind)
    except PydanticUserError:  # a class of the user's own
        return value
    try:
        return wanted.validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Input should be ")
        raise ConfigError(f"{key}: expected {message}; got {value!r}.") from None

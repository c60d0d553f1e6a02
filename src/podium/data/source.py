"""Sources of images: the interface for listing and reading images from any storage."""

from __future__ import annotations

import contextlib
import copy
import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeVar, overload

from podium.config.registry import SOURCES
from podium.data.images import MAX_BYTES
from podium.errors import ConfigError, PodiumError, UnreadableImageError

if TYPE_CHECKING:
    import pyarrow as pa

Value = str | int | float | bool | None
Factory = TypeVar("Factory", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Item:
    """An image of a source, with its label and metadata.

    Attributes:
        path: its relative name, with '/': the argument of `Source.read`, and the image's name in
            reports and predictions. Podium never opens a file of that name itself. Its extension
            is counted as its format.
        label: name of its class.
        split: `train`, `valid` or `test`; None: no item of the source has a split, and Podium
            holds images out.
        group: what it belongs to, such as a patient, a site or a video; None: no group.
        columns: further metadata by name.

    Examples:
        >>> Item("scans/0001.png", "ill", group="patient 7", columns={"age": 61})
        Item(path='scans/0001.png', label='ill', split=None, group='patient 7', columns={'age': 61})
    """

    path: str
    label: str
    split: str | None = None
    group: str | None = None
    columns: Mapping[str, Value] = field(default_factory=dict)


class Source(ABC):
    """Labelled images in any storage: the base class of your own sources.

    A study names a source, which is created with the study's `data.path` and `data.options`.
    `list` is called once. `read` is called from several threads at once, and in several processes,
    each of which creates the source again with the same arguments: no open file, lock or
    connection is shared between processes. So prepare what `read` needs in `__init__`, not in
    `list`, and use arguments that can be pickled.

    Attributes:
        place: its name in messages and `data.json`; by default its first argument if that is a
            path or a string, otherwise the name of its class.
        skipped: kind -> number of things that were skipped; set it before `list` ends.
        notices: sentences for the user; set it before `list` ends.
        chosen: what `list` guessed, as settings of a study's `data`: dotted key -> value, such as
            `{"label": "species"}`; set it before `list` ends.
        likely_groups: columns that may name what images belong to; reported if the images of a
            study have no groups. Set it before `list` ends.

    Examples:
        >>> class Memory(Source):
        ...     def __init__(self, pictures):
        ...         self.pictures = pictures
        ...     def list(self):
        ...         return [Item(name, name.split("/")[0]) for name in self.pictures]
        ...     def read(self, path):
        ...         return self.pictures[path]
        >>> source = Memory({"cat/1.png": b"...", "dog/1.png": b"..."})
        >>> [item.label for item in source.list()]
        ['cat', 'dog']
        >>> source.place
        'Memory'
    """

    skipped: Mapping[str, int] = {}
    notices: Sequence[str] = ()
    chosen: Mapping[str, str] = {}
    likely_groups: Sequence[str] = ()
    place: str
    _made_with: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *given: Any, **options: Any) -> Self:
        made = super().__new__(cls)
        first = given[0] if given else next(iter(options.values()), None)
        named = isinstance(first, str | Path) and str(first)
        # not through __setattr__: a frozen dataclass is a source as well
        object.__setattr__(made, "place", str(first) if named else cls.__name__)
        object.__setattr__(made, "_made_with", (given, options))
        return made

    def __reduce__(self) -> Any:
        return _make, (type(self), *self._made_with)

    @abstractmethod
    def list(self) -> Iterable[Item]:
        """Yield every image once, in any order."""

    def as_table(self) -> pa.Table | None:
        """All images at once, instead of `list`, by a source that has them as a table.

        Returns:
            One row per image, as `podium.data.packing` writes them, sorted by path. None: `list`
            yields them.
        """
        return None

    def stamp_of(self, path: str) -> tuple[int, ...] | None:
        """Tell whether a file was written to since it was last read, without reading it.

        Args:
            path: of one of the items.

        Returns:
            What `podium.data.file_checks.file_stamp` returns of the file; None: not to be told,
            so the file is read at every start.
        """
        return None

    @abstractmethod
    def read(self, path: str) -> bytes | BinaryIO:
        """Return the bytes of an image file (JPEG, PNG...), or a binary file opened at its start.

        Args:
            path: of one of the items.

        Raises:
            DataError: nothing can be read any more; the study stops with this message.
            Exception: this image cannot be read; it is left out, and reported with the reason.
        """


def _make(cls: type[Source], given: tuple[Any, ...], options: dict[str, Any]) -> Source:
    return cls(*given, **options)


@overload
def register_source(name: str) -> Callable[[Factory], Factory]: ...


@overload
def register_source(name: str, factory: Factory) -> Factory: ...


def register_source(name: str, factory: Any = None) -> Any:
    """Register a source under a name that studies can use: `data: {source: NAME, ...}`.

    Args:
        name: letters, digits, `_`, `-` and `.`; not one of Podium's.
        factory: a class derived from `Source`, or a function that returns one; called with the
            study's `data.path` and `data.options`. None: use it as a decorator.

    Returns:
        The factory itself; without one, a decorator that returns what it decorates.

    Raises:
        ConfigError: the name is Podium's or not valid, or the factory is neither.

    Examples:
        >>> @register_source("nothing")
        ... class Nothing(Source):
        ...     def list(self):
        ...         return []
        ...     def read(self, path):
        ...         raise KeyError(path)
    """
    if factory is None:
        return lambda decorated: register_source(name, decorated)
    SOURCES.register(name, _factory(name, factory), factory)
    return factory


def _factory(name: str, offered: Any) -> Callable[..., Any]:
    """Check what a user registers as a source.

    Args:
        name: the name in studies.
        offered: a class derived from `Source`, or a function that returns a source.

    Raises:
        ConfigError: it is neither.
    """
    if inspect.isclass(offered):
        if not issubclass(offered, Source):
            got = f"the class {offered.__name__}, which is not derived from it"
        elif missing := sorted(offered.__abstractmethods__):
            got = f"the class {offered.__name__} without {' and '.join(missing)}"
        else:
            return offered
    elif callable(offered):
        return offered  # type: ignore[no-any-return]
    else:
        got = repr(offered)[:80]
    raise ConfigError(
        f"source {name}: expected a class derived from podium.Source with list and read, or a "
        f"function that returns a source, got {got}."
    )


SOURCES.convert = _factory


class Reader:
    """Reads the images of a source in any process.

    Args:
        source: the source; every process gets its own copy.

    Attributes:
        place: the source's name in messages.
        root_text: the folder that paths are relative to, if the source states it as its `root`;
            else its place.
    """

    def __init__(self, source: Source) -> None:
        self.place = source.place
        root = getattr(source, "root", None)
        # not always the text of a path: an address would lose a slash
        self.root_text = str(root) if isinstance(root, Path) else source.place
        self._source, self._process = copy.copy(source), os.getpid()

    def __reduce__(self) -> tuple[type[Reader], tuple[Source]]:
        return type(self), (self._source,)

    def stamp_of(self, path: str) -> tuple[int, ...] | None:
        """See `Source.stamp_of`."""
        return self._source.stamp_of(path)

    def read(self, path: str) -> bytes:
        """Read the bytes of an image file.

        Args:
            path: of one of the source's items.

        Raises:
            UnreadableImageError: it cannot be read, or is too large.
            DataError: the source cannot be read any more.
            ConfigError: the source returns neither bytes nor a binary file.
        """
        if self._process != os.getpid():  # forked: open files are shared with the other process
            self._source, self._process = copy.copy(self._source), os.getpid()
        try:
            content = self._source.read(path)
            if not isinstance(content, bytes):
                content = self._all_of(path, content)
        except PodiumError:
            raise
        except OSError as error:
            raise UnreadableImageError(path, error.strerror or str(error)) from None
        except Exception as error:  # user code and archives may raise any exception
            why = f"the source cannot read it: {type(error).__name__}: {error}"
            raise UnreadableImageError(path, why) from error
        if len(content) > MAX_BYTES:
            raise UnreadableImageError(path, f"its size exceeds the limit of {MAX_BYTES:,} bytes")
        return content

    def _all_of(self, path: str, given: Any) -> bytes:
        if isinstance(given, bytearray | memoryview):
            return bytes(given)
        content = None
        if hasattr(given, "read"):
            with contextlib.closing(given):
                content = given.read(MAX_BYTES + 1)
        if not isinstance(content, bytes):
            got = type(given if content is None else content).__name__
            raise ConfigError(
                f"The source {self.place}: expected bytes or an open binary file for {path}, got "
                f"{got}."
            )
        return content

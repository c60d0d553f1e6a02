"""Where pictures come from: what a source lists and reads, whatever it keeps them in."""

from __future__ import annotations

import contextlib
import copy
import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar, overload

from podium.config.registry import SOURCES
from podium.data.images import MAX_BYTES
from podium.errors import ConfigError, PodiumError, UnreadableImageError

Value = str | int | float | bool | None
Factory = TypeVar("Factory", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Item:
    """A picture that a source has, and what is known of it.

    Attributes:
        path: its name, relative, with '/': what `Source.read` is asked for, and what reports and
            predictions call it. Podium never opens a file of that name itself. Its ending is
            counted as its format.
        label: the name of its class.
        split: `train`, `valid` or `test`; None: no item of the source has one, and Podium holds
            images out.
        group: what it belongs to, such as a patient, a site or a video; None: to nothing.
        columns: whatever else is known of it, by name.

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
    """Pictures with their labels, wherever they are kept: the base of sources of your own.

    A study names one, and its `data.path` and `data.options` are what it is made with. `list` is
    called once. `read` is called from several threads at once, and in several processes, each of
    which makes the source anew with the arguments that it was made with here: no open file, lock
    or connection is ever shared between processes. So what `read` needs is prepared in
    `__init__`, not in `list`, and the arguments can be pickled.

    Attributes:
        place: what messages and `data.json` call it; unless it is set, what it was made with
            first, where that is a path or a text, else the name of its class.
        skipped: kind -> how many things of that kind were passed over; to be set by then that
            `list` is done.
        notices: what a user should know, a sentence each; the same.

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
        """Every picture there is, each once, in any order."""

    @abstractmethod
    def read(self, path: str) -> bytes | BinaryIO:
        """The bytes of a picture's file (JPEG, PNG...), or a binary file open at its beginning.

        Args:
            path: of one of the items.

        Raises:
            DataError: nothing can be read any more; the study stops with this message.
            Exception: this picture cannot be read: it is left out, and named with the reason.
        """


def _make(cls: type[Source], given: tuple[Any, ...], options: dict[str, Any]) -> Source:
    return cls(*given, **options)


@overload
def register_source(name: str) -> Callable[[Factory], Factory]: ...


@overload
def register_source(name: str, factory: Factory) -> Factory: ...


def register_source(name: str, factory: Any = None) -> Any:
    """Give a source a name that studies of this process can use: `data: {source: NAME, ...}`.

    Args:
        name: letters, digits, `_`, `-` and `.`.
        factory: a class derived from `Source`, or a function that returns one; called with the
            study's `data.path` and `data.options`. Empty: what is decorated.

    Returns:
        The factory itself.

    Raises:
        ConfigError: the name is one of ours or cannot be one, or the factory is no such thing.

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
    """What a user offers as a source, if it can be one.

    Raises:
        ConfigError: it cannot.
    """
    if inspect.isclass(offered):
        if not issubclass(offered, Source):
            told = f"the class {offered.__name__}, which is not derived from it"
        elif missing := sorted(offered.__abstractmethods__):
            told = f"the class {offered.__name__} without {' and '.join(missing)}"
        else:
            return offered
    elif callable(offered):
        return offered  # type: ignore[no-any-return]
    else:
        told = repr(offered)[:80]
    raise ConfigError(
        f"source {name}: expected a class derived from podium.Source that has list and read, or a "
        f"function that returns a source; got {told}."
    )


SOURCES.convert = _factory


class Reader:
    """Reads the pictures of a source in whichever process it is.

    Args:
        source: of which every process gets one of its own.
    """

    def __init__(self, source: Source) -> None:
        self.place = source.place
        self._source, self._process = copy.copy(source), os.getpid()

    def __reduce__(self) -> tuple[type[Reader], tuple[Source]]:
        return type(self), (self._source,)

    def read(self, path: str) -> bytes:
        """The bytes of a picture's file.

        Raises:
            UnreadableImageError: it cannot be read, or is too large.
            DataError: the source cannot be read any more.
            ConfigError: what the source gives is neither bytes nor a file.
        """
        if self._process != os.getpid():  # forked: its open files are the other process's, too
            self._source, self._process = copy.copy(self._source), os.getpid()
        try:
            content = self._source.read(path)
            if not isinstance(content, bytes):
                content = self._all_of(path, content)
        except PodiumError:
            raise
        except OSError as error:
            raise UnreadableImageError(path, error.strerror or str(error)) from None
        except Exception as error:  # a user's code, and archives raise what they like
            why = f"the source cannot read it: {type(error).__name__}: {error}"
            raise UnreadableImageError(path, why) from error
        if len(content) > MAX_BYTES:
            raise UnreadableImageError(path, f"more bytes than the limit, {MAX_BYTES:,}")
        return content

    def _all_of(self, path: str, given: Any) -> bytes:
        if isinstance(given, bytearray | memoryview):
            return bytes(given)
        content = None
        if hasattr(given, "read"):
            with contextlib.closing(given):
                content = given.read(MAX_BYTES + 1)
        if not isinstance(content, bytes):
            came = type(given if content is None else content).__name__
            raise ConfigError(
                f"The source {self.place} gave {came} for {path}: expected bytes, or a file that "
                "is open for reading bytes."
            )
        return content

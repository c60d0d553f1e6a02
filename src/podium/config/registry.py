"""What people add to Podium, by name: a registry for each kind of thing.

A name stands for one of ours, for what was registered in this process, for what an installed
package offers under the entry-point group `podium.<kind>s`, or, written `module:name`, for
something in a file of the user's own. Code of the last kind runs only once a study that the user
asked for names it (`allow`): never because a run's folder or a model's description does.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from podium.errors import ConfigError

__all__ = ["REFERENCE", "Registry", "allow", "allowed", "source_digest"]

Thing = TypeVar("Thing")

REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""`module:name`, as in a study's `model: my_networks:tiny`."""

_ALLOWED: dict[str, str] = {}  # module -> the folder that it was found in; '' is Python's own path


def allow(module: str, folder: str | Path = "") -> None:
    """Import a module of the user's, who has asked for it, so that studies may name its contents.

    Args:
        module: dotted, as in an import.
        folder: looked in before Python's own path; empty: that path and the current folder alone.

    Raises:
        ConfigError: there is no such module, or it fails while it is imported.
    """
    if module in _ALLOWED:
        return
    places = [str(Path(folder).resolve())] if folder else []
    places.append(str(Path.cwd()))
    added = [place for place in places if place not in sys.path]
    sys.path[:0] = added
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise ConfigError(f"{module} cannot be imported: it needs {error.name}.") from error
        raise ConfigError(
            f"There is no module {module}. Expected {module.replace('.', '/')}.py in "
            f"{' or '.join(dict.fromkeys(places))}, or an installed package of that name."
        ) from None
    except Exception as error:
        raise ConfigError(
            f"{module} cannot be imported ({type(error).__name__}: {error})."
        ) from error
    finally:
        for place in added:
            sys.path.remove(place)
    sys.path += added  # for what it imports later; behind all others, so that it hides none
    _ALLOWED[module] = places[0]


def allowed() -> dict[str, str]:
    """What `allow` was called with so far, module -> folder: for processes that are started."""
    return dict(_ALLOWED)


class Registry(Generic[Thing]):
    """Things of one kind by name.

    Args:
        kind: what they are called in messages, such as `augmentation`; the entry-point group is
            `podium.<kind>s`.
        built_in: names of ours, each of which the module that defines them registers.
        convert: makes what a package or a file of the user's offers into a `Thing`, from its name
            and the object; raises ConfigError where it is none. The module that defines ours may
            set it later.
        open_ended: whether names that are not known here may still be right, as models of timm's.

    Examples:
        >>> colours = Registry("colour", ["red"])
        >>> colours.register("red", (255, 0, 0))
        (255, 0, 0)
        >>> colours["red"]
        (255, 0, 0)
        >>> colours.check("rad")
        Traceback (most recent call last):
        ...
        ValueError: there is no colour 'rad'. Did you mean red? Expected red, or module:name.
    """

    def __init__(
        self,
        kind: str,
        built_in: Iterable[str] = (),
        *,
        convert: Callable[[str, Any], Thing] | None = None,
        open_ended: bool = False,
    ) -> None:
        self.kind, self.built_in, self.open_ended = kind, tuple(built_in), open_ended
        self.convert = convert
        self._found: dict[str, Thing] = {}
        self._origin: dict[str, Any] = {}  # of what is not ours: the object that was offered

    @property
    def group(self) -> str:
        """The entry-point group that packages use."""
        return "podium.losses" if self.kind == "loss" else f"podium.{self.kind}s"

    def register(self, name: str, thing: Thing, origin: Any = None) -> Thing:
        """Give a thing its name; one that was registered before is replaced, ours never.

        Args:
            name: letters, digits, `_`, `-` and `.`.
            thing: what it stands for.
            origin: the user's function or class behind it, whose source makes the digest of a
                recipe; None: it is one of ours.

        Raises:
            ConfigError: it is a name of ours, or cannot be one.
        """
        if origin is not None and name in self.built_in:
            raise ConfigError(f"{self.kind} {name!r} is one of Podium's: give yours another name.")
        if not re.fullmatch(r"[\w.:-]+", name):
            raise ConfigError(
                f"{self.kind} {name!r}: expected a name of letters, digits, '_', '-' and '.'."
            )
        self._found[name] = thing
        if origin is not None:
            self._origin[name] = origin
        return thing

    def names(self) -> list[str]:
        """Ours, what was registered, then what installed packages offer."""
        return list(dict.fromkeys([*self.built_in, *self._found, *self._packages()]))

    def check(self, name: str) -> str:
        """`name` itself, if it can be one: for settings. Loads nothing.

        Raises:
            ValueError: there is none of that name; the message has the nearest ones.
        """
        if name in self.built_in or self.open_ended or REFERENCE.fullmatch(name):
            return name
        names = self.names()
        if name in names:
            return name
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(
            f"there is no {self.kind} {name!r}.{hint} Expected {', '.join(names)}, or module:name."
        )

    def __getitem__(self, name: str) -> Thing:
        """What `name` stands for.

        Raises:
            ConfigError: there is none of that name, it is not of this kind, or it is code of the
                user's that no study and no `--import` asked for.
        """
        if name in self._found:
            return self._found[name]
        if REFERENCE.fullmatch(name):
            return self.register(name, *self._of_user(name))
        package = self._packages().get(name)
        if package is None:
            try:
                self.check(name)
            except ValueError as error:
                raise ConfigError(str(error)) from None
            raise ConfigError(f"there is no {self.kind} {name!r}.")
        try:
            offered = package.load()
        except Exception as error:
            raise ConfigError(
                f"{self.kind} {name!r} of the package {_distribution(package)} cannot be loaded "
                f"({type(error).__name__}: {error})."
            ) from error
        return self.register(name, self._converted(name, offered), offered)

    def provenance(self, name: str) -> str | None:
        """Where a thing that is not ours comes from, with the digest of its source.

        A recipe keeps it: with other code it is another contender.

        Returns:
            Such as `my_networks:tiny sha256:0f3a6c2d9b1e4875`; None of what is ours.
        """
        self[name]
        origin = self._origin.get(name)
        if origin is None:
            return None
        home = f"{getattr(origin, '__module__', '?')}:{getattr(origin, '__qualname__', name)}"
        return f"{home} sha256:{source_digest(origin)}"

    def schema(self) -> dict[str, Any]:
        """The JSON schema of a setting that takes such a name."""
        if self.open_ended:
            return {"type": "string", "examples": list(self.built_in)}
        own = {"type": "string", "pattern": f"^{REFERENCE.pattern}$"}
        return {"anyOf": [{"enum": list(self.built_in)}, own]}

    def _packages(self) -> dict[str, EntryPoint]:
        return {one.name: one for one in entry_points(group=self.group)}

    def _of_user(self, name: str) -> tuple[Thing, Any]:
        module, _, attribute = name.partition(":")
        if module not in _ALLOWED:
            raise ConfigError(
                f"{self.kind} {name} is code of a user's. Podium imports it because a study that "
                "you run names it, never because a run's folder does. If you trust it, put "
                f"`--import {module}` in front of the command, or call "
                f"podium.allow({module!r}) in Python."
            )
        offered = getattr(sys.modules[module], attribute, None)
        if offered is None:
            raise ConfigError(f"{self.kind} {name}: the module {module} has no {attribute!r}.")
        return self._converted(name, offered), offered

    def _converted(self, name: str, offered: Any) -> Thing:
        for known, origin in self._origin.items():  # its own decorator has registered it already
            if origin is offered:
                return self._found[known]
        thing: Thing = offered if self.convert is None else self.convert(name, offered)
        return thing


def source_digest(origin: Any) -> str:
    """Sixteen hex digits for the source of a function, class or module, and of what lies beside it.

    All files that it imports from its own folder or package count, since a change in any of them
    changes what it does. Installed packages that it imports do not.

    Args:
        origin: what was offered; of an instance, its class counts.
    """
    named = inspect.isroutine(origin) or inspect.isclass(origin) or inspect.ismodule(origin)
    target: Any = origin if named else type(origin)
    module = inspect.getmodule(inspect.unwrap(target))
    file = getattr(module, "__file__", None)
    digest = hashlib.sha256()
    if module is None or file is None or module.__name__ == "__main__":  # a notebook, a script
        digest.update(inspect.getsource(target).encode())
        return digest.hexdigest()[:16]
    start = Path(file).resolve()
    root = start.parents[module.__name__.count(".") + (start.stem == "__init__")]
    for path in _sources(start, root):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode())
        digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:16]


def _sources(start: Path, root: Path) -> list[Path]:
    """`start` and every module below `root` that it imports, directly or through others."""
    found: set[Path] = set()
    ahead = [start]
    while ahead:
        path = ahead.pop()
        if path in found or path.suffix != ".py":
            continue
        found.add(path)
        for names, folder in _imports(path, root):
            for end in range(len(names), 0, -1):
                place = folder.joinpath(*names[:end])
                ahead += [one for one in (place.with_suffix(".py"), place / "__init__.py")
                          if one.is_file()]  # fmt: skip
    return sorted(found)


def _imports(path: Path, root: Path) -> Iterable[tuple[list[str], Path]]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split("."), root) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder = path.parents[node.level - 1] if node.level else root
            module = node.module.split(".") if node.module else []
            yield from (([*module, alias.name], folder) for alias in node.names)


def _distribution(package: EntryPoint) -> str:
    return package.dist.name if package.dist is not None else package.module


MODELS: Registry[Any] = Registry("model", open_ended=True)
AUGMENTATIONS: Registry[Any] = Registry("augmentation")
LOSSES: Registry[Any] = Registry("loss")
METRICS: Registry[Any] = Registry("metric")
SOURCES: Registry[Any] = Registry("source")
EXECUTORS: Registry[Any] = Registry("executor", ["serial"])
TRACKERS: Registry[Any] = Registry("tracker")

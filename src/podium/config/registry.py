"""Extensions of Podium, by name: one registry per kind.

A name stands for a built-in, for something registered in this process, for an entry point of an
installed package (group `podium.<kind>s`), or, written `module:name`, for something in a user's
file. User files are imported only if a study that the user runs names them (`allow`), never
because a run's folder or a model's description does.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from podium.config.source import SCRIPTS, root_of, source_digest, sources
from podium.config.text import did_you_mean
from podium.config.titles import AUGMENTATION_TITLES, MODEL_TITLES
from podium.errors import ConfigError

Thing = TypeVar("Thing")

REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""`module:name`, as in a study's `model: my_networks:tiny`."""

_ALLOWED: dict[str, str] = {}  # module -> folder it was found in; '' is Python's own path
_IMPORTED: dict[str, str] = {}  # module -> digest of its source at import


def allow(module: str, folder: str | Path = "") -> None:
    """Import a module of the user's, at the user's request, so that studies may name its contents.

    `podium run` does so for every `module:name` of its study. Reading a finished run does not: a
    run's folder may come from anyone, so call this function or pass `--import`.

    Args:
        module: dotted name, as in an import.
        folder: searched before Python's own path; empty string: only that path and the current
            folder are searched.

    Raises:
        ConfigError: there is no such module, it fails on import, or another file has the same
            name.

    Examples:
        >>> import podium
        >>> podium.allow("my_networks_of_no_file")
        Traceback (most recent call last):
        ...
        podium.errors.ConfigError: There is no module my_networks_of_no_file. Expected ...
    """
    if module.endswith(".py"):
        name = module.removesuffix(".py")
        raise ConfigError(f"{module}: expected the name of a module, {name}, without .py.")
    places = [str(Path(folder).resolve())] if folder else []
    places.append(str(Path.cwd()))
    if module in _ALLOWED:
        _refuse_another_file(module, places)
        return
    added = [place for place in places if place not in sys.path]
    sys.path[:0] = added
    try:
        importlib.invalidate_caches()  # the file may have just been written
        importlib.import_module(module)
        _refuse_another_file(module, places)
    except ModuleNotFoundError as error:
        _ALLOWED.pop(module, None)
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise ConfigError(f"{module} cannot be imported: it needs {error.name}.") from error
        raise ConfigError(
            f"There is no module {module}. Expected {module.replace('.', '/')}.py in "
            f"{' or '.join(dict.fromkeys(places))}, or an installed package of that name."
        ) from None
    except ConfigError:
        _ALLOWED.pop(module, None)
        raise
    except Exception as error:
        _ALLOWED.pop(module, None)  # it may have registered something before it failed
        raise ConfigError(
            f"{module} cannot be imported ({type(error).__name__}: {error})."
        ) from error
    finally:
        for place in added:
            sys.path.remove(place)
    sys.path += added  # for later imports; appended, so that it shadows no other module
    _ALLOWED[module] = places[0]
    _IMPORTED[module] = source_digest(sys.modules[module])


def _refuse_another_file(module: str, places: Iterable[str]) -> None:
    """Refuse a module if Python has already imported another file of the same name.

    Args:
        module: dotted name of the module.
        places: folders to search, in order.
    """
    imported = getattr(sys.modules[module], "__file__", None)
    for place in places:
        path = Path(place, *module.split("."))
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                if imported is None or not file.samefile(imported):
                    raise ConfigError(
                        f"{file} cannot be imported: Python has already imported another {module} "
                        f"({imported or 'part of Python'}). Rename the file."
                    )
                return


def allowed() -> dict[str, str]:
    """Modules passed to `allow` so far, mapped to their folders: for processes to be started."""
    return dict(_ALLOWED)


def sources_of(module: str) -> dict[str, bytes]:
    """The source of a module passed to `allow`, for machines that do not see its file.

    Args:
        module: dotted name of the module.

    Returns:
        Path relative to the folder that it is imported from -> content, of its file and of those
        beside it that it imports. Empty: it is an installed package, or has no file.
    """
    file = getattr(sys.modules[module], "__file__", None)
    if file is None:
        return {}
    start = Path(file).resolve()
    root = root_of(module, start)
    if any(root.glob("*.dist-info")):
        return {}
    packages = [root.joinpath(*module.split(".")[:end]) for end in range(1, module.count(".") + 1)]
    paths = {*sources(start, root), *(one / "__init__.py" for one in packages)}
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in paths if path.is_file()
    }


def write_sources(files: Mapping[str, bytes], folder: Path) -> None:
    """Write what `sources_of` returned, on a machine that lacks it.

    Args:
        files: path -> content.
        folder: the paths are relative to it.
    """
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


class Registry(Generic[Thing]):
    """Things of one kind by name.

    Args:
        kind: what messages call them, such as `augmentation`; the entry-point group is
            `podium.<kind>s`.
        built_in: Podium's own names; the module that defines each registers it.
        convert: turns an object that a package or a user's file offers into a `Thing`, from its
            name and the object; raises ConfigError if it is not one. The module that defines the
            built-ins may set it later.
        open_ended: whether unknown names may still be valid, such as timm models.

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
        self._origin: dict[str, Any] = {}  # the object behind each name that is not built in
        self._home: dict[str, str] = {}  # `module:name` of what was named or installed

    @property
    def group(self) -> str:
        """The entry-point group for packages."""
        return "podium.losses" if self.kind == "loss" else f"podium.{self.kind}s"

    def register(self, name: str, thing: Thing, origin: Any = None) -> Thing:
        """Register a thing under a name; it replaces an earlier one, but never a built-in.

        Args:
            name: letters, digits, `_`, `-` and `.`.
            thing: what the name stands for.
            origin: the user's function or class behind it, whose source is hashed for the
                recipe; None: it is built in.

        Raises:
            ConfigError: the name is invalid or is a built-in's.
        """
        if origin is not None and name in self.built_in:
            raise ConfigError(f"{self.kind} {name!r} is one of Podium's: give yours another name.")
        if not re.fullmatch(r"[\w.:-]+", name):
            raise ConfigError(
                f"{self.kind} {name!r}: expected a name of letters, digits, '_', '-' and '.'."
            )
        if origin is not None:
            self._home.pop(name, None)
            _trust_home_of(origin)
        return self._keep(name, thing, origin)

    def _keep(self, name: str, thing: Thing, origin: Any, home: str = "") -> Thing:
        self._found[name] = thing
        if origin is not None:
            self._origin[name] = origin
        if home:
            self._home[name] = home
        return thing

    def __contains__(self, name: str) -> bool:
        """Whether `self[name]` could find something: False for names that only timm may know."""
        return name in self._found or bool(REFERENCE.fullmatch(name)) or name in self._packages()

    def names(self) -> list[str]:
        """The built-in names, then those registered, then those of installed packages."""
        return list(dict.fromkeys([*self.built_in, *self._found, *self._packages()]))

    def check(self, name: str) -> str:
        """Return `name` if it can be valid: for settings. Loads nothing.

        Raises:
            ValueError: there is no such name; the message suggests the nearest ones.
        """
        if name in self.built_in or self.open_ended or REFERENCE.fullmatch(name):
            return name
        names = self.names()
        if name in names:
            return name
        raise ValueError(
            f"there is no {self.kind} {name!r}.{did_you_mean(name, names)} "
            f"Expected {', '.join(names)}, or module:name."
        )

    def __getitem__(self, name: str) -> Thing:
        """What `name` stands for.

        Raises:
            ConfigError: there is no such name, it is not of this kind, or it is user code that
                no study and no `--import` asked for.
        """
        if name in self._found:
            return self._found[name]
        if REFERENCE.fullmatch(name):
            return self._keep(name, *self._of_user(name), home=name)
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
        return self._keep(name, self._converted(name, offered), offered, home=package.value)

    def provenance(self, name: str) -> str | None:
        """Where a thing that is not built in comes from, with the digest of its source.

        A recipe keeps it: with other code it is another contender.

        Returns:
            Such as `my_networks:tiny sha256:0f3a6c2d9b1e4875`; None for built-ins.

        Raises:
            ConfigError: the file changed after it was imported, so the running code is not the
                code in the file.
        """
        if name in self.built_in or name not in self:
            return None  # built in, or timm's
        self[name]
        origin = self._origin.get(name)
        if origin is None:
            return None
        module = self.module(name)
        home = self._home.get(name, f"{module}:{getattr(origin, '__qualname__', name)}")
        digest = source_digest(origin if module in SCRIPTS else sys.modules.get(module, origin))
        if _IMPORTED.get(module, digest) != digest:
            raise ConfigError(
                f"{module} changed after it was imported. Restart Python, or the notebook's "
                "kernel, so that the code in the file is the code that runs."
            )
        return f"{home} sha256:{digest}"

    def module(self, name: str) -> str:
        """The module that offered a thing that is not built in; `__main__`: the script itself."""
        if name in self._home:
            return self._home[name].partition(":")[0].strip()
        return str(getattr(self._origin[name], "__module__", "__main__"))

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
                f"{self.kind} {name} is user code. Podium imports it because a study that "
                "you run names it, never because a run's folder does. If you trust it, add "
                f"`--import {module}` to the command, or call "
                f"podium.allow({module!r}) in Python."
            )
        offered = getattr(sys.modules[module], attribute, None)
        if offered is None:
            raise ConfigError(f"{self.kind} {name}: the module {module} has no {attribute!r}.")
        return self._converted(name, offered), offered

    def _converted(self, name: str, offered: Any) -> Thing:
        for known, origin in self._origin.items():  # its own decorator has already registered it
            if origin is offered:
                return self._found[known]
        thing: Thing = offered if self.convert is None else self.convert(name, offered)
        return thing


def _trust_home_of(origin: Any) -> None:
    """Remember that a user's module that registered something was imported: workers need it too."""
    module = sys.modules.get(getattr(origin, "__module__", ""))
    file = getattr(module, "__file__", None)
    if module is not None and file is not None and module.__name__ not in SCRIPTS:
        _ALLOWED.setdefault(module.__name__, str(root_of(module.__name__, Path(file).resolve())))


def _distribution(package: EntryPoint) -> str:
    return package.dist.name if package.dist is not None else package.module


MODELS: Registry[Any] = Registry(
    "model",
    MODEL_TITLES,
    open_ended=True,
)
AUGMENTATIONS: Registry[Any] = Registry("augmentation", AUGMENTATION_TITLES)
LOSSES: Registry[Any] = Registry("loss", ("cross_entropy", "focal", "logit_adjusted"))
METRICS: Registry[Any] = Registry(
    "metric",
    (
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "mcc",
        "auroc",
        "log_loss",
        "accuracy_at_90",
        "top3_accuracy",
        "top5_accuracy",
    ),
)
SOURCES: Registry[Any] = Registry(
    "source", ("auto", "folder", "table", "archive", "pack", "coco", "torchvision", "hf")
)
EXECUTORS: Registry[Any] = Registry("executor", ("serial", "local", "ray", "slurm"))
TRACKERS: Registry[Any] = Registry("tracker", ("tensorboard", "mlflow"))

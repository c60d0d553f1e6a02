"""What people add to Podium, by name: a registry for each kind of thing.

A name stands for one of ours, for what was registered in this process, for what an installed
package offers under the entry-point group `podium.<kind>s`, or, written `module:name`, for
something in a file of the user's own. Code of the last kind runs only once a study that the user
asked for names it (`allow`): never because a run's folder or a model's description does.
"""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from podium.config.source import SCRIPTS, root_of, source_digest
from podium.errors import ConfigError

Thing = TypeVar("Thing")

REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""`module:name`, as in a study's `model: my_networks:tiny`."""

_ALLOWED: dict[str, str] = {}  # module -> the folder that it was found in; '' is Python's own path
_IMPORTED: dict[str, str] = {}  # module -> the digest of its source when it was imported


def allow(module: str, folder: str | Path = "") -> None:
    """Import a module of the user's, who has asked for it, so that studies may name its contents.

    `podium run` does so for every `module:name` of its study; whatever reads a finished run wants
    to be told, by this function or by `--import`, since a run's folder may come from anybody.

    Args:
        module: dotted, as in an import.
        folder: looked in before Python's own path; empty: that path and the current folder alone.

    Raises:
        ConfigError: there is no such module, it fails while it is imported, or another file has
            the same name.

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
        importlib.invalidate_caches()  # the file may have been written a moment ago
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
        _ALLOWED.pop(module, None)  # its first lines may have registered something
        raise ConfigError(
            f"{module} cannot be imported ({type(error).__name__}: {error})."
        ) from error
    finally:
        for place in added:
            sys.path.remove(place)
    sys.path += added  # for what it imports later; behind all others, so that it hides none
    _ALLOWED[module] = places[0]
    _IMPORTED[module] = source_digest(sys.modules[module])


def _refuse_another_file(module: str, places: Iterable[str]) -> None:
    """Two files of one name: Python keeps to the one that it imported first, whoever asks."""
    imported = getattr(sys.modules[module], "__file__", None)
    for place in places:
        path = Path(place, *module.split("."))
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                if imported is None or not file.samefile(imported):
                    raise ConfigError(
                        f"{file} cannot be imported: Python has another module {module} already "
                        f"({imported or 'a part of Python'}). Rename the file."
                    )
                return


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
        self._home: dict[str, str] = {}  # of what was named or installed: its `module:name`

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
        """Whether `self[name]` has something to look for: false of what timm alone may know."""
        return name in self._found or bool(REFERENCE.fullmatch(name)) or name in self._packages()

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
        """Where a thing that is not ours comes from, with the digest of its source.

        A recipe keeps it: with other code it is another contender.

        Returns:
            Such as `my_networks:tiny sha256:0f3a6c2d9b1e4875`; None of what is ours.

        Raises:
            ConfigError: the file was changed since it was imported, so that what runs is not what
                it says.
        """
        if name in self.built_in or name not in self:
            return None  # ours, or timm's
        self[name]
        origin = self._origin.get(name)
        if origin is None:
            return None
        module = self.module(name)
        home = self._home.get(name, f"{module}:{getattr(origin, '__qualname__', name)}")
        digest = source_digest(origin if module in SCRIPTS else sys.modules.get(module, origin))
        if _IMPORTED.get(module, digest) != digest:
            raise ConfigError(
                f"{module} was changed after it was imported. Start Python, or the notebook's "
                "kernel, anew, so that what runs is what the file says."
            )
        return f"{home} sha256:{digest}"

    def module(self, name: str) -> str:
        """The module that a thing which is not ours was offered in; `__main__`: a script's own."""
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
                f"{self.kind} {name} is code of a user's. Podium imports it because a study that "
                "you run names it, never because a run's folder does. If you trust it, add "
                f"`--import {module}` to the command, or call "
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


def _trust_home_of(origin: Any) -> None:
    """A module of the user's that registered something was imported: other processes do so, too."""
    module = sys.modules.get(getattr(origin, "__module__", ""))
    file = getattr(module, "__file__", None)
    if module is not None and file is not None and module.__name__ not in SCRIPTS:
        _ALLOWED.setdefault(module.__name__, str(root_of(module.__name__, Path(file).resolve())))


def _distribution(package: EntryPoint) -> str:
    return package.dist.name if package.dist is not None else package.module


MODELS: Registry[Any] = Registry(
    "model",
    ("simple_resnet", "inception_resnet", "resnet18", "efficientnet_lite0"),
    open_ended=True,
)
AUGMENTATION_TITLES = {
    "none": "none",
    "autoaugment": "AutoAugment",
    "randaugment": "RandAugment",
    "trivialaugment": "TrivialAugment",
    "augmix": "AugMix",
    "crop_flip": "crop and flip",
}
"""Ours by name, as print has them: here, since a report imports no torch."""

AUGMENTATIONS: Registry[Any] = Registry("augmentation", AUGMENTATION_TITLES)
LOSSES: Registry[Any] = Registry("loss", ("cross_entropy", "focal", "logit_adjusted"))
METRICS: Registry[Any] = Registry(
    "metric",
    (
        "accuracy", "balanced_accuracy", "macro_f1", "mcc", "auroc", "log_loss", "top3_accuracy",
        "top5_accuracy",
    ),
)  # fmt: skip
SOURCES: Registry[Any] = Registry("source", ("folder",))
EXECUTORS: Registry[Any] = Registry("executor", ("serial",))
TRACKERS: Registry[Any] = Registry("tracker", ("tensorboard", "mlflow"))

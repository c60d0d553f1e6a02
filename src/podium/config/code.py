"""User code that settings name: found by the settings' types, imported, and fingerprinted.

A setting takes such a name if its type is, or contains,
`Annotated[str, AfterValidator(REGISTRY.check)]`: nothing here knows the settings themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import AfterValidator, BaseModel

from podium.config.registry import REFERENCE, Registry, allow
from podium.errors import ConfigError


def named(settings: BaseModel, inside: str = "") -> Iterator[tuple[str, Registry[Any], str]]:
    """Yield every registry name in settings, and in the settings within them.

    Args:
        settings: such as a `RunSpec`.
        inside: dotted prefix of the place where the settings stand; empty string: top level.

    Yields:
        `(setting, registry, name)`, such as `("model", MODELS, "my_networks:tiny")`.
    """
    for key, field in type(settings).model_fields.items():
        registry = _registry(field.annotation, field.metadata)
        for place, value in _leaves(getattr(settings, key), f"{inside}{key}"):
            if isinstance(value, BaseModel):
                yield from named(value, f"{place}.")
            elif registry is not None and isinstance(value, str) and value:  # a mean has no model
                yield place, registry, value


def allow_named(settings: Iterable[BaseModel], folder: str | Path = "") -> None:
    """Import every module that settings name as `module:name`: running them is consent.

    Args:
        settings: settings of a study and of a machine.
        folder: folder of the study's file, searched first; empty string: there is none.

    Raises:
        ConfigError: a module cannot be imported; the message begins with the setting.
    """
    for one in settings:
        for place, _, name in named(one):
            if REFERENCE.fullmatch(name):
                try:
                    allow(name.partition(":")[0], folder)
                except ConfigError as error:
                    raise ConfigError(f"{place}: {name}: {error}") from error.__cause__


def code_of(recipe: BaseModel) -> dict[str, str]:
    """Map setting to provenance for every name in a recipe that is not Podium's or timm's.

    Args:
        recipe: the settings to look through.

    Raises:
        ConfigError: a name does not exist, or cannot be loaded.
    """
    found = {place: registry.provenance(name) for place, registry, name in named(recipe)}
    return {place: source for place, source in found.items() if source is not None}


def changed_code(stored: Any, code: dict[str, str]) -> str:
    """Describe code that differs from the `code` stored with a run; empty string: none does.

    Args:
        stored: result of `code_of` when the run was started; None: there was none.
        code: result of `code_of` now.
    """
    before = stored if isinstance(stored, dict) else {}
    changes = []
    for key in dict.fromkeys([*before, *code]):
        old, new = str(before.get(key, "")), code.get(key, "")
        if old != new:
            name = (new or old).partition(" ")[0]
            was, now = (one.rpartition("sha256:")[2] or "none" for one in (old, new))
            changes.append(f"{name} ({key}: sha256 {was}, now {now})")
    return ", ".join(changes)


def refuse_unreachable(recipe: BaseModel) -> None:
    """Refuse names that another process could not import, such as one defined in a notebook cell.

    Args:
        recipe: the settings to look through.

    Raises:
        ConfigError: the recipe names such a thing.
    """
    if getattr(sys.modules["__main__"], "__file__", None) is not None:
        return  # every new process imports the script
    for place, registry, name in named(recipe):
        if registry.provenance(name) is not None and registry.module(name) == "__main__":
            raise ConfigError(
                f"{place}: {name} is defined in this session, which the processes of several "
                "devices cannot see. Put it in a file and write module:name, or use 1 device."
            )


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """A value, or the values within it, each with its dotted place."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}")
    elif isinstance(value, tuple | list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{place}.{number}")
    else:
        yield place, value


def _registry(annotation: Any, metadata: Iterable[Any] = ()) -> Registry[Any] | None:
    """The registry whose names a type takes; None: it takes no names."""
    for one in metadata:
        owner = getattr(one.func, "__self__", None) if isinstance(one, AfterValidator) else None
        if isinstance(owner, Registry):
            return owner
    inner = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return _registry(inner[0], inner[1:])
    return next(filter(None, map(_registry, inner)), None)

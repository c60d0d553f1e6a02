"""Code of the user's that settings name: found by the settings' types, imported, told apart.

A setting takes such a name where its type is `Annotated[str, AfterValidator(REGISTRY.check)]`, or
holds it: nothing here knows the settings themselves.
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
    """Every name of a registry's in settings, and in the settings within them.

    Args:
        settings: such as a `RunSpec`.
        inside: what the place is called that they stand in, with a dot behind it.

    Yields:
        `(setting, registry, name)`, such as `("model", MODELS, "my_networks:tiny")`.
    """
    for key, field in type(settings).model_fields.items():
        registry = _registry(field.annotation, field.metadata)
        for place, value in _leaves(getattr(settings, key), f"{inside}{key}"):
            if isinstance(value, BaseModel):
                yield from named(value, f"{place}.")
            elif registry is not None and isinstance(value, str):
                yield place, registry, value


def allow_named(settings: Iterable[BaseModel], folder: str | Path = "") -> None:
    """Import every module that settings name as `module:name`: whoever runs them asks for it.

    Args:
        settings: of a study and of a machine.
        folder: of the study's file, looked in first; empty: there is none.

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
    """Setting -> provenance, of every name in a recipe that is not one of ours or timm's.

    Raises:
        ConfigError: there is nothing of such a name, or it cannot be loaded.
    """
    found = {place: registry.provenance(name) for place, registry, name in named(recipe)}
    return {place: told for place, told in found.items() if told is not None}


def changed_code(stored: Any, code: dict[str, str]) -> str:
    """Which code is another than that of `stored`, a run's `code`, in words; empty: none is.

    Args:
        stored: as `code_of` gave it when the run was begun; None: there was none.
        code: as it is now.
    """
    before = stored if isinstance(stored, dict) else {}
    told = []
    for key in dict.fromkeys([*before, *code]):
        old, new = str(before.get(key, "")), code.get(key, "")
        if old != new:
            name = (new or old).partition(" ")[0]
            was, now = (one.rpartition("sha256:")[2] or "none" for one in (old, new))
            told.append(f"{name} ({key}: sha256 {was}, now {now})")
    return ", ".join(told)


def refuse_unreachable(recipe: BaseModel) -> None:
    """Refuse what another process could not import: something that a notebook's cell defines.

    Raises:
        ConfigError: the recipe names such a thing.
    """
    if getattr(sys.modules["__main__"], "__file__", None) is not None:
        return  # every process that is started imports the script
    for place, registry, name in named(recipe):
        if registry.provenance(name) is not None and registry.module(name) == "__main__":
            raise ConfigError(
                f"{place}: {name} is defined in this session, which the processes of several "
                "devices cannot see. Put it in a file and write module:name, or take 1 device."
            )


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """A value, or those in it, each with its dotted place."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}")
    elif isinstance(value, tuple | list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{place}.{number}")
    else:
        yield place, value


def _registry(annotation: Any, metadata: Iterable[Any] = ()) -> Registry[Any] | None:
    """The registry whose names a type takes; None: it takes none."""
    for one in metadata:
        owner = getattr(one.func, "__self__", None) if isinstance(one, AfterValidator) else None
        if isinstance(owner, Registry):
            return owner
    inner = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return _registry(inner[0], inner[1:])
    return next(filter(None, map(_registry, inner)), None)

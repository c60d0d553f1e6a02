"""Contenders that are the mean of others: which settings they have, and whom they may average."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from podium.config.shortcuts import FILE_MODEL
from podium.config.text import did_you_mean, listed

OF_A_MEAN = ("mean_of", "label")
"""The only settings of a contender that is the mean of others: nothing of it is trained."""
MOST_MEMBERS = 64
"""Contenders that one mean averages."""


def is_mean(recipe: Any) -> bool:
    """Whether the plain values of a contender say that it averages others.

    Args:
        recipe: of a study file, perhaps not valid.
    """
    return isinstance(recipe, Mapping) and bool(recipe.get("mean_of"))


def as_recipe(values: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of a mean, with what a recipe requires and nothing reads of a mean.

    Args:
        values: of the contender.

    Raises:
        ValueError: it has a setting of a training.

    Examples:
        >>> as_recipe({"mean_of": ["a", "b"], "lr": 0.1})
        Traceback (most recent call last):
        ...
        ValueError: lr has no effect beside mean_of: nothing is trained. Leave out lr
    """
    if further := [str(key) for key in values if key not in OF_A_MEAN]:
        raise ValueError(
            f"{further[0]} has no effect beside mean_of: nothing is trained. Leave out "
            f"{listed(further, most=10)}"
        )
    return {"model": "", "epochs": 1, **values}


def member_mistakes(means: Mapping[str, Sequence[str]], blind: Container[str] = ()) -> list[str]:
    """What is wrong with the members of a study's means, one sentence each.

    Args:
        means: every contender, in the study's order -> whom it averages; empty: it is trained.
        blind: contenders that see no pixel.

    Examples:
        >>> member_mistakes({"small": [], "large": [], "both": ["small", "lage"]})
        ["contenders.both.mean_of: there is no contender 'lage'. Did you mean large?"]
    """
    trained = [name for name, members in means.items() if not members]
    found = []
    for name, members in means.items():
        for member in members:
            key = f"contenders.{name}.mean_of"
            if member not in means:
                hint = did_you_mean(member, trained) or f" There are: {listed(trained) or 'none'}."
                found.append(f"{key}: there is no contender {member!r}.{hint}")
            elif means[member]:
                found.append(f"{key}: {member} is a mean itself. Name contenders that are trained")
            elif member in blind:
                found.append(f"{key}: {member} sees only the metadata of files. Leave it out")
    return found


def mistakes_in_means(contenders: Any) -> list[str]:
    """What is wrong with the members of means in a study file that has other mistakes, too.

    Args:
        contenders: plain values, perhaps not valid: what is no mean counts as trained.
    """
    if not isinstance(contenders, Mapping):
        return []
    means = {}
    for name, recipe in contenders.items():
        members = recipe["mean_of"] if is_mean(recipe) else []
        named = isinstance(members, list) and all(isinstance(one, str) for one in members)
        means[name] = members if named else []
    blind = [
        name
        for name, recipe in contenders.items()
        if isinstance(recipe, Mapping) and recipe.get("model") == FILE_MODEL
    ]
    return member_mistakes(means, blind)

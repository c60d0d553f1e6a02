"""What is wrong with a study file, in words: all of it at once, in the order of its lines."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from podium.config.data_settings import DataSpec
from podium.config.settings import RunSpec, StudySpec
from podium.config.text import did_you_mean, nearest

_NUMBER = re.compile(r"[-+.\d][-+.\deE]{0,40}")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100

_WANTED = {
    "int_parsing": "expected a whole number",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_parsing": "expected a number",
    "float_type": "expected a number",
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "string_type": "expected text",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "tuple_type": "expected a list",
}
"""pydantic's kind of mistake -> what was expected instead."""


@dataclass(frozen=True, order=True)
class Mistake:
    """One mistake in a study file."""

    line: int
    """Its line, from 1; 0: none, it is in no file or was given on the command line."""
    text: str
    """The key and what is wrong with it."""


def listing(mistakes: Sequence[Mistake], source: str) -> str:
    """The message that names all mistakes, by line; those without a line come last.

    Args:
        mistakes: one or more; what is said twice of one line is listed once.
        source: the file's name in the message.
    """
    found = sorted(dict.fromkeys(mistakes), key=lambda one: one.line or float("inf"))
    things = "1 setting is" if len(found) == 1 else f"{len(found)} settings are"
    lines = (f"  {f'line {one.line}: ' if one.line else ''}{one.text}" for one in found)
    return f"{source}: {things} wrong.\n" + "\n".join(lines)


def mistakes_of(
    error: ValidationError,
    lines: Mapping[str, int],
    defaulted: set[str],
    overridden: Mapping[str, str],
) -> list[Mistake]:
    """The mistakes that validation found.

    Args:
        error: what pydantic raised for a `StudySpec`.
        lines: dotted key -> its line in the file, from 1.
        defaulted: keys below `defaults:`.
        overridden: dotted key -> the key as given by an override, such as `contenders.*.epochs`.

    Returns:
        One per key; several where settings of one contender exclude each other.
    """
    problems: dict[tuple[str, ...], Any] = {}
    for problem in error.errors():
        # pydantic adds the union member that it tried to the path; show only our own keys
        parts = tuple(str(part) for part in problem["loc"] if not str(part).startswith("literal["))
        if parts[:1] == ("contenders",):
            parts = parts[: 2 if parts[2:] == ("[key]",) else 3]
        problems.setdefault(parts, problem)
    misspelt = {
        (*parts[:-1], meant)
        for parts, problem in problems.items()
        if problem["type"] == "extra_forbidden"
        for meant in nearest(parts[-1], _settings_at(parts[:-1]), most=1)
    }
    found = []
    for parts, problem in problems.items():
        if problem["type"] == "missing" and parts in misspelt:
            continue  # the misspelt key is told, with what was probably meant
        key = ".".join(parts)
        line = lines.get(key)
        if key in overridden:
            key, line = overridden[key], 0
        elif line is None and parts and parts[-1] in defaulted:
            key = f"defaults.{parts[-1]}"  # one mistake, not one per contender
            line = lines.get(key)
        if line is None and problem["type"] == "missing":
            line = lines.get(".".join(parts[:-1]))
        for text in _expected(problem, parts).split("\n"):
            at = line
            if problem["type"] == "value_error":  # of several settings, the one that it names
                word = text.partition(" ")[0].strip(":")
                named = f"{key}.{word}" if key else word  # of the whole study, from the top
                at = lines.get(named) or lines.get(f"defaults.{word}") or line
            found.append(Mistake(at or 0, f"{key or 'study'}: {text}"))
    return found


def flag_mistakes(error: ValidationError, names: Mapping[str, str]) -> str:
    """The mistakes in a command's flags, one per line.

    Args:
        error: what pydantic raised for settings given as flags.
        names: setting -> flag without dashes, of those whose flag has another name.
    """
    return "\n".join(
        f"--{names.get(name := str(problem['loc'][0]), name).replace('_', '-')}: "
        f"{_expected(problem, ())}"
        for problem in error.errors()
    )


def sentence(text: str) -> str:
    """A text with a full stop, unless it ends with one or with a question.

    Args:
        text: what is wrong.
    """
    return text if text.endswith((".", "?")) else f"{text}."


def _settings_at(parts: Sequence[str]) -> list[str]:
    """Names of the settings that a level of the file has."""
    if parts[:1] == ("contenders",):
        return list(RunSpec.model_fields)
    level: type[BaseModel] = StudySpec
    for part in parts:
        annotation = level.model_fields[part].annotation
        inside = [annotation, *get_args(annotation)]
        level = next(one for one in inside if isinstance(one, type) and issubclass(one, BaseModel))
    return [*level.model_fields, *(["defaults"] if level is StudySpec else [])]


def _unknown(parts: Sequence[str]) -> str:
    """What to say of a key that is no setting where it stands."""
    name, level = parts[-1], _settings_at(parts[:-1])
    if meant := did_you_mean(name, level):
        return f"is not a setting.{meant}"
    for place, known in (
        ("a contender, or of defaults", RunSpec.model_fields),
        ("data", DataSpec.model_fields),
        ("the study, at the top level", StudySpec.model_fields),
    ):
        if name in known:
            return f"is not a setting here, but one of {place}."
    if len(level) > 10:
        return "is not a setting. `podium studies quick` prints an example of a study."
    return f"is not a setting. There are: {', '.join(level)}."


def _expected(problem: Any, parts: Sequence[str]) -> str:
    got, kind, message = problem.get("input"), problem["type"], problem["msg"]
    if kind == "missing":
        return "is missing; it has no default."
    if kind == "extra_forbidden":
        return _unknown(parts)
    wanted = _WANTED.get(kind)
    if parts[-1:] == ("lr_drop",):
        wanted = "expected an epoch of 1 or more, 'plateau', or nothing"
    if "class_weights" in parts:
        wanted = "expected none, balanced, effective, or a weight above 0 for each class: {cat: 3}"
    text = message.removeprefix("Value error, ").removeprefix("Input should be ")
    if wanted is None:
        wanted = f"expected {text}" if message.startswith("Input") else text
    if isinstance(got, dict):
        return "\n".join(map(sentence, wanted.split("\n")))
    if isinstance(got, str) and repr(got) in text:  # a name that is not registered
        return wanted
    # a part of it, or an object of Python's, of many lines perhaps
    if "; got " in text or f"got {type(got).__name__}" in text:
        return f"{wanted}."
    meant = ""
    if kind == "literal_error" and isinstance(got, str):
        meant = did_you_mean(got, re.findall(r"'([^']*)'", problem["ctx"]["expected"]))
    is_number = isinstance(got, str) and _NUMBER.fullmatch(got)
    return f"{wanted}; got {got if is_number else _SHORT.repr(got)}.{meant}"

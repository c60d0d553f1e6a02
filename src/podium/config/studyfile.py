"""Study files: read, overridden and checked, with messages that name line, key and value.

YAML is read for its structure only: a plain word stays text, and the setting that it belongs to
decides whether it is a number, a switch or a name. YAML 1.1 would convert first: a contender `no`
would become False, `007` 7, `1e3` text and `010` eight.
"""

from __future__ import annotations

import copy
import re
import reprlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from podium.config.data_settings import DataSpec
from podium.config.machine import Machine
from podium.config.settings import RunSpec, StudySpec
from podium.config.text import decode_text
from podium.errors import ConfigError

MOST_VALUES = 100_000

_NUMBER = re.compile(r"[-+.\d][-+.\deE]{0,40}")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100


class _Loader(yaml.SafeLoader):
    """Keys and plain scalars are text, except null (`~`, or nothing) and merge keys (`<<`)."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML declares it
        first: [one for one in resolvers if one[0].endswith((":null", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        self.flatten_mapping(node)
        return {
            _key_text(key): self.construct_object(value, deep=deep) for key, value in node.value
        }


def built_in_studies() -> dict[str, str]:
    """Names of the studies that Podium ships, mapped to their first comment line."""
    folder = resources.files(__package__) / "studies"
    found = {}
    for entry in folder.iterdir():
        if entry.name.endswith(".yaml"):
            first = entry.read_text(encoding="utf-8").splitlines()[0]
            found[entry.name.removesuffix(".yaml")] = first.lstrip("# ")
    return dict(sorted(found.items()))


def load_study(
    study: str | Path | Mapping[str, Any],
    *,
    data: str | Path | None = None,
    overrides: Iterable[str] = (),
    stored: bool = False,
    below: str = "",
) -> StudySpec:
    """Read a study from a YAML file, from a built-in name, or from plain values.

    `defaults:` is merged under every contender.

    Args:
        study: path of a YAML file, a name that `podium studies` lists, or a mapping with the
            contents of such a file.
        data: a folder or built-in name that replaces the study's own; None: the study's own.
        overrides: `dotted.key=value` strings, applied in order. `*` stands for every
            contender; values are YAML.
        stored: whether the study was already run, perhaps with extensions that are not installed
            here.
        below: prefix of the overrides' keys, such as `contenders.*.`; empty string: top level.

    Raises:
        ConfigError: the file is missing or invalid. The message names the file, line and key,
            what was expected and what was got.

    Examples:
        >>> import podium
        >>> study = podium.load_study("quick", data="my-images", overrides=["seeds=[0,1]"])
        >>> study.seeds, len(study.contenders)
        ((0, 1), 5)
    """
    lines: dict[str, int]
    if isinstance(study, Mapping):
        values, lines, source = copy.deepcopy(dict(study)), {}, "study"
    else:
        text, source = _read_study(study)
        values, lines = _parse(text, source)
        if not isinstance(values, dict):
            raise ConfigError(
                f"{source}: expected a mapping with 'name', 'data' and 'contenders', "
                f"got {_kind(values)}."
            )
    for override in overrides:
        for key in _apply_override(values, override, below):
            lines[key] = 0  # an override has no line in the file
    if data is not None and not isinstance(data, str | Path):
        values["data"] = data  # refused below, as what it is
    elif data is not None:
        base = values.get("data")
        values["data"] = {**(base if isinstance(base, dict) else {}), "path": str(data)}
    return _validate(values, source, lines, stored)


def study_text(name: str) -> str:
    """The YAML of a built-in study, including comments.

    Args:
        name: a name that `podium studies` lists.

    Raises:
        ConfigError: there is no such study.
    """
    ours = built_in_studies()
    if name not in ours:
        raise ConfigError(f"There is no study {name!r}. Expected one of {', '.join(ours)}.")
    return (resources.files(__package__) / "studies" / f"{name}.yaml").read_text(encoding="utf-8")


def study_folder(study: str | Path) -> str:
    """The folder of a study's file, where code that it names may lie; '' for a built-in study.

    Args:
        study: path of a YAML file, or a name that `podium studies` lists.
    """
    return "" if str(study) in built_in_studies() else str(Path(study).parent)


def machine_settings(**values: Any) -> Machine:
    """Build a `Machine` from a command's flags.

    Args:
        values: settings of `Machine`.

    Raises:
        ConfigError: a value is invalid; the message names the flag, what was expected and what
            was got.
    """
    try:
        return Machine(**values)
    except ValidationError as error:
        flags = {"trackers": "tracker"}  # one flag per value, so its name is singular
        problems = [
            f"--{flags.get(name := str(problem['loc'][0]), name).replace('_', '-')}: "
            f"{_expected(problem, [])}"
            for problem in error.errors()
        ]
        raise ConfigError("\n".join(problems)) from None


def _parse(text: str, source: str) -> tuple[Any, dict[str, int]]:
    """The values of a YAML text, and the line of every dotted key."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        _refuse_endless(node, source)
        _refuse_repeated(node, source)
        # a safe loader, checked above
        values = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise ConfigError(f"{source}: not valid YAML. {error}") from None
    return values, _line_numbers(node)


def _key_text(key: yaml.Node) -> str:
    if not isinstance(key, yaml.ScalarNode):
        raise yaml.constructor.ConstructorError(
            None, None, "a list or a mapping cannot be a name", key.start_mark
        )
    return str(key.value)


def _refuse_repeated(node: yaml.Node | None, source: str, prefix: str = "") -> None:
    """Refuse a repeated key at any level: YAML would silently keep the last."""
    if isinstance(node, yaml.SequenceNode):
        for one in node.value:
            _refuse_repeated(one, source, prefix)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        name, line = _key_text(key), key.start_mark.line + 1
        if name in lines and not key.tag.endswith(":merge"):
            raise ConfigError(
                f"{source}: line {line}: {prefix}{name} is given twice, first in line "
                f"{lines[name]}; one of the two would be lost. Remove one or rename it."
            )
        lines[name] = line
        _refuse_repeated(value, source, f"{prefix}{name}.")


def _refuse_endless(node: yaml.Node | None, source: str) -> None:
    """Refuse aliases that expand to more values than any study has, or to themselves."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(one: Any) -> int:
        if isinstance(one, tuple):  # key and value of a mapping
            return size(one[0]) + size(one[1])
        key = id(one)
        if key in open_nodes:
            raise ConfigError(f"{source}: an alias refers to something that contains itself.")
        if key not in sizes:
            open_nodes.add(key)
            inside = one.value if isinstance(one, yaml.CollectionNode) else []
            sizes[key] = 1 + sum(map(size, inside))
            open_nodes.remove(key)
        return sizes[key]

    if node is not None and (count := size(node)) > MOST_VALUES:
        raise ConfigError(
            f"{source}: its aliases expand to {count:,} values; expected at most {MOST_VALUES:,}."
        )


def _read_study(study: str | Path) -> tuple[str, str]:
    ours = built_in_studies()
    if str(study) in ours:
        return study_text(str(study)), f"{study}.yaml"
    path = Path(study)
    try:
        return decode_text(path.read_bytes()), str(study)
    except FileNotFoundError:
        raise ConfigError(
            f"There is no study {str(study)!r}: expected the path of a YAML file, "
            f"or one of {', '.join(ours)}."
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{study}: cannot be read as a YAML file ({error}).") from None


def _apply_override(values: dict[str, Any], override: str, below: str) -> list[str]:
    """Set one value in place; return the dotted keys that were set."""
    key, sign, text = override.partition("=")
    parts = [*below.split(".")[:-1], *key.strip().split(".")]
    if not sign or not all(parts):
        usual = "mixup=0.2" if below else "contenders.*.epochs=2 or seeds=[0,1]"
        raise ConfigError(f"--set {override!r}: expected KEY=VALUE, such as {usual}.")
    value = _parse(text, f"--set {override!r}")[0]
    done: list[str] = []

    def put(level: Any, at: int, above: tuple[str, ...] = ()) -> None:
        if not isinstance(level, dict):
            raise ConfigError(
                f"--set {override!r}: {'.'.join(parts[:at])} is {_kind(level)}, "
                "so nothing can be set below it."
            )
        if at == len(parts) - 1 and parts[at] != "*":
            level[parts[at]] = value
            done.append(".".join((*above, parts[at])))
        elif parts[at] == "*":
            if at == len(parts) - 1 or not level:
                raise ConfigError(f"--set {override!r}: '*' must stand for existing keys.")
            for name in level:
                put(level[name], at + 1, (*above, str(name)))
        elif at and parts[at - 1] == "contenders" and parts[at] not in level:
            known = ", ".join(map(str, level)) or "none"
            raise ConfigError(
                f"--set {override!r}: there is no contender {parts[at]!r}. There are: {known}."
            )
        else:
            put(level.setdefault(parts[at], {}), at + 1, (*above, parts[at]))

    put(values, 0)
    return done


def _validate(
    values: dict[str, Any], source: str, lines: Mapping[str, int], stored: bool
) -> StudySpec:
    defaults = values.pop("defaults", None) or {}
    contenders = values.get("contenders")
    if not isinstance(defaults, dict):
        raise ConfigError(f"{source}: defaults: expected a mapping, got {_kind(defaults)}.")
    if isinstance(contenders, dict):
        often = Counter(map(str, contenders))  # plain values may contain both 7 and "7"
        if twice := [name for name, times in often.items() if times > 1]:
            raise ConfigError(f"{source}: contenders.{twice[0]} is given twice. Rename one.")
        values["contenders"] = {
            str(name): {**defaults, **recipe} if isinstance(recipe, dict) else recipe
            for name, recipe in contenders.items()
        }
    try:
        return StudySpec.model_validate(values, context={"stored": stored})
    except ValidationError as error:
        raise ConfigError(_explain(error, source, lines, set(defaults))) from None


def _explain(
    error: ValidationError, source: str, lines: Mapping[str, int], defaulted: set[str]
) -> str:
    problems = []
    seen = set()
    for problem in error.errors():
        # pydantic adds the union member that it tried to the path; show only our own keys
        parts = [str(part) for part in problem["loc"] if not str(part).startswith("literal[")]
        if len(parts) > 3 and parts[0] == "contenders":
            parts = parts[:3]
        key = ".".join(parts)
        if key in seen:
            continue
        seen.add(key)
        line = lines.get(key)
        if line is None and parts and parts[-1] in defaulted:
            line = lines.get(f"defaults.{parts[-1]}")
        if line is None and problem["type"] == "missing":
            line = lines.get(".".join(parts[:-1]))
        where = f"line {line}: " if line else ""
        problems.append(f"  {where}{key or 'study'}: {_expected(problem, parts)}")
    things = "1 setting is" if len(problems) == 1 else f"{len(problems)} settings are"
    return f"{source}: {things} wrong.\n" + "\n".join(problems)


def _expected(problem: Any, parts: list[str]) -> str:
    got = problem.get("input")
    kind = problem["type"]
    if kind == "missing":
        return "is missing; it has no default."
    if kind == "extra_forbidden":
        known = RunSpec.model_fields if parts[:1] == ["contenders"] else StudySpec.model_fields
        if parts[:1] == ["data"]:
            known = DataSpec.model_fields
        return f"is not a setting. There are: {', '.join(known)}."
    wanted = {
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
    }.get(kind)
    if parts[-1:] == ["lr_drop"]:
        wanted = "expected an epoch of 1 or more, 'plateau', or nothing"
    if "class_weights" in parts:
        wanted = "expected none, balanced, effective, or a weight above 0 for each class: {cat: 3}"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if wanted is None:
        wanted = f"expected {message}" if problem["msg"].startswith("Input") else message
    if isinstance(got, dict):
        return f"{wanted}."
    if isinstance(got, str) and repr(got) in message:  # a name that is not registered
        return wanted
    if f"got {type(got).__name__}" in message:  # an object of Python's, of many lines perhaps
        return f"{wanted}."
    is_number = isinstance(got, str) and _NUMBER.fullmatch(got)
    return f"{wanted}; got {got if is_number else _SHORT.repr(got)}."


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"the text {value[:60]!r}" if isinstance(value, str) else repr(value)


def _line_numbers(node: yaml.Node | None, prefix: str = "") -> dict[str, int]:
    """Dotted key -> line (from 1) of every key of a YAML mapping."""
    found: dict[str, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            dotted = f"{prefix}{key.value}" if isinstance(key, yaml.ScalarNode) else prefix
            found[dotted] = key.start_mark.line + 1
            found.update(_line_numbers(value, f"{dotted}."))
    return found

"""Study files: read, overridden and checked, with messages that name line, key and value.

YAML is read for its structure only: a plain word stays text, and the setting that it belongs to
decides whether it is a number, a switch or a name. YAML 1.1 would convert first: a contender `no`
would become False, `007` 7, `1e3` text and `010` eight.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from podium.config.machine import Machine
from podium.config.means import OF_A_MEAN, is_mean, mistakes_in_means
from podium.config.mistakes import Mistake, flag_mistakes, listing, mistakes_of, sentence
from podium.config.settings import StudySpec
from podium.config.text import decode_text, did_you_mean, listed
from podium.errors import ConfigError

MOST_VALUES = 100_000


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

    `defaults:` is merged under every contender that is not a mean of others.

    Args:
        study: path of a YAML file, a name that `podium studies` lists, or a mapping with the
            contents of such a file.
        data: a folder or built-in name that replaces the study's own; None: the study's own.
        overrides: `dotted.key=value` strings, applied in order. `*` stands for every
            contender that has such a setting; values are YAML.
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
    mistakes: list[Mistake] = []
    if isinstance(study, Mapping):
        values, lines, source = copy.deepcopy(dict(study)), {}, "study"
    else:
        text, source = _read_study(study)
        values, lines, mistakes = _parse(text, source)
        if not isinstance(values, dict):
            raise ConfigError(
                f"{source}: expected a mapping with 'name', 'data' and 'contenders', "
                f"got {_kind(values)}."
            )
    said: dict[str, str] = {}
    refused: list[str] = []
    for override in overrides:
        try:
            said |= _apply_override(values, override, below)
        except ConfigError as error:
            refused.append(str(error))
    if data is not None and not isinstance(data, str | Path):
        values["data"] = data  # refused below, as what it is
    elif data is not None:
        base = values.get("data")
        values["data"] = {**(base if isinstance(base, dict) else {}), "path": str(data)}
    defaulted = _merge_defaults(values, source)
    try:
        found = StudySpec.model_validate(values, context={"stored": stored})
    except ValidationError as error:
        mistakes += mistakes_of(error, lines, defaulted, said)
        # a wrong setting keeps pydantic from what is checked between contenders
        for text in mistakes_in_means(values.get("contenders")):
            line = lines.get(text.partition(":")[0]) or 0
            mistakes.append(
                Mistake(line, f"study: {sentence(text)}")
            )  # as `mistakes_of` would say it
    if mistakes:
        mistakes += [Mistake(0, text) for text in refused]
        raise ConfigError(listing(mistakes, source))
    if refused:
        raise ConfigError("\n".join(refused))
    return found


def study_text(name: str) -> str:
    """The YAML of a built-in study, including comments.

    Args:
        name: a name that `podium studies` lists.

    Raises:
        ConfigError: there is no such study.
    """
    ours = built_in_studies()
    if name not in ours:
        hint = did_you_mean(name, ours)
        raise ConfigError(f"There is no study {name!r}.{hint} Expected one of {', '.join(ours)}.")
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
        # one flag per value is singular; one flag carries both
        names = {"trackers": "tracker", "executor": "on", "address": "on"}
        raise ConfigError(flag_mistakes(error, names)) from None


def _parse(text: str, source: str) -> tuple[Any, dict[str, int], list[Mistake]]:
    """The values of a YAML text, the line of every dotted key, and the keys that are repeated."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        _refuse_endless(node, source)
        repeated = _repeated(node)
        # a safe loader, checked above
        values = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{source}: {_syntax(error)}") from None
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise ConfigError(f"{source}: not valid YAML. {error}") from None
    return values, _line_numbers(node), repeated


def _syntax(error: yaml.MarkedYAMLError) -> str:
    """Where a text stops to be YAML, and why."""
    mark, begun = error.problem_mark, error.context_mark
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    told = f"not valid YAML{where}: {error.problem or 'it cannot be read'}"
    if error.context:
        since = f", begun in line {begun.line + 1}" if begun else ""
        told += f" ({error.context}{since})"
    return f"{told}."


def _key_text(key: yaml.Node) -> str:
    if not isinstance(key, yaml.ScalarNode):
        raise yaml.constructor.ConstructorError(
            None, None, "a list or a mapping cannot be a name", key.start_mark
        )
    return str(key.value)


def _repeated(node: yaml.Node | None, prefix: str = "") -> list[Mistake]:
    """Keys given twice, at any level: YAML would silently keep the last."""
    if isinstance(node, yaml.SequenceNode):
        return [found for one in node.value for found in _repeated(one, prefix)]
    if not isinstance(node, yaml.MappingNode):
        return []
    lines: dict[str, int] = {}
    found: list[Mistake] = []
    for key, value in node.value:
        name, line = _key_text(key), key.start_mark.line + 1
        if name in lines and not key.tag.endswith(":merge"):
            told = f"{prefix}{name} is given twice, first in line {lines[name]}"
            found.append(Mistake(line, f"{told}; one of the two would be lost. Remove or rename."))
        lines.setdefault(name, line)
        found += _repeated(value, f"{prefix}{name}.")
    return found


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
            f"There is no study {str(study)!r}.{did_you_mean(str(study), ours)} "
            f"Expected the path of a YAML file, or one of {', '.join(ours)}."
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{study}: cannot be read as a YAML file ({error}).") from None


def _apply_override(values: dict[str, Any], override: str, below: str) -> dict[str, str]:
    """Set one value in place; return the dotted keys that were set, each with the key as given."""
    key, sign, text = override.partition("=")
    parts = [*below.split(".")[:-1], *key.strip().split(".")]
    if not sign or not all(parts):
        usual = "mixup=0.2" if below else "contenders.*.epochs=2 or seeds=[0,1]"
        raise ConfigError(f"--set {override!r}: expected KEY=VALUE, such as {usual}.")
    value, _, repeated = _parse(text, f"--set {override!r}")
    if repeated:
        raise ConfigError(f"--set {override!r}: line {repeated[0].line}: {repeated[0].text}")
    done: dict[str, str] = {}

    def put(level: Any, at: int, above: tuple[str, ...] = ()) -> None:
        if not isinstance(level, dict):
            raise ConfigError(
                f"--set {override!r}: {'.'.join(parts[:at])} is {_kind(level)}, "
                "so nothing can be set below it."
            )
        if at == len(parts) - 1 and parts[at] != "*":
            level[parts[at]] = value
            done[".".join((*above, parts[at]))] = key.strip()
        elif parts[at] == "*":
            if at == len(parts) - 1 or not level:
                raise ConfigError(f"--set {override!r}: '*' must stand for existing keys.")
            for name in level:
                if not (is_mean(level[name]) and parts[at + 1] not in OF_A_MEAN):
                    put(level[name], at + 1, (*above, str(name)))
        elif at and parts[at - 1] == "contenders" and parts[at] not in level:
            known = [str(name) for name in level]
            hint = did_you_mean(parts[at], known) or f" There are: {listed(known) or 'none'}."
            raise ConfigError(f"--set {override!r}: there is no contender {parts[at]!r}.{hint}")
        else:
            put(level.setdefault(parts[at], {}), at + 1, (*above, parts[at]))

    put(values, 0)
    return done


def _merge_defaults(values: dict[str, Any], source: str) -> set[str]:
    """Put `defaults:` under every contender, in place; return the keys that it has."""
    defaults = values.pop("defaults", None) or {}
    contenders = values.get("contenders")
    if not isinstance(defaults, dict):
        raise ConfigError(f"{source}: defaults: expected a mapping, got {_kind(defaults)}.")
    if isinstance(contenders, dict):
        often = Counter(map(str, contenders))  # plain values may contain both 7 and "7"
        if twice := [name for name, times in often.items() if times > 1]:
            raise ConfigError(f"{source}: contenders.{twice[0]} is given twice. Rename one.")
        values["contenders"] = {
            str(name): {**defaults, **recipe}
            if isinstance(recipe, dict) and not is_mean(recipe)
            else recipe
            for name, recipe in contenders.items()
        }
    return set(defaults)


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

"""What MkDocs asks at each build: the reference pages, written from the code as it is now.

No page made here is kept in the repository, so none can be out of date: the commands come from the
Typer app, the study file from its settings and their docstrings, the Python page from
`podium.__all__`. The changelog and the benchmarks' page are those of the repository.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import annotated_types
import typer
from pydantic import BaseModel, WithJsonSchema
from pydantic_core import PydanticUndefined
from rooms import drawing, table

import podium
from podium.cli.app import app
from podium.config.data_settings import DataSpec, SplitSpec
from podium.config.machine import Machine
from podium.config.schema import field_docs, study_schema
from podium.config.settings import RunSpec, StudySpec
from podium.config.tuning import Tune

ROOT = Path(__file__).resolve().parents[1]


def on_config(config: Any) -> Any:
    """Pages of docs/ that the navigation does not name yet stand under *Understand*."""
    named = json.dumps(config["nav"])
    new = sorted(page.name for page in (ROOT / "docs").glob("*.md") if page.name not in named)
    for part in config["nav"]:
        part.get("Understand", []).extend(new)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to those that lie in docs/."""
    from mkdocs.structure.files import File

    for path, text in generated().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put the rooms where a page asks for them; links out of docs/ lead to pages of the site."""
    markdown = markdown.replace("<!-- rooms: drawing -->", drawing())
    markdown = markdown.replace("<!-- rooms: table -->", table())
    return markdown.replace("](../benchmarks/README.md", "](benchmarks.md")


def on_post_page(output: str, **_: Any) -> str:
    """Name the theme's search dialog, which has no name for a screen reader."""
    dialog = 'data-md-component="search" role="dialog"'
    return output.replace(dialog, f'{dialog} aria-label="Search"')


def generated() -> dict[str, str]:
    """Path below docs/ -> text, of every file that is made here."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    benchmarks = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    return {
        "reference/cli.md": cli_page(),
        "reference/study-file.md": study_file_page(),
        "reference/api.md": api_page(),
        "reference/study.schema.json": json.dumps(study_schema(), indent=2) + "\n",
        "changelog.md": changelog,
        "benchmarks.md": benchmarks.replace("](../docs/", "]("),
    }


# ---------------------------------------------------------------- the commands


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its full name, such as 'data fetch', in the order of `--help`."""

    def below(group: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            if command.hidden:
                continue
            if hasattr(command, "commands"):
                yield from below(command, (*words, name))
            else:
                yield " ".join((*words, name)), command

    return below(typer.main.get_command(app), ())


def cli_page() -> str:
    """Every command: what it does, its arguments and options with type, default and help."""
    lines = [
        "# Commands",
        "",
        "Written from the command itself when this site was built; `podium COMMAND --help` says "
        "the same. A command ends with exit code 0, with 2 after a mistake in what it was given, "
        "with 1 after a failure, and with 130 after a Ctrl-C. `--debug` behind any command shows "
        "where an error came from, `--import MODULE` imports "
        "[code of your own](../how-to/add-a-model.md) that a run needs, "
        "`podium --version` says which version this is.",
        "",
        "| command | what it does |",
        "|---|---|",
    ]
    found = list(commands())
    for name, command in found:
        first = inspect.cleandoc(command.help or "").split("\n\n")[0]
        lines.append(f"| [`podium {name}`](#{anchor(name)}) | {cell(first)} |")
    for name, command in found:
        lines += ["", f"## podium {name} {{ #{anchor(name)} }}", ""]
        lines += [markdown_text(inspect.cleandoc(command.help or "")), ""]
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        options = [one for one in command.params if one.param_type_name == "option"]
        used = [("" if one.required else "[") + metavar(one) + ("" if one.required else "]")
                for one in arguments]  # fmt: skip
        lines += ["```text", " ".join([f"podium {name}", *used, "[OPTIONS]"]), "```", ""]
        hints = types_of(command.callback)
        for one in arguments:
            lines += entry(f"`{metavar(one)}`", one, hints.get(one.name, str))
        for one in options:
            lines += entry(flags(one), one, hints.get(one.name, str))
    return "\n".join(lines) + "\n"


def anchor(name: str) -> str:
    """A command's id on its page."""
    return name.replace(" ", "-")


def metavar(argument: Any) -> str:
    """An argument as the usage line shows it."""
    shown = argument.metavar or argument.name.upper()
    return f"{shown}..." if argument.nargs == -1 and not shown.endswith("...") else shown


def flags(option: Any) -> str:
    """The option as one types it: `--epochs`, `--audit` / `--no-audit`."""
    return " / ".join(f"`{word}`" for word in (*option.opts, *option.secondary_opts))


def entry(name: str, parameter: Any, hint: Any) -> list[str]:
    """One item of a definition list."""
    facts = [parameter.metavar or "" if parameter.param_type_name == "option" else "", kind(hint)]
    low, high = parameter.min, parameter.max
    if low is not None or high is not None:
        facts.append(f"{low} to {high}" if None not in (low, high) else
                     f"{low} or more" if high is None else f"{high} or less")  # fmt: skip
    if parameter.multiple:
        facts.append("may be repeated")
    default = parameter.default
    if parameter.required:
        facts.append("**required**")
    elif isinstance(parameter.show_default, str):
        facts.append(f"default: {parameter.show_default}")
    elif default is not None and default is not False:
        shown = default.value if isinstance(default, enum.Enum) else default
        shown = {True: "on"}.get(shown, shown) if isinstance(shown, bool) else shown
        facts.append(f"default: `{shown}`")
    said = [one for one in facts if one]
    told = parameter.help or ""
    return [name, f":   {markdown_text(told)}", f"    *{', '.join(said)}*{{ .facts }}", ""]


def types_of(function: Any) -> dict[str, Any]:
    """Parameter -> type of a command's function, without what Typer is told besides."""
    return typing.get_type_hints(inspect.unwrap(function))


def kind(hint: Any) -> str:
    """A type in plain words: 'whole number', 'path', 'none or backbone'."""
    if hint is None or hint is type(None):
        return "empty"
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return kind(inside[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(kind(one) for one in inside if one is not type(None))
    if origin is typing.Literal:
        return (
            ", ".join(f"`{one}`" for one in inside[:-1]) + f" or `{inside[-1]}`"
            if len(inside) > 1
            else f"`{inside[0]}`"
        )
    if origin in (list, tuple):
        return f"list: {kind(inside[0])}" if origin is tuple else kind(inside[0])
    if origin is dict:
        return "mapping"
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return " or ".join(f"`{one.value}`" for one in hint)
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return f"mapping ([{hint.__name__}](#{hint.__name__.lower()}))"
    named = {bool: "flag", int: "whole number", float: "number", str: "text", Path: "path"}
    return named.get(hint, getattr(hint, "__name__", str(hint)))


def cell(text: str) -> str:
    """Text within a cell of a table."""
    return markdown_text(text).replace("|", "\\|").replace("\n", " ")


def markdown_text(text: str) -> str:
    """A docstring or help text as Markdown: what stands in backticks stays, `<` and `*` show."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else
                   re.sub(r"([*_<\[])", r"\\\1", part) for part in parts)  # fmt: skip


# ---------------------------------------------------------------- the study file

INTRO = """# The study file

A study is a YAML file with a name, the images, and the contenders. Written from the settings
themselves when this site was built. `podium studies quick` prints one to start from; what is wrong
in yours is told with its line before anything runs.

```yaml
name: birds
data: my-images
seeds: [0, 1, 2]
defaults:               # settings of every contender that does not say otherwise
  epochs: 40
  image_size: 128
contenders:
  plain:
    model: simple_resnet
  varied:
    model: simple_resnet
    augmentation: trivialaugment
```

Any value can be set from the command as well: `--set contenders.varied.epochs=60`, with `*` for
every contender: `--set 'contenders.*.epochs=2'`. A path is relative to the folder that the command
is started in.

## Completion in your editor

The JSON schema of study files lets an editor complete and check them as you type (VS Code with the
YAML extension, Neovim, Emacs and others with yaml-language-server). Write it beside your studies
once, and name it in their first line:

```sh
podium studies --schema > study.schema.json
```

```yaml
# yaml-language-server: $schema=study.schema.json
name: birds
data: my-images
contenders:
  plain:
    model: simple_resnet
    epochs: 30
```

The schema of this version is also [part of this site](study.schema.json). What settings exclude
each other is known to Podium alone.
"""

SECTIONS = (
    (StudySpec, "The study", ""),
    (DataSpec, "data", "Below `data:`, where it is more than a path."),
    (SplitSpec, "split", "Below `data: split:`."),
    (Tune, "tune", "Below `tune:`; see [how to tune](../tuning.md)."),
    (RunSpec, "A contender", "Below `contenders: NAME:`, or below `defaults:` for all of them."),
    (
        Machine,
        "The machine",
        "No part of the file: flags of `podium run`, `podium.Study.load(..., device=\"cuda\")` in "
        "Python. They change the speed of a run, not its recipe.",
    ),
)  # fmt: skip


def study_file_page() -> str:
    """Every setting with its type, range, default and docstring."""
    lines = [INTRO]
    for model, title, note in SECTIONS:
        lines += [f"## {title} {{ #{model.__name__.lower()} }}", ""]
        lines += [inspect.cleandoc(model.__doc__ or ""), "", note, ""]
        docs, prefix = field_docs(model), model.__name__.lower()
        for name, field in model.model_fields.items():
            facts = [kind(field.annotation), *bounds(field)]
            if field.is_required():
                facts.append("**required**")
            elif (default := field.default) is PydanticUndefined or default is None:
                facts.append("default: empty")
            else:
                shown = json.dumps(list(default) if isinstance(default, tuple) else default)
                facts.append("default: `" + shown.strip('"') + "`")
            lines += [f"### {name} {{ #{prefix}-{name} }}", ""]
            lines += [f"*{', '.join(facts)}*{{ .facts }}", "", docs[name], ""]
    return "\n".join(lines) + "\n"


def bounds(field: Any) -> list[str]:
    """The range of a number in plain words."""
    said = []
    for limit in field.metadata:
        for kind_of, words in (
            (annotated_types.Ge, "{} or more"),
            (annotated_types.Gt, "more than {}"),
            (annotated_types.Le, "{} or less"),
            (annotated_types.Lt, "less than {}"),
        ):
            if isinstance(limit, kind_of):
                value = getattr(limit, kind_of.__name__.lower())
                said.append(words.format(f"{value:,}"))
        if isinstance(limit, WithJsonSchema):  # a name, of ours or of a user's
            ours = [one for part in (limit.json_schema or {}).get("anyOf", ())
                    for one in part.get("enum", ())]  # fmt: skip
            said += [f"one of `{'`, `'.join(ours)}`, or `module:name`"] if ours else []
        if isinstance(limit, annotated_types.MaxLen):
            said.append(f"{limit.max_length} characters or fewer")
    return said


# ---------------------------------------------------------------- Python

GROUPS = (
    ("Studies", "Study StudyResult StudySpec RunSpec Machine load_study report"),
    ("One model", "train evaluate build_model list_models"),
    ("Images", "audit Audit build_index DataIndex Source Item register_source"),
    ("Verdicts", "compare Verdicts stress power Plan claim Claim scores per_class"),
    ("Use the winner", "predict explain export serve card push"),
    (
        "Follow a study",
        "Tracker StudyInfo register_tracker Event RunEvent StudyStarted RunStarted TrainingStarted "
        "EpochStarted BatchDone EpochDone RunDone RunFailed Message WarningMessage Progress",
    ),
    ("What is on disk", "StudyFolder RunFolder Predictions"),
)


def directive_options(name: str) -> list[str]:
    """What the directive of a public name is told: attributes that an `__init__` sets from its own
    arguments would be shown as `spec = spec`."""
    found = getattr(podium, name)
    if not inspect.isclass(found) or dataclasses.is_dataclass(found):
        return []
    if "__init__" not in vars(found):
        return []
    return ["    options:", "      show_attribute_values: false"]


def api_page() -> str:
    """A directive of mkdocstrings for every public name, in groups."""
    homes = [name for name in podium.__all__ if name != "__version__"]
    lines = [
        "# Python",
        "",
        "All of it is `import podium`; nothing heavy is imported before it is used. The functions "
        "mirror the [commands](cli.md). Shares and differences are numbers from 0 to 1, times are "
        "seconds.",
        "",
    ]
    errors = [name for name in homes if name.endswith("Error")]
    grouped = {name for _, names in GROUPS for name in names.split()}
    rest = [name for name in homes if name not in grouped and name not in errors]
    for title, names in (
        *((title, names.split()) for title, names in GROUPS),
        ("More", rest),
        ("Errors", errors),
    ):
        present = [name for name in names if name in homes]
        if present:
            lines += [f"## {title}", ""]
        for name in present:
            lines += [f"::: podium.{name}", *directive_options(name), ""]
    return "\n".join(lines) + "\n"

"""The schema of study files, from the types of the settings: for editors and the reference."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from functools import cache
from typing import Any

from pydantic import BaseModel

from podium.config.data_settings import DataSpec, SplitSpec
from podium.config.settings import NAME, RunSpec, StudySpec
from podium.config.tuning import Tune


@cache
def _documented(module: str) -> dict[str, dict[str, str]]:
    """Class -> field -> the docstring below the field, of a module of settings."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        if isinstance(node, ast.ClassDef):
            fields = found.setdefault(node.name, {})
            for one, after in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(one, ast.AnnAssign)
                    and isinstance(one.target, ast.Name)
                    and isinstance(after, ast.Expr)
                    and isinstance(after.value, ast.Constant)
                    and isinstance(after.value.value, str)
                ):
                    fields[one.target.id] = re.sub(r"\s+", " ", after.value.value)
    return found


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """The docstring below each field of a settings class, as one line each.

    Args:
        model: `StudySpec`, `DataSpec`, `SplitSpec`, `Tune`, `RunSpec` or `Machine`.
    """
    return dict(_documented(model.__module__)[model.__name__])


def study_schema() -> dict[str, Any]:
    """Build a JSON schema (draft 2020-12) of study files, as `load_study` takes them.

    A file may give `defaults`, which are merged under every contender, so no setting of a
    contender is required on its own. Only `load_study` checks which settings conflict.
    """
    schema = StudySpec.model_json_schema()
    for model in (RunSpec, DataSpec, SplitSpec, Tune):
        _describe(schema["$defs"][model.__name__], model)
    _describe(schema, StudySpec)
    schema["$defs"]["RunSpec"].pop("required", None)  # `defaults` may have it
    properties = schema["properties"]
    recipe, folder = {"$ref": "#/$defs/RunSpec"}, {"$ref": "#/$defs/DataSpec"}
    text = {"type": "string", "description": "A folder, or a built-in name: sports100, demo."}
    properties["data"] = {
        "anyOf": [text, folder],
        "description": properties["data"]["description"],
    }
    properties["defaults"] = {
        **recipe,
        "description": "Settings of every contender that is trained, unless it overrides them.",
    }
    properties["contenders"] = {
        "type": "object",
        "description": properties["contenders"]["description"],
        "minProperties": 1,
        "propertyNames": {"pattern": f"^{NAME.pattern}$"},
        "additionalProperties": recipe,
    }
    schema["required"].remove("data")  # `--data` may have it
    schema["title"] = "A Podium study"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _describe(schema: dict[str, Any], model: type[BaseModel]) -> None:
    for name, text in field_docs(model).items():
        schema["properties"][name]["description"] = text.replace("`", "")
    for values in schema["properties"].values():
        values.pop("title", None)  # pydantic's "Lr Drop Factor" is no help

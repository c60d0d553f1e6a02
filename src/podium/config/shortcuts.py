"""Contenders that see no object: if one comes close, the set of images leaks its labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podium.config.titles import MODEL_TITLES

SHORTCUT_MODELS = tuple(name for name in MODEL_TITLES if name.startswith("shortcut_"))
"""Their features are fixed, not learned: only a linear classifier is fitted to them."""
FILE_MODEL = "shortcut_file"
"""The one that sees no pixel: what the header of the file tells."""


def shortcut_contenders() -> dict[str, dict[str, Any]]:
    """The contenders that `shortcuts: true` adds to a study, by name.

    Examples:
        >>> from podium.config.shortcuts import shortcut_contenders
        >>> [*shortcut_contenders()]
        ['shortcut-file', 'shortcut-colour', 'shortcut-border', 'shortcut-thumbnail']
    """
    recipe = {"freeze": "backbone", "linear_probe": True, "epochs": 1}
    return {
        model.replace("_", "-"): {"model": model, "label": MODEL_TITLES[model], **recipe}
        for model in SHORTCUT_MODELS
    }


def with_shortcuts(values: Any) -> Any:
    """The plain values of a study, with these contenders if it asks for them.

    Args:
        values: of a study, perhaps not valid: what is no study comes back as it is.
    """
    wanted = values.get("shortcuts") if isinstance(values, Mapping) else None
    if str(wanted).lower() != "true" or not isinstance(values.get("contenders"), Mapping):
        return values  # as text in a study file; anything else is checked as a setting
    given = values["contenders"]
    added = {name: one for name, one in shortcut_contenders().items() if name not in given}
    return {**values, "contenders": {**given, **added}}

"""The HTML pages' templates, style and script: one way to fill them in."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Any

from jinja2 import BaseLoader, Environment, StrictUndefined
from markupsafe import Markup

from podium.__about__ import __version__

__all__ = ["fill_in"]


def fill_in(template: str, /, **values: Any) -> str:
    """A template with its values, escaped, and with what every page needs.

    Args:
        template: its file.
        values: beside `version`, `style`, `script` and `script_digest`, which are there.
    """
    environment = Environment(
        loader=_Templates(),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _text("page.js")
    return environment.get_template(template).render(
        version=__version__,
        style=Markup(_text("page.css")),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **values,
    )


class _Templates(BaseLoader):
    def get_source(self, environment: Environment, template: str) -> tuple[str, None, None]:
        return _text(template), None, None


def _text(name: str) -> str:
    file = resources.files(__package__) / "templates" / name
    return file.read_text(encoding="utf-8")

"""Fill in the templates, style and script of the HTML pages."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import BaseLoader, Environment, StrictUndefined
from markupsafe import Markup

from podium.__about__ import __version__

SHEETS = ("page", "explorer", "print")


CHARTS = ("d3.min.js", "plot.umd.min.js")
"""Observable Plot and what it is built on; `templates/vendor/README.md` has their versions."""


def fill_in(template: str, /, parts: Sequence[str], *, charts: bool = False, **values: Any) -> str:
    """Render a template with its values, escaped, and with what every page needs.

    Args:
        template: file name of the template.
        parts: names of its script files in `templates/js`, in order.
        charts: whether the page draws charts, which takes a library of 0.5 MB.
        values: in addition to `version`, `style`, `early`, `libraries`, `script` and `digests`.
    """
    early, script = _script(["early"]), _script(parts)
    libraries = [_text(f"vendor/{name}") for name in CHARTS] if charts else []
    return (
        _environment()
        .get_template(template)
        .render(
            version=__version__,
            style=Markup("".join(_text(f"{sheet}.css") for sheet in SHEETS)),
            early=Markup(early),
            libraries=[Markup(one) for one in libraries],
            script=Markup(script),
            digests=Markup(" ".join(_digest(one) for one in (early, *libraries, script))),
            **values,
        )
    )


def script_json(data: Any) -> Markup:
    """JSON for a block of the page, with `<` escaped so that no name can close its element.

    Args:
        data: anything that JSON can hold.
    """
    text = json.dumps(data, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _script(parts: Sequence[str]) -> str:
    """Combine several files into one script with private names."""
    body = "".join(_text(f"js/{part}.js") for part in parts)
    return f'(() => {{\n"use strict";\n{body}}})();\n'


def _digest(script: str) -> str:
    """The hash by which the content security policy allows exactly this script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@cache
def _environment() -> Environment:
    """One for all pages: compiling the templates takes half a second."""
    return Environment(
        loader=_Templates(),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


class _Templates(BaseLoader):
    def get_source(self, environment: Environment, template: str) -> tuple[str, None, None]:
        return _text(template), None, None


def _text(name: str) -> str:
    file = resources.files(__package__) / "templates" / name
    return file.read_text(encoding="utf-8")

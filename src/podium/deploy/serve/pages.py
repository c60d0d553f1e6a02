"""The page, the description of the API, and what they need: from the package, never from outside.

Colours, fonts and the switch between light and dark are the report's: its style sheet is sent as
it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from podium.__about__ import __version__
from podium.deploy.serve.limits import Limits

ASSETS = {
    "report.css": "text/css; charset=utf-8",
    "serve.css": "text/css; charset=utf-8",
    "theme.js": "text/javascript; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "results.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""What /assets has, and as what it is sent."""


@dataclass(frozen=True)
class Asset:
    """A file of a page."""

    content: bytes
    media_type: str


def asset(name: str) -> Asset:
    """One of `ASSETS`, read from the package."""
    text = _report_sheet() if name == "report.css" else _own(name)
    return Asset(text.encode(), ASSETS[name])


def page(name: str, limits: Limits, **values: Any) -> str:
    """A template of this package, filled in; values are escaped.

    Args:
        name: its file.
        limits: of the server.
        values: beside `version`, `megabytes` and `megapixels`, which are there.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_own(name)).render(
        version=__version__,
        limits=limits,
        megabytes=f"{limits.max_bytes / 1e6:,.3g}",
        megapixels=f"{limits.max_pixels / 1e6:,.3g}",
        **values,
    )


def _report_sheet() -> str:
    file = resources.files("podium.reporting.page") / "templates" / "page.css"
    return file.read_text(encoding="utf-8")


def _own(name: str) -> str:
    file = resources.files(__package__) / "assets" / name
    return file.read_text(encoding="utf-8")

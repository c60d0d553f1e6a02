"""The page, the description of the API, and their assets: all from the package, none external.

Colours, fonts and the light/dark switch are the report's: its style sheet is sent unchanged.
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
"""The files below /assets, and their media types."""


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
    """Fill in a template of this package; values are escaped.

    Args:
        name: file name of the template.
        limits: limits of the server.
        values: further values besides `version`, `megabytes` and `megapixels`.
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

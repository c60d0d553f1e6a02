"""The texts and number formats of reports, in English and Brazilian Portuguese."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

from podium.errors import ConfigError

Lang = Literal["en", "pt"]

NOTHING = "–"


@dataclass(frozen=True)
class Labels:
    """The texts and number formats of one language."""

    lang: Lang
    words: dict[str, str]

    @property
    def html_lang(self) -> str:
        return "pt-BR" if self.lang == "pt" else "en"

    def __call__(self, key: str, **values: Any) -> str:
        """The text of a key.

        Args:
            key: of the text.
            values: for its {placeholders}.
        """
        return self.words[key].format(**values)

    def number(self, value: float | None, digits: int = 2) -> str:
        """Format a number with a fixed number of decimals.

        Args:
            value: the number; None and NaN give a dash.
            digits: decimals.
        """
        if value is None or not math.isfinite(value):
            return NOTHING
        text = f"{value:,.{digits}f}"
        return text.translate({ord(","): ".", ord("."): ","}) if self.lang == "pt" else text

    def percent(self, share: float | None, digits: int = 2) -> str:
        """Format a share as a percentage with its sign.

        Args:
            share: 0..1; None and NaN give a dash.
            digits: decimals.
        """
        text = self.number(None if share is None else 100 * share, digits)
        return text if text == NOTHING else f"{text} %"

    def interval(self, bounds: tuple[float, float], digits: int = 1) -> str:
        """Format two shares as a range of percentages.

        Args:
            bounds: lower and upper bound, 0..1.
            digits: decimals.
        """
        low, high = (self.number(100 * bound, digits) for bound in bounds)
        return f"{low}–{high} %"

    def short(self, value: float) -> str:
        """Format a number with as few digits as needed, such as 0.5 or 1e-4.

        Args:
            value: the number.
        """
        text = f"{value:g}".replace("e-0", "e-")
        return text.replace(".", ",") if self.lang == "pt" else text

    def count(self, value: float | None) -> str:
        """Format a whole number with thousands separators.

        Args:
            value: the number; None gives a dash.
        """
        return self.number(value, 0)

    def duration(self, seconds: float | None) -> str:
        """Format a duration in its two largest units.

        Args:
            seconds: the duration; None and NaN give a dash.
        """
        if seconds is None or not math.isfinite(seconds):
            return NOTHING
        if seconds < 10:
            return f"{self.number(seconds, 1)} s"
        whole = round(seconds)
        if whole < 60:
            return f"{whole} s"
        if whole < 3600:
            return f"{whole // 60} min {whole % 60:02d} s"
        minutes = round(seconds / 60)
        return f"{minutes // 60} h {minutes % 60:02d} min"


@cache
def labels(lang: str) -> Labels:
    """The labels of a language.

    Args:
        lang: `en` or `pt`.

    Raises:
        ConfigError: the language is not supported.
    """
    if lang not in get_args(Lang):
        raise ConfigError(f"lang: expected 'en' or 'pt', got {lang!r}.")
    words: dict[str, str] = {}
    parts = ("", "audit-", "card-", "paper-", "growth-", "anytime-", "tuning-")
    for name in (f"{part}{lang}.json" for part in parts):
        file = resources.files(__package__) / "locales" / name
        words |= json.loads(file.read_text(encoding="utf-8"))
    return Labels("pt" if lang == "pt" else "en", words)

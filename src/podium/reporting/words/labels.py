"""Every word and number that a reader sees, in English or Brazilian Portuguese."""

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
    """The words of one language and the way it writes numbers."""

    lang: Lang
    words: dict[str, str]

    @property
    def html_lang(self) -> str:
        return "pt-BR" if self.lang == "pt" else "en"

    def __call__(self, key: str, **values: Any) -> str:
        """The text of `key`, with `values` put in its {places}."""
        return self.words[key].format(**values)

    def number(self, value: float | None, digits: int = 2) -> str:
        """A number with a fixed count of decimals; `None` and NaN give a dash."""
        if value is None or not math.isfinite(value):
            return NOTHING
        text = f"{value:,.{digits}f}"
        return text.translate({ord(","): ".", ord("."): ","}) if self.lang == "pt" else text

    def percent(self, share: float | None, digits: int = 2) -> str:
        """A share of 0..1 as a percentage with its sign."""
        text = self.number(None if share is None else 100 * share, digits)
        return text if text == NOTHING else f"{text} %"

    def interval(self, bounds: tuple[float, float], digits: int = 1) -> str:
        """Two shares of 0..1 as one range of percentages."""
        low, high = (self.number(100 * bound, digits) for bound in bounds)
        return f"{low}–{high} %"

    def short(self, value: float) -> str:
        """A number in as few digits as say it, without the padding of exponents: 0.5, 1e-4."""
        text = f"{value:g}".replace("e-0", "e-")
        return text.replace(".", ",") if self.lang == "pt" else text

    def count(self, value: float | None) -> str:
        """A whole number with thousands set apart."""
        return self.number(value, 0)

    def duration(self, seconds: float | None) -> str:
        """Seconds as the two largest units that fit."""
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

    Raises:
        ConfigError: there is no such language here.
    """
    if lang not in get_args(Lang):
        raise ConfigError(f"lang: expected 'en' or 'pt', got {lang!r}.")
    words: dict[str, str] = {}
    for name in (f"{lang}.json", f"audit-{lang}.json", f"card-{lang}.json"):
        file = resources.files(__package__) / "locales" / name
        words |= json.loads(file.read_text(encoding="utf-8"))
    return Labels("pt" if lang == "pt" else "en", words)

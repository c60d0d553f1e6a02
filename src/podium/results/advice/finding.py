"""What a rule of the advice found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Finding:
    """Evidence that a rule applies; the words for it are in `podium.reporting.words`."""

    rule: str
    """Key of the words, `advice_<rule>`."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Names of contenders and classes, by placeholder."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Shares in 0..1, by placeholder."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Whole numbers, by placeholder."""
    contender: str | None = None
    """Name of the contender that it is about; None: it is about the images."""

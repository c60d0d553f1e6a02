"""How a trained model becomes a file that needs neither Podium nor its run: one module a step."""

from __future__ import annotations

__all__: list[str] = []

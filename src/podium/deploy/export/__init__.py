"""Export of a trained model to files that need neither Podium nor its run; one module per step."""

from __future__ import annotations

__all__: list[str] = []

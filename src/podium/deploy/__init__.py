"""A finished run in use: predictions of new pictures, exports, a server, a model card.

Everything here reads a run's folder (or an export that was made of one) and trains nothing.
"""

from __future__ import annotations

from podium.deploy.predictor import Guess, Predictor, load_predictor

__all__ = ["Guess", "Predictor", "load_predictor"]

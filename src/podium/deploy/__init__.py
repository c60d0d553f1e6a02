"""A finished run in use: predictions of new pictures, exports, a server, a model card.

Everything here reads a run's folder (or an export that was made of one) and trains nothing. Names
are imported when they are first used: choosing a run needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from podium.deploy.find.choose import choose_run
    from podium.deploy.predict.files import FilePrediction
    from podium.deploy.predictor import Guess, Predictor, load_predictor

_HOMES = {
    "podium.deploy.find.choose": ("choose_run",),
    "podium.deploy.predict.files": ("FilePrediction",),
    "podium.deploy.predictor": ("Guess", "Predictor", "load_predictor"),
}

__all__ = ["FilePrediction", "Guess", "Predictor", "choose_run", "load_predictor"]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'podium.deploy' has no attribute {name!r}")

"""Podium: which image classifier wins on your images, and how sure can you be?

    import podium

    study = podium.Study.load("quick", data="my-images")
    study.run()
    print(study.report())

Names are imported when they are first used, so that `import podium` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from podium.__about__ import __version__

if TYPE_CHECKING:
    from podium.api import audit, compare, evaluate, export, power, predict, report, train
    from podium.auditing import Audit
    from podium.comparison import Plan, Verdicts
    from podium.config import Machine, RunSpec, StudySpec
    from podium.data.index import DataIndex, build_index
    from podium.deploy.card import card
    from podium.deploy.export import Export, Exports
    from podium.deploy.exported import load_exported
    from podium.deploy.hub import fetch_run, push
    from podium.deploy.predict import FilePrediction
    from podium.deploy.predictor import Guess
    from podium.errors import (
        ConfigError,
        DataError,
        ExportError,
        PodiumError,
        RunFolderError,
        TrainingError,
        UnreadableImageError,
        UserError,
        WeightsUnavailableError,
    )
    from podium.explanations import explain
    from podium.metrics import per_class, scores
    from podium.models import build_model, list_models
    from podium.store import Predictions, RunFolder, StudyFolder
    from podium.study import Study, StudyResult
    from podium.studyfile import load_study

_HOMES = {
    "podium.api": ("audit", "compare", "evaluate", "export", "power", "predict", "report", "train"),
    "podium.auditing": ("Audit",),
    "podium.comparison": ("Plan", "Verdicts"),
    "podium.config": ("Machine", "RunSpec", "StudySpec"),
    "podium.data.index": ("DataIndex", "build_index"),
    "podium.deploy.predict": ("FilePrediction",),
    "podium.deploy.predictor": ("Guess",),
    "podium.deploy.export": ("Export", "Exports"),
    "podium.deploy.exported": ("load_exported",),
    "podium.deploy.card": ("card",),
    "podium.deploy.hub": ("fetch_run", "push"),
    "podium.errors": (
        "ConfigError",
        "DataError",
        "ExportError",
        "PodiumError",
        "RunFolderError",
        "TrainingError",
        "UnreadableImageError",
        "UserError",
        "WeightsUnavailableError",
    ),
    "podium.explanations": ("explain",),
    "podium.metrics": ("per_class", "scores"),
    "podium.models": ("build_model", "list_models"),
    "podium.store": ("Predictions", "RunFolder", "StudyFolder"),
    "podium.study": ("Study", "StudyResult"),
    "podium.studyfile": ("load_study",),
}

__all__ = [
    "Audit",
    "ConfigError",
    "DataError",
    "DataIndex",
    "Export",
    "ExportError",
    "Exports",
    "FilePrediction",
    "Guess",
    "Machine",
    "Plan",
    "PodiumError",
    "Predictions",
    "RunFolder",
    "RunFolderError",
    "RunSpec",
    "Study",
    "StudyFolder",
    "StudyResult",
    "StudySpec",
    "TrainingError",
    "UnreadableImageError",
    "UserError",
    "Verdicts",
    "WeightsUnavailableError",
    "__version__",
    "audit",
    "build_index",
    "build_model",
    "card",
    "compare",
    "evaluate",
    "explain",
    "export",
    "fetch_run",
    "list_models",
    "load_exported",
    "load_study",
    "per_class",
    "power",
    "predict",
    "push",
    "report",
    "scores",
    "train",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'podium' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

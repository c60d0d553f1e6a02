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
    from podium.config.settings import Machine, RunSpec, StudySpec
    from podium.config.studyfile import load_study
    from podium.data.index import DataIndex, build_index
    from podium.deploy.export.load import load_exported
    from podium.deploy.export.run import Export, Exports
    from podium.deploy.find.hub import fetch_run
    from podium.deploy.predict.files import FilePrediction
    from podium.deploy.predictor import Guess
    from podium.deploy.publish.card import card
    from podium.deploy.publish.push import push
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
    from podium.models import build_model, list_models
    from podium.runs.folder import RunFolder, StudyFolder
    from podium.runs.predictions import Predictions
    from podium.statistics import Plan, Verdicts
    from podium.statistics.metrics import per_class, scores
    from podium.study.explain import explain
    from podium.study.outcome import StudyResult
    from podium.study.study import Study

_HOMES = {
    "podium.api": ("audit", "compare", "evaluate", "export", "power", "predict", "report", "train"),
    "podium.auditing": ("Audit",),
    "podium.statistics": ("Plan", "Verdicts"),
    "podium.config.settings": ("Machine", "RunSpec", "StudySpec"),
    "podium.data.index": ("DataIndex", "build_index"),
    "podium.deploy.predict.files": ("FilePrediction",),
    "podium.deploy.predictor": ("Guess",),
    "podium.deploy.export.run": ("Export", "Exports"),
    "podium.deploy.export.load": ("load_exported",),
    "podium.deploy.publish.card": ("card",),
    "podium.deploy.publish.push": ("fetch_run", "push"),
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
    "podium.study.explain": ("explain",),
    "podium.statistics.metrics": ("per_class", "scores"),
    "podium.models": ("build_model", "list_models"),
    "podium.runs.folder": ("Predictions", "RunFolder", "StudyFolder"),
    "podium.study.study": ("Study", "StudyResult"),
    "podium.config.studyfile": ("load_study",),
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

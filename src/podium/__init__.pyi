# What `podium` offers, each name with its home: read by type checkers, and by `__init__.py` to
# import a name when it is first used.
from .api import (
    audit as audit,
    compare as compare,
    evaluate as evaluate,
    export as export,
    power as power,
    predict as predict,
    report as report,
    train as train,
)
from .auditing import Audit as Audit
from .config.settings import (
    Machine as Machine,
    RunSpec as RunSpec,
    StudySpec as StudySpec,
)
from .config.studyfile import load_study as load_study
from .data.index import DataIndex as DataIndex, build_index as build_index
from .deploy.export.load import load_exported as load_exported
from .deploy.export.run import Export as Export, Exports as Exports
from .deploy.find.hub import fetch_run as fetch_run
from .deploy.predict.files import FilePrediction as FilePrediction
from .deploy.predictor import Guess as Guess
from .deploy.publish.card import card as card
from .deploy.publish.push import push as push
from .errors import (
    ConfigError as ConfigError,
    DataError as DataError,
    ExportError as ExportError,
    PodiumError as PodiumError,
    RunFolderError as RunFolderError,
    TrainingError as TrainingError,
    UnreadableImageError as UnreadableImageError,
    UserError as UserError,
    WeightsUnavailableError as WeightsUnavailableError,
)
from .models import build_model as build_model, list_models as list_models
from .runs.folder import RunFolder as RunFolder, StudyFolder as StudyFolder
from .runs.predictions import Predictions as Predictions
from .statistics.metrics import per_class as per_class, scores as scores
from .statistics.power import Plan as Plan
from .statistics.verdicts import Verdicts as Verdicts
from .study.cells import Cell as Cell
from .study.executors import Executor as Executor, register_executor as register_executor
from .study.explain import explain as explain
from .study.outcome import Outcome as Outcome, StudyResult as StudyResult
from .study.study import Study as Study
from .study.work import Work as Work

__version__: str
__all__: list[str]

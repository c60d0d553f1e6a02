# What `podium` offers, each name with its home: read by type checkers, and by `__init__.py` to
# import a name when it is first used.
from .api import (
    audit as audit,
    compare as compare,
    evaluate as evaluate,
    power as power,
    predict as predict,
    report as report,
    train as train,
)
from .auditing import Audit as Audit
from .config.machine import Machine as Machine
from .config.registry import allow as allow
from .config.settings import RunSpec as RunSpec, StudySpec as StudySpec
from .config.studyfile import load_study as load_study
from .data.augmentation import (
    Augmentation as Augmentation,
    register_augmentation as register_augmentation,
)
from .data.index import DataIndex as DataIndex
from .data.indexing import build_index as build_index
from .data.source import Item as Item, Source as Source, register_source as register_source
from .data.table import TableSource as TableSource
from .deploy.export.load import load_exported as load_exported
from .deploy.export.run import Export as Export, Exports as Exports, export as export
from .deploy.find.hub import fetch_run as fetch_run
from .deploy.predict.look import FilePrediction as FilePrediction
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
from .models import (
    ModelSpec as ModelSpec,
    build_model as build_model,
    list_models as list_models,
    register_model as register_model,
)
from .results.verification import Verification as Verification, verify as verify
from .runs.folder import RunFolder as RunFolder, StudyFolder as StudyFolder
from .runs.predictions import Predictions as Predictions
from .runtime.events import (
    BatchDone as BatchDone,
    EpochDone as EpochDone,
    EpochStarted as EpochStarted,
    Event as Event,
    Message as Message,
    Progress as Progress,
    RunDone as RunDone,
    RunEvent as RunEvent,
    RunFailed as RunFailed,
    RunStarted as RunStarted,
    StudyStarted as StudyStarted,
    TrainingStarted as TrainingStarted,
    WarningMessage as WarningMessage,
)
from .statistics.metrics import per_class as per_class, scores as scores
from .statistics.power import Plan as Plan
from .statistics.published import Claim as Claim, claim as claim
from .statistics.scoring import Metric as Metric, register_metric as register_metric
from .statistics.verdicts import Verdicts as Verdicts
from .study.cells import Cell as Cell
from .study.executors import Executor as Executor, register_executor as register_executor
from .study.explain import explain as explain
from .study.outcome import Outcome as Outcome, StudyResult as StudyResult
from .study.stress import stress as stress
from .study.study import Study as Study
from .study.trackers.tracker import (
    StudyInfo as StudyInfo,
    Tracker as Tracker,
    register_tracker as register_tracker,
)
from .study.work import Work as Work
from .training.losses import Loss as Loss, register_loss as register_loss

__version__: str
__all__: list[str]

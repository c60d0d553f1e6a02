"""MLflow: a study becomes an experiment, a contender with a seed a run, an epoch a step.

MLflow would report its usage to its makers; this is switched off before it is imported.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from podium.__about__ import __version__
from podium.config.registry import TRACKERS
from podium.errors import ConfigError, RunFolderError
from podium.runs.folder import HISTORY_COLUMNS, RunFolder
from podium.runtime.events import EpochDone, Event, RunDone, RunFailed, TrainingStarted
from podium.runtime.files import read_json, write_json
from podium.study.trackers.tracker import StudyInfo

RECORD = "mlflow.json"
"""In a run's folder: the id of its MLflow run, so that a resumed run continues in it."""

_COLUMNS = [column for column in HISTORY_COLUMNS if column != "epoch"]
_IMPATIENT = {  # an unreachable server must not block a training for minutes, as by default
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class MLflowTracker:
    """Writes recipes, histories and test scores to the server that `MLFLOW_TRACKING_URI` names.

    Raises:
        ConfigError: mlflow is not installed, or no tracking server is set.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("mlflow") is None:
            raise ConfigError(
                "--tracker mlflow needs the package mlflow-skinny: pip install 'podium[mlflow]'."
            )
        _without_telemetry()
        import mlflow
        from mlflow.tracking import MlflowClient

        library: Any = mlflow
        if not library.is_tracking_uri_set():
            raise ConfigError(
                "--tracker mlflow: expected the server's address in MLFLOW_TRACKING_URI, such as "
                "http://localhost:5000, got none. The full package mlflow provides one, "
                "`mlflow server`; with that package, sqlite:///mlflow.db needs no server."
            )
        self.client = MlflowClient()
        self.runs: dict[tuple[Any, ...], str] = {}  # MLflow's id of each current run, by cell

    def start(self, study: StudyInfo) -> None:
        self.study = study
        known = self.client.get_experiment_by_name(study.spec.name)
        self.experiment = (
            known.experiment_id if known else self.client.create_experiment(study.spec.name)
        )

    def notify(self, event: Event) -> None:
        if isinstance(event, TrainingStarted):
            self._open(event)
        elif isinstance(event, EpochDone):
            self._log(self.runs[event.cell], [event.row])
        elif isinstance(event, RunDone):
            self._finish(event)
        elif isinstance(event, RunFailed):
            self._end(event.cell, "FAILED")

    def close(self) -> None:
        for cell in list(self.runs):
            self._end(cell, "KILLED")

    def _open(self, event: TrainingStarted) -> None:
        """Resume the run if it is known, and write the rows that a kill kept from it."""
        folder, cell = self.study.run(event), event.cell
        known = self.runs.get(cell) or self._known(folder)
        missing = list(event.rows)
        if known is not None:
            steps = [
                {one.step for one in self.client.get_metric_history(known, column)}
                for column in _COLUMNS
            ]
            if max((max(found, default=0) for found in steps), default=0) > len(event.rows):
                known = None  # it has more epochs than this run: the run was started again
            else:
                whole = set.intersection(*steps)
                missing = [row for row in event.rows if row["epoch"] not in whole]
        if known is None:
            self.runs[cell] = self._create(event, folder)
            missing = list(event.rows)
        else:
            self.runs[cell] = known
            self.client.update_run(known, status="RUNNING")
        self._log(self.runs[cell], missing)

    def _known(self, folder: RunFolder) -> str | None:
        from mlflow.exceptions import MlflowException

        try:
            known = str(read_json(folder.path / RECORD)["run_id"])
            info = self.client.get_run(known).info
        except (OSError, RunFolderError, KeyError, TypeError):
            return None
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # another server, or deleted there
                return None
            raise
        return known if info.lifecycle_stage == "active" else None

    def _create(self, event: TrainingStarted, folder: RunFolder) -> str:
        from mlflow.entities import Param

        spec = self.study.spec
        recipe = spec.contenders[event.contender].model_dump(mode="json", exclude_none=True)
        tags = {
            "podium.study": spec.name,
            "podium.contender": event.contender,
            "podium.seed": str(event.seed),
            **({} if event.fold is None else {"podium.fold": str(event.fold)}),
            "podium.version": __version__,
            "podium.images": self.study.fingerprint,
        }
        title = f"{spec.label(event.contender)}, seed {event.seed}"
        title += "" if event.fold is None else f", fold {event.fold}"
        run = self.client.create_run(self.experiment, tags=tags, run_name=title)
        made = str(run.info.run_id)
        params = {**recipe, "seed": event.seed, "model_used": folder.read_config()["model_used"]}
        self.client.log_batch(
            made, params=[Param(key, str(value)) for key, value in params.items()]
        )
        write_json(folder.path / RECORD, {"run_id": made})
        return made

    def _log(self, run: str, rows: Iterable[Mapping[str, float]]) -> None:
        for row in rows:
            values = {column: row[column] for column in _COLUMNS}
            self._metrics(run, values, step=int(row["epoch"]))

    def _metrics(self, run: str, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
        self.client.log_batch(run, metrics=metrics)

    def _finish(self, event: RunDone) -> None:
        from podium.statistics.metrics import scores

        run, folder = self.runs[event.cell], self.study.run(event)
        closing = {}
        if "valid_accuracy" in event.scores:  # else a trial that failed
            closing["best_valid_accuracy"] = event.scores["valid_accuracy"]
        if "test_accuracy" in event.scores:  # no trial of a tuning is tested
            test = scores(folder.read_predictions("test"))
            closing |= {
                "test_accuracy": event.scores["test_accuracy"],
                "test_macro_precision": test.macro_precision,
                "test_macro_recall": test.macro_recall,
                "test_macro_f1": test.macro_f1,
                "test_nll": test.nll,
            }
        # a mean of others has neither epochs nor a history
        self._metrics(run, closing, step=int(folder.read_done().get("best_epoch") or 0))
        self._end(event.cell, "FINISHED")
        for path in (folder.config, folder.history, folder.model, folder.done):
            if path.is_file():
                self.client.log_artifact(run, str(path))

    def _end(self, cell: tuple[Any, ...], status: str) -> None:
        run = self.runs.pop(cell, None)
        if run is not None:
            self.client.set_terminated(run, status=status)


def _without_telemetry() -> None:
    """Switch off MLflow's telemetry, whatever was set before."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    for name, value in _IMPATIENT.items():
        os.environ.setdefault(name, value)
    if "mlflow" in sys.modules:  # already imported by the user's program, perhaps with telemetry
        import mlflow.telemetry

        telemetry: Any = mlflow.telemetry
        telemetry.set_telemetry_client()  # reads the environment again


TRACKERS.register("mlflow", MLflowTracker)

"""Trackers against the readers of TensorBoard and MLflow, and those of users' own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import podium
from podium.cli.app import main
from podium.config import registry
from podium.config.machine import Machine
from podium.config.registry import TRACKERS, allowed
from podium.config.studyfile import machine_settings
from podium.errors import ConfigError
from podium.runs.folder import HISTORY_COLUMNS, RunFolder, StudyFolder
from podium.runtime.events import (
    BatchDone,
    EpochDone,
    Event,
    Message,
    Progress,
    RunDone,
    RunEvent,
    RunFailed,
    RunStarted,
    StudyStarted,
    TrainingStarted,
    WarningMessage,
    of_run,
)
from podium.study.study import Study
from podium.study.trackers.listen import Listeners
from podium.study.trackers.tracker import StudyInfo, Tracker, register_tracker
from tests.conftest import StopAfter, write_pictures

RECIPE = {"model": "simple_resnet", "epochs": 3, "image_size": 32, "batch_size": 16, "lr": 1e-3}
SCALARS = {
    "lr": "lr", "train_loss": "loss/train", "train_accuracy": "accuracy/train",
    "valid_loss": "loss/valid", "valid_accuracy": "accuracy/valid", "seconds": "seconds",
    "images_per_second": "images_per_second",
}  # fmt: skip


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 + 4 + 4 pictures a class: 2 steps an epoch."""
    counts = {"train": 8, "valid": 4, "test": 4}
    return write_pictures(tmp_path_factory.mktemp("few"), counts, side=32)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What a test registered, and its modules, are gone after it."""
    path, modules, before = list(sys.path), set(sys.modules), allowed()
    found, origin = dict(TRACKERS._found), dict(TRACKERS._origin)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("following"):
            del sys.modules[name]
    registry._ALLOWED.clear()
    registry._ALLOWED.update(before)
    TRACKERS._found, TRACKERS._origin = found, origin


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands write none: it takes most of their time, and no tracker hears of it."""
    monkeypatch.setattr(Study, "report", lambda self, **options: self.folder.report)


def study_of(
    data: Path, runs: Path, *trackers: str, contenders: tuple[str, ...] = ("one",), **more: Any
) -> Study:
    spec = podium.load_study(
        {
            "name": "followed",
            "data": str(data),
            "contenders": {name: {**RECIPE, **more} for name in contenders},
        }
    )
    machine = machine_settings(device="cpu", precision="fp32", workers=0, trackers=trackers)
    return Study(spec, runs=runs, machine=machine, audit=False)


def only_run(study: Study) -> RunFolder:
    (run,) = study.folder.runs(study.spec)
    return run


class Kept(list[Event]):
    """A tracker that keeps what it is told."""

    def start(self, study: StudyInfo) -> None:
        self.study = study

    def notify(self, event: Event) -> None:
        self.append(event)

    def close(self) -> None:
        self.append(Message("closed"))


# --- TensorBoard, read back by its own reader ----------------------------------------------------


def scalars(run: RunFolder) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run.path / "tensorboard")).Reload()
    tags = found.Tags()["scalars"]
    return {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in tags}


def check_tensorboard(run: RunFolder) -> None:
    rows, found = run.read_history(), scalars(run)
    assert set(found) == set(SCALARS.values())
    for column, tag in SCALARS.items():
        assert [step for step, _ in found[tag]] == [int(row["epoch"]) for row in rows], tag
        assert [value for _, value in found[tag]] == pytest.approx([row[column] for row in rows])


def test_our_trackers_are_registered_and_every_column_is_told() -> None:
    assert set(TRACKERS.built_in) == {"tensorboard", "mlflow"} <= set(TRACKERS._found)
    assert set(SCALARS) == set(HISTORY_COLUMNS) - {"epoch"}


def test_tensorboard_is_the_history(few: Path, tmp_path: Path, no_report: None) -> None:
    """`--tracker` is tried with a class of the user's; that both name it: at the end."""
    line = ["train", "simple_resnet", "--data", str(few), "--epochs", "2", "--image-size", "32"]
    line += ["--runs", str(tmp_path), "--device", "cpu", "--workers", "0", "--no-audit"]
    assert main([*line, "--batch-size", "16", "--tensorboard"]) == 0
    run = StudyFolder(tmp_path / "simple_resnet").run("simple_resnet", 0)
    assert len(run.read_history()) == 2
    check_tensorboard(run)


@pytest.mark.parametrize("asked", [2, 4, 5])
def test_tensorboard_has_every_epoch_once_wherever_it_was_stopped(
    few: Path, tmp_path: Path, asked: int
) -> None:
    study = study_of(few, tmp_path, "tensorboard")
    with pytest.raises(KeyboardInterrupt):
        study.run(stop=StopAfter(asked))
    assert not study.run().failed
    check_tensorboard(only_run(study))


KILLED = """
import os, signal, sys
import podium
from podium.study.study import Study
from podium.config.studyfile import machine_settings

spec, runs, at = podium.load_study(sys.argv[1]), sys.argv[2], sys.argv[3]

def kill(event):  # the display hears of an epoch before the trackers do
    if isinstance(event, podium.EpochDone) and at == "saved":
        os.kill(os.getpid(), signal.SIGKILL)
    if isinstance(event, podium.EpochStarted) and event.epoch == 2 and at == "written":
        os.kill(os.getpid(), signal.SIGKILL)

machine = machine_settings(device="cpu", precision="fp32", workers=0, trackers=sys.argv[4:])
Study(spec, runs=runs, machine=machine, audit=False).run(kill)
"""


def kill(study: Study, at: str, *trackers: str, **environment: str) -> None:
    """Run the study in another process, which is killed there."""
    spec = study.folder.path.parent / "spec.yaml"
    spec.parent.mkdir(exist_ok=True)
    spec.write_text(study.spec.to_yaml())
    words = [sys.executable, "-c", KILLED, str(spec), str(spec.parent), at, *trackers]
    done = subprocess.run(words, capture_output=True, env={**os.environ, **environment})
    assert done.returncode == -9, done.stderr.decode()


@pytest.mark.parametrize("at", ["saved", "written"])
def test_a_kill_around_the_event_file_costs_no_epoch(few: Path, tmp_path: Path, at: str) -> None:
    study = study_of(few, tmp_path / "runs", "tensorboard")
    kill(study, at, "tensorboard")
    assert len(only_run(study).read_history()) == 1
    assert not study.run().failed
    check_tensorboard(only_run(study))


def test_tensorboard_that_is_asked_for_late_has_the_first_epochs_too(
    few: Path, tmp_path: Path
) -> None:
    without = study_of(few, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        without.run(stop=StopAfter(6))
    before = len(only_run(without).read_history())
    study = study_of(few, tmp_path, "tensorboard")
    assert not study.run().failed
    assert 0 < before < 3
    check_tensorboard(only_run(study))


def test_two_processes_are_followed_from_one_place(few: Path, tmp_path: Path) -> None:
    study = study_of(few, tmp_path, "tensorboard", epochs=2)
    study.machine = study.machine.model_copy(update={"devices": 2})
    assert not study.run().failed
    check_tensorboard(only_run(study))
    assert len(list((only_run(study).path / "tensorboard").iterdir())) == 1


def test_a_missing_package_is_told_before_anything_runs(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("tensorboard", "mlflow"):
        with pytest.raises(ConfigError, match=rf"pip install 'podium\[{name}\]'"):
            study_of(few, tmp_path, name).run()
    assert not list(tmp_path.rglob("config.yaml"))


# --- MLflow, read back by its own client ---------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of MLflow's own in a folder, which mlflow-skinny can read and write."""
    pytest.importorskip("mlflow")
    address = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", os.environ.get("PODIUM_TEST_MLFLOW", address))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return os.environ["MLFLOW_TRACKING_URI"]


def logged(run: RunFolder) -> Any:
    from mlflow.tracking import MlflowClient

    known = json.loads((run.path / "mlflow.json").read_text())["run_id"]
    return MlflowClient(), MlflowClient().get_run(known)


def check_mlflow(run: RunFolder) -> Any:
    client, found = logged(run)
    rows = run.read_history()
    for column in SCALARS:
        history = client.get_metric_history(found.info.run_id, column)
        assert [one.step for one in history] == [int(row["epoch"]) for row in rows], column
        assert [one.value for one in history] == [row[column] for row in rows], column
    return found


def runs_of(study: Study) -> list[Any]:
    from mlflow.tracking import MlflowClient

    experiment = MlflowClient().get_experiment_by_name(study.spec.name)
    assert experiment is not None
    return list(MlflowClient().search_runs([experiment.experiment_id]))


def test_mlflow_has_recipe_history_scores_and_files(few: Path, tmp_path: Path, store: str) -> None:
    study = study_of(few, tmp_path / "runs", "mlflow", contenders=("one", "two"), epochs=2)
    assert not study.run().failed
    assert len(runs_of(study)) == 2
    for run in study.folder.runs(study.spec):
        found, done = check_mlflow(run), run.read_done()
        assert found.info.status == "FINISHED"
        assert found.info.run_name == f"{run.contender}, seed 0"
        assert found.data.tags["podium.contender"] == run.contender
        assert found.data.tags["podium.seed"] == "0"
        assert found.data.tags["podium.study"] == "followed"
        assert found.data.tags["podium.images"] == study.folder.read_data()["fingerprint"]
        assert found.data.params["lr"] == "0.001"
        assert found.data.params["epochs"] == "2"
        assert found.data.params["model_used"] == "simple_resnet"
        assert found.data.metrics["test_accuracy"] == done["test_accuracy"]
        assert found.data.metrics["best_valid_accuracy"] == done["valid_accuracy"]
        test = podium.scores(run.read_predictions("test"))
        assert found.data.metrics["test_macro_f1"] == test.macro_f1
        files = {one.path for one in logged(run)[0].list_artifacts(found.info.run_id)}
        assert files == {"config.yaml", "history.csv", "model.json", "done.json"}


@pytest.mark.parametrize("at", ["saved", "written", "stopped"])
def test_mlflow_goes_on_in_the_same_run(few: Path, tmp_path: Path, store: str, at: str) -> None:
    study = study_of(few, tmp_path / "runs", "mlflow")
    if at == "stopped":
        with pytest.raises(KeyboardInterrupt):
            study.run(stop=StopAfter(5))
        assert logged(only_run(study))[1].info.status == "KILLED"
    else:
        kill(study, at, "mlflow")
        assert logged(only_run(study))[1].info.status == "RUNNING"
    assert not study.run().failed
    assert check_mlflow(only_run(study)).info.status == "FINISHED"
    assert len(runs_of(study)) == 1


def test_a_run_that_is_begun_afresh_is_another_one_in_mlflow(
    few: Path, tmp_path: Path, store: str
) -> None:
    study = study_of(few, tmp_path / "runs", "mlflow")
    with pytest.raises(KeyboardInterrupt):
        study.run(stop=StopAfter(5))
    only_run(study).last.unlink()
    assert not study.run().failed
    check_mlflow(only_run(study))
    assert len(runs_of(study)) == 2


def test_a_run_that_fails_is_failed_in_mlflow_too(few: Path, tmp_path: Path, store: str) -> None:
    study = study_of(few, tmp_path / "runs", "mlflow", lr=100.0, optimizer="sgd", epochs=3)
    assert study.run().failed
    assert logged(only_run(study))[1].info.status == "FAILED"


def test_an_address_is_asked_for(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="expected the server's address in MLFLOW_TRACKING_URI"):
        study_of(few, tmp_path, "mlflow").run()


def test_a_server_that_is_not_there_costs_a_warning(
    few: Path, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    told: list[Event] = []
    assert not study_of(few, tmp_path, "mlflow", epochs=1).run(told.append).failed
    (warning,) = [event.text for event in told if isinstance(event, WarningMessage)]
    assert "The tracker mlflow failed and is left out" in warning


WIRETAP = """
import os, socket, sys
for name in ("CI", "PYTEST_CURRENT_TEST", "DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY"):
    os.environ.pop(name, None)
asked = []
def refuse(*given, **more):
    asked.append(given)
    raise OSError("no network in this test")
socket.socket.connect = socket.getaddrinfo = refuse
if sys.argv[1] == "before":
    import mlflow
    from mlflow.telemetry.client import get_telemetry_client
    assert get_telemetry_client() is not None, "it would be on: the test can fail"
import podium
from podium.study.trackers.mlflow import MLflowTracker
from mlflow.telemetry.client import get_telemetry_client
tracker = MLflowTracker()
assert get_telemetry_client() is None
before = len(asked)
tracker.client.create_experiment("e")
import time
time.sleep(1)
assert len(asked) == before, asked
assert sys.argv[1] == "before" or not asked, asked
"""


@pytest.mark.parametrize("imported", ["before", "by podium"])
def test_mlflow_tells_its_makers_nothing(tmp_path: Path, store: str, imported: str) -> None:
    environment = {**os.environ, "HOME": str(tmp_path)}
    words = [sys.executable, "-c", WIRETAP, imported]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- a user's own --------------------------------------------------------------------------------

LINES = '''
import json
from pathlib import Path

class Lines:
    """Writes a line an epoch."""

    def start(self, study):
        self.place = Path(study.folder.path) / "lines.jsonl"

    def notify(self, event):
        if type(event).__name__ == "EpochDone":
            with open(self.place, "a") as file:
                file.write(json.dumps([event.contender, event.seed, event.row["epoch"]]) + "\\n")

    def close(self):
        with open(self.place, "a") as file:
            file.write('"closed"\\n')
'''

TWO = [["simple_resnet", 0, 1], ["simple_resnet", 0, 2], "closed"]


def lines_of(study: Path) -> list[Any]:
    return [json.loads(line) for line in (study / "lines.jsonl").read_text().splitlines()]


def train_with(name: str, few: Path, runs: Path) -> int:
    return main(
        ["train", "simple_resnet", "--data", str(few), "--epochs", "2", "--image-size", "32",
         "--runs", str(runs), "--device", "cpu", "--workers", "0", "--no-audit", "--tracker", name]
    )  # fmt: skip


def test_a_class_in_a_file_follows_the_command(
    few: Path, tmp_path: Path, no_report: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "following.py").write_text(LINES)
    monkeypatch.chdir(tmp_path)
    assert train_with("following:Lines", few, tmp_path / "runs") == 0
    assert lines_of(tmp_path / "runs" / "simple_resnet") == TWO


def test_an_installed_package_offers_a_tracker(
    few: Path, tmp_path: Path, no_report: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    about = site / "following-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: following\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[podium.trackers]\nlines = following_lines:Lines\n")
    (site / "following_lines.py").write_text(LINES)
    monkeypatch.syspath_prepend(str(site))
    assert train_with("lines", few, tmp_path / "runs") == 0
    assert lines_of(tmp_path / "runs" / "simple_resnet") == TWO


def test_a_registered_tracker_is_told_of_everything_in_its_order(few: Path, tmp_path: Path) -> None:
    made: list[Kept] = []

    @register_tracker("kept")
    class Mine(Kept):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    study = study_of(few, tmp_path, "kept", contenders=("one", "two"), epochs=1)
    assert not study.run().failed
    (tracker,) = made
    assert isinstance(tracker, Tracker)
    assert tracker.study.spec == study.spec
    assert tracker.study.classes == ("circle", "noise", "stripes")
    told = [event for event in tracker if not isinstance(event, Progress | BatchDone)]
    kinds = [type(event).__name__ for event in told if type(event) is not Message]
    one = ["RunStarted", "TrainingStarted", "EpochStarted", "EpochDone", "RunDone"]
    assert kinds == ["StudyStarted", *one, *one]
    assert told[-1] == Message("closed")
    # whatever happens in a run says in which: several may be mixed
    cells = [event.contender for event in told[told.index(first_of(told, RunStarted)) : -1]]
    assert cells == sorted(cells, key=str)
    assert set(cells) == {"one", "two"}
    assert isinstance(first_of(told, StudyStarted), StudyStarted)
    ended = first_of(told, RunDone)
    assert isinstance(ended, RunDone)
    assert tracker.study.run(ended).read_done()["test_accuracy"] == ended.scores["test_accuracy"]
    assert study.run().outcomes[0].skipped
    assert len(made) == 1, "nothing is left to follow"


def first_of(told: list[Event], kind: type[Event]) -> Event:
    return next(event for event in told if isinstance(event, kind))


@pytest.mark.parametrize("where", ["init", "start", "notify", "close"])
def test_a_tracker_that_raises_stops_no_training(few: Path, tmp_path: Path, where: str) -> None:
    calls: list[str] = []

    def at(place: str) -> None:
        calls.append(place)
        if place == where:
            raise ConfigError("the disk is\nfull") if place == "notify" else OSError("full")

    @register_tracker("broken")
    class Broken:
        def __init__(self) -> None:
            at("init")

        def start(self, study: StudyInfo) -> None:
            at("start")

        def notify(self, event: Event) -> None:
            at("notify")

        def close(self) -> None:
            at("close")

    kept = Kept()
    register_tracker("kept")(lambda: kept)
    told: list[Event] = []
    result = study_of(few, tmp_path, "broken", "kept", epochs=1).run(told.append)
    assert not result.failed
    (warning,) = [event.text for event in told if isinstance(event, WarningMessage)]
    assert "The tracker broken failed and is left out from now on; the study continues" in warning
    assert "full" in warning
    assert calls.count(where) == 1
    assert calls.count("close") == (where != "init")
    assert kept[-1] == Message("closed")


def test_a_failed_run_is_an_event_of_its_own(few: Path, tmp_path: Path) -> None:
    kept = Kept()
    register_tracker("kept")(lambda: kept)
    study = study_of(few, tmp_path, "kept", lr=100.0, optimizer="sgd")
    assert study.run().failed
    failed = first_of(kept, RunFailed)
    assert isinstance(failed, RunFailed)
    assert (failed.contender, failed.seed, failed.title) == ("one", 0, "one")
    assert "one did not finish. " in failed.text
    assert "no longer finite" in failed.message


@pytest.mark.parametrize(
    ("offered", "got"),
    [
        (3, "got 3"),
        (type("Half", (), {"start": print}), "got the class Half without notify, close"),
    ],
)
def test_what_is_no_tracker_is_refused(offered: Any, got: str) -> None:
    with pytest.raises(ConfigError, match=got):
        register_tracker("odd")(offered)


def test_a_function_that_makes_none_is_refused_before_a_training(few: Path, tmp_path: Path) -> None:
    register_tracker("none")(lambda: None)  # type: ignore[type-var]
    with pytest.raises(ConfigError, match=r"notify\(event\) and close\(\), got None"):
        study_of(few, tmp_path, "none").run()
    assert not list(tmp_path.rglob("config.yaml"))


def test_a_misspelt_tracker_is_told_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "demo", "--tracker", "tensorbord"]) == 2
    assert "Did you mean tensorboard?" in " ".join(capsys.readouterr().err.split())


def test_machine_names_each_tracker_once() -> None:
    assert Machine(tensorboard=True).tracker_names == ("tensorboard",)
    assert Machine(trackers=("tensorboard", "mlflow"), tensorboard=True).tracker_names == (
        "tensorboard",
        "mlflow",
    )


# --- the events themselves -----------------------------------------------------------------------


def test_one_thread_calls_at_a_time() -> None:
    inside, most = 0, 0

    def notify(event: Event) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        threading.Event().wait(0.001)
        inside -= 1

    with Listeners((), notify) as listeners:
        work = [
            threading.Thread(target=lambda: list(map(listeners, [Message("x")] * 10)))
            for _ in range(4)
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
    assert most == 1


def test_what_belongs_to_a_run_names_it_and_can_be_pickled() -> None:
    import pickle

    told: list[Event] = []
    tell = of_run(told.append, "one", 3)
    row = dict.fromkeys(HISTORY_COLUMNS, 1.0)
    for event in (Message("x"), Progress("files", 1, 2), EpochDone(2, row, contender="", seed=0)):
        tell(event)
    assert [(event.contender, event.seed) for event in told] == [("one", 3)] * 3
    assert pickle.loads(pickle.dumps(told)) == told
    with pytest.raises(TypeError, match="contender"):
        TrainingStarted(())  # type: ignore[call-arg]
    assert issubclass(RunDone, RunEvent)


def test_progress_of_mixed_runs_is_shown_with_their_titles() -> None:
    import io

    from rich.console import Console

    from podium.cli.progress import StudyProgress

    shown = io.StringIO()
    row = dict.fromkeys(HISTORY_COLUMNS, 1.0)
    one: Any = {"contender": "one", "seed": 0}
    two: Any = {"contender": "two", "seed": 0}
    ended = {"valid_accuracy": 0.5, "test_accuracy": 0.25}
    with StudyProgress(Console(file=shown, width=200)) as told:
        told.notify(StudyStarted(2, 3))
        told.notify(RunStarted("One", 2, 1, **one))
        told.notify(RunStarted("Two", 2, 2, **two))
        told.notify(EpochDone(2, row, **one))
        told.notify(EpochDone(2, {**row, "epoch": 2.0}, **two))
        told.notify(RunDone("One", ended, **one))
        told.notify(EpochDone(2, {**row, "epoch": 3.0}, **two))
        told.notify(RunFailed("Two", "Why.", **two))
    lines = shown.getvalue().splitlines()
    assert lines[:2] == ["One  1 of 2", "Two  2 of 2"]
    assert lines[2].startswith("  One: epoch 1/2 ")
    assert lines[3].startswith("  Two: epoch 2/2 ")
    assert lines[4] == "  One: best epoch: valid 50.0 %, test 25.0 %"
    assert lines[5].startswith("  Two: epoch 3/2 ")  # others may follow
    assert lines[6] == "! Two did not finish. Why."
    assert textwrap.dedent(lines[6]) == lines[6]

"""Cells in processes of their own: what the driver decides, and what each engine starts."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from podium.cli.app import main
from podium.config.machine import Machine
from podium.config.studyfile import machine_settings
from podium.errors import ConfigError
from podium.runs.folder import StudyFolder
from podium.runs.ledger import LEDGER
from podium.runtime import attempt as attempts
from podium.runtime.attempt import begin
from podium.runtime.events import Event, RunFailed, WarningMessage
from podium.runtime.lock import sole_owner
from podium.study.cells import Cell
from podium.study.engines import driver
from podium.study.engines.children import ending
from podium.study.engines.driver import ProcessExecutor, Task
from podium.study.engines.files import CellFiles
from podium.study.engines.local import _slots
from podium.study.engines.ray_cluster import _Tasks
from podium.study.engines.ray_connection import _close_token
from podium.study.engines.ray_nodes import Nodes
from podium.study.engines.slurm import CellJob, _Jobs, _minutes, _refuse_unused_gpus
from podium.study.outcome import Outcome
from podium.study.study import Study
from tests.study.test_executors import results
from tests.study.test_study import write_study

TWO = {"contenders": {"plain": {"model": "simple_resnet", "epochs": 1}}, "seeds": [0, 1]}
QUIET = "--no-audit --workers 0"

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> dict[str, bytes]:
    """What the serial executor comes to, with one thread."""
    folder = tmp_path_factory.mktemp("serial")
    study = Study.load(
        write_study(folder, pictures, **TWO), runs=folder, workers=0, audit=False, cpus=1
    )
    assert not study.run().failed
    return results(study.folder.path)


class Bench:
    """Stands in for `Work`: cells end as `ends` says, and nothing is trained."""

    stop: threading.Event | None

    def __init__(self, folder: Path) -> None:
        self.folder, self.told, self.stop = StudyFolder(folder), list[Event](), threading.Event()
        self.notify = self.told.append

    def run(self, cell: Cell) -> Any:
        return self.folder.run(cell.contender, cell.seed, cell.fold)

    def command(self, cell: Cell, machine: Machine) -> list[str]:
        assert not machine.trackers
        return ["python", str(cell)]


class Paper(ProcessExecutor):
    """Processes on paper: each task is handed to a function that leaves what a process would."""

    def __init__(self, act: Any, capacity: int = 9) -> None:
        self.act, self.capacity = act, capacity
        self.tasks, self.killed = list[Task](), list[int]()
        self.over: dict[int, str] = {}

    @contextlib.contextmanager
    def open(self, work: Any, cells: Sequence[Cell]) -> Iterator[Any]:
        yield self, Machine(cpus=3, trackers=("tensorboard",))

    def start(self, tasks: Sequence[Task]) -> list[int]:
        handles = range(len(self.tasks), len(self.tasks) + len(tasks))
        self.tasks += tasks
        for handle, task in zip(handles, tasks, strict=True):
            how = self.act(task, task.attempt)
            if how is not None:
                self.over[handle] = how
        assert len(self.tasks) - len(self.over) <= self.capacity
        return list(handles)

    def ended(self, running: Mapping[int, str]) -> Mapping[int, str]:
        return {handle: self.over[handle] for handle in running if handle in self.over}

    def kill(self, handles: Sequence[int]) -> None:
        self.killed += handles
        self.over |= dict.fromkeys(handles, "killed")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(driver, "_ASK_EVERY", 0.001)
    monkeypatch.setattr(driver, "SAVING", 0.05)
    return Bench(tmp_path / "study")


def files_of(task: Task) -> tuple[CellFiles, int]:
    return CellFiles(task.output.parent), int(task.command[-1])


def log(bench: Bench) -> list[str]:
    """The lines of `cells.log` without their times."""
    text = driver.log_of(bench.folder).read_text()
    return [line.partition(" ")[2] for line in text.splitlines()]


CELLS = [Cell("fast", 0, "Fast", 5), Cell("slow", 0, "Slow", 50), Cell("slow", 1, "Slow", 50)]


def test_the_longest_cells_come_first_and_no_more_than_there_is_room_for(bench: Bench) -> None:
    def act(task: Task, attempt: int) -> str:
        files, number = files_of(task)
        files.write_place(number)
        files.write_outcome(number, Outcome(bench.run(CELLS[0]), error="no such image\nmore"))
        return "exit code 1"

    paper = Paper(act, capacity=1)
    found = list(paper.map(CELLS, bench))  # type: ignore[arg-type]
    assert [str(task.cell) for task in paper.tasks] == [
        *("slow/seed-0", "slow/seed-1", "fast/seed-0")
    ]
    assert paper.tasks[0].environment["OMP_NUM_THREADS"] == "3"
    assert [outcome.error for outcome in found] == ["no such image\nmore"] * 3  # tried once each
    assert log(bench)[1] == "slow/seed-0 attempt 1: failed: no such image"


def test_a_lost_process_is_begun_again_elsewhere_under_a_new_number(bench: Bench) -> None:
    def act(task: Task, attempt: int) -> str:
        files, number = files_of(task)
        assert number == attempt == task.attempt
        if attempt == 1:
            files.write_place(number)
            task.output.write_text("first\nSegmentation fault\n\n")
            return "killed by SIGSEGV"
        bench.run(CELLS[0]).done.parent.mkdir(parents=True)
        bench.run(CELLS[0]).done.write_text("{}")
        return "exit code 0"

    os.environ["PODIUM_NODE"] = "node7"
    try:
        paper = Paper(act)
        (found,) = paper.map(CELLS[:1], bench)  # type: ignore[arg-type]
    finally:
        del os.environ["PODIUM_NODE"]
    assert (found.error, found.busy) == ("", "")
    assert [task.avoid for task in paper.tasks] == [frozenset(), {"node7"}]
    (told,) = bench.told
    assert isinstance(told, WarningMessage)
    assert "lost (killed by SIGSEGV; Segmentation fault)" in told.text
    assert "(node node7)" in log(bench)[0]
    assert log(bench)[-1].startswith("fast/seed-0 attempt 2: done after")


def test_losses_in_a_row_end_a_cell_but_saved_states_between_them_do_not(bench: Bench) -> None:
    run = bench.run(CELLS[0])
    run.path.mkdir(parents=True)

    def act(task: Task, attempt: int) -> str:
        if attempt <= 4:  # each of these saves something before it is lost
            run.last.write_text("state")
            os.utime(run.last, ns=(attempt, attempt))
        return "killed by SIGKILL"

    paper = Paper(act)
    (found,) = paper.map(CELLS[:1], bench)  # type: ignore[arg-type]
    assert len(paper.tasks) == 4 + driver.MOST_LOSSES - 1
    assert "lost 3 times, at last: killed by SIGKILL" in found.error
    assert isinstance(bench.told[-1], RunFailed)


def test_a_stop_asks_running_cells_and_takes_the_others_out_of_the_queue(bench: Bench) -> None:
    def act(task: Task, attempt: int) -> None:
        files, number = files_of(task)
        if task.cell.contender != "fast":  # which is still queued
            files.write_place(number)
        if str(task.cell) == "slow/seed-1":
            threading.Timer(0.02, bench.stop.set).start()  # type: ignore[union-attr]

    paper = Paper(act)
    with pytest.raises(KeyboardInterrupt):
        list(paper.map(CELLS, bench))  # type: ignore[arg-type]
    for cell in CELLS:
        asked = json.loads(CellFiles.of(bench.folder, cell).attempts.read_text())
        assert asked == {"attempt": 1, "start": 0, "stop": True}
    assert paper.killed == [2, 0, 1]  # the queued one at once, the others when they did not end
    assert "fast/seed-0 attempt 1: not begun" in log(bench)


def test_a_cell_that_another_process_holds_is_left_to_it(bench: Bench) -> None:
    with sole_owner(bench.run(CELLS[0]).path):
        (found,) = Paper(None).map(CELLS[:1], bench)  # type: ignore[arg-type]
    assert found.busy.startswith(f"process {os.getpid()} on ")


def test_processes_of_this_machine_come_to_the_same_bits(
    in_turn: dict[str, bytes], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PODIUM_CORES", "2")
    write_study(tmp_path, pictures, **TWO)
    assert main(shlex.split(f"run tiny.yaml {QUIET} --on local --cpus 1")) == 0
    folder = StudyFolder(tmp_path / "runs" / "tiny")
    assert results(folder.path) == in_turn
    assert (folder.report / "index.html").is_file()
    assert not folder.processes.exists()
    assert len((folder.path.parent / LEDGER).read_text().splitlines()) == 2
    told = driver.log_of(folder).read_text()
    assert told.count("attempt 1: started") == told.count("attempt 1: done") == 2
    plan = json.loads(folder.plan.read_text())
    assert plan["cpu"]["threads"] == 1
    assert folder.run("plain", 0).read_done()["threads"] == 1


def test_what_a_cluster_began_goes_on_here_and_its_process_cannot_come_back(
    in_turn: dict[str, bytes], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell that is stopped in mid-epoch by its driver, resumed by a plain run."""
    monkeypatch.setattr(attempts, "_LOOK_EVERY", 0.0)
    path = write_study(tmp_path, pictures, **TWO)
    study = Study.load(path, runs=tmp_path / "runs", workers=0, audit=False, cpus=1)
    cell = study.cells()[0]
    files = CellFiles.of(study.folder, cell)
    stopped: list[str] = []

    class StopsInMidEpoch:
        def map(self, cells: Any, work: Any) -> Iterator[Any]:
            number = begin(files.attempts)
            words = [*work.command(cells[0]), "--attempt", str(number)]
            words += ["--checkpoint-every", "0"]
            process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
            for _ in range(600):
                if work.run(cells[0]).last.is_file():
                    break
                time.sleep(0.05)
            attempts.ask_to_stop(files.attempts)
            _, told = process.communicate(timeout=60)
            stopped.append(f"{process.returncode} {told}")
            raise KeyboardInterrupt

    import podium

    podium.register_executor("stops")(StopsInMidEpoch)
    try:
        halfway = Study.load(
            path, runs=tmp_path / "runs", workers=0, audit=False, cpus=1, executor="stops"
        )
        with pytest.raises(KeyboardInterrupt):
            halfway.run()
    finally:
        from podium.config.registry import EXECUTORS

        del EXECUTORS._found["stops"], EXECUTORS._origin["stops"]
    assert stopped[0].startswith("130 ")
    assert "Interrupted" in stopped[0]
    assert not study.run(only=[str(cell)]).failed
    stale = [sys.executable, "-m", "podium", "cell", str(study.folder.path), "plain", "0"]
    late = subprocess.run([*stale, "--attempt", "1"], capture_output=True, text=True, check=False)
    assert late.returncode == 1
    assert "Attempt 1 was replaced by attempt 2" in late.stderr
    assert not study.run().failed
    assert results(study.folder.path) == in_turn
    assert not study.folder.processes.exists()


def test_a_second_run_is_refused_while_cells_are_driven(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(tmp_path, pictures, **TWO)
    folder = StudyFolder(tmp_path / "runs" / "tiny")
    with sole_owner(folder.processes):
        for on in ("", "--on local"):
            words = f"run {path} --runs {tmp_path / 'runs'} {QUIET} {on}"
            assert main(shlex.split(words)) == 2
            assert f"process {os.getpid()} on" in capsys.readouterr().err
    assert not folder.data.is_file()


def test_a_cell_of_a_study_that_was_never_begun_is_refused(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cell", str(tmp_path), "plain", "0"]) == 2
    assert "is not a study folder" in capsys.readouterr().err
    study = Study.load(write_study(tmp_path, pictures, **TWO), runs=tmp_path / "runs")
    study.folder.path.mkdir(parents=True)
    study.folder.spec.write_text(study.spec.to_yaml())
    assert main(["cell", str(study.folder.path), "plain", "0"]) == 2
    assert "was never begun" in capsys.readouterr().err
    assert main(["cell", str(study.folder.path), "plane", "0"]) == 2
    assert "no such cell" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("machine", "told"),
    [
        ({"address": "h:1"}, "--on: .*--on ray; cells are trained by serial"),
        ({"executor": "ray", "address": "host"}, "expected HOST:PORT"),
        ({"executor": "ray", "slurm": {"time": "5"}}, "--slurm: .*--on slurm"),
        ({"executor": "slurm", "insecure": True}, "--insecure: .*--on ray"),
        ({"gpus": 1.5}, "--gpus: .*whole number.*got 1.5"),
        ({"cpus": 0}, "--cpus"),
    ],
)
def test_settings_of_another_executor_are_refused(machine: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        machine_settings(**machine)


def test_gpus_are_dealt_out_whole_or_shared() -> None:
    assert _slots(0, ["0"]) == []
    assert _slots(1, ["0", "GPU-abc"]) == ["0", "GPU-abc"]
    assert _slots(0.5, ["0", "1"]) == ["0", "1", "0", "1"]
    assert _slots(2, ["0", "1", "2"]) == ["0,1"]
    with pytest.raises(ConfigError, match="this machine has 1"):
        _slots(2, ["0"])
    assert ending(-15) == "killed by SIGTERM"


# --- Ray


# that cells on Ray come to the same bits is in tests/test_torture.py


def test_the_token_is_kept_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    _close_token()
    assert token.stat().st_mode & 0o777 == 0o600


def test_a_node_that_ray_gave_up_has_lost_its_tasks_though_ray_waits_for_them() -> None:
    class Cluster:
        """Stands in for the package: it never says that a task has ended."""

        def remote(self, function: Any) -> Any:
            return function

        def nodes(self) -> list[dict[str, Any]]:
            return [{"NodeID": "here", "Alive": True}, {"NodeID": "away", "Alive": False}]

        def wait(self, handles: list[str], **_: Any) -> tuple[list[str], list[str]]:
            return [], handles

    tasks = _Tasks(Nodes(Cluster()), Machine(cpus=1, gpus=0), Path("runs/study"))
    found = tasks.ended({"one": "here", "two": "away", "three": ""})
    assert found == {"two": "its node cannot be reached"}


@pytest.mark.parametrize(
    ("machine", "gpus", "told"),
    [
        ({"device": "cuda:1"}, 0, "--device cuda:1 --gpus 0: a cell is computed on a CPU then"),
        ({"device": "cpu"}, 0.5, "--device cpu --gpus 0.5: .* GPU then.* or say --gpus 0"),
        ({}, 4, "what a cell asks for: --cpus 2 --gpus 4.* 8 CPUs, and all 2 together 5 GPUs"),
        ({}, 3, ""),
        ({"device": "mps"}, 0, ""),
    ],
)
def test_what_no_node_gives_a_cell_is_refused(
    machine: dict[str, Any], gpus: float, told: str
) -> None:
    class Cluster:
        def nodes(self) -> list[dict[str, Any]]:
            return [
                {"NodeID": "a", "Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
                {"NodeID": "b", "Alive": True, "Resources": {"CPU": 4.0, "GPU": 3.0}},
                {"NodeID": "c", "Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
            ]

    refused = pytest.raises(ConfigError, match=told) if told else contextlib.nullcontext()
    with refused:
        Nodes(Cluster()).refuse_misfit("a cell", Machine(**machine), 2, gpus)


def test_without_the_extra_the_package_is_named(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    study = Study.load(
        write_study(tmp_path, pictures, **TWO), runs=tmp_path, audit=False, executor="ray"
    )
    with pytest.raises(ConfigError, match=r"pip install 'podium\[ray\]'"):
        study.run()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_an_address_where_nothing_listens_is_refused_at_once(
    pictures: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # nobody listens there once it is closed
    study = write_study(tmp_path, pictures, **TWO)
    run = Study.load(study, runs=tmp_path, audit=False, executor="ray", address=f"127.0.0.1:{port}")
    with pytest.raises(ConfigError, match=rf"nothing answers at 127\.0\.0\.1:{port}"):
        run.run()


# --- Slurm


def a_task(folder: Path, code: str) -> Task:
    words = [sys.executable, "-c", textwrap.dedent(code)]
    output = folder / "output.txt"
    return Task(CELLS[0], 1, words, folder, {"GIVEN": "1"}, output, frozenset())


def test_a_job_of_submitit_runs_the_process_of_a_cell(tmp_path: Path) -> None:
    submitit = pytest.importorskip("submitit")
    executor = submitit.LocalExecutor(tmp_path / "jobs")
    task = a_task(tmp_path, "import os; print(os.environ['GIVEN']); raise SystemExit(3)")
    job = executor.submit(CellJob(task))
    assert job.result() == 3
    assert task.output.read_text() == "1\nexit code 3\n"


def test_a_job_that_is_preempted_saves_and_is_queued_again(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    ready = tmp_path / "ready"
    job = CellJob(
        a_task(
            tmp_path,
            f"""
            import pathlib, time
            try:
                pathlib.Path({str(ready)!r}).touch()
                time.sleep(60)
            except KeyboardInterrupt:
                print("saved", flush=True)
            """,
        )
    )
    running = threading.Thread(target=job)
    running.start()
    while not ready.exists():
        time.sleep(0.01)
    again = job.checkpoint()
    running.join()
    assert job.task.output.read_text() == "saved\n"
    queued: Any = again.function
    assert (queued.task, queued.process) == (job.task, None)


def test_gpus_of_slurm_that_cells_would_not_use_are_refused() -> None:
    given: dict[str, Any] = {"executor": "slurm", "slurm": {"gres": "gpu:a100:1"}}
    with pytest.raises(ConfigError, match=r"^--slurm gres=gpu:a100:1: .* Also give --gpus 1"):
        _refuse_unused_gpus(Machine(**given))
    for more in ({"gpus": 1}, {"device": "cuda"}, {"slurm": {"partition": "gpu"}}):
        _refuse_unused_gpus(Machine(**{**given, **more}))


class Submits:
    """Stands in for submitit's executor; refuses to exclude every node."""

    def __init__(self) -> None:
        self.exclude: str | None = None
        self.arrays: list[tuple[int, str | None]] = []

    def update_parameters(self, exclude: str | None) -> None:
        self.exclude = exclude

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        self.jobs: list[Any] = []
        yield
        if self.exclude == "a,b":
            raise RuntimeError("sbatch: error: Requested node configuration is not available")
        self.arrays.append((len(self.jobs), self.exclude))
        for number, job in enumerate(self.jobs):
            job.job_id = f"{len(self.arrays)}_{number}"

    def submit(self, job: CellJob) -> Any:
        made = type("Job", (), {})()
        self.jobs.append(made)
        return made


def test_cells_are_one_array_and_lost_ones_go_elsewhere_if_they_can(tmp_path: Path) -> None:
    submits = Submits()
    jobs = _Jobs(submits, "a")  # type: ignore[arg-type]
    new = a_task(tmp_path, "")
    lost, elsewhere = (replace(new, avoid=frozenset({node})) for node in ("b", "c"))
    other = replace(new, cell=CELLS[1])
    assert jobs.start([new, lost, elsewhere, other]) == ["1_0", "2_0", "3_0", "1_1"]
    assert submits.arrays == [(2, "a"), (1, "a"), (1, "a,c")]


def test_what_is_not_in_the_queue_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squeue = tmp_path / "squeue"
    squeue.write_text(
        "#!/bin/sh\ncat <<X\n7_0 RUNNING node1\n7_1 PREEMPTED (None)\n7_2 NODE_FAIL node2\nX\n"
    )
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    jobs = _Jobs(Submits(), "")  # type: ignore[arg-type]
    long_ago = time.monotonic() - 100
    jobs.submitted = dict.fromkeys(["7_0", "7_1", "7_2", "7_3"], long_ago)
    jobs.submitted["7_4"] = time.monotonic()  # it may still be entering the queue
    assert jobs.ended(dict.fromkeys(jobs.submitted, "")) == {
        "7_2": "NODE_FAIL node2",
        "7_3": "no longer in Slurm's queue",
    }
    assert jobs.ended(dict.fromkeys(jobs.submitted, "")) == {}  # squeue is not asked again so soon
    squeue.write_text("#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact' >&2; exit 1\n")
    jobs.looked = 0.0
    assert (
        jobs.ended(dict.fromkeys(jobs.submitted, "")) == {}
    )  # the controller is away, the jobs are not


def test_slurm_is_looked_for_where_the_command_is_given(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    study = write_study(tmp_path, pictures, **TWO)
    run = Study.load(study, runs=tmp_path, audit=False, executor="slurm")
    with pytest.raises(ConfigError, match=r"no command sbatch here.*login node"):
        run.run()


@pytest.mark.parametrize(
    ("text", "minutes"), [("240", 240), ("4:00:00", 240), ("1-12:00:00", 2160), ("90:30", 90)]
)
def test_time_limits_of_slurm_are_read(text: str, minutes: int) -> None:
    assert _minutes(text) == minutes


def test_a_time_limit_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="time=soon: expected minutes"):
        _minutes("soon")

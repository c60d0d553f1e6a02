"""Cells on nodes that do not see the study's folder: order, kills, stale attempts, one look."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from podium.config.machine import Machine
from podium.config.registry import EXECUTORS, allow, sources_of
from podium.config.settings import RunSpec
from podium.errors import ConfigError, DataError, RunFolderError, StorageError, UserError
from podium.features.disk import FeatureStore
from podium.models.registry import weight_files
from podium.models.weights import LENT, read_state
from podium.runs.folder import StudyFolder
from podium.runs.ledger import LEDGER
from podium.runtime.attempt import Attempt, StaleAttemptError, ask_to_stop, begin, is_asked_to_stop
from podium.runtime.event_log import EventReader
from podium.runtime.events import RunFailed, silent
from podium.runtime.files import fenced, write_text
from podium.runtime.lock import is_in_use, sole_owner
from podium.study import contender
from podium.study.arithmetic import keep
from podium.study.cells import Cell, cells_of
from podium.study.engines import elsewhere, keeper
from podium.study.engines.driver import ProcessExecutor, Task, log_of
from podium.study.engines.elsewhere import (
    _Follower,
    _serving,
    _Study,
    _unpacked,
    lending,
    train_elsewhere,
)
from podium.study.engines.files import CellFiles
from podium.study.engines.keeper import Keeper
from podium.study.engines.link import (
    FEATURES,
    LENDER,
    ElsewhereAttempt,
    LinkedAttempt,
    UnreachableError,
    attempt_of,
    borrowing_features,
    fetch_weights,
    naming_the_node,
    place_of_weights,
)
from podium.study.engines.process import train_cell
from podium.study.study import Study
from podium.study.work import Work
from tests.study.test_study import write_study
from tests.users_code import forgotten
from torture.studies import digests

ONE = {"contenders": {"plain": {"model": "simple_resnet", "epochs": 1}}, "seeds": [0]}
CELL = Cell("plain", 0, "Plain", 1)

pytestmark = pytest.mark.usefixtures("undrawn")


class Actor:
    """Stands in for the handle of an actor: what goes through it is pickled, as by Ray.

    Args:
        keeper: what answers.
        cut: given the attempt and what it asks, says whether its machine cannot be reached.
    """

    def __init__(self, keeper: Keeper, cut: Callable[..., bool] = lambda *_: False) -> None:
        self.keeper, self.cut, self.ask = keeper, cut, self
        self.asked: list[tuple[Any, ...]] = []

    def remote(self, *given: Any) -> Any:
        answer: Future[Any] = Future()
        cell, number, what, *more = pickle.loads(pickle.dumps(given))
        self.asked.append((what, *more))
        if self.cut(number, what, *more):
            answer.set_exception(ConnectionError("no route to host"))
        else:
            answer.set_result(
                pickle.loads(pickle.dumps(self.keeper.ask(cell, number, what, *more)))
            )
        return type("Reference", (), {"future": lambda _: answer})()


class Elsewhere(ProcessExecutor):
    """Trains each cell in a folder of its own, as a node without the study's folder does."""

    def __init__(self, cut: Callable[..., bool]) -> None:
        self.cut, self.capacity = cut, 1

    @contextlib.contextmanager
    def open(self, work: Any, cells: Sequence[Cell]) -> Iterator[Any]:
        self.study = work.folder.path.resolve()
        given = Keeper(StudyFolder(self.study), {}, {})
        self.actor = Actor(given, self.cut)
        with ThreadPoolExecutor() as self.pool:
            yield self, Machine(cpus=1, workers=0, checkpoint_every=0)

    def start(self, tasks: Sequence[Task]) -> list[Future[int]]:
        return [self.pool.submit(self._train, task) for task in tasks]

    def _train(self, task: Task) -> int:
        return train_elsewhere(task, self.study, "away", self.actor)

    def ended(self, running: Mapping[Future[int], str]) -> Mapping[Future[int], str]:
        return {one: str(one.exception() or one.result()) for one in running if one.done()}

    def kill(self, handles: Sequence[Future[int]]) -> None:
        pass


def in_run(path: Path | str) -> str:
    """The name of a file in the run's folder that is not a lock's; empty string: elsewhere."""
    found = re.search(r"plain/seed-0/([^/.][^/]*)$", Path(path).as_posix())
    return "" if found is None or ".cells" in Path(path).parts else found[1]


def test_a_node_without_the_folder_is_killed_between_two_files(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the study ends like one in turn; and files come in the order of a run in turn."""
    here: list[str] = []
    path = write_study(tmp_path, pictures, **ONE)
    settings: dict[str, Any] = {"workers": 0, "audit": False, "cpus": 1, "checkpoint_every": 0}
    in_turn = Study.load(path, runs=tmp_path / "serial", **settings)
    with fenced(in_turn.folder.path, lambda path, new: here.append(in_run(path))):
        assert not in_turn.run().failed
    expected = [name for name in here if name not in ("", "config.yaml")]
    assert expected[-3:] == ["predictions-test.parquet", "done.json", "explanations-test.parquet"]
    # the weights of the best epoch arrive, and nothing more
    last_best = len(expected) - expected[::-1].index("best.safetensors")

    sent: dict[int, list[str]] = {1: [], 2: []}

    def cut(number: int, what: str, *given: Any) -> bool:
        if number == 1 and len(sent[1]) == last_best:
            return True
        if what == "write" and given[-1] and in_run(given[0]):
            sent[number].append(in_run(given[0]))
        return False

    monkeypatch.setitem(EXECUTORS._found, "elsewhere", Elsewhere(cut))
    study = Study.load(path, runs=tmp_path / "runs", executor="elsewhere", **settings)
    assert not study.run().failed
    assert sent[1] == expected[:last_best]
    assert sent[2][-3:] == expected[-3:]
    found, wanted = digests(study.folder.path), digests(in_turn.folder.path)
    assert found == {"cells.log": found["cells.log"], **wanted}
    told = log_of(study.folder).read_text()
    assert "attempt 1: lost: " in told
    assert "attempt 2: done" in told
    assert len((tmp_path / "runs" / LEDGER).read_text().splitlines()) == 1
    assert not study.folder.processes.exists()


@pytest.fixture
def begun(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    """A study that was prepared, and its cell's first attempt begun; nothing was trained."""

    class Nobody:
        def map(self, cells: Any, work: Any) -> Any:
            raise KeyboardInterrupt

    monkeypatch.setitem(EXECUTORS._found, "nobody", Nobody())
    path = write_study(tmp_path, pictures, **ONE)
    study = Study.load(path, runs=tmp_path / "runs", audit=False, executor="nobody")
    with pytest.raises(KeyboardInterrupt):
        study.run()
    begin(CellFiles.of(study.folder, CELL).attempts)
    return study.folder


def sides(folder: StudyFolder, numbers: Sequence[int] = (1,), **caches: Path) -> list[_Study]:
    """The study's side for attempts on other nodes."""
    actor = Actor(Keeper(folder, {}, caches))
    return [_Study(actor, CELL, number) for number in numbers]


def test_a_file_appears_once_it_is_whole(
    begun: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (elsewhere, keeper):
        monkeypatch.setattr(module, "PIECE", 4)
    run, (side,) = begun.run("plain", 0), sides(begun)
    names, code = side.ask("begin")
    assert (names, code) == ([*("study.yaml", "data.json", ".cells/plain/seed-0/attempt.json")], {})
    assert is_in_use(run.path)
    for text in ("", "four", "neither four nor eight"):
        (tmp_path / "new").write_text(text)
        side.write("plain/seed-0/last.ckpt", str(tmp_path / "new"))
        assert run.last.read_text() == text
        side.fetch("study", "plain/seed-0/last.ckpt", tmp_path / "back")
        assert (tmp_path / "back").read_text() == text
    side.ask("write", "plain/seed-0/last.ckpt", 0, b"half", False)
    assert run.last.read_text() == "neither four nor eight"
    side.ask("write", "plain/seed-0/best.safetensors", 0, b"one", True)  # of the next attempt
    assert run.best.read_bytes() == b"one"
    assert [one.name for one in run.path.iterdir() if one.suffix == ".tmp"] == []
    for name in ("study.yaml", "../elsewhere", "plain/seed-1/last.ckpt", "plain/seed-0/../x"):
        with pytest.raises(RunFolderError, match="is not a file"):
            side.ask("write", name, 0, b"", True)
    side.ask("write", "plain/seed-0/last.ckpt", 0, b"half", False)
    side.ask("end")
    assert not is_in_use(run.path)


def test_an_attempt_that_was_replaced_is_refused_everything(
    begun: StudyFolder, tmp_path: Path
) -> None:
    run, attempts = begun.run("plain", 0), CellFiles.of(begun, CELL).attempts
    first, second = sides(begun, (1, 2))
    first.ask("begin")
    first.ask("write", "plain/seed-0/history.csv", 0, b"first", True)
    first.ask("write", "plain/seed-0/last.ckpt", 0, b"begun", False)
    assert begin(attempts) == 2
    for request in (
        ("write", "plain/seed-0/last.ckpt", 5, b"", True),
        ("write", "plain/seed-0/history.csv", 0, b"stale", True),
        ("follow", {"output-1.txt": (0, b"stale")}),
        ("call", keep, "cpu", {"threads": 7}),
        ("grant",),
    ):
        with pytest.raises(StaleAttemptError, match="Attempt 1 was replaced by attempt 2"):
            first.ask(*request)
    names, _ = second.ask("begin")  # though the first never let go of the run
    assert "plain/seed-0/history.csv" in names
    with pytest.raises(StaleAttemptError, match="Attempt 1 at plain/seed-0 is over"):
        first.ask("grant")
    second.ask("grant")
    with pytest.raises(StaleAttemptError, match="or has used them before"):
        second.ask("grant")
    assert second.ask("call", keep, "cpu", {"threads": 2}) == {}
    assert run.history.read_text() == "first"
    assert not run.last.exists()
    assert json.loads(begun.plan.read_text()) == {"cpu": {"threads": 2}}


def test_a_mean_gets_the_runs_that_it_averages_but_not_their_states(begun: StudyFolder) -> None:
    member = begun.run("plain", 0)
    for path in (member.best, member.done, member.last):
        write_text(path, "{}")
    mean = Cell("mean", 0, "Mean", 1, needs=(CELL,))
    begin(CellFiles.of(begun, mean).attempts)
    (side,) = sides(begun)
    names, _ = _Study(side.keeper, mean, 1).ask("begin")
    assert {name for name in names if name.startswith("plain/")} == {
        "plain/seed-0/best.safetensors", "plain/seed-0/done.json",
    }  # fmt: skip


def test_a_cell_that_another_process_holds_is_told_and_left_to_it(
    begun: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "PATIENCE", 0.0)
    run, files = begun.run("plain", 0), CellFiles.of(begun, CELL)
    with sole_owner(run.path):
        task = Task(CELL, 1, [], begun.path, {}, files.output(1), frozenset())
        (side,) = sides(begun)
        assert train_elsewhere(task, begun.path, "away", side.keeper) == 0
    found = files.read_outcome(1, run)
    assert found is not None
    assert found.busy.startswith(f"process {os.getpid()} on ")


def test_what_a_process_asks_for_is_done_at_the_study(begun: StudyFolder, tmp_path: Path) -> None:
    """Its files go there before they get a name here, and errors come back as they were."""
    (side,) = sides(begun)
    side.ask("begin")
    mirror = StudyFolder(tmp_path / "mirror")
    run, there = mirror.run("plain", 0), begun.run("plain", 0)
    with _serving(side) as link:
        ours = ElsewhereAttempt(tmp_path / "attempt.json", 1, 0, mirror.path, link)
        ours = pickle.loads(pickle.dumps(ours))  # into the processes of a training
        with fenced(mirror.path, ours.before_write), sole_owner(run.path):
            write_text(run.history, "rows")
            assert there.history.read_text() == "rows"
            assert ours.at_study(keep, run, "cpu", {"threads": 3}) == {}
            ours.grant()
            begin(CellFiles.of(begun, CELL).attempts)
            with pytest.raises(StaleAttemptError, match="Attempt 1 was replaced by attempt 2"):
                write_text(run.history, "more rows")
        assert run.history.read_text() == there.history.read_text() == "rows"
        assert {given[0] for what, *given in side.keeper.asked if what == "write"} == {
            "plain/seed-0/history.csv"
        }  # and no note of a lock
    with pytest.raises(UnreachableError, match="what started this process is gone"):
        ours.grant()


def test_what_grows_is_sent_on_and_the_request_to_stop_comes_back(
    begun: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "PIECE", 4)
    (side,) = sides(begun)
    side.ask("begin")
    mirror, there = CellFiles(tmp_path / "mirror"), CellFiles.of(begun, CELL)
    begin(mirror.attempts)
    follow = _Follower(side, mirror, [mirror.output(1), mirror.events(1)])
    follow()
    mirror.output(1).write_text("one line\n")
    follow()
    with open(mirror.output(1), "a") as file:
        file.write("and another\n")
    mirror.events(1).write_text("{}\n")
    follow()
    assert there.output(1).read_text() == "one line\nand another\n"
    assert there.events(1).read_text() == "{}\n"
    assert not is_asked_to_stop(mirror.attempts)
    ask_to_stop(there.attempts)
    follow()
    assert is_asked_to_stop(mirror.attempts)


def test_weights_are_sent_once_and_whole(begun: StudyFolder, tmp_path: Path) -> None:
    cache, here = tmp_path / "hub", tmp_path / "here"
    entry = "models--timm--a_model"
    for name in (f"{entry}/refs/main", f"{entry}/snapshots/abc/model.safetensors", "other/refs/x"):
        (cache / name).parent.mkdir(parents=True)
        (cache / name).write_text(name)
    (side,) = sides(begun, hub=cache)
    side.ask("begin")
    patterns = [f"{entry}/refs/*", f"{entry}/snapshots/*/*"]
    side.serve("fetch", "hub", patterns, str(here))
    found = {path.relative_to(here).as_posix() for path in here.rglob("*") if path.is_file()}
    assert found == {f"{entry}/refs/main", f"{entry}/snapshots/abc/model.safetensors"}
    side.keeper.asked.clear()
    side.serve("fetch", "hub", patterns, str(here))
    assert [what for what, *_ in side.keeper.asked] == ["list_cache"]
    (here / entry / "refs" / "main").unlink()
    side.keeper.keeper._digest = lambda *_: "0" * 64
    with pytest.raises(UnreachableError, match="refs/main came damaged"):
        side.serve("fetch", "hub", patterns, str(here))
    assert not (here / entry / "refs" / "main").exists()


def test_a_node_that_sees_the_study_but_not_the_cache_is_sent_features(
    begun: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own process holds the cell; what it is sent it finds again later."""
    there, here = (FeatureStore("net", {}, tmp_path / name) for name in ("there", "here"))
    features = np.arange(6, dtype=np.float32).reshape(3, 2)
    there.write(0, features)
    actor = Actor(Keeper(begun, {}, {FEATURES: there.folder}))
    task = Task(CELL, 1, [], begun.path, {}, tmp_path / "output", frozenset())
    with lending(task, actor) as link:
        monkeypatch.setenv(LENDER, link)
        ours = attempt_of(begun, CellFiles.of(begun, CELL), 1, 0)
        assert type(ours) is LinkedAttempt
        with sole_owner(begun.run("plain", 0).path), borrowing_features(ours):
            here.borrow()
            found = here.read(0, 3)
            assert found is not None
            assert np.array_equal(found, features)
            asked = len(actor.asked)
            here.borrow()
            assert [what for what, *_ in actor.asked[asked:]] == ["list_cache"]
        with pytest.raises(StaleAttemptError):  # what the study has it reads by itself
            _Study(actor, CELL, 1).ask("read", "study", "data.json", 0)
    with borrowing_features(ours):
        here.borrow()  # out of reach: it computes them


def test_a_file_of_weights_that_a_study_names_is_lent_to_the_cell(
    begun: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the path that the study has, which this machine does not."""
    monkeypatch.setenv(LENT, "")  # so that it is removed at the end
    state, named = {"fc.weight": torch.arange(4.0)}, Path("only/there/start [1].pth")
    torch.save(state, tmp_path / named.name)
    recipe = RunSpec(model="simple_resnet", epochs=1, weights=named)
    keeper = Keeper(begun, {}, {place_of_weights("plain"): tmp_path})
    side = _Study(Actor(keeper), CELL, 1)
    side.ask("begin")
    mirror = tmp_path / "cell" / "study"
    with _serving(side) as link:
        fetch_weights("plain", recipe, ElsewhereAttempt(tmp_path / "x", 1, 0, mirror, link))
    assert torch.equal(read_state(named)["fc.weight"], state["fc.weight"])
    assert [one.name for one in (tmp_path / "cell").rglob("*") if one.is_file()] == [named.name]
    with pytest.raises(UserError, match=r"only/there/other\.pth is not a file"):
        read_state(named.with_name("other.pth"))


def test_the_files_of_downloaded_weights_are_known() -> None:
    assert weight_files("simple_resnet") == weight_files("efficientnet_lite0") == {}
    assert weight_files("resnet18") == {"torch": ["resnet18-f37072fd.pth"]}
    entry = "models--timm--resnet10t.c3_in1k"
    assert weight_files("resnet10t") == {"hub": [f"{entry}/refs/*", f"{entry}/snapshots/*/*"]}


def test_the_users_code_travels_with_what_it_imports(tmp_path: Path) -> None:
    package = tmp_path / "code" / "travelling"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text("import neighbour_of_travelling\n")
    (tmp_path / "code" / "neighbour_of_travelling.py").write_text("x = 1\n")
    (tmp_path / "code" / "unrelated.py").write_text("x = 2\n")
    with forgotten(tmp_path / "code"):
        allow("travelling.nets", tmp_path / "code")
        files = sources_of("travelling.nets")
    assert files == {
        "travelling/__init__.py": b"",
        "travelling/nets.py": b"import neighbour_of_travelling\n",
        "neighbour_of_travelling.py": b"x = 1\n",
    }
    argument = str(tmp_path / "code" / "travelling.nets")
    found = _unpacked({argument: files}, tmp_path / "node")
    assert found == {argument: str(tmp_path / "node" / "code-0" / "travelling.nets")}
    assert (tmp_path / "node" / "code-0" / "travelling" / "nets.py").is_file()
    assert sources_of("numpy") == {}


def test_images_that_only_the_driver_sees_are_named_with_the_remedy() -> None:
    away = ElsewhereAttempt(Path("attempt.json"), 1)
    with (
        pytest.raises(
            DataError, match=r"node7 does not share .* same path, or at an address .*: no"
        ),
        naming_the_node(away, "node7"),
    ):
        raise DataError("no such folder")
    with pytest.raises(DataError, match=r"^no such folder"), naming_the_node(None, "node7"):
        raise DataError("no such folder")


def test_a_full_disk_at_the_study_is_told_as_such(
    begun: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (side,) = sides(begun)
    side.ask("begin")

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", full)
    with pytest.raises(StorageError, match=r"history\.csv cannot be written \(No space left"):
        side.ask("write", "plain/seed-0/history.csv", 0, b"rows", True)


def test_a_cell_that_its_machine_cannot_train_says_why(begun: StudyFolder) -> None:
    """To the display, not only to the log: such as on a node whose GPU is only counted."""
    files, (cell,) = CellFiles.of(begun, CELL), cells_of(begun.read_spec())
    with pytest.raises(ConfigError, match="--device 'abacus': expected"):
        train_cell(begun, cell, Machine(device="abacus"), silent, attempt=1)
    (told,) = EventReader(files.events(1)).new()
    assert isinstance(told, RunFailed)
    assert "abacus" in told.message
    outcome = files.read_outcome(1, begun.run("plain", 0))
    assert outcome is not None
    assert outcome.error == told.message


@pytest.mark.parametrize(("executor", "device"), [("ray", "auto"), ("local", "cuda")])
def test_heat_maps_that_a_kill_left_do_not_need_the_gpu_of_a_node(
    begun: StudyFolder, monkeypatch: pytest.MonkeyPatch, executor: str, device: str
) -> None:
    used, spec = list[str](), begun.read_spec()
    monkeypatch.setattr(
        "podium.study.explain.explain_runs", lambda *given: used.append(given[3].device)
    )
    machine, index = Machine(executor=executor, device="cuda"), SimpleNamespace(reader=None)
    work = Work(
        begun, spec, machine, cast(Any, index), {}, {}, contextlib.nullcontext, silent, None
    )
    write_text(begun.run("plain", 0).done, "{}")
    work.revisit(cells_of(spec)[0])
    assert used == [device]


def test_leave_is_recorded_before_the_test_images_are_used(
    begun: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a shared file system: an attempt that is replaced before it has leave never uses them."""
    files, looks = CellFiles.of(begun, CELL), list[tuple[str, int]]()
    look, (cell,) = contender._look, cells_of(begun.read_spec())

    def seen(model: Any, split: str, *given: Any) -> Any:
        looks.append((split, len([*files.path.glob("leave-*")])))
        return look(model, split, *given)  # type: ignore[arg-type]

    grant = Attempt.grant

    def replaced(attempt: Attempt) -> None:
        if attempt.number == 1:
            begin(files.attempts)  # elsewhere, at the last moment
        grant(attempt)

    monkeypatch.setattr(contender, "_look", seen)
    monkeypatch.setattr(Attempt, "grant", replaced)
    machine = Machine(cpus=1, workers=0)
    with pytest.raises(StaleAttemptError):
        train_cell(begun, cell, machine, silent, attempt=1)
    assert looks == [("valid", 0)]
    assert not (begun.path.parent / LEDGER).exists()
    assert not train_cell(begun, cell, machine, silent, attempt=2).error
    assert looks[1:] == [("valid", 1), ("test", 2)]
    assert len((begun.path.parent / LEDGER).read_text().splitlines()) == 1

"""What fails in the middle of a training: told in words, nothing lost, the same end."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import podium.training.state
from podium.data.index import DataIndex
from podium.data.indexing import build_index
from podium.errors import ConfigError, StorageError, TrainingError, UnreadableImageError
from podium.runtime.events import (
    BatchDone,
    EpochDone,
    EpochStarted,
    Event,
    WarningMessage,
    silent,
)
from podium.runtime.files import atomic_write
from podium.runtime.spawn import Place, runs_again
from podium.training.checkpoint import read_checkpoint
from podium.training.faults import WorkerLostError, as_training_error
from podium.training.fit import fit
from podium.training.job import Job
from podium.training.optimizers import make_optimizer
from tests.conftest import StopAfter
from tests.training.test_training import RECIPE, index, job, often, straight, weights

__all__ = ["index", "straight"]  # fixtures


def timeless(job: Job) -> list[dict[str, float]]:
    timing = {"seconds", "images_per_second"}
    return [
        {key: value for key, value in row.items() if key not in timing}
        for row in job.folder.read_history()
    ]


def test_a_killed_worker_costs_time_alone(straight: Job, index: DataIndex, tmp_path: Path) -> None:
    """Its work goes on in the training's own process, and ends with the same bits."""
    told: list[Event] = []
    made = often(job(tmp_path / "run", index, workers=2))

    def notify(event: Event) -> None:
        told.append(event)
        if isinstance(event, BatchDone) and event.step == 2:
            for child in multiprocessing.active_children():
                child.kill()

    fit(made, notify)
    assert weights(made) == weights(straight)
    assert timeless(made) == timeless(straight)
    (warning,) = [event.text for event in told if isinstance(event, WarningMessage)]
    assert "A decoding process was lost" in warning
    starts = [event.step for event in told if isinstance(event, EpochStarted)]
    assert starts[0] == 0
    assert starts[1] >= 1, "no step that was saved is taken again"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), TrainingError),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), TrainingError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), TrainingError),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), WorkerLostError),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), WorkerLostError),
        (RuntimeError("shapes do not match"), None),
    ],
)
def test_faults_of_the_machine_in_words(error: Exception, kind: type | None) -> None:
    from podium.config.settings import RunSpec

    told = as_training_error(error, RunSpec.model_validate({**RECIPE, "batch_size": 48}))
    assert (type(told) if told else None) == kind
    if kind is TrainingError:
        assert "48 images per step" in str(told)
        assert "--batch-size" in str(told)


def test_memory_that_runs_out_is_told_and_the_run_goes_on_afterwards(
    straight: Job, index: DataIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real allocation that fails, in the middle of an epoch."""
    made = often(job(tmp_path / "run", index))
    real = torch.nn.functional.cross_entropy
    calls = 0

    def greedy(*arguments: Any, **settings: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 4:
            torch.empty(1 << 60, dtype=torch.uint8)
        return real(*arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "cross_entropy", greedy)
        with pytest.raises(TrainingError, match="Memory ran out with 16 images per step"):
            fit(made, silent)
    assert read_checkpoint(made.folder.last)["epoch_under_way"][0] == 3
    fit(made, silent)
    assert weights(made) == weights(straight)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_vanishes_costs_no_step(
    pictures: Path, straight: Job, tmp_path: Path, workers: int
) -> None:
    copy = tmp_path / "data"
    shutil.copytree(pictures, copy)
    index, told = build_index(copy), []
    lost = copy / "train" / "circle" / "3.png"
    made = job(tmp_path / "run", index, workers=workers)
    content = lost.read_bytes()

    def notify(event: Event) -> None:
        told.append(event)
        if isinstance(event, EpochDone):
            lost.unlink()

    with pytest.raises(UnreadableImageError, match=r"train/circle/3\.png"):
        fit(made, notify)
    done = [event.step for event in told if isinstance(event, BatchDone)][-1]
    under_way = read_checkpoint(made.folder.last)["epoch_under_way"][0]
    assert under_way == (done if done < 5 else 0), "the steps before it are kept"
    lost.write_bytes(content)
    fit(made, silent)
    assert weights(made) == weights(straight)


def test_a_validation_image_that_vanishes_costs_no_step(pictures: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(pictures, copy)
    index = build_index(copy)
    lost = copy / "valid" / "circle" / "3.png"
    content = lost.read_bytes()
    lost.unlink()
    made = job(tmp_path / "run", index)
    with pytest.raises(UnreadableImageError, match=r"valid/circle/3\.png"):
        fit(made, silent)
    lost.write_bytes(content)
    told: list[Event] = []
    fit(made, told.append)
    assert [event.step for event in told if isinstance(event, EpochStarted)] == [5, 0]


def test_a_stop_while_validating_takes_no_step_again(
    straight: Job, index: DataIndex, tmp_path: Path
) -> None:
    made = job(tmp_path / "run", index)
    with pytest.raises(KeyboardInterrupt):
        fit(made, silent, StopAfter(6))  # 5 steps, then the first batch of validation images
    told: list[Event] = []
    fit(made, told.append)
    assert [event.step for event in told if isinstance(event, EpochStarted)] == [5, 0]
    assert weights(made) == weights(straight)
    assert timeless(made) == timeless(straight)


def test_a_history_that_a_kill_left_behind_its_state_is_mended(
    straight: Job, index: DataIndex, tmp_path: Path
) -> None:
    made = job(tmp_path / "run", index)
    shutil.copytree(straight.folder.path, made.folder.path, dirs_exist_ok=True)
    lines = made.folder.history.read_text().splitlines(keepends=True)
    made.folder.history.write_text("".join(lines[:-1]))
    fit(made, silent)
    assert made.folder.read_history() == straight.folder.read_history()


def test_a_step_to_infinity_is_not_saved(
    straight: Job, index: DataIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of step 3 is finite, the weights after it are not: step 2 is what is kept."""
    real, steps = make_optimizer, 0

    def wild(*arguments: Any, **settings: Any) -> torch.optim.Optimizer:
        optimizer = real(*arguments, **settings)
        take = optimizer.step

        def step(*arguments: Any, **settings: Any) -> Any:
            nonlocal steps
            steps += 1
            found = take(*arguments, **settings)
            if steps == 3:
                optimizer.param_groups[0]["params"][0].data.fill_(float("nan"))
            return found

        optimizer.step = step  # type: ignore[method-assign]
        return optimizer

    made = often(job(tmp_path / "run", index))
    with monkeypatch.context() as patch:
        patch.setattr(podium.training.state, "make_optimizer", wild)
        with pytest.raises(TrainingError, match=r"largest weights .* epoch 1, step 3, learning"):
            fit(made, silent)
    assert read_checkpoint(made.folder.last)["epoch_under_way"][0] == 2
    fit(made, silent)
    assert weights(made) == weights(straight)


def test_a_full_disk_ends_the_training_and_keeps_the_state(
    straight: Job, index: DataIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job(tmp_path / "run", index)
    real: Callable[..., None] = atomic_write
    saves = 0

    def full(path: Path, write: Callable[..., object]) -> None:
        nonlocal saves
        saves += 1
        if saves == 2:
            raise StorageError(path, OSError(28, "No space left on device"))
        real(path, write)

    with monkeypatch.context() as patch:
        patch.setattr(podium.training.state, "atomic_write", full)
        with pytest.raises(StorageError, match="Free some space"):
            fit(made, silent)
    assert len(read_checkpoint(made.folder.last)["rows"]) == 1
    fit(made, silent)
    assert weights(made) == weights(straight)


def test_two_processes_name_the_image_that_vanished(pictures: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(pictures, copy)
    index = build_index(copy)
    (copy / "train" / "circle" / "3.png").unlink()
    with pytest.raises(UnreadableImageError, match=r"train/circle/3\.png"):
        fit(job(tmp_path / "run", index, devices=2), silent)


assert RECIPE["batch_size"] == 16  # what the steps above are counted with: 72 images, 5 steps


CALL = "found.append(podium.runtime.spawn.runs_again())\n"
SCRIPTS = {  # the line that would run again, if any
    "bare": (CALL, 2),
    "function": (f"def work():\n    {CALL}\nif len('two') == 3:\n    work()\n", 6),
    "thread": (
        f"import threading\ndef work():\n    {CALL}\none = threading.Thread(target=work)\n"
        "one.start(), one.join()\n",
        7,
    ),
    "guarded": (f'if __name__ == "__main__":\n    {CALL}', None),
    "guarded function": (f"def work():\n    {CALL}\nif '__main__' == __name__: work()\n", None),
    "guarded deep": (f"if __name__ == '__main__':\n    for _ in 'a':\n        {CALL}", None),
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_lines_that_every_process_would_run_again_are_found(
    name: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, line = SCRIPTS[name]
    script = tmp_path / "script.py"
    script.write_text(f"import podium.training.faults\n{code}")
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: method)
    found: list[Any] = []
    runpy.run_path(str(script), {"found": found}, "__main__")
    assert found == [None if line is None or method == "fork" else (str(script), line)]


def test_nothing_runs_again_under_the_command_or_without_a_script() -> None:
    code = "from podium.runtime.spawn import runs_again; print(runs_again('spawn'))"
    for words in (["-c", code], ["-m", "pytest", "--version"]):
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True)
        assert "None" in done.stdout or "pytest" in done.stdout
    assert runs_again("spawn") is None  # pytest guards itself, as the command does


def test_a_script_without_a_guard_trains_and_is_told_once(pictures: Path, tmp_path: Path) -> None:
    """As on Windows and macOS; its body ran again in every process that decodes."""
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing\n"
        "multiprocessing.set_start_method('spawn', force=True)\n"
        "import podium\n"
        "print('the body runs', flush=True)\n"
        f"podium.train({str(pictures)!r}, 'mobilenetv3_small_050', epochs=1, image_size=32,\n"
        "             augmentation='autoaugment', machine={'workers': 2, 'device': 'cpu'})\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONWARNINGS": "default::UserWarning"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["the body runs"]
    assert done.stderr.count('under `if __name__ == "__main__":`') == 1
    assert f"{script}:5: UserWarning: 2 decoding processes would each run" in done.stderr
    assert (tmp_path / "runs" / "mobilenetv3_small_050").is_dir()


def test_several_devices_need_the_guard(
    index: DataIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job(tmp_path / "run", index, devices=2)
    place = Place("script.py", 5)
    monkeypatch.setattr("podium.training.fit.runs_again", lambda method: place)
    with pytest.raises(ConfigError, match=r"script\.py, line 5: each of 2 training processes"):
        fit(made, silent)

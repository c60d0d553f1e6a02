"""Work in threads: in order, a bounded number ahead, ended at once."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from rich.console import Console

from podium.cli import progress
from podium.runs.folder import HISTORY_COLUMNS
from podium.runtime.events import BatchDone, EpochDone, EpochStarted, RunStarted
from podium.runtime.threads import OtherPrograms, in_order, usable_cores


def test_results_come_in_order_whatever_finishes_first() -> None:
    def look(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number**2

    assert list(in_order(look, range(40), threads=4)) == [number**2 for number in range(40)]
    assert list(in_order(look, [], threads=4)) == []


def test_items_are_taken_as_the_work_goes_on() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = in_order(lambda number: number, items(), threads=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(taken) < 20  # a million files would be as few
    results.close()
    assert len(taken) < 20


def test_an_error_ends_it_and_nothing_more_begins() -> None:
    begun = []

    def look(number: int) -> int:
        begun.append(number)
        if number == 5:
            raise ValueError("five")
        return number

    with pytest.raises(ValueError, match="five"):
        list(in_order(look, range(1000), threads=2))
    assert len(begun) < 30


def test_every_thread_is_prepared_once() -> None:
    prepared = []
    work = in_order(
        lambda _: time.sleep(0.005),
        range(12),
        threads=3,
        initializer=lambda: prepared.append(threading.get_ident()),
    )
    list(work)
    assert len(prepared) == len(set(prepared)) <= 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_only_cores_that_the_process_may_use_are_counted() -> None:
    before = os.sched_getaffinity(0)
    assert usable_cores() == len(before)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


CORES_OF_THREADS = """
import os, sys, threading
from pathlib import Path
import torch
from podium.data.loader import make_loader
from podium.runtime.threads import a_core_each, usable_cores

def cores():
    found = []
    for thread in Path("/proc/self/task").iterdir():
        try:
            lines = (thread / "status").read_text().splitlines()
        except OSError:  # it has ended meanwhile
            continue
        found += [line.split()[1] for line in lines if line.startswith("Cpus_allowed_list")]
    return sorted(one for one in found if one != both)

class Where(torch.utils.data.Dataset):
    def __len__(self): return 1
    def __getitem__(self, key): return torch.tensor([[[len(os.sched_getaffinity(0))]]]), 0, 0

two = sorted(os.sched_getaffinity(0))[:2]
both = f"{two[0]}-{two[1]}" if two[1] == two[0] + 1 else f"{two[0]},{two[1]}"
os.sched_setaffinity(0, two)
torch.set_num_threads(int(sys.argv[1]))
work = torch.rand(512, 512)
(work @ work).sum()
print(cores())
with a_core_each():
    print(cores() == sorted(map(str, two)), usable_cores())
    images, _, _ = next(iter(make_loader(Where(), workers=1, device=torch.device("cpu"))))
    print(images.item())
    (work @ work).sum()
    with a_core_each():
        print(cores() == sorted(map(str, two)))
print(cores(), len(os.sched_getaffinity(0)))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="needs two cores of Linux"
)
@pytest.mark.parametrize("threads", [2, 1])
def test_each_of_two_threads_has_a_core_while_it_computes(threads: int) -> None:
    """By the kernel's own word; a decoding process that is started meanwhile has both cores."""
    told = subprocess.run(
        [sys.executable, "-c", CORES_OF_THREADS, str(threads)],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "2"},
    ).stdout.splitlines()  # fmt: skip
    apart = threads == 2
    assert told == ["[]", f"{apart} 2", "2", f"{apart}", "[] 2"]


BUSY = "import time; began = time.time()\nwhile time.time() - began < 30: pass"


def test_what_other_programs_take_is_not_what_this_one_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against the kernel's own accounting of a program that is nobody's child."""
    seen = OtherPrograms()
    orphan = f"{sys.executable} -c {shlex.quote(BUSY)} >/dev/null 2>&1 & echo $!"
    started = subprocess.run(["sh", "-c", orphan], capture_output=True, text=True, check=True)
    other = psutil.Process(int(started.stdout))
    try:
        seen.cores()
        taken, began = sum(other.cpu_times()[:2]), time.perf_counter()
        time.sleep(1.0)
        others = seen.cores()
        used = (sum(other.cpu_times()[:2]) - taken) / (time.perf_counter() - began)
        assert used > 0.2  # else this says nothing
        assert others > used - 0.15
    finally:
        other.kill()

    # and what this process and its children do counts for nothing, however much it is
    child = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        monkeypatch.setattr(
            psutil, "cpu_times", lambda percpu: [_only(time.process_time() + _used(child.pid))]
        )
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
        alone = OtherPrograms()
        time.sleep(0.5)
        assert alone.cores() < 0.1
    finally:
        child.kill()
        child.wait()


def _used(pid: int) -> float:
    return float(sum(psutil.Process(pid).cpu_times()[:2]))


def _only(seconds: float) -> SimpleNamespace:
    return SimpleNamespace(user=seconds, system=0.0)


# what of PyTorch reads the environment, in a hundredth of the time
OPENMP = """import ctypes, importlib.util, pathlib
torch = pathlib.Path(importlib.util.find_spec("torch").origin).parent
found = [*torch.glob("lib/libgomp*"), *torch.parent.glob("torch.libs/libgomp*")]
ctypes.CDLL(str(found[0]))
"""


def waiting(command: str, **more: str) -> dict[str, str]:
    """What OpenMP says of itself when a command of ours, or a plain program, has loaded it."""
    known = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    clean = {name: value for name, value in os.environ.items() if name not in known}
    ended = subprocess.run(
        [sys.executable, "-c", command],
        env={**clean, "OMP_DISPLAY_ENV": "verbose", **more},
        capture_output=True,
        text=True,
        check=True,
    )
    shown = re.findall(r"(?m)^\s*(?:\[\w+\] )?(\w+) = '(.*)'", ended.stderr)
    return dict(shown)


@pytest.mark.skipif(sys.platform != "linux", reason="PyTorch brings GNU's OpenMP on Linux alone")
def test_the_command_lets_threads_sleep_and_leaves_a_users_setting_alone() -> None:
    """Asked of the OpenMP library itself, as the command has loaded it with PyTorch."""
    ours = "from podium.cli.app import main; main(['--version']); "
    assert waiting(f"{ours}import torch")["GOMP_SPINCOUNT"] == "1000"
    assert waiting(OPENMP)["GOMP_SPINCOUNT"] != "1000"
    ours += OPENMP
    assert waiting(ours, GOMP_SPINCOUNT="77")["GOMP_SPINCOUNT"] == "77"
    assert waiting(ours, OMP_WAIT_POLICY="ACTIVE")["OMP_WAIT_POLICY"] == "ACTIVE"


@pytest.mark.parametrize(("taken", "said"), [(0.0, False), (1.5, True)])
def test_the_progress_says_when_the_machine_is_busy(
    monkeypatch: pytest.MonkeyPatch, taken: float, said: bool
) -> None:
    monkeypatch.setattr(progress, "usable_cores", lambda: 2)
    monkeypatch.setattr(progress, "LOOK_EVERY", 0.0)
    shown = io.StringIO()
    cell: Any = {"contender": "one", "seed": 0}
    row = dict.fromkeys(HISTORY_COLUMNS, 1.0)
    with progress.StudyProgress(Console(file=shown, width=200)) as told:
        monkeypatch.setattr(told.others, "cores", lambda: taken)
        told.notify(RunStarted("a run", 2, 1, **cell))
        told.notify(EpochStarted(1, 0, 5, **cell))
        told.notify(BatchDone(1, 5, 5, 0.5, **cell))
        told.notify(EpochDone(2, row, **cell))
    assert ("(machine busy: others use 1.5 of 2 cores)" in shown.getvalue()) == said

"""Large blocks are recycled while asked for, and given back afterwards."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading

import pytest
import torch

from podium.runtime.memory import _glibc, recycled_memory

PAGES = 64 * 2**20 // resource.getpagesize()  # of one block

COUNT = """
import resource, torch
from podium.runtime.memory import recycled_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(40):
        torch.ones(10 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = faults()
with recycled_memory() as works:
    print(works, usual, faults())
"""


@pytest.mark.skipif(_glibc() is None, reason="for glibc alone")
def test_blocks_are_recycled() -> None:
    # a process of its own: what this one has on its heap already would blur the count
    said = subprocess.run(
        [sys.executable, "-c", COUNT], check=True, capture_output=True, text=True
    ).stdout.split()
    pages = 40 * 40 * 2**20 // resource.getpagesize()
    assert said[0] == "True"
    assert int(said[1]) > 0.9 * pages
    assert int(said[2]) < 0.5 * pages  # some: not every block fits into the gap of the last one


GIVEN_BACK = """
import torch
from podium.runtime.memory import recycled_memory

def resident():
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1])

before = resident()
with recycled_memory():
    blocks = [torch.ones(10 * 2**20) for _ in range(4)]
    held = resident()
    del blocks
print(before, held, resident())
"""


@pytest.mark.skipif(_glibc() is None, reason="for glibc alone")
def test_memory_is_given_back() -> None:
    # a process of its own: on this one's heap there may be room for the blocks already
    before, held, after = map(
        int,
        subprocess.run(
            [sys.executable, "-c", GIVEN_BACK], check=True, capture_output=True, text=True
        ).stdout.split(),
    )
    assert held > before + 2 * PAGES
    assert after < before + PAGES


NESTED = COUNT.replace(
    "with recycled_memory() as works:",
    "with recycled_memory() as works:\n    with recycled_memory():\n        pass",
)


@pytest.mark.skipif(_glibc() is None, reason="for glibc alone")
def test_the_end_of_an_inner_one_does_not_end_the_outer_one() -> None:
    said = subprocess.run(
        [sys.executable, "-c", NESTED], check=True, capture_output=True, text=True
    ).stdout.split()
    assert int(said[2]) < 0.5 * int(said[1])


def test_other_threads_still_get_large_blocks() -> None:
    found: list[float] = []
    with recycled_memory():
        thread = threading.Thread(target=lambda: found.append(float(torch.ones(2**25).sum())))
        thread.start()
        thread.join()
    assert found == [2**25]


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podium.runtime.memory._glibc", lambda: None)
    with recycled_memory() as works:
        assert not works

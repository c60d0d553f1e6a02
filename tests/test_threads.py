"""Work in threads: in order, a bounded number ahead, ended at once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from podium.threads import in_order, usable_cores


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

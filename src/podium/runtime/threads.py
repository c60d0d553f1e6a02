"""Work on all cores that this process may use, in order, with bounded memory; and on no others'."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Result = TypeVar("Result")
Item = TypeVar("Item")

_AHEAD = 4  # results a thread; a thread that has slow work does not hold up the others at once


def usable_cores() -> int:
    """Cores that this process may run on: fewer than the machine has in a container or a job."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def let_waiting_threads_sleep() -> None:
    """Have OpenMP's threads give their core away soon when they wait for one another.

    By default they spin for milliseconds at the end of every operation. Where another program has
    taken one core, the others burn theirs until the scheduler gives it back: training beside one
    busy process fell to a ninth (`docs/performance.md`, "Beside other programs"). A hundredth of
    the spinning keeps the pace of a quiet machine, and most of what is left of a busy one.

    It acts on what is loaded later: OpenMP reads the environment once, when PyTorch is imported,
    so that this belongs at the start of a program, or before one is started. Who has set any of
    these variables is left alone.
    """
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
        os.environ["GOMP_SPINCOUNT"] = "3000"  # GNU's, which PyTorch brings on Linux


class OtherPrograms:
    """How many of the cores that this process may use other programs keep busy.

    `cores()` gives the mean since it was last called, 0.0 to `usable_cores()`; what this process
    and its children use is not counted. Time that a host takes from a virtual machine is.
    """

    def __init__(self) -> None:
        self._before = self._times()

    def cores(self) -> float:
        """The mean number of cores since the last call, or since this was made."""
        at, busy, own = self._times()
        before, busy_before, own_before = self._before
        self._before = at, busy, own
        # a child that has ended takes its time along: never less than none
        used = (busy - busy_before) - max(own - own_before, 0.0)
        return min(max(used / max(at - before, 1e-6), 0.0), float(usable_cores()))

    @staticmethod
    def _times() -> tuple[float, float, float]:
        """Now, seconds that the cores were busy, and seconds that this process took of them."""
        import psutil

        cores = psutil.cpu_times(percpu=True)
        if hasattr(os, "sched_getaffinity"):
            cores = [cores[number] for number in os.sched_getaffinity(0) if number < len(cores)]
        busy = sum(
            core.user + core.system + getattr(core, "nice", 0.0) + getattr(core, "steal", 0.0)
            for core in cores
        )
        this = psutil.Process()
        own = 0.0
        for process in (this, *this.children(recursive=True)):
            with contextlib.suppress(psutil.Error):  # it has just ended
                times = process.cpu_times()
                own += times.user + times.system
        return time.perf_counter(), busy, own


def in_order(
    look: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int | None = None,
    initializer: Callable[[], None] | None = None,
) -> Generator[Result, None, None]:
    """`map(look, items)` in threads: for work that runs without the interpreter's lock.

    No more results are under way than a few a thread, so memory does not grow with `items`. When
    the caller stops early or is interrupted, what has not begun never does.

    Args:
        look: called in a thread with each item.
        items: taken as the work goes on.
        threads: how many; None: one per core.
        initializer: called in every thread before its first item.
    """
    threads = threads or usable_cores()
    pool = ThreadPoolExecutor(threads, initializer=initializer)
    rest = iter(items)
    try:
        ahead: deque[Future[Result]] = deque(
            pool.submit(look, item) for item in islice(rest, _AHEAD * threads)
        )
        while ahead:
            result = ahead.popleft().result()
            for item in islice(rest, 1):
                ahead.append(pool.submit(look, item))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)

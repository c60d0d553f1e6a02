"""Work on all cores available to this process, in order and with bounded memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")
Item = TypeVar("Item")

GRANTED = "PODIUM_CORES"
"""Environment variable: how many cores this process and those that it starts may use."""

_AHEAD = 4  # results per thread, so that one slow item does not stall the others at once


_whole: frozenset[int] = frozenset()  # cores of this process while its threads have one each


def own_cores() -> frozenset[int]:
    """Numbers of the cores that this process may run on; empty where the system has no such set."""
    if _whole or not hasattr(os, "sched_getaffinity"):
        return _whole
    return frozenset(os.sched_getaffinity(0))


def usable_cores() -> int:
    """Number of cores available to this process: in a container or job, fewer than exist."""
    cores = len(own_cores()) or os.cpu_count() or 1
    granted = os.environ.get(GRANTED, "")
    return min(cores, int(granted)) if granted.isdigit() and int(granted) else cores


def let_waiting_threads_sleep() -> None:
    """Make OpenMP's threads yield their core early while they wait for one another.

    By default they spin for milliseconds at the end of every operation. If another program has
    taken one core, the others spin until the scheduler gives it back: training beside one busy
    process fell to a ninth (`docs/performance.md`, "Beside other programs"). A 300th of the
    spinning keeps the full speed of an idle machine, and most of the remaining speed of a busy one.

    This affects only libraries loaded later: OpenMP reads the environment once, when PyTorch is
    imported, so call this at the start of a program, or before starting one. If any of these
    variables is already set, nothing is changed.
    """
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
        os.environ["GOMP_SPINCOUNT"] = "1000"  # of GNU OpenMP, which PyTorch ships on Linux


@contextlib.contextmanager
def a_core_each() -> Iterator[None]:
    """Keep the two threads of PyTorch's operations on a core each, on a machine of two cores.

    Beside other programs the scheduler may leave both on one core, where each waits for the other
    in turn: training fell to a twentieth. Elsewhere nothing is changed: with more cores, threads
    are started and ended between operations, and a new one would begin on this thread's core.
    Nothing that is started inside, process or thread, gets more than one core, unless it calls
    `use_cores`.
    """
    global _whole
    import torch

    team = None if _whole or torch.get_num_threads() != 2 else _openmp()
    cores = sorted(own_cores())
    if team is None or len(cores) != 2:
        yield
        return
    _whole = frozenset(cores)
    try:
        _place(team, [{core} for core in cores])
        yield
    finally:
        _place(team, [_whole, _whole])
        _whole = frozenset()


def use_cores(cores: Iterable[int]) -> None:
    """Let the calling thread run on these cores.

    Args:
        cores: from `own_cores`; empty: nothing is changed.
    """
    if chosen := set(cores):
        with contextlib.suppress(OSError):  # no longer available to this process
            os.sched_setaffinity(0, chosen)


def _openmp() -> ctypes.CDLL | None:
    """The OpenMP that PyTorch has loaded, if that is the GNU one of its own wheel."""
    import torch

    library = Path(torch.__file__).parent / "lib" / "libgomp.so.1"
    return ctypes.CDLL(str(library)) if library.is_file() else None


def _place(team: ctypes.CDLL, places: Sequence[Iterable[int]]) -> None:
    """Run `use_cores` in each of the calling thread's OpenMP threads, itself among them."""

    def place(_: int | None) -> None:
        use_cores(places[team.omp_get_thread_num()])

    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(place)
    team.GOMP_parallel(function, None, len(places), 0)


class OtherPrograms:
    """Measures how many of the cores available to this process other programs use.

    The usage of this process and its children is not counted. Time that a host takes from a
    virtual machine is.
    """

    def __init__(self) -> None:
        self._before = self._times()

    def cores(self) -> float:
        """Mean number of cores since the last call or the creation, 0.0 to `usable_cores()`."""
        at, busy, own = self._times()
        before, busy_before, own_before = self._before
        self._before = at, busy, own
        # the time of a child that has ended is lost: never negative
        used = (busy - busy_before) - max(own - own_before, 0.0)
        return min(max(used / max(at - before, 1e-6), 0.0), float(usable_cores()))

    @staticmethod
    def _times() -> tuple[float, float, float]:
        """Now, busy seconds of the cores, and seconds of this process among them."""
        import psutil

        cores = psutil.cpu_times(percpu=True)
        if usable := own_cores():
            cores = [cores[number] for number in usable if number < len(cores)]
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
    """`map(look, items)` in threads: for work that releases the interpreter lock.

    At most a few results per thread are pending, so memory does not grow with `items`. If the
    caller stops early or is interrupted, pending work is cancelled.

    Args:
        look: called in a thread with each item.
        items: consumed as the work proceeds.
        threads: number of threads; None: one per core.
        initializer: called in every thread before its first item; None: nothing.

    Yields:
        The results, in the order of `items`.
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

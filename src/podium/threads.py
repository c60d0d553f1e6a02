"""Work on all cores that this process may use, in order, with bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

__all__ = ["in_order", "usable_cores"]

Result = TypeVar("Result")
Item = TypeVar("Item")

_AHEAD = 4  # results a thread; a thread that has slow work does not hold up the others at once


def usable_cores() -> int:
    """Cores that this process may run on: fewer than the machine has in a container or a job."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
        threads: how many; empty: one a core.
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

"""One thread a core that decodes its own batch and runs it: no thread waits for another one."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["in_threads"]

Result = TypeVar("Result")
Item = TypeVar("Item")


def in_threads(
    look: Callable[[Item], Result], items: Sequence[Item]
) -> Generator[Result, None, None]:
    """`map(look, items)`, in order, a thread a core, each of them on a single core.

    No more results are under way than a few a thread, so memory does not grow with `items`. When
    the caller stops early or is interrupted, what has not begun never does.
    """
    threads = os.cpu_count() or 1
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=_one_core_each)
    try:
        ahead = [pool.submit(look, item) for item in items[: 4 * threads]]
        for at in range(len(items)):
            yield ahead.pop(0).result()
            if at + 4 * threads < len(items):
                ahead.append(pool.submit(look, items[at + 4 * threads]))
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def _one_core_each() -> None:
    torch.set_num_threads(1)

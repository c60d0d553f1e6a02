"""One thread a core that decodes its own batch and runs it: no thread waits for another one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

import torch

from podium.runtime.threads import in_order

Result = TypeVar("Result")
Item = TypeVar("Item")


def in_threads(
    look: Callable[[Item], Result], items: Iterable[Item]
) -> Generator[Result, None, None]:
    """`podium.runtime.threads.in_order`, with torch on a single core in each of the threads."""
    before = torch.get_num_threads()
    try:
        yield from in_order(look, items, initializer=_one_core_each)
    finally:
        torch.set_num_threads(before)


def _one_core_each() -> None:
    torch.set_num_threads(1)

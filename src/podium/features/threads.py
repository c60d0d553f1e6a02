"""One thread per core decodes and runs its own batch: no thread waits for another."""

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
    """Map `look` over `items` in one thread per core, with single-threaded torch in each.

    Args:
        look: called with each item.
        items: the items.

    Yields:
        The results, in the order of the items.
    """
    before = torch.get_num_threads()
    try:
        yield from in_order(look, items, initializer=_one_core_each)
    finally:
        torch.set_num_threads(before)


def _one_core_each() -> None:
    torch.set_num_threads(1)

"""Many independent parts of one piece of work, computed on other machines: the interface."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

SEEN_BY_ALL = (
    "All nodes need the images under the same path as here, or at an address "
    "(`podium data pack IMAGES --to s3://...`)."
)
"""What to do where another machine does not see an image."""


def once(parts: Parts, work: Callable[[Item], Result], item: Item) -> Result:
    """Compute one thing on another machine.

    Args:
        parts: what computes there.
        work: called with the item.
        item: the item.
    """
    with contextlib.closing(parts.map(work, [item])) as found:
        return next(found)


class Parts(Protocol):
    """Computes parts somewhere: see `podium.study.engines.ray_parts`."""

    device: str
    """Kind of the devices that compute: `cpu` or `cuda`."""

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item]
    ) -> Generator[Result, None, None]:
        """`map(work, items)`, several at a time, each on some machine.

        Args:
            work: called with each item; it is sent once to each process that computes.
            items: consumed as the work proceeds, so that memory does not grow with their number.

        Yields:
            The results, in the order of `items`.

        Raises:
            PodiumError: a part was lost several times; or what `work` raised.
        """
        ...

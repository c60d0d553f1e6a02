"""Many independent parts of one piece of work, computed on other machines: the interface."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


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

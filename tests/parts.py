"""Parts of work in this process, in place of other machines; and work for Ray, which imports it."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

from podium.config.machine import Machine
from podium.errors import DataError


class HereParts:
    """Computes one part after the other; all that goes there and back is pickled.

    Args:
        before: called with each item, where it is computed, before that.
        after: the same after it.
    """

    device = "cpu"

    def __init__(
        self,
        before: Callable[[Any], object] = lambda item: None,
        after: Callable[[Any], object] = lambda item: None,
    ) -> None:
        self.before, self.after, self.items = before, after, list[Any]()

    def map(self, work: Callable[[Any], Any], items: Iterable[Any]) -> Generator[Any, None, None]:
        sent = pickle.loads(pickle.dumps(work))
        for item in items:
            self.items.append(item)
            there = pickle.loads(pickle.dumps(item))
            self.before(there)
            found = pickle.dumps(sent(there))
            self.after(there)
            yield pickle.loads(found)


def double(item: int) -> int:
    return 2 * item


def refuse(item: int) -> int:
    if item == 3:
        raise DataError("a sentence")
    return item


def die_once(mark: str) -> str:
    if not Path(mark).exists():
        Path(mark).touch()
        os._exit(3)
    return mark


def try_on_ray(place: Path) -> None:
    """In a process of its own: Ray keeps what it found at its first start."""
    from podium.study.engines.ray_parts import parts_on

    machine = Machine(executor="ray", cpus=1)
    with parts_on(machine, here_too=False) as parts:
        assert parts is None  # this machine alone has threads of its own
    with parts_on(machine, here_too=True) as parts:
        assert parts is not None
        assert list(parts.map(double, range(20))) == [*range(0, 40, 2)]
        marks = [str(place / name) for name in "ab"]
        assert list(parts.map(die_once, marks)) == marks
        told = ""
        try:
            list(parts.map(refuse, range(9)))
        except DataError as error:
            told = str(error)
        assert told == "a sentence"

"""The two streams of the command, and how it shows progress on them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from podium.events import Event

__all__ = ["bars", "err", "out", "plain", "say", "visible"]

# what moves the cursor, rings, recolours, or turns the direction of writing around
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Text with its control characters as escapes: names of files and classes are anybody's."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


class _Console(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        shown = (visible(one) if isinstance(one, str) else one for one in objects)
        super().print(*shown, **options)


out = _Console(soft_wrap=True)
err = _Console(stderr=True, soft_wrap=True)


def plain(text: str) -> Any:
    """Text of a user's (a class, a path) as a table's cell: never read as markup."""
    from rich.text import Text

    return Text(visible(text))


def say(event: Event) -> None:
    """What is to be known while something runs, for a command that shows no progress."""
    if event.kind in ("message", "warning"):
        err.print(event.text, highlight=False, markup=False)


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """A function of (what, done, in all) that moves one bar for each `what` on a terminal."""
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=err,
        transient=True, disable=not err.is_terminal,
    ) as progress:  # fmt: skip
        tasks: dict[str, TaskID] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what.capitalize(), total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield tell

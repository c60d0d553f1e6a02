"""The two streams of the command, and how it shows progress on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

__all__ = ["bars", "err", "out", "plain"]

out = Console(soft_wrap=True)
err = Console(stderr=True)


def plain(text: str) -> Any:
    """Text of a user's (a class, a path) as a table's cell: never read as markup."""
    from rich.text import Text

    return Text(text)


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

"""The two output streams of the command, and progress displays on them.

Python writes to a file or a pipe in the system's encoding, on Windows one of 256 characters, and
raises on any other. Here unsupported typography is replaced by plain characters, and unsupported
letters by escapes, so that no work is lost while its result is printed.
"""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.status import Status
from rich.text import Text

from podium.config.text import CONTROLS
from podium.runtime.events import Event, Message, Notify, Progress as Step, RunFailed

_STAND_INS = {
    one: sign
    for signs, sign in zip(
        (
            "−–—─━",
            "│┃",
            "‘’",
            "“”",
            "•·",
            "…",
            "×",
            "≤",
            "≥",
            "±",
            "→",
            "†",
            "█",
            "●",
            "\u00a0\u202f",
        ),
        ("-", "|", "'", '"', "*", "...", "x", "<=", ">=", "+/-", "->", "+", "#", "o", " "),
        strict=True,
    )
    for one in signs
}
_BOX = range(0x2500, 0x2580)  # corners and crossings not listed above


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    """An error handler for `str.encode`: replaces characters that the encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_stand_in_of, error.object[error.start : error.end])), error.end


def _stand_in_of(character: str) -> str:
    found = _STAND_INS.get(character) or ("+" if ord(character) in _BOX else None)
    return found or character.encode("ascii", "backslashreplace").decode()


codecs.register_error("podium", _stand_in)


def accept_any_text() -> None:
    """Make standard output and error accept any text, in their own encoding."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="podium")


def write_data(text: str) -> None:
    """Write data for programs (YAML, JSON, CSV) to standard output: in UTF-8, except on a terminal.

    Args:
        text: the data, with its line endings.
    """
    stream = sys.stdout
    if stream.isatty() or not hasattr(stream, "buffer"):
        stream.write(visible(text))
    else:
        stream.flush()
        stream.buffer.write(text.encode("utf-8", "backslashreplace"))
    stream.flush()


def visible(text: str) -> str:
    """Text with control characters as escapes: names of files and classes are untrusted."""
    return CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


class _Console(Console):
    @property
    def encoding(self) -> str:
        return (getattr(self.file, "encoding", None) or "utf-8").lower()

    def sayable(self, text: str) -> str:
        """The text with replacements made before layout: they may be longer."""
        return text.encode(self.encoding, "podium").decode(self.encoding)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(self.sayable(text), **options)

    def status(self, status: Any, **options: Any) -> Status:
        if not self.encoding.startswith("utf"):
            options.setdefault("spinner", "line")
        return super().status(status, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        shown = (visible(one) if isinstance(one, str) else one for one in objects)
        super().print(*shown, **options)

    def tell(self, text: str, *, style: str = "") -> None:
        """Print untrusted text: nothing in it is markup."""
        self.print(text, style=style or None, highlight=False, markup=False)


out = _Console(soft_wrap=True)
err = _Console(stderr=True, soft_wrap=True)


def plain(text: str) -> Text:
    """User text (a class, a path) as a table cell on `out`: never read as markup."""
    return Text(out.sayable(visible(text)))


def say(event: Event) -> None:
    """Print messages while something runs, for a command without a progress display."""
    if isinstance(event, Message | RunFailed):
        err.tell(event.text)


@contextmanager
def bars() -> Iterator[Notify]:
    """A listener that shows one progress bar per task on a terminal, and prints messages."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    quiet = not err.is_terminal
    with Progress(*columns, console=err, transient=True, disable=quiet) as progress:
        tasks: dict[str, TaskID] = {}

        def tell(event: Event) -> None:
            if isinstance(event, Step):
                if event.what not in tasks:
                    tasks[event.what] = progress.add_task(event.what.capitalize())
                progress.update(tasks[event.what], completed=event.done, total=event.total)
            else:
                say(event)

        yield tell

"""Events of a process as lines of a file, which another process, or another machine, reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from podium.runtime import events
from podium.runtime.events import BatchDone, Event, Progress

_PAUSE = 0.5  # seconds between two lines about steps: no eye and no network needs more

_KINDS: dict[str, type[Event]] = {
    name: thing
    for name, thing in vars(events).items()
    if isinstance(thing, type) and issubclass(thing, Event)
}


class EventWriter:
    """A `Notify` that appends each event to a file; of steps, two a second and the last.

    Args:
        path: the file; it is created, or continued after a restart.

    Examples:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "events.jsonl"
        >>> EventWriter(file)(events.Message("decoding", contender="small", seed=0))
        >>> [event.text for event in EventReader(file).new()]
        ['decoding']
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._written = path, 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, BatchDone | Progress):
            of, done = (event.steps, event.step) if isinstance(event, BatchDone) else (
                event.total, event.done)  # fmt: skip
            if done < of and time.monotonic() - self._written < _PAUSE:
                return
            self._written = time.monotonic()
        line = json.dumps({"event": type(event).__name__, **asdict(event)}, default=float)
        with open(self._path, "ab") as file:  # closed each time: a network shows it to others then
            file.write(line.encode() + b"\n")


class EventReader:
    """Reads the events that an `EventWriter` appends, from where it stopped.

    Args:
        path: the file, which need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._at = path, 0

    def new(self) -> list[Event]:
        """The events since the last call; a line that is not whole yet is left for the next one."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._at)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._at += len(whole)
        found = [_event(line) for line in whole.splitlines()]
        return [event for event in found if event is not None]


def _event(line: bytes) -> Event | None:
    """The event of a line; None: another version's, which is not shown."""
    try:
        values: dict[str, Any] = json.loads(line)
        make: Callable[..., Event] = _KINDS[values.pop("event")]
        if "rows" in values:
            values["rows"] = tuple(values["rows"])
        return make(**values)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None

"""What a study tells while it runs, and how it is asked to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

__all__ = ["Event", "Notify", "StopRequest", "relay", "silent", "stop_on_signals"]

Kind = Literal[
    "study",  # total: cost of all runs still to do, in millions of pixels
    "index",  # step of total: images checked
    "cache",  # step of total: images decoded; text: their size
    "audit",  # step of total; text: what is looked at
    "run",  # text: the run that begins; total: its epochs; row: its cost
    "start",  # an epoch begins or goes on; step of total batches
    "batch",  # a step was taken; loss: mean training loss of the epoch so far
    "epoch",  # row: the new row of the history; total: epochs
    "evaluate",  # step of total: images predicted; text: the split
    "done",  # text: the run that ended; row: its closing figures
    "message",  # text: something the user should know
    "warning",  # text: something that is not as asked for
]


@dataclass(frozen=True)
class Event:
    """One thing that happened; which fields it carries depends on `kind`."""

    kind: Kind
    text: str = ""
    step: int = 0
    total: int = 0
    loss: float = float("nan")
    row: dict[str, float] = field(default_factory=dict)


Notify = Callable[[Event], None]


def silent(event: Event) -> None:
    """A `Notify` that tells nobody."""


class StopRequest(Protocol):
    """Like `threading.Event`: set when the run should save and end."""

    def is_set(self) -> bool: ...


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C (or SIGTERM) into a request; a second one interrupts at once.

    Outside the main thread, where Python delivers no signals, the request is simply never set.
    """
    request = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(number: int, frame: Any) -> None:
        if request.is_set():
            raise KeyboardInterrupt
        request.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def relay(notify: Notify, stop: StopRequest | None) -> Iterator[tuple[Any, Any]]:
    """Carry events out of, and a stop request into, spawned processes.

    Yields:
        `(queue, stopping)`: a queue whose `put` takes events, and a process-shared event.
    """
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    queue, stopping = context.SimpleQueue(), context.Event()
    ended = threading.Event()

    def listen() -> None:
        while (event := queue.get()) is not None:
            notify(event)

    def watch() -> None:
        while not ended.wait(0.1):
            if stop is not None and stop.is_set():
                stopping.set()

    threads = [threading.Thread(target=work, daemon=True) for work in (listen, watch)]
    for thread in threads:
        thread.start()
    try:
        yield queue, stopping
    finally:
        ended.set()
        queue.put(None)
        for thread in threads:
            thread.join()
        queue.close()

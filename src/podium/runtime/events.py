"""What a study tells while it runs, and how it is asked to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

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


class SharedRequest:
    """A stop request that other processes see. It takes no lock that a killed one could hold."""

    def __init__(self, context: Any) -> None:
        self._flag = context.RawValue("b", 0)

    def set(self) -> None:
        self._flag.value = 1

    def is_set(self) -> bool:
        return bool(self._flag.value)


@contextlib.contextmanager
def relay(
    notify: Notify, stop: StopRequest | None, processes: int
) -> Iterator[tuple[list[Any], SharedRequest]]:
    """Carry events and errors out of, and a stop request into, spawned processes.

    Args:
        notify: told of every event that a process sends.
        stop: the request to pass on.
        processes: how many there will be.

    Yields:
        `(pipes, stopping)`: for each process a pipe whose `send` takes events, or the error that
        it ends with; and the request that all of them see.

    Raises:
        BaseException: the first error that a process sent, in place of what the block raised.
    """
    import multiprocessing
    from multiprocessing.connection import wait

    context = multiprocessing.get_context("spawn")
    # one a process: they need no lock, which one that is killed would never give back
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    stopping, ended = SharedRequest(context), threading.Event()
    raised: list[BaseException] = []

    def listen() -> None:
        readers: list[Any] = [reader for reader, _ in pipes]
        while readers:
            for reader in cast("list[Any]", wait(readers)):
                try:
                    event = reader.recv()
                except (EOFError, OSError):  # all that could write have ended, one perhaps midway
                    readers.remove(reader)
                    continue
                raised.append(event) if isinstance(event, BaseException) else notify(event)

    def watch() -> None:
        while not ended.wait(0.1):
            if stop is not None and stop.is_set():
                stopping.set()

    threads = [threading.Thread(target=work, daemon=True) for work in (listen, watch)]
    for thread in threads:
        thread.start()
    try:
        yield [writer for _, writer in pipes], stopping
    finally:
        ended.set()
        for _, writer in pipes:
            writer.close()
        for thread in threads:
            thread.join()
        for reader, _ in pipes:
            reader.close()
        if raised:
            raise raised[0]

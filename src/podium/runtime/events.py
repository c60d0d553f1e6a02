"""What a study tells while it runs, and how it is asked to stop.

Whatever takes long takes a `notify`: a function that is called with one event after the other. Each
kind of event is a class of its own; a listener picks those that it wants by `isinstance` or `match`
and ignores the rest, so that new ones disturb nobody.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast


@dataclass(frozen=True)
class Event:
    """One thing that happened; what it was is its class.

    Attributes:
        contender: whose run it belongs to; None: to no run, or to a function that was called
            outside of a study.
        seed: of that run.
    """

    contender: str | None = field(default=None, kw_only=True)
    seed: int | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Message(Event):
    """Something that the user should know.

    Examples:
        >>> Message("keeps the features of 99 images").text
        'keeps the features of 99 images'
    """

    text: str


@dataclass(frozen=True)
class WarningMessage(Message):
    """Something that is not as it was asked for; what goes on is said, too."""


@dataclass(frozen=True)
class Progress(Event):
    """How far something is that takes long.

    Attributes:
        what: a word or two for a display, such as `files` or `test`.
        done: of `total`, from 0 to it; never falls within one piece of work.
        total: how many there are.

    Examples:
        >>> step = Progress("files", 50, 200)
        >>> f"{step.what}: {step.done / step.total:.0%}"
        'files: 25%'
    """

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class IndexProgress(Progress):
    """Files that were read and checked."""


@dataclass(frozen=True)
class CacheProgress(Progress):
    """Images that were decoded and kept; `what` is their size."""


@dataclass(frozen=True)
class AuditProgress(Progress):
    """The search for duplicates and wrong labels; `what` is looked at."""


@dataclass(frozen=True)
class EvaluateProgress(Progress):
    """Images that a model has seen; `what` is the split, or `features`."""


@dataclass(frozen=True)
class StudyStarted(Event):
    """The images and settings are sound, and the trainings begin.

    Attributes:
        runs: how many are still to do.
        cost: of all of them, in millions of pixels.
    """

    runs: int
    cost: int


@dataclass(frozen=True)
class RunEvent(Event):
    """Something that happened in one run; several may be under way at a time.

    Attributes:
        contender: its key in the study.
        seed: of the run.
    """

    contender: str = field(kw_only=True)
    seed: int = field(kw_only=True)


@dataclass(frozen=True)
class RunStarted(RunEvent):
    """A run is taken up, from its beginning or from where it was left.

    Attributes:
        title: the contender's label, with the seed where there are several.
        epochs: that it has at most.
        cost: in millions of pixels; see `StudyStarted`.
    """

    title: str
    epochs: int
    cost: int


@dataclass(frozen=True)
class TrainingStarted(RunEvent):
    """The training begins or goes on; it comes again where a run must begin anew from its state.

    Attributes:
        rows: of the history, see `podium.runs.folder.HISTORY_COLUMNS`: of the epochs that are done.
    """

    rows: tuple[Mapping[str, float], ...]


@dataclass(frozen=True)
class EpochStarted(RunEvent):
    """An epoch begins, or goes on where it was interrupted.

    Attributes:
        epoch: from 1.
        step: steps that are done already.
        steps: of the epoch.
    """

    epoch: int
    step: int
    steps: int


@dataclass(frozen=True)
class BatchDone(RunEvent):
    """A step was taken; on a GPU only every 20th is told.

    Attributes:
        epoch: from 1.
        step: from 1.
        steps: of the epoch.
        loss: mean training loss of the epoch so far, nats.
    """

    epoch: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class EpochDone(RunEvent):
    """An epoch is trained, validated and saved.

    Attributes:
        epochs: that the run has at most.
        row: the new row of the history; see `podium.runs.folder.HISTORY_COLUMNS`.
    """

    epochs: int
    row: Mapping[str, float]


@dataclass(frozen=True)
class RunDone(RunEvent):
    """A run is finished: its folder holds everything.

    Attributes:
        title: as in `RunStarted`.
        scores: `valid_accuracy` and `test_accuracy` of the best epoch, 0 to 1.
    """

    title: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class RunFailed(RunEvent):
    """A run was not finished; the others go on.

    Attributes:
        title: as in `RunStarted`.
        message: why, and what to do.
    """

    title: str
    message: str

    @property
    def text(self) -> str:
        """A sentence for the user."""
        return f"{self.title} was not run to its end. {self.message}"


Notify = Callable[[Event], None]
"""What listens: called with one event after the other, and by one thread at a time."""


def silent(event: Event) -> None:
    """A `Notify` that tells nobody."""


def of_run(notify: Notify, contender: str, seed: int) -> Notify:
    """A `Notify` for what belongs to a run: every event that it passes on names the run.

    Args:
        notify: the one to pass events on to.
        contender: of the run.
        seed: of the run.
    """
    return lambda event: notify(replace(event, contender=contender, seed=seed))


def of_part(notify: Notify, before: int, total: int) -> Notify:
    """A `Notify` for a part of some work: its progress is passed on as that of the whole.

    Args:
        notify: the one to pass events on to.
        before: what was done before this part began.
        total: of all parts.

    Examples:
        >>> tell = of_part(print, before=100, total=300)
        >>> tell(Progress("files", 50, 200))
        Progress(contender=None, seed=None, what='files', done=150, total=300)
    """

    def tell(event: Event) -> None:
        if isinstance(event, Progress):
            event = replace(event, done=before + event.done, total=total)
        notify(event)

    return tell


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

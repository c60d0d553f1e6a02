"""Events that a study sends while it runs, and requests to stop it.

Long-running functions take a `notify`: a function that is called with one event at a time. Each
kind of event is a class; a listener selects those that it wants by `isinstance` or `match` and
ignores the rest, so that new kinds break no listener.
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
    """Base class of all events; the class tells what happened.

    Attributes:
        contender: of the run that the event belongs to; None: no run, or not within a study.
        seed: seed of that run; None: it belongs to no run.
        fold: of that run with cross-validation, from 0; None: as a whole.

    Examples:
        >>> event = Message("decoding", contender="small", seed=0)
        >>> isinstance(event, Event), event.contender
        (True, 'small')
    """

    contender: str | None = field(default=None, kw_only=True)
    seed: int | None = field(default=None, kw_only=True)
    fold: int | None = field(default=None, kw_only=True)

    @property
    def cell(self) -> tuple[str | None, int | None, int | None]:
        """The run, or the fold of one, that the event belongs to."""
        return self.contender, self.seed, self.fold


@dataclass(frozen=True)
class Message(Event):
    """Information for the user.

    Examples:
        >>> Message("keeps the features of 99 images").text
        'keeps the features of 99 images'
    """

    text: str


@dataclass(frozen=True)
class WarningMessage(Message):
    """Something is not as requested; the text also says how the run continues.

    Examples:
        >>> WarningMessage("left out, unreadable: cat/1.jpg").text
        'left out, unreadable: cat/1.jpg'
    """


@dataclass(frozen=True)
class Progress(Event):
    """Progress of a long task.

    Attributes:
        what: a word or two for a display, such as `files` or `test`.
        done: from 0 to `total`; never decreases within one task.
        total: number of units of the task.

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
    """Images that were decoded and cached; `what` gives their size."""


@dataclass(frozen=True)
class AuditProgress(Progress):
    """The search for duplicates and wrong labels; `what` is the current step."""


@dataclass(frozen=True)
class EvaluateProgress(Progress):
    """Images that a model has processed; `what` is the split, or `features`."""


@dataclass(frozen=True)
class StudyStarted(Event):
    """The images and settings are valid, and the training of the study begins.

    Attributes:
        runs: number of runs still to do.
        cost: cost of all of them, in millions of pixels.

    Examples:
        >>> StudyStarted(runs=5, cost=1200).runs
        5
    """

    runs: int
    cost: int


@dataclass(frozen=True)
class RunEvent(Event):
    """Base class of events of one run; several runs may be in progress at a time.

    Attributes:
        contender: key of the run's contender in the study.
        seed: seed of the run.

    Examples:
        >>> event = EpochDone(epochs=2, row={"epoch": 1.0}, contender="small", seed=0)
        >>> isinstance(event, RunEvent), event.contender, event.seed
        (True, 'small', 0)
    """

    contender: str = field(kw_only=True)
    seed: int = field(kw_only=True)


@dataclass(frozen=True)
class RunStarted(RunEvent):
    """A run starts, or is resumed.

    Attributes:
        title: the contender's label, with the seed if the study has several.
        epochs: the most epochs that the run can have.
        cost: pixels to train on over all epochs, in millions.

    Examples:
        >>> RunStarted("Small", epochs=8, cost=240, contender="small", seed=0).title
        'Small'
    """

    title: str
    epochs: int
    cost: int


@dataclass(frozen=True)
class TrainingStarted(RunEvent):
    """The training starts or is resumed; sent again if a run must restart from its saved state.

    Attributes:
        rows: rows of the history for the finished epochs, with the columns
            `podium.runs.folder.HISTORY_COLUMNS`.

    Examples:
        >>> TrainingStarted(rows=(), contender="small", seed=0).rows
        ()
    """

    rows: tuple[Mapping[str, float], ...]


@dataclass(frozen=True)
class EpochStarted(RunEvent):
    """An epoch starts, or is resumed where it was interrupted.

    Attributes:
        epoch: number of the epoch, from 1.
        step: number of steps already done.
        steps: number of steps in the epoch.

    Examples:
        >>> event = EpochStarted(epoch=1, step=0, steps=94, contender="small", seed=0)
        >>> event.steps - event.step
        94
    """

    epoch: int
    step: int
    steps: int


@dataclass(frozen=True)
class BatchDone(RunEvent):
    """A training step was done; on a GPU only every 20th step is reported.

    Attributes:
        epoch: number of the epoch, from 1.
        step: number of the step, from 1.
        steps: number of steps in the epoch.
        loss: mean training loss of the epoch so far, nats.

    Examples:
        >>> BatchDone(epoch=1, step=3, steps=94, loss=2.3, contender="small", seed=0).loss
        2.3
    """

    epoch: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class EpochDone(RunEvent):
    """An epoch was trained, validated and saved.

    Attributes:
        epochs: the most epochs that the run can have.
        row: the new row of the history; columns: `podium.runs.folder.HISTORY_COLUMNS`.

    Examples:
        >>> EpochDone(epochs=8, row={"epoch": 1.0}, contender="small", seed=0).row["epoch"]
        1.0
    """

    epochs: int
    row: Mapping[str, float]


@dataclass(frozen=True)
class RunDone(RunEvent):
    """A run is finished, and its folder is complete.

    Attributes:
        title: the contender's label, with the seed if the study has several.
        scores: `valid_accuracy` and `test_accuracy` (no trial has it), 0 to 1; empty: it failed.
        folds: their number; None: the scores are one model's.

    Examples:
        >>> RunDone("Small", {"test_accuracy": 0.7}, contender="small", seed=0).title
        'Small'
    """

    title: str
    scores: Mapping[str, float]
    folds: int | None = None


@dataclass(frozen=True)
class RunFailed(RunEvent):
    """A run did not finish; the others continue.

    Attributes:
        title: the contender's label, with the seed if the study has several.
        message: why it failed, and what to do.

    Examples:
        >>> RunFailed("Small", "The loss is not finite.", contender="small", seed=0).text
        'Small did not finish. The loss is not finite.'
    """

    title: str
    message: str

    @property
    def text(self) -> str:
        """One or more sentences for the user."""
        return f"{self.title} did not finish. {self.message}"


Notify = Callable[[Event], None]
"""A listener: called with one event at a time, by one thread at a time."""


def silent(event: Event) -> None:
    """A `Notify` that ignores every event.

    Args:
        event: ignored.
    """


def of_run(notify: Notify, contender: str, seed: int, fold: int | None = None) -> Notify:
    """A `Notify` that adds the run to every event that it passes on.

    Args:
        notify: receives the events.
        contender: contender of the run.
        seed: seed of the run.
        fold: of the run; None: as a whole.
    """
    return lambda event: notify(replace(event, contender=contender, seed=seed, fold=fold))


def of_part(notify: Notify, before: int, total: int) -> Notify:
    """A `Notify` for a part of a task: passes on its progress as that of the whole task.

    Args:
        notify: receives the events.
        before: units done before this part.
        total: units of all parts together.

    Examples:
        >>> tell = of_part(print, before=100, total=300)
        >>> tell(Progress("files", 50, 200))
        Progress(contender=None, seed=None, fold=None, what='files', done=150, total=300)
    """

    def tell(event: Event) -> None:
        if isinstance(event, Progress):
            event = replace(event, done=before + event.done, total=total)
        notify(event)

    return tell


class StopRequest(Protocol):
    """Like `threading.Event`: set when the run should save its state and end."""

    def is_set(self) -> bool: ...


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C (or SIGTERM) into a stop request; a second one interrupts at once.

    Outside the main thread, where Python delivers no signals, the request is never set.
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
    """A stop request shared between processes. It uses no lock that a killed process could hold."""

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
    """Carry events and errors out of spawned processes, and a stop request into them.

    Args:
        notify: called with every event that a process sends.
        stop: the request to pass on; None: there is none.
        processes: number of processes.

    Yields:
        `(pipes, stopping)`: for each process a pipe whose `send` takes events, or the error that
        ended the process; and the request that all of them see.

    Raises:
        BaseException: the first error that a process sent, in place of what the block raised.
    """
    import multiprocessing
    from multiprocessing.connection import wait

    context = multiprocessing.get_context("spawn")
    # one per process: no lock, which a killed process would never release
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    stopping, ended = SharedRequest(context), threading.Event()
    raised: list[BaseException] = []

    def listen() -> None:
        readers: list[Any] = [reader for reader, _ in pipes]
        while readers:
            for reader in cast("list[Any]", wait(readers)):
                try:
                    event = reader.recv()
                except (EOFError, OSError):  # all writers have ended, perhaps midway
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

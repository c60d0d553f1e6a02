"""Who trains the cells of a study, where and in what order: in turn here, or as a user says."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, cast

from podium.config.registry import EXECUTORS, REFERENCE, allow
from podium.errors import ConfigError
from podium.study.cells import Cell
from podium.study.outcome import Outcome
from podium.study.work import Work

Offered = TypeVar("Offered")


class Executor(Protocol):
    """Trains cells: any object with this method, or a class of it that takes no arguments.

    Examples:
        >>> class Backwards:
        ...     def map(self, cells, work):
        ...         for cell in reversed(cells):
        ...             yield work.train(cell)
    """

    def map(self, cells: Sequence[Cell], work: Work) -> Iterable[Outcome]:
        """Train the cells, in any order, and give each one's outcome when it is there.

        Results do not depend on order or process: what decides is (seed, epoch, image) alone.
        A cell whose outcome is `busy` is asked for again, in a later call. A cell without an
        outcome is looked for in its folder. On a Ctrl-C, KeyboardInterrupt is to leave the
        method, after what it started has ended.

        Args:
            cells: what is to be done, in the study's order.
            work: `work.train(cell)` trains one in this process, one at a time;
                `work.command(cell)` is a command that trains it in another process or on another
                machine, after which `work.outcome(cell)` says how it ended.
        """
        ...


class Serial:
    """In this process, one after the other."""

    def map(self, cells: Sequence[Cell], work: Work) -> Iterator[Outcome]:
        for cell in cells:
            yield work.train(cell)


def register_executor(name: str) -> Callable[[Offered], Offered]:
    """Give an executor its name: a decorator for a class.

    Args:
        name: letters, digits, `_`, `-` and `.`; what `--executor` and `Machine.executor` take.

    Raises:
        ConfigError: the name is one of Podium's, or what is decorated is no executor.

    Examples:
        >>> import podium
        >>> @podium.register_executor("backwards")
        ... class Backwards:
        ...     def map(self, cells, work):
        ...         for cell in reversed(cells):
        ...             yield work.train(cell)
        >>> podium.Machine(executor="backwards").executor
        'backwards'
    """

    def register(offered: Offered) -> Offered:
        EXECUTORS.register(name, _executor(name, offered), offered)
        return offered

    return register


def executor_named(name: str) -> Executor:
    """What a machine's setting stands for; a module of the user's that it names is imported.

    The name comes from a command or a call, never from a folder.

    Raises:
        ConfigError: there is none, or it cannot be loaded.
    """
    if REFERENCE.fullmatch(name):
        allow(name.partition(":")[0])
    found: Executor = EXECUTORS[name]
    return found


def outcomes_of(executor: Executor, cells: Sequence[Cell], work: Work) -> dict[Cell, Outcome]:
    """One outcome for every cell.

    Raises:
        ConfigError: the executor gives something else than outcomes of these cells.
    """
    expected = {work.run(cell): cell for cell in cells}
    found: dict[Cell, Outcome] = {}
    with contextlib.closing(_each(executor, cells, work)) as outcomes:  # also after an error here
        for outcome in outcomes:
            if not isinstance(outcome, Outcome) or outcome.run not in expected:
                raise ConfigError(
                    f"The executor {type(executor).__qualname__} gave {outcome!r}. Expected what "
                    "work.train(cell) or work.outcome(cell) returns, of a cell that it was given."
                )
            found[expected[outcome.run]] = outcome
    return {cell: found[cell] if cell in found else work.outcome(cell) for cell in cells}


def _each(executor: Executor, cells: Sequence[Cell], work: Work) -> Generator[Outcome, None, None]:
    yield from executor.map(cells, work)


def _executor(name: str, offered: Any) -> Executor:
    """What a user offers as an executor."""
    try:
        made = offered() if inspect.isclass(offered) else offered
    except Exception as error:
        raise ConfigError(
            f"executor {name}: {offered.__qualname__}() failed ({type(error).__name__}: {error}). "
            "Expected a class that takes no arguments, or an object."
        ) from error
    if not callable(getattr(made, "map", None)):
        raise ConfigError(
            f"executor {name}: expected a class or an object with a method map(cells, work), as "
            f"podium.Executor describes it, got {offered!r}."
        )
    return cast(Executor, made)


EXECUTORS.convert = _executor
EXECUTORS.register("serial", Serial())

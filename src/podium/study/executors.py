"""Executors: what trains the cells of a study, where and in what order."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, cast

from podium.config.registry import EXECUTORS, REFERENCE, allow
from podium.errors import ConfigError
from podium.study.cells import Cell
from podium.study.engines.local import Local
from podium.study.engines.ray_cluster import Ray
from podium.study.engines.slurm import Slurm
from podium.study.outcome import Outcome
from podium.study.work import Work

Offered = TypeVar("Offered")


class Executor(Protocol):
    """Trains cells: any object with this method, or a class with it that takes no arguments.

    Examples:
        >>> class Backwards:
        ...     def map(self, cells, work):
        ...         for cell in reversed(cells):
        ...             yield work.train(cell)
    """

    def map(self, cells: Sequence[Cell], work: Work) -> Iterable[Outcome]:
        """Train the cells, in any order, and yield the outcome of each when it is available.

        Results do not depend on order or process, only on (seed, epoch, image). A cell whose
        outcome is `busy` is passed again in a later call. For a cell without an outcome, the
        study reads its folder. On Ctrl-C, KeyboardInterrupt must leave the method after
        everything that it started has ended.

        Args:
            cells: the cells to train, in the study's order.
            work: `work.train(cell)` trains one cell at a time in this process;
                `work.command(cell)` is a command that trains it in another process or on another
                machine, after which `work.outcome(cell)` gives its outcome.

        Returns:
            One outcome per cell, in any order.
        """
        ...


class Serial:
    """Trains the cells in this process, one after the other."""

    def map(self, cells: Sequence[Cell], work: Work) -> Iterator[Outcome]:
        for cell in cells:
            yield work.train(cell)


def register_executor(name: str) -> Callable[[Offered], Offered]:
    """A decorator that registers an executor class under a name.

    Args:
        name: letters, digits, `_`, `-` and `.`; a value for `--executor` and `Machine.executor`.

    Returns:
        The decorator; it returns the class unchanged.

    Raises:
        ConfigError: the name is one of Podium's, or the decorated object is not an executor.

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
    """The executor that a machine's setting names; a user's module named there is imported.

    The name comes from a command or a call, never from a folder.

    Args:
        name: a registered name, or `module:name`.

    Raises:
        ConfigError: there is no such executor, or it cannot be loaded.
    """
    if REFERENCE.fullmatch(name):
        allow(name.partition(":")[0])
    found: Executor = EXECUTORS[name]
    return found


def outcomes_of(executor: Executor, cells: Sequence[Cell], work: Work) -> dict[Cell, Outcome]:
    """Run an executor and return one outcome for every cell.

    Args:
        executor: trains the cells.
        cells: the cells to train.
        work: passed to the executor; reads the outcome of cells that it leaves out.

    Raises:
        ConfigError: the executor yields something other than outcomes of these cells.
    """
    expected = {work.run(cell): cell for cell in cells}
    found: dict[Cell, Outcome] = {}
    with contextlib.closing(_each(executor, cells, work)) as outcomes:  # also after an error here
        for outcome in outcomes:
            if not isinstance(outcome, Outcome) or outcome.run not in expected:
                raise ConfigError(
                    f"The executor {type(executor).__qualname__} gave {outcome!r}. Expected the "
                    "result of work.train(cell) or work.outcome(cell) for one of its cells."
                )
            found[expected[outcome.run]] = outcome
    return {cell: found[cell] if cell in found else work.outcome(cell) for cell in cells}


def _each(executor: Executor, cells: Sequence[Cell], work: Work) -> Generator[Outcome, None, None]:
    yield from executor.map(cells, work)


def _executor(name: str, offered: Any) -> Executor:
    """Convert what a user registers to an executor."""
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
            f"described by podium.Executor; got {offered!r}."
        )
    return cast(Executor, made)


EXECUTORS.convert = _executor
EXECUTORS.register("serial", Serial())
EXECUTORS.register("local", Local())
EXECUTORS.register("ray", Ray())
EXECUTORS.register("slurm", Slurm())

"""Processes of cells on this machine: begun, waited for, and ended with all that they began."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator

from podium.study.engines.driver import Task


def start(task: Task, **variables: str) -> subprocess.Popen[bytes]:
    """Start the process of a task, with the Python that this process runs on.

    Args:
        task: the process.
        variables: of its environment, besides this machine's and the task's.
    """
    with open(task.output, "ab") as output:
        return subprocess.Popen(
            [sys.executable, *task.command[1:]],
            cwd=task.folder,
            env={**os.environ, **task.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C is the driver's, a warning of Slurm the job's
        )


@contextlib.contextmanager
def running(task: Task, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """The process of a task; it is killed at the end if it has not ended.

    Args:
        task: the process.
        variables: of its environment, besides this machine's and the task's.
    """
    process = start(task, **variables)
    try:
        yield process
    finally:
        kill_with_children([process])


def kill_with_children(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Kill processes of cells, and those that decode for them.

    Args:
        processes: the processes; some may have ended.
    """
    import psutil

    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        process.kill()
        process.wait()


def ending(code: int) -> str:
    """How a process ended, from its exit code, in words.

    Args:
        code: as `subprocess` gives it: negative, the number of a signal.

    Examples:
        >>> ending(-9), ending(1)
        ('killed by SIGKILL', 'exit code 1')
    """
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"

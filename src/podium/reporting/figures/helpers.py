"""Draw figures on all cores with helper processes.

`multiprocessing` would import the caller's script again in every process, so the script would need
a `__main__` guard. A helper is a plain `python` that receives functions with their arguments
instead. The files are the same whichever process draws them.

Starting one helper takes 0.74 s of CPU time; with loky, which comes with scikit-learn, 1.04 s.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from podium.runtime.threads import usable_cores

Task = Callable[[], Any]

# The first argument is where this process finds its modules.
START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from podium.reporting.figures.helpers import serve; serve()"
)
MOST = 7  # a helper uses 150 MB


def helpers_that_pay(figures: int, dpi: int) -> int:
    """How many helpers to start: one per core minus one, and none for quick reports.

    Starting a helper takes 0.7 s, as long as one or two figures at 400 dpi.

    Args:
        figures: number of figures to draw.
        dpi: of the PNG figures.
    """
    if dpi < 200 or not sys.executable or getattr(sys, "frozen", False):
        return 0
    return max(0, min(usable_cores() - 1, MOST, figures // 6))


class Helpers:
    """Drawing processes; they start immediately and end with the `with` block.

    Args:
        count: how many to start.
    """

    def __init__(self, count: int) -> None:
        self.processes = []
        for _ in range(count):
            with contextlib.suppress(OSError):  # no more processes available: use those we have
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "-c", START, json.dumps(sys.path)],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL,
                    )
                )

    def __enter__(self) -> Helpers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()  # it is idle, or its result is no longer needed
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    assert pipe is not None
                    pipe.close()

    def call_all(self, tasks: Sequence[Task], tell: Callable[[int], None]) -> list[Any]:
        """Call every task, here or in a helper; returns the results in the order of the tasks.

        Tasks also start in that order: with the longest first, all processes finish at about the
        same time. A task that fails in a helper is called again here, so its error is raised.

        Args:
            tasks: functions without arguments; they and their results must be picklable.
            tell: called here from time to time with the number of finished tasks.
        """
        todo, results = deque(range(len(tasks))), dict[int, Any]()

        def drive(process: subprocess.Popen[bytes]) -> None:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(IndexError):  # no tasks are left
                while True:
                    number = todo.popleft()
                    try:
                        pickle.dump(tasks[number], process.stdin)
                        process.stdin.flush()
                        results[number] = pickle.load(process.stdout)
                    except Exception:  # the pipe is broken, or the task cannot be pickled
                        return

        threads = [
            threading.Thread(target=drive, args=(one,), daemon=True) for one in self.processes
        ]
        for thread in threads:
            thread.start()
        with contextlib.suppress(IndexError):
            while True:
                number = todo.popleft()
                results[number] = tasks[number]()
                tell(len(results))
        for thread in threads:
            thread.join()
        for number, task in enumerate(tasks):
            if number not in results:
                results[number] = task()
        return [results[number] for number in range(len(tasks))]


def serve() -> None:
    """The main loop of a helper: call received tasks until its pipe is closed or one fails."""
    from podium.runtime.imports import collection_paused

    with collection_paused():
        from podium.reporting.figures import tasks  # noqa: F401  (before the first task arrives)
        from podium.reporting.figures.style import figure_style

    given, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # a stray print must not corrupt the results
    with figure_style(), contextlib.suppress(EOFError):
        while True:
            result = pickle.load(given)()
            pickle.dump(result, answers)
            answers.flush()

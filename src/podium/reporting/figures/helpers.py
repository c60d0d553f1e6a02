"""Figures on all cores: helper processes that draw, beside the one that writes the report.

`multiprocessing` would import the caller's script again in every process, and call for a guard in
it. A helper is a plain `python` that is sent functions with their arguments instead, and draws
what this process would have drawn: the same files, whoever draws them.

Not loky, which comes with scikit-learn: to have one helper ready took 1.04 s of processor time
with it, and 0.74 s this way.
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
from types import TracebackType
from typing import Any

from podium.runtime.threads import usable_cores

Task = Callable[[], Any]

# The first argument is where this process finds its modules.
START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from podium.reporting.figures.helpers import serve; serve()"
)
MOST = 7  # a helper takes 150 MB


def helpers_that_pay(figures: int, dpi: int) -> int:
    """How many helpers to start: one a core but one, and none for what is drawn in a moment.

    A helper takes 0.7 s to start, as much as one or two figures at 400 dpi do.
    """
    if dpi < 200 or not sys.executable or getattr(sys, "frozen", False):
        return 0
    return max(0, min(usable_cores() - 1, MOST, figures // 6))


class Helpers:
    """Processes that draw. They start at once, and end with the block."""

    def __init__(self, count: int) -> None:
        self.processes = []
        for _ in range(count):
            with contextlib.suppress(OSError):  # no more processes here: draw with what there is
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self.processes:
            process.kill()  # idle by now, or nobody wants what it draws
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    assert pipe is not None
                    pipe.close()

    def call_all(self, tasks: Sequence[Task], tell: Callable[[int], None]) -> list[Any]:
        """Call every task, here or in a helper; the results in the order of the tasks.

        They are begun in that order, too: with the longest first, all end at about one time.
        What fails in a helper (or with it) is called here again, so that its error is seen.

        Args:
            tasks: functions without arguments that can be pickled, as their results can.
            tell: called here with the number of tasks that are done, now and then.
        """
        todo, results = deque(range(len(tasks))), dict[int, Any]()

        def drive(process: subprocess.Popen[bytes]) -> None:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(IndexError):  # nothing is left to do
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
    """What a helper does: call what comes in, until its pipe is closed; end at an error."""
    from podium.runtime.imports import collection_paused

    with collection_paused():
        from podium.reporting.figures import tasks  # noqa: F401  (before it is asked for)
        from podium.reporting.figures.style import figure_style

    given, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # a stray print must not get between the answers
    with figure_style(), contextlib.suppress(EOFError):
        while True:
            result = pickle.load(given)()
            pickle.dump(result, answers)
            answers.flush()

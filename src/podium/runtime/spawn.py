"""Spawned processes: which line of the program's script they would run again."""

from __future__ import annotations

import ast
import multiprocessing
import sys
import threading
from pathlib import Path
from typing import NamedTuple


class Place(NamedTuple):
    """A line of a script."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


def runs_again(start_method: str | None = None) -> Place | None:
    """Find the line of the program's script that every process started now would run again.

    A process that is not forked (Windows, macOS) imports the script that the program was started
    with, to find the functions in it. Whatever that script does outside
    `if __name__ == "__main__":` is done again there, including this call.

    Args:
        start_method: start method of the processes; None: the program's.

    Returns:
        The line; None if no line would run again: processes are forked, the line is guarded, or
        there is no script, as in a notebook.
    """
    usual = multiprocessing.get_all_start_methods()[0]  # get_start_method() would fix it
    if (start_method or multiprocessing.get_start_method(allow_none=True) or usual) == "fork":
        return None
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if getattr(main, "__file__", None) is None or (spec and spec.name.endswith(".__main__")):
        return None  # not imported again
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None and not (
        frame.f_globals is vars(main) and frame.f_code.co_name == "<module>"
    ):
        frame = frame.f_back
    if frame is None:
        return None
    place = Place(frame.f_code.co_filename, frame.f_lineno)
    try:
        tree = ast.parse(Path(place.file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    guarded = any(
        isinstance(node, ast.If)
        and node.lineno <= place.line <= (node.end_lineno or node.lineno)
        and any(isinstance(one, ast.Name) and one.id == "__name__" for one in ast.walk(node.test))
        for node in ast.walk(tree)
    )
    return None if guarded else place

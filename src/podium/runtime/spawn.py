"""Processes that are started anew: what of the program's script would run again in them."""

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
    """The line of the program's script that every process started now would run again.

    A process that is not forked (Windows, macOS) imports the script that the program began with, to
    find the functions in it. What that script does outside of `if __name__ == "__main__":` is done
    again there, this very call included.

    Args:
        start_method: of the processes; None: the program's.

    Returns:
        None where nothing is: processes are forked, the line is under the guard, or there is no
        script, as in a notebook.
    """
    usual = multiprocessing.get_all_start_methods()[0]  # asking for it would settle it
    if (start_method or multiprocessing.get_start_method(allow_none=True) or usual) == "fork":
        return None
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if getattr(main, "__file__", None) is None or (spec and spec.name.endswith(".__main__")):
        return None  # neither is imported again
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

"""Which run a path or an address stands for: one on this machine, or on the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from podium.runs import find
from podium.runs.folder import RunFolder

# one slash where a command made a path of it
_HOSTED = re.compile(r"hf:/{1,2}(?P<repo>[^@]+?)/?(?:@(?P<revision>.+))?")


def choose_run(
    path: RunFolder | str | Path, tell: Callable[[str], None] = lambda text: None
) -> RunFolder:
    """As `podium.runs.find.choose_run`; a path may also be the address of a run that was pushed.

    Args:
        path: a run, its folder, a contender's or a study's; or `hf://OWNER/NAME`, or
            `hf://OWNER/NAME@REVISION`, on the Hugging Face Hub.
        tell: called with a sentence where there was something to choose.

    Raises:
        RunFolderError: it is none of these, or holds no run that can be used.
    """
    hosted = None if isinstance(path, RunFolder) else _HOSTED.fullmatch(str(path))
    if hosted and not Path(str(path)).exists():
        from podium.deploy.find.hub import fetch_run

        return fetch_run(hosted["repo"], hosted["revision"])
    return find.choose_run(path, tell)

"""The run that a path or an address stands for: on this machine, or on the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from podium.runs import find
from podium.runs.folder import RunFolder

# one slash if a command has converted it to a path
_HOSTED = re.compile(r"hf:/{1,2}(?P<repo>[^@]+?)/?(?:@(?P<revision>.+))?")


def choose_run(
    path: RunFolder | str | Path, tell: Callable[[str], None] = lambda text: None
) -> RunFolder:
    """The run that a path or an address stands for; a pushed run is fetched first.

    Args:
        path: a run, or folder of a run, contender or study (the run with the best validation
            score); or `hf://OWNER/NAME`, or `hf://OWNER/NAME@REVISION`, on the Hugging Face Hub.
        tell: called with a sentence if there was a choice.

    Raises:
        RunFolderError: it is none of these, or holds no usable run.
    """
    hosted = None if isinstance(path, RunFolder) else _HOSTED.fullmatch(str(path))
    if hosted and not Path(str(path)).exists():
        from podium.deploy.find.hub import fetch_run

        return fetch_run(hosted["repo"], hosted["revision"])
    return find.choose_run(path, tell)

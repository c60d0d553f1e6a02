"""Which run a path names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from podium.errors import RunFolderError

if TYPE_CHECKING:
    pass
from podium.runs.folder import RunFolder


def run_folder(path: str | Path) -> RunFolder:
    """The run that `path` names: `runs/<study>/<contender>/seed-<n>`.

    Raises:
        RunFolderError: it is no run's folder, or the run has no weights yet.
    """
    folder = Path(path)
    name, _, number = folder.name.partition("-")
    run = RunFolder(folder, folder.resolve().parent.name, int(number) if number.isdigit() else 0)
    if name != "seed" or not number.isdigit() or not folder.is_dir():
        raise RunFolderError(
            f"{folder} is no run's folder: expected something like "
            "runs/sports100/simple_resnet/seed-0."
        )
    if not run.best.is_file():
        raise RunFolderError(f"{folder} holds no {run.best.name}: no epoch has ended there yet.")
    return run

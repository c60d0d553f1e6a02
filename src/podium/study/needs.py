"""What a cell needs of others before it can be run, in words where it is not there."""

from __future__ import annotations

from collections.abc import Sequence

from podium.config.text import listed
from podium.errors import ConfigError
from podium.runs.folder import StudyFolder
from podium.study.cells import Cell
from podium.study.outcome import failed_before


def missing_needs(folder: StudyFolder, cell: Cell) -> str:
    """Why a cell cannot be run yet; empty string: it can.

    Args:
        folder: the study's folder.
        cell: any cell.
    """
    missing = [one for one in cell.needs if not _is_done(folder, one)]
    if folds := [one for one in missing if one.contender == cell.contender]:
        total = sum(one.contender == cell.contender for one in cell.needs)
        names = listed([f"fold-{one.fold}" for one in folds])
        return (
            f"{len(folds)} of the {total} folds of {cell} {_are(folds)} not done ({names}); they "
            "are pooled once all are."
        )
    if not missing:
        return ""
    return f"{cell} was not made: {_told(folder, missing)}"


def refuse_without_members(folder: StudyFolder, cells: Sequence[Cell]) -> None:
    """Refuse means whose members are neither done nor asked for, before any image is read.

    Args:
        folder: the study's folder.
        cells: those that are asked for.

    Raises:
        ConfigError: there is such a mean; the message has the command that trains its members.
    """
    asked = set(cells)
    missing = {
        one: cell
        for cell in cells
        if not _is_done(folder, cell)
        for one in cell.needs
        if one not in asked and not _is_done(folder, one)
    }
    if missing:
        means = dict.fromkeys(cell.contender for cell in missing.values())
        raise ConfigError(f"--only {', '.join(means)}: {_told(folder, list(missing))}")


def _told(folder: StudyFolder, missing: Sequence[Cell]) -> str:
    """Which members are not done, why, and the command that trains them."""
    told = []
    for one in missing:
        before = failed_before(folder.run(one.contender, one.seed, one.fold))
        told.append(str(one) if before is None else f"{one} (it failed: {before.error})")
    runs = dict.fromkeys(f"--only {one.contender}/seed-{one.seed}" for one in missing)
    return (
        f"of the contenders that it averages, {listed(told, most=10)} {_are(missing)} not done. "
        f"Train {'it' if len(missing) == 1 else 'them'} first: the same `podium run` with "
        f"{' '.join(runs)}"
    )


def _is_done(folder: StudyFolder, cell: Cell) -> bool:
    return folder.run(cell.contender, cell.seed, cell.fold).is_done()


def _are(cells: Sequence[Cell]) -> str:
    return "is" if len(cells) == 1 else "are"

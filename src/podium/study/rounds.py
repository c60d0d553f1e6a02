"""The rounds of a study with `seeds: auto`: which cells it trains, and whether it goes on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from podium.config.settings import StudySpec
from podium.config.studyfile import load_study
from podium.errors import ConfigError, RunFolderError
from podium.runs.folder import StudyFolder
from podium.runs.rounds import reached_seeds
from podium.runtime.events import Message, Notify, silent
from podium.statistics.comparison import compare_table
from podium.statistics.stopping import look, with_seeds
from podium.statistics.table import read_table
from podium.study.cells import Cell, cells_of, chosen


def cells_to_run(
    folder: StudyFolder, spec: StudySpec, only: str | Iterable[str]
) -> tuple[Cell, ...]:
    """The cells that a study is to train; with `seeds: auto`, those of the rounds up to now.

    Args:
        folder: the study's folder.
        spec: the study.
        only: the only cells or contenders to train; empty: all.

    Raises:
        ConfigError: `only` names no cell, or a round is to be trained in part.
    """
    cells = cells_of(spec)
    if spec.seeds != "auto":
        return chosen(cells, only)
    if only:
        raise ConfigError(
            "--only: with seeds: auto, the contenders are compared after every round of seeds, so "
            "all are trained. To train some alone, list the seeds, as in --seed 0 --seed 1, under "
            "another --name."
        )
    seeds = reached_seeds(folder, spec)
    now = tuple(cell for cell in cells if cell.seed in seeds)
    return (*now, *next_round(folder, spec, now, silent))  # the run tells what it comes to


def refuse_listed_seeds(folder: StudyFolder, spec: StudySpec) -> None:
    """Refuse to list seeds that `seeds: auto` came to: p would no longer allow for its looks.

    Args:
        folder: the study's folder.
        spec: the study.

    Raises:
        RunFolderError: runs of the folder were trained with `seeds: auto`.
    """
    if spec.seeds == "auto" or not folder.spec.is_file():
        return
    before = load_study(folder.spec, stored=True)
    if before.seeds == "auto" and any(run.is_done() for run in folder.cells(before)):
        raise RunFolderError(
            f"{folder.path} was trained with seeds: auto, which looked at the results after each "
            "round; verdicts must go on allowing for that. Keep seeds: auto, or give the study "
            "another name (--name)."
        )


def next_round(
    folder: StudyFolder, spec: StudySpec, cells: Sequence[Cell], notify: Notify
) -> tuple[Cell, ...]:
    """The cells of one more seed; none where the study ends.

    It depends on nothing but the predictions of the rounds before, so that a study that was
    interrupted, and every process that works on it, comes to the same.

    Args:
        folder: the study's folder.
        spec: the study.
        cells: of the rounds up to now.
        notify: called with what the last of them shows.
    """
    if spec.seeds != "auto":
        return ()
    if not all(folder.run(one.contender, one.seed, one.fold).is_done() for one in cells):
        notify(Message("seeds: auto goes on once all contenders are done with these seeds"))
        return ()
    from podium.reporting.words.labels import labels
    from podium.reporting.words.look_words import look_sentence

    # another process may already be training the next round
    table = with_seeds(read_table([folder.path]), len({one.seed for one in cells}))
    found = look(table, compare_table(table, resamples=0))
    notify(Message(look_sentence(found, labels("en"))))
    if found.is_last:
        return ()
    return tuple(cell for cell in cells_of(spec) if cell.seed == found.seeds)

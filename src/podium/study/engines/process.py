"""One cell of a study that others began, trained in this process: the work of `podium cell`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import Any

from podium.config.machine import Machine
from podium.errors import ConfigError, PodiumError, StorageError
from podium.runs.folder import StudyFolder
from podium.runtime.attempt import Attempt, StaleAttemptError
from podium.runtime.event_log import EventWriter
from podium.runtime.events import Notify, RunFailed, StopRequest, silent, stop_on_signals
from podium.runtime.files import fenced
from podium.study.cells import Cell
from podium.study.engines.files import PATIENCE, START, CellFiles
from podium.study.engines.link import (
    attempt_of,
    borrowing_features,
    fetch_weights,
    naming_the_node,
)
from podium.study.images import find_images, refuse_other_images
from podium.study.outcome import Outcome
from podium.study.preflight import code_of_study, preflight, refuse_another_recipe
from podium.study.trackers.listen import Listeners
from podium.study.trackers.tracker import StudyInfo
from podium.study.work import Work, lock_of


def train_cell(
    folder: StudyFolder,
    cell: Cell,
    machine: Machine,
    notify: Notify,
    *,
    attempt: int | None = None,
) -> Outcome:
    """Train and score one cell of a study that `Study.run` has prepared.

    Args:
        folder: the study's folder.
        cell: the cell.
        machine: settings of the machine.
        notify: called with an event for every batch and epoch.
        attempt: number of the attempt, given by what started this process: then the events go to a
            file that it reads, instead of to `notify`, and it may stop or replace this attempt.
            None: the user started it.

    Returns:
        How it ended.

    Raises:
        KeyboardInterrupt: it was stopped; its state is saved.
        RunFolderError: the study was begun with other images or another recipe.
        StaleAttemptError: the cell was begun again elsewhere.
        StorageError: the folder cannot be written, or the disk is full.
    """
    files = CellFiles.of(folder, cell)
    with stop_on_signals() as asked:
        if attempt is None:
            return _train(folder, cell, machine, notify, asked, None)
        if hasattr(signal, "SIGUSR2"):  # Slurm warns each process; what started this one tells it
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        ours = attempt_of(folder, files, attempt, int(os.environ.get(START, 0)))
        ours.enter()
        with fenced(folder.path, ours.before_write):
            files.write_place(attempt)
            events = EventWriter(files.events(attempt))
            try:
                outcome = _train(folder, cell, machine, events, _Either(asked, ours), ours)
            except StaleAttemptError:
                raise
            except PodiumError as error:  # another attempt would end in the same way
                run = folder.run(cell.contender, cell.seed, cell.fold)
                who: Any = {"contender": run.contender, "seed": run.seed, "fold": run.fold}
                with contextlib.suppress(StorageError):
                    events(RunFailed(cell.title, str(error), **who))
                    files.write_outcome(attempt, Outcome(run, error=str(error)))
                raise
            files.write_outcome(attempt, outcome)
            return outcome


class _Either:
    """A stop request that is set if one of several is."""

    def __init__(self, *requests: StopRequest) -> None:
        self.requests = requests

    def is_set(self) -> bool:
        return any(request.is_set() for request in self.requests)


def _train(
    folder: StudyFolder,
    cell: Cell,
    machine: Machine,
    notify: Notify,
    stop: StopRequest,
    attempt: Attempt | None,
) -> Outcome:
    spec = folder.read_spec()
    code, alone = code_of_study(spec), lock_of(folder, notify, stop)
    run = folder.run(cell.contender, cell.seed, cell.fold)
    refuse_another_recipe(spec, run, code[cell.contender])
    if not folder.data.is_file():
        raise ConfigError(f"{folder.path} was never begun: `podium run` prepares a study first.")
    with naming_the_node(attempt, socket.gethostname()):
        # what there is to tell of them was told by what prepared the study
        index = find_images(spec.data, silent)
    refuse_other_images(folder, spec, index, started=True)
    fetch_weights(cell.contender, spec.contenders[cell.contender], attempt)
    recipes, failed = preflight(folder, spec, machine, [cell], notify)
    if cell in failed:
        return failed[cell]
    with contextlib.ExitStack() as stack:
        if attempt is None:
            listeners = stack.enter_context(Listeners(machine.tracker_names, notify))
            listeners.start(StudyInfo(spec, folder, index.classes, index.fingerprint))
            notify = listeners
        patience = 0.0 if attempt is None else PATIENCE
        work = Work(
            folder, spec, machine, index, recipes, code, alone, notify, stop, attempt, patience
        )
        stack.enter_context(borrowing_features(attempt))
        return work.train(cell)

"""One trial of a tuning: a training whose validation score is recorded. It has no test images."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from podium.__about__ import __version__
from podium.runs.folder import RunFolder
from podium.runtime.events import Notify, StopRequest, of_run
from podium.runtime.files import utc_now, write_json
from podium.statistics.scoring import find_metric
from podium.study.contender import Assignment, job_of
from podium.training.fit import fit
from podium.training.processes import DivergedError
from podium.training.schedule import best_epoch, is_finished, median_floor


def train_trial(given: Assignment, notify: Notify, stop: StopRequest) -> dict[str, float]:
    """Train a trial to its end, or to where it falls behind, and write `done.json`.

    That a loss is no longer finite is a result of the settings: the trial is finished, without a
    score. All else that can end a training, such as full memory, is a failure to try again.

    Args:
        given: what to train, on images without a test split.
        notify: called with an event for every batch and epoch.
        stop: checked after every step.

    Returns:
        `valid_accuracy` of the best epoch, 0 to 1, and the study's metric if that is another one;
        nothing if the trial failed.

    Raises:
        KeyboardInterrupt: `stop` was set; the state is saved.
        TrainingError: memory ran out.
        DataError: an image cannot be read any more.
    """
    assert not len(given.index.splits["test"])
    run, metric, why = given.run, find_metric(given.metric), ""
    try:
        notify = of_run(notify, run.contender, run.seed)
        job, _, _ = job_of(given, notify, stop)
        fit(job, notify, stop)
    except DivergedError as error:
        why = str(error)
    rows = run.read_history() if run.history.is_file() else []
    best = rows[best_epoch(rows, metric) - 1] if rows and not why else None
    ended = is_finished(given.recipe, rows, metric)
    score = None if best is None else best[metric.column]
    write_json(
        run.done,
        {
            "podium_version": __version__,
            "torch_version": torch.__version__,
            "finished_at": utc_now(),
            "state": "failed" if why else "complete" if ended else "pruned",
            "why": why,
            "score": score,
            "valid_accuracy": None if best is None else best["valid_accuracy"],
            "best_epoch": None if best is None else int(best["epoch"]),
            "epochs": len(rows),
            "seconds": round(sum(row["seconds"] for row in rows), 3),
            "metric": metric.described(),
        },
    )
    run.forget_weights()
    if best is None or score is None:
        return {}
    named = {} if metric.is_accuracy else {metric.column: score}
    return {"valid_accuracy": best["valid_accuracy"], **named}


def floor_of(earlier: Sequence[RunFolder], metric: str) -> tuple[float, ...]:
    """What a trial must reach after each epoch not to be ended early.

    Args:
        earlier: the trials of the same contender before it, all finished.
        metric: of the study.
    """
    complete = [run for run in earlier if run.read_done()["state"] == "complete"]
    return median_floor([run.read_history() for run in complete], find_metric(metric))

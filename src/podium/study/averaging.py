"""The run of a contender that is the mean of others: joined from their models, then scored once.

Nothing is trained: a run that was interrupted is made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from podium.evaluation.description import read_description
from podium.evaluation.mean import common_size, join
from podium.evaluation.trained import load_run, predict_split
from podium.runs.folder import RunFolder
from podium.runs.predictions import Predictions, SplitName
from podium.runtime.device import choose_device, choose_workers
from podium.runtime.events import Notify, StopRequest, TrainingStarted, of_run
from podium.runtime.files import read_json
from podium.study.contender import Assignment, known_of, score_once, settled
from podium.training.checkpoint import write_best
from podium.training.faults import despite_lost_workers


def average_and_score(given: Assignment, notify: Notify, stop: StopRequest) -> dict[str, float]:
    """Join the models of a mean's members, predict validation and test, write `done.json` last.

    Args:
        given: the run, with its members, which are done.
        notify: called with the progress of the predictions.
        stop: checked after every batch.

    Returns:
        `valid_accuracy` and `test_accuracy`, 0 to 1; for another metric of the study also its
        values on both splits.

    Raises:
        KeyboardInterrupt: `stop` was set.
        RunFolderError: the weights of a member are missing or damaged.
        DataError: an image cannot be read any more.
    """
    run, machine = given.run, given.machine
    notify = of_run(notify, run.contender, run.seed, run.fold)
    notify(TrainingStarted((), contender=run.contender, seed=run.seed))
    device = choose_device(machine)
    how = settled(given, device, lambda threads: ("fp32", "as all predictions"), notify)
    sizes = [read_description(member.model).image_size for member in given.members]
    write_best(run, *join(given.members, common_size(given.index, sizes)))
    # from its files: what is scored is what is used afterwards
    model = load_run(run, device.torch)

    def look(split: SplitName) -> Predictions:
        return despite_lost_workers(
            lambda workers: predict_split(
                model,
                given.index,
                split,
                device=device.torch,
                batch_size=given.recipe.batch_size,
                workers=workers,
                notify=notify,
                stop=stop,
            ),
            choose_workers(machine, device),
            given.recipe,
            notify,
        )

    def known(scored_at: str) -> dict[str, Any]:
        return {**known_of(model, device, how, scored_at), **of_members(given.members)}

    return score_once(given, look, known)


def of_members(members: Sequence[RunFolder]) -> dict[str, Any]:
    """What `done.json` says of a mean's members: what each is, and the time that all took.

    Args:
        members: the runs that are averaged, which are done.
    """
    done = [member.read_done() for member in members]
    kept = ("model", "about_model", "stood_in_for", "finished_at")
    return {
        "seconds": round(sum(one["seconds"] for one in done), 3),
        "members": [
            {
                "contender": member.contender,
                "recipe": member.read_config()["recipe"],
                "pretrained_source": read_json(member.model).get("pretrained_source"),
                **{key: one[key] for key in kept if one.get(key)},
            }
            for member, one in zip(members, done, strict=True)
        ],
    }

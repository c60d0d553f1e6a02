"""What is settled before the first cell trains, and what a study may not be gone on with."""

from __future__ import annotations

from collections.abc import Sequence

from podium.config.settings import Machine, RunSpec, StudySpec
from podium.errors import RunFolderError, WeightsUnavailableError, one_line
from podium.runs.folder import RunFolder, StudyFolder
from podium.runtime.events import Event, Notify
from podium.runtime.imports import collection_paused
from podium.runtime.lock import is_in_use
from podium.study.cells import Cell
from podium.study.outcome import Outcome, record_failure

__all__ = ["model_used", "preflight", "refuse_another_recipe", "stand_in"]


def preflight(
    folder: StudyFolder,
    spec: StudySpec,
    machine: Machine,
    todo: Sequence[Cell],
    notify: Notify,
) -> tuple[dict[str, RunSpec], dict[Cell, Outcome]]:
    """Settle what each contender trains, before hours are spent on the others.

    Args:
        folder: the study's.
        spec: the study.
        machine: what it is to run on.
        todo: the cells that are not done.
        notify: told of models that stand in for others.

    Returns:
        `(recipes, outcomes)`: of each contender the recipe as it is trained, and of each cell
        that cannot be trained its failure, which is written down.

    Raises:
        ConfigError: the machine cannot do what is asked of it.
    """
    if not todo:
        return {}, {}
    with collection_paused():
        from podium.runtime.device import choose_device
        from podium.training.tensorboard import require_tensorboard

    choose_device(machine)  # a wrong flag should end here, not once a contender
    if machine.tensorboard:
        require_tensorboard()

    settled: dict[str, RunSpec] = {}
    outcomes: dict[Cell, Outcome] = {}
    for cell in todo:
        if cell.contender in settled:
            continue
        recipe = spec.contenders[cell.contender]
        try:
            model = model_used(folder, spec, cell.contender)
            model = model or _model_at_hand(cell.contender, recipe, notify)
            settled[cell.contender] = stand_in(recipe, model)
        except WeightsUnavailableError as error:
            run = folder.run(cell.contender, cell.seed)
            outcomes[cell] = record_failure(run, error, cell.title, notify)
    return settled, outcomes


def _model_at_hand(contender: str, recipe: RunSpec, notify: Notify) -> str:
    """The recipe's model, or the one that stands in where its weights cannot be had."""
    with collection_paused():
        from podium.models import check_weights

    try:
        check_weights(
            recipe.model,
            pretrained=recipe.pretrained,
            weights=recipe.weights,
            pooling=recipe.pooling,
            image_size=recipe.image_size,
        )
        return recipe.model
    except WeightsUnavailableError:
        other = recipe.if_unavailable
        if other is None:
            raise
    check_weights(other, pretrained=True, pooling=recipe.pooling, image_size=recipe.image_size)
    notify(
        Event(
            "warning",
            f"{contender}: the weights of {recipe.model} cannot be had here, so "
            f"{other} stands in, and the report says so.",
        )
    )
    return other


def model_used(
    folder: StudyFolder, spec: StudySpec, contender: str, asking: RunFolder | None = None
) -> str | None:
    """The model that a contender's runs train; settled by its first one, kept for all seeds.

    Args:
        folder: the study's.
        spec: the study.
        contender: whose model.
        asking: the run that this process holds and has not begun.
    """
    for seed in spec.seeds:
        run = folder.run(contender, seed)
        if not run.config.is_file():
            continue
        if run.last.is_file() or (run != asking and is_in_use(run.path)):
            return str(run.read_config()["model_used"])
    return None


def stand_in(recipe: RunSpec, model: str) -> RunSpec:
    """The recipe as it is trained: with the model that was settled on."""
    return recipe.model_copy(update={"model": model, "if_unavailable": None})


def refuse_another_recipe(spec: StudySpec, run: RunFolder) -> None:
    """Refuse to go on with a run that was begun with other settings.

    Raises:
        RunFolderError: it was, or its settings cannot be read.
    """
    if not run.config.is_file():
        return
    before = run.read_config()["recipe"]
    try:
        changed = spec.contenders[run.contender].changes_from(before)
    except ValueError as error:
        raise RunFolderError(
            f"{run.config} holds settings that this Podium does not know "
            f"({one_line(error)}). Use the version that wrote it, or remove "
            "that folder to start it afresh."
        ) from None
    if changed:
        raise RunFolderError(
            f"{run.path} was begun with another recipe ({', '.join(changed)}). Nothing was "
            "changed. "
            "Give the study another name (--name), or remove that folder to start it afresh."
        )

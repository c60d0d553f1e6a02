"""What is settled before the first cell trains, and what a study may not be gone on with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from podium.config.code import changed_code, code_of
from podium.config.registry import AUGMENTATIONS, LOSSES, METRICS
from podium.config.settings import Machine, RunSpec, StudySpec
from podium.data.index import DataIndex
from podium.errors import ConfigError, RunFolderError, WeightsUnavailableError, one_line
from podium.runs.folder import RunFolder, StudyFolder
from podium.runtime.events import Notify, WarningMessage
from podium.runtime.imports import collection_paused
from podium.runtime.lock import is_in_use
from podium.study.cells import Cell
from podium.study.outcome import Outcome, record_failure


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

    choose_device(machine)  # a wrong flag should end here, not once a contender

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
        WarningMessage(
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


def refuse_another_recipe(spec: StudySpec, run: RunFolder, code: Mapping[str, str]) -> None:
    """Refuse to go on with a run that was begun with other settings, or other code.

    Args:
        spec: the study.
        run: that may have been begun.
        code: where what its recipe names comes from, as `code_of_study` says.

    Raises:
        RunFolderError: it was, or its settings cannot be read.
    """
    if not run.config.is_file():
        return
    before = run.read_config()
    try:
        changed = spec.contenders[run.contender].changes_from(before["recipe"])
    except ValueError as error:
        raise RunFolderError(
            f"{run.config} holds settings that this Podium does not know "
            f"({one_line(error)}). Use the version that wrote it, or remove "
            "that folder to start it afresh."
        ) from None
    if (metric := before.get("metric", "accuracy")) != spec.metric:
        changed = [*changed, f"metric: {metric} -> {spec.metric}"]
    if changed:
        raise RunFolderError(
            f"{run.path} was begun with another recipe ({', '.join(changed)}). Nothing was "
            "changed. "
            "Give the study another name (--name), or remove that folder to start it afresh."
        )
    if told := changed_code(before.get("code"), dict(code)):
        raise RunFolderError(
            f"{run.path} was begun with other code of {told}. Nothing was changed. Restore that "
            "code, give the study another name (--name), or remove that folder to start it afresh."
        )


def code_of_study(spec: StudySpec) -> dict[str, dict[str, str]]:
    """Contender -> setting -> where what it names comes from, of everything that is not ours.

    Raises:
        ConfigError: it cannot be loaded, or is not what the setting takes.
    """
    metric = METRICS.provenance(spec.metric)
    shared = {} if metric is None else {"metric": metric}
    return {name: shared | code_of(recipe) for name, recipe in spec.contenders.items()}


def try_out(spec: StudySpec, contenders: Iterable[str], index: DataIndex) -> None:
    """Try the metric, and augmentations and losses of the user's: no mistake costs a training.

    Raises:
        ConfigError: one cannot be used with these images; the message says what came of it.
    """
    from podium.statistics.scoring import find_metric, refuse_metric

    metric = find_metric(spec.metric)
    for split in ("valid", "test"):
        refuse_metric(metric, index.splits[split].labels, len(index.classes), split)
    for name in dict.fromkeys(contenders):
        recipe = spec.contenders[name]
        if recipe.augmentation in AUGMENTATIONS.built_in and recipe.loss in LOSSES.built_in:
            continue
        from podium.training.job import try_code

        try:
            try_code(recipe, index)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from error

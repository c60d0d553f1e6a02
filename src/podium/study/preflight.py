"""Checks before the first cell trains, and conditions under which a study cannot be resumed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from podium.config.code import changed_code, code_of, named
from podium.config.machine import Machine
from podium.config.registry import AUGMENTATIONS, LOSSES, METRICS
from podium.config.settings import RunSpec, StudySpec
from podium.config.text import listed
from podium.data.index import DataIndex
from podium.data.parts import each_index
from podium.errors import ConfigError, RunFolderError, WeightsUnavailableError, one_line
from podium.runs.folder import RunFolder, StudyFolder
from podium.runtime.events import Notify, WarningMessage, silent
from podium.runtime.files import write_text
from podium.runtime.imports import collection_paused
from podium.runtime.lock import is_in_use
from podium.study.cells import Cell
from podium.study.outcome import Outcome, record_failure


def preflight(
    folder: StudyFolder,
    spec: StudySpec,
    machine: Machine | None,
    todo: Sequence[Cell],
    notify: Notify,
) -> tuple[dict[str, RunSpec], dict[Cell, Outcome]]:
    """Settle what each contender trains, before hours are spent on the others.

    Args:
        folder: the study's folder.
        spec: the study.
        machine: settings of the machine; None: it is others that train.
        todo: the cells that are not done.
        notify: called with a warning for each model that replaces another.

    Returns:
        `(recipes, outcomes)`: the recipe of each contender as it is trained; and, for each cell
        that cannot be trained, its recorded failure.

    Raises:
        ConfigError: the machine does not support the settings, or there are no such models; the
            message names each.
    """
    if not todo:
        return {}, {}
    if machine is not None:
        with collection_paused():
            from podium.runtime.device import choose_device

        choose_device(machine)  # a wrong flag should fail here, not once per contender

    settled: dict[str, RunSpec] = {}
    wrong: dict[str, str] = {}
    outcomes: dict[Cell, Outcome] = {}
    told: set[tuple[str, int]] = set()  # runs whose failure is reported: not once per fold
    for cell in todo:
        if cell.contender in settled or cell.contender in wrong:
            continue
        recipe = spec.contenders[cell.contender]
        if recipe.mean_of:  # of models that are trained by then
            settled[cell.contender] = recipe
            continue
        try:
            model = model_used(folder, spec, cell.contender)
            model = model or _model_at_hand(cell.contender, recipe, spec.data.channels or 3, notify)
            settled[cell.contender] = stand_in(recipe, model)
        except ConfigError as error:
            wrong[cell.contender] = str(error)
        except WeightsUnavailableError as error:
            run = folder.run(cell.contender, cell.seed, cell.fold)
            heard = silent if (cell.contender, cell.seed) in told else notify
            outcomes[cell] = record_failure(run, error, cell.title, heard)
            told.add((cell.contender, cell.seed))
    if wrong:
        raise ConfigError("\n".join(f"{name}: {why}" for name, why in wrong.items()))
    return settled, outcomes


def _model_at_hand(contender: str, recipe: RunSpec, channels: int, notify: Notify) -> str:
    """The recipe's model, or its replacement if the weights are not available."""
    with collection_paused():
        from podium.models import check_weights

    try:
        check_weights(
            recipe.model,
            pretrained=recipe.pretrained,
            weights=recipe.weights,
            pooling=recipe.pooling,
            image_size=recipe.image_size,
            channels=channels,
        )
        return recipe.model
    except WeightsUnavailableError:
        other = recipe.if_unavailable
        if other is None:
            raise
    check_weights(
        other,
        pretrained=True,
        pooling=recipe.pooling,
        image_size=recipe.image_size,
        channels=channels,
    )
    notify(
        WarningMessage(
            f"{contender}: the weights of {recipe.model} are not available here, so "
            f"{other} is used instead; the report says so.",
        )
    )
    return other


def model_used(
    folder: StudyFolder, spec: StudySpec, contender: str, asking: RunFolder | None = None
) -> str | None:
    """The model that a contender's runs train: fixed by its first run, the same for all seeds.

    Args:
        folder: the study's folder.
        spec: the study.
        contender: key of the contender in the study.
        asking: the run that this process holds and has not started; None: none.

    Returns:
        Name of the model; None if no run has started yet.
    """
    for run in folder.cells(spec):
        if run.contender != contender or not run.config.is_file():
            continue
        if run.last.is_file() or (run != asking and is_in_use(run.path)):
            return str(run.read_config()["model_used"])
    return None


def begin_run(
    run: RunFolder, spec: StudySpec, code: Mapping[str, str], model_at_hand: str
) -> RunSpec:
    """Record what a run trains. Call it as the only writer of the study's folder.

    Another process may have started other seeds of the contender meanwhile: their model counts.

    Args:
        run: the run, whose folder the caller holds.
        spec: the study.
        code: setting -> provenance of the recipe's user code, from `code_of_study`.
        model_at_hand: the model to train if no other run of the contender has settled that.

    Returns:
        The recipe as it is trained.

    Raises:
        RunFolderError: the run was started with other settings or other code.
    """
    wanted = spec.contenders[run.contender]
    refuse_another_recipe(spec, run, code)
    used = model_used(run.study, spec, run.contender, asking=run)
    recipe = stand_in(wanted, used or model_at_hand)
    run.failed.unlink(missing_ok=True)
    values: dict[str, Any] = {
        "contender": run.contender,
        "seed": run.seed,
        **({} if run.fold is None else {"fold": run.fold}),
        "model_used": recipe.model,
        "metric": spec.metric,
        "recipe": wanted.model_dump(mode="json"),
    }
    if spec.data.folds and run.fold is None:
        values["final_model"] = spec.final_model
    if code:
        values["code"] = dict(code)
    write_text(run.config, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    return recipe


def stand_in(recipe: RunSpec, model: str) -> RunSpec:
    """The recipe as it is trained: with the model that is actually used."""
    return recipe.model_copy(update={"model": model, "if_unavailable": None})


def refuse_another_recipe(spec: StudySpec, run: RunFolder, code: Mapping[str, str]) -> None:
    """Refuse to resume a run that was started with other settings or other code.

    Args:
        spec: the study.
        run: the run, which may have been started.
        code: setting -> provenance of the recipe's user code, from `code_of_study`.

    Raises:
        RunFolderError: settings or code differ, or the settings cannot be read.
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
            "that folder to start again."
        ) from None
    if (metric := before.get("metric", "accuracy")) != spec.metric:
        changed = [*changed, f"metric: {metric} -> {spec.metric}"]
    made = before.get("final_model", spec.final_model)
    if run.fold is None and made != spec.final_model:
        changed = [*changed, f"final_model: {made} -> {spec.final_model}"]
    if changed:
        raise RunFolderError(
            f"{run.path} was started with another recipe ({', '.join(changed)}). Nothing was "
            "changed. "
            "Give the study another name (--name), or remove that folder to start again."
        )
    if changes := changed_code(before.get("code"), dict(code)):
        raise RunFolderError(
            f"{run.path} was started with other code of {changes}. Nothing was changed. Restore "
            "that code, give the study another name (--name), or remove that folder to start again."
        )


def refuse_other_members(folder: StudyFolder, spec: StudySpec, run: RunFolder) -> None:
    """Refuse a finished mean of models that are no longer those of its members.

    Args:
        folder: the study's folder.
        spec: the study.
        run: any run of it, or a fold.

    Raises:
        RunFolderError: a member was trained again since, or is to be.
    """
    names = spec.contenders[run.contender].mean_of
    if not names or not run.is_done():
        return
    members = run.read_done().get("members", [])
    made = {one["contender"]: one.get("finished_at") for one in members}
    others = []
    for name in names:
        member = folder.run(name, run.seed, run.fold)
        if not member.is_done() or member.read_done().get("finished_at") != made.get(name):
            others.append(str(member.path))
    if others:
        raise RunFolderError(
            f"{run.path} is the mean of models of which {listed(others)} was removed or trained "
            "again since. Nothing was changed. Remove that folder, too: the mean is made again, "
            "which trains nothing."
        )


def code_of_study(spec: StudySpec) -> dict[str, dict[str, str]]:
    """Map contender to setting to provenance, for everything that is not built in.

    Args:
        spec: the study.

    Raises:
        ConfigError: something cannot be loaded, or is not what the setting takes.
    """
    if any(
        name not in registry.built_in
        for recipe in spec.contenders.values()
        for _, registry, name in named(recipe)
    ):
        with collection_paused():  # they say what a user's object has to be
            import podium.data.transforms
            import podium.models.registry
            import podium.training.losses  # noqa: F401
    metric = METRICS.provenance(spec.metric)
    shared = {} if metric is None else {"metric": metric}
    return {name: shared | code_of(recipe) for name, recipe in spec.contenders.items()}


def try_out(spec: StudySpec, contenders: Iterable[str], index: DataIndex) -> None:
    """Try the metric and the user's augmentations, losses and class weights before a training.

    Args:
        spec: the study.
        contenders: keys of the contenders to try; may repeat.
        index: the study's images.

    Raises:
        ConfigError: one cannot be used with these images; the message gives the result.
    """
    from podium.statistics.scoring import find_metric, refuse_metric

    metric, first = find_metric(spec.metric), next(each_index(index))
    # accuracy can be computed on any images
    for part in [first] if metric.is_accuracy else each_index(index):
        for split in ("valid", "test"):
            labels = part.splits[split].labels
            if len(labels):  # trials of a tuning have no test images
                refuse_metric(metric, labels, len(index.classes), split)
    for name in dict.fromkeys(contenders):
        recipe = spec.contenders[name]
        built_in = recipe.augmentation in AUGMENTATIONS.built_in and recipe.loss in LOSSES.built_in
        if built_in and isinstance(recipe.class_weights, str):
            continue
        from podium.training.job import try_code

        try:
            try_code(recipe, first)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from error

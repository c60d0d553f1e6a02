"""The functions that mirror the command: train, evaluate, report. `Study` is in `study`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from podium.config import StudySpec
from podium.errors import ConfigError, PodiumError
from podium.events import Notify, silent
from podium.store import Predictions, RunFolder, SplitName, StudyFolder
from podium.studyfile import load_study, machine_settings

__all__ = ["evaluate", "report", "single_contender", "train"]


def single_contender(
    model: str,
    data: str | Path,
    *,
    name: str | None = None,
    seeds: Sequence[int] = (0,),
    overrides: Iterable[str] = (),
    **recipe: Any,
) -> StudySpec:
    """A study of one contender, named after its model.

    Args:
        model: a name that `podium models` lists, or any timm model.
        data: folder of images, or `sports100`, `demo`.
        name: the study's folder; empty: the model's name.
        seeds: one run each.
        overrides: further `key=value` settings of the recipe.
        recipe: settings of `RunSpec`.

    Raises:
        ConfigError: a setting is impossible; the message says which and why.
    """
    key = model.replace("/", "-").replace(":", "-")
    spec: dict[str, Any] = {
        "name": name or key,
        "data": str(data),
        "seeds": list(seeds),
        "contenders": {key: {"model": model, **recipe}},
    }
    for override in overrides:
        if "=" not in override:
            raise ConfigError(f"--set {override!r}: expected KEY=VALUE, such as mixup=0.2.")
        import yaml

        setting, _, value = override.partition("=")
        spec["contenders"][key][setting] = yaml.safe_load(value)
    return load_study(spec)


def train(
    data: str | Path,
    model: str = "simple_resnet",
    *,
    runs: str | Path = "runs",
    name: str | None = None,
    seed: int = 0,
    machine: dict[str, Any] | None = None,
    notify: Notify = silent,
    **recipe: Any,
) -> RunFolder:
    """Train one model on a folder of images and score it on the test split.

    Args:
        data: folder of images, or `sports100`, `demo`.
        model: a name that `podium models` lists, or any timm model.
        runs: folder that holds all studies.
        name: the study's folder there; empty: the model's name.
        seed: of initial weights, order, augmentation and dropout.
        machine: settings of `Machine`, such as `{"device": "cuda"}`.
        notify: told of every batch and epoch.
        recipe: settings of `RunSpec`, such as `epochs=10, augmentation="autoaugment"`.

    Returns:
        The run's folder, with its history, weights and predictions.

    Raises:
        PodiumError: the images or settings cannot be used, or the training failed.
    """
    from podium.study import Study

    recipe.setdefault("epochs", 30)
    spec = single_contender(model, data, name=name, seeds=(seed,), **recipe)
    result = Study(spec, runs=runs, machine=machine_settings(**(machine or {}))).run(notify)
    outcome = result.outcomes[0]
    if outcome.error:
        raise PodiumError(outcome.error)
    return outcome.run


def evaluate(
    run: RunFolder | str | Path,
    data: str | Path,
    *,
    split: str = "test",
    device: str = "auto",
    workers: int | None = None,
    notify: Notify = silent,
) -> Predictions:
    """Predict every image of a split with a trained run's best epoch.

    Args:
        run: a run's folder, `runs/<study>/<contender>/seed-<n>`.
        data: folder of images of the classes that the run knows, or `sports100`, `demo`.
        split: `test` or `valid`.
        device: as in `Machine`.
        workers: decoding processes; empty: from the cores.
        notify: told of the progress.

    Returns:
        Path, label and logits of every image; `podium.metrics` takes it from there.

    Raises:
        RunFolderError: there is no trained model in `run`.
        DataError: the images cannot be used, or are of other classes.
    """
    from podium.data.fetch import resolve_data
    from podium.data.index import build_index
    from podium.evaluation import load_run, predict_split, run_folder
    from podium.machine import choose_device, choose_workers

    if split not in ("test", "valid"):
        raise ConfigError(f"--split {split!r}: expected test or valid.")
    folder = run if isinstance(run, RunFolder) else run_folder(run)
    machine = machine_settings(device=device, workers=workers)
    place = choose_device(machine)
    model = load_run(folder, place.torch)
    index = build_index(resolve_data(str(data)))
    return predict_split(
        model,
        index,
        cast(SplitName, split),
        device=place.torch,
        workers=choose_workers(machine, place),
        notify=notify,
    )


def report(
    study: str | Path, *, lang: Literal["en", "pt"] = "en", out: str | Path | None = None
) -> Path:
    """Write a study's figures, tables and page from its files alone.

    Args:
        study: the study's folder, `runs/<study>`.
        lang: language of every label.
        out: folder to write to; empty: `report/` in the study's folder.

    Returns:
        The path of `index.html`.

    Raises:
        RunFolderError: the folder is no study's, or none of its runs is done.
    """
    from podium.reporting import build_report

    place = None if out is None else Path(out)
    return build_report(StudyFolder(Path(study)), lang=lang, out=place).index

"""The functions that mirror the command: train, evaluate, report. `Study` is in `study`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from podium.config.settings import StudySpec
from podium.config.studyfile import load_study, machine_settings
from podium.errors import ConfigError, PodiumError, RunFolderError
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.predictions import Predictions, SplitName
from podium.runtime.events import Message, Notify, WarningMessage, silent
from podium.runtime.files import utc_now

if TYPE_CHECKING:
    from podium.auditing import Audit
    from podium.data.index import DataIndex
    from podium.data.source import Source
    from podium.statistics.power import Plan
    from podium.statistics.table import PredictionTable
    from podium.statistics.verdicts import Verdicts


def single_contender(
    model: str,
    data: str | Path,
    *,
    name: str | None = None,
    seeds: Sequence[int] = (0,),
    overrides: Iterable[str] = (),
    metric: str = "accuracy",
    **recipe: Any,
) -> StudySpec:
    """A study of one contender, named after its model.

    Args:
        model: a name that `podium models` lists, or any timm model.
        data: folder of images, or `sports100`, `demo`.
        name: the study's folder; empty: the model's name.
        seeds: one run each.
        overrides: further `key=value` settings of the recipe.
        metric: chooses the best epoch.
        recipe: settings of `RunSpec`.

    Raises:
        ConfigError: a setting is impossible; the message says which and why.
    """
    key = model.replace("/", "-").replace(":", "-")
    spec: dict[str, Any] = {
        "name": name or key,
        "data": str(data),
        "seeds": list(seeds),
        "metric": metric,
        "contenders": {key: {"model": model, **recipe}},
    }
    return load_study(spec, overrides=overrides, below="contenders.*.")


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
        recipe: settings of `RunSpec`, such as `epochs=10`, and the study's `metric`.

    Returns:
        The run's folder, with its history, weights and predictions.

    Raises:
        PodiumError: the images or settings cannot be used, or the training failed.
    """
    from podium.study.study import Study

    recipe.setdefault("epochs", 30)
    spec = single_contender(model, data, name=name, seeds=(seed,), **recipe)
    result = Study(spec, runs=runs, machine=machine_settings(**(machine or {}))).run(notify)
    outcome = result.outcomes[0]
    if outcome.error:
        raise PodiumError(outcome.error)
    return outcome.run


def evaluate(
    run: RunFolder | str | Path,
    data: str | Path | Source,
    *,
    split: str = "test",
    device: str = "auto",
    workers: int | None = None,
    notify: Notify = silent,
) -> Predictions:
    """Predict every labelled image of a folder, or of one split of it, with a run's best epoch.

    Args:
        run: a run's folder, a contender's or a study's: its best on the validation images.
        data: folder of images of classes that the run knows, or `sports100`, `demo`, or a
            `Source`. Where it has split folders, the images of `split` are scored; where it has
            class folders alone, all of them are, but for the images that the run was trained on:
            of the very images of its study, those that the study held out for `split`.
        split: `test` or `valid`.
        device: as in `Machine`.
        workers: decoding processes; empty: from the cores.
        notify: told of the progress, and of what is left out.

    Returns:
        Path, label and logits of every image; `podium.statistics.metrics` takes it from there.

    Raises:
        RunFolderError: there is no trained model in `run`.
        DataError: the images cannot be used, or are of other classes.
    """
    from podium.data.listing import named_source
    from podium.deploy.find.choose import choose_run
    from podium.evaluation.trained import load_run, predict_split
    from podium.runtime.device import choose_device, choose_workers

    if split not in ("test", "valid"):
        raise ConfigError(f"--split {split!r}: expected test or valid.")
    folder = choose_run(run, lambda text: notify(Message(text)))
    machine = machine_settings(device=device, workers=workers)
    place = choose_device(machine)
    model = load_run(folder, place.torch)
    index = _index_to_score(folder, named_source(data), split)
    for notice in index.notices:
        notify(Message(notice))
    for path, reason in index.unreadable:
        notify(WarningMessage(f"left out, unreadable: {path} ({reason})"))
    predictions = predict_split(
        model,
        index,
        cast(SplitName, split),
        device=place.torch,
        workers=choose_workers(machine, place),
        notify=notify,
    )
    if split == "test":
        _write_down(folder, index, predictions)
    return predictions


def _index_to_score(run: RunFolder, source: Source, split: str) -> DataIndex:
    """All labelled images for a split; of the run's own data set, those that were held out for it.

    A folder without splits that a study has split itself holds training images, too: scored with
    the others, they would be taken for skill.
    """
    from podium.data.index import build_index, build_scored_index

    own = None
    try:
        spec, known = run.study.read_spec().data, run.study.read_data()
        if _may_be_own(run, source, split):
            settings = spec.model_dump(exclude={"path", "source", "options"})
            own = build_index(source, **settings)
    except (PodiumError, OSError):  # a run that was copied away from its study, or other images
        pass
    if own is not None and own.fingerprint == known.get("fingerprint"):
        return own
    return build_scored_index(source, split)


def _may_be_own(run: RunFolder, source: Source, split: str) -> bool:
    """Whether a source has the pictures that the run was scored on: else none need be read."""
    from podium.data.listing import list_images

    scored = run.predictions(cast(SplitName, split))
    if not scored.is_file():
        return True
    splits = list_images(source).splits.values()
    there = {path for classes in splits for paths in classes.values() for path in paths}
    return there.issuperset(Predictions.read(scored).paths)


def _write_down(run: RunFolder, index: DataIndex, predictions: Predictions) -> None:
    """Record the look at the test images, where the run lies in a study that can be written."""
    from podium.runs.ledger import record
    from podium.statistics.metrics import scores

    try:
        recipe = run.read_config()["recipe"]
        record(
            run,
            images=index.split_fingerprint("test"),
            n=len(predictions),
            accuracy=scores(predictions).accuracy,
            at=utc_now(),
            recipe=recipe,
            by="evaluate",
        )
    except (OSError, RunFolderError):
        return  # a run that was copied away from its study, or lies on a read-only disk


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


def compare(
    *sources: str | Path,
    split: str = "test",
    shared: bool = False,
    resamples: int = 2000,
) -> Verdicts:
    """Compare finished runs, or predictions of other tools, on the same images.

    Args:
        sources: studies', contenders' or runs' folders, or CSV files with the columns `path`,
            `label` and one of predicted class names a model (`NAME@3`: model NAME, seed 3). A
            column `group` says which images belong together.
        split: `test` or `valid`; of runs.
        shared: compare on the images that all have in common, where they differ.
        resamples: of the images, for the intervals of macro F1.

    Raises:
        RunFolderError: a folder holds no finished run.
        DataError: images or labels do not agree, or a CSV is not as described.
        ConfigError: `split` or `resamples` is impossible.
    """
    return compare_sheet(sources, split=split, shared=shared, resamples=resamples)[1]


def compare_sheet(
    sources: Iterable[str | Path], *, split: str, shared: bool, resamples: int
) -> tuple[PredictionTable, Verdicts]:
    """As `compare`, with the answers that were compared."""
    from podium.statistics.table import read_table
    from podium.statistics.verdicts import compare_contenders

    if split not in ("test", "valid"):
        raise ConfigError(f"--split {split!r}: expected test or valid.")
    if not 0 <= resamples <= 1_000_000 or resamples == 1:
        raise ConfigError(f"--resamples {resamples}: expected 0, or 2 to 1,000,000.")
    sheet = read_table(sources, split=cast(SplitName, split), shared=shared)
    return sheet, compare_contenders(sheet, resamples=resamples)


def power(
    n: int,
    difference: float,
    *,
    seeds: int = 1,
    accuracy: float = 0.85,
    disagreement: float | None = None,
    contenders: int = 2,
    target: float = 0.8,
    seed_sd: float = 0.01,
    image_share: float = 0.5,
) -> Plan:
    """What a test set of `n` images can show; all shares and differences in 0..1.

    Args:
        n: test images.
        difference: of two accuracies, that one wants to find.
        seeds: of each contender; 1: two trained models are compared.
        accuracy: about what the two reach, on average.
        disagreement: share of images that exactly one of them has right; empty: what is usual
            at that accuracy.
        contenders: of the study, all pairs of which are compared.
        target: the power that is wanted.
        seed_sd: standard deviation over seeds of the difference of two trained models.
        image_share: share of an image's variance that stays the same with other seeds.

    Raises:
        ConfigError: a value is out of range.
    """
    from podium.statistics.power import Assumptions, plan

    given = Assumptions(disagreement, accuracy, contenders, target, seed_sd, image_share)
    return plan(n, difference, seeds, given)


def audit(data: str | Path | Source, *, labels: bool = True, notify: Notify = silent) -> Audit:
    """Look for damaged and odd files, duplicates, leaks between splits, and wrong labels.

    Args:
        data: folder of images, or `sports100`, `demo`, or a `Source`.
        labels: also look for labels that are likely wrong; trains a small model on features.
        notify: told of the progress.

    Raises:
        DataError: the folder cannot be used at all.
    """
    from podium.auditing import audit_images
    from podium.data.listing import named_source

    return audit_images(named_source(data), labels=labels, notify=notify)

"""The functions that mirror the command: train, evaluate, report. `Study` is in `study`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from podium.config.settings import StudySpec
from podium.config.studyfile import load_study, machine_settings, parse_value
from podium.errors import ConfigError, PodiumError, RunFolderError
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.predictions import Predictions, SplitName
from podium.runtime.events import Message, Notify, WarningMessage, silent
from podium.runtime.files import utc_now

if TYPE_CHECKING:
    from podium.auditing import Audit
    from podium.data.index import DataIndex
    from podium.data.source import Source
    from podium.deploy.export.run import Exports
    from podium.deploy.predict.files import FilePrediction
    from podium.statistics.power import Plan
    from podium.statistics.sheet import Sheet
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
    for override in overrides:
        if "=" not in override:
            raise ConfigError(f"--set {override!r}: expected KEY=VALUE, such as mixup=0.2.")
        setting, _, value = override.partition("=")
        spec["contenders"][key][setting] = parse_value(value, f"--set {override!r}")
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
        run: a run's folder, `runs/<study>/<contender>/seed-<n>`.
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
    from podium.evaluation.trained import load_run, predict_split
    from podium.runs.find import run_folder
    from podium.runtime.device import choose_device, choose_workers

    if split not in ("test", "valid"):
        raise ConfigError(f"--split {split!r}: expected test or valid.")
    folder = run if isinstance(run, RunFolder) else run_folder(run)
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

    study = StudyFolder(run.path.resolve().parent.parent)
    try:
        spec, known = study.read_spec().data, study.read_data()
        own = build_index(
            source,
            split_seed=spec.split_seed,
            valid_fraction=spec.valid_fraction,
            test_fraction=spec.test_fraction,
            min_images=spec.min_images,
            window=spec.window,
        )
    except (PodiumError, OSError):  # a run that was copied away from its study, or other images
        own = None
    if own is not None and own.fingerprint == known.get("fingerprint"):
        return own
    return build_scored_index(source, split)


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


def predict(
    run: RunFolder | str | Path,
    paths: str | Path | Iterable[str | Path],
    *,
    top: int = 5,
    device: str = "auto",
    batch_size: int | None = None,
    gradcam: str | Path | None = None,
) -> Iterator[FilePrediction]:
    """Predict pictures with a trained run's best epoch, one after the other as they come.

    Args:
        run: a run's folder, a contender's that holds one run, a study's (its best contender on
            the validation images), an export, or the folder of a model's exports.
        paths: files, folders (all their images) or patterns such as `photos/**/*.jpg`.
        top: classes a picture, the likeliest first.
        device: as in `Machine`.
        batch_size: pictures that are run at a time; empty: what is fast.
        gradcam: folder for a heat map over each picture, of the class that is predicted.

    Returns:
        A `FilePrediction` for every picture. One that cannot be read has an `error` in place of
        guesses, and does not stop the others.

    Raises:
        RunFolderError: there is no trained model in `run`.
        ConfigError: `top` or `batch_size` is no count, or an export has no map to show.
        DataError: there is no picture at all; raised once all paths were looked at.
    """
    from podium.deploy.predict.files import predictions

    return predictions(run, paths, top, device, batch_size, gradcam)[0]


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
) -> tuple[Sheet, Verdicts]:
    """As `compare`, with the answers that were compared."""
    from podium.statistics.sheet import read_sheet
    from podium.statistics.verdicts import judge

    if split not in ("test", "valid"):
        raise ConfigError(f"--split {split!r}: expected test or valid.")
    if not 0 <= resamples <= 1_000_000 or resamples == 1:
        raise ConfigError(f"--resamples {resamples}: expected 0, or 2 to 1,000,000.")
    sheet = read_sheet(sources, split=cast(SplitName, split), shared=shared)
    return sheet, judge(sheet, resamples=resamples)


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


def export(
    run: RunFolder | str | Path,
    formats: Sequence[str] = ("onnx",),
    *,
    int8: bool = False,
    precision: str = "fp32",
    calibration: str | Path | None = None,
    data: str | Path | None = None,
    to: str | Path | None = None,
    rounds: int = 5,
    notify: Notify = silent,
) -> Exports:
    """Export a run's best epoch to files for other programs, each checked before it is kept.

    Args:
        run: a run's folder, `runs/<study>/<contender>/seed-<n>`.
        formats: of onnx, torchscript (which PyTorch calls deprecated), pt2 and openvino.
        int8: quantise to 8 bits; onnx and openvino alone.
        precision: fp32 or bf16, in which an OpenVINO export runs unless told otherwise.
        calibration: folder of images for int8; empty: the study's training images.
        data: folder of images to check on; empty: the study's validation images.
        to: folder to write to; empty: `export/` in the run's folder.
        rounds: of the measurement of speed; 0: none.
        notify: told what is being done.

    Returns:
        Path, size, agreement and speed of each; `podium.load_exported` opens one.

    Raises:
        ExportError: an export does not agree with its model; no file of it is left.
        ConfigError: a setting is impossible, a library is missing, or there are no images.
        RunFolderError: there is no trained model in `run`.
    """
    from podium.deploy.export.run import export_run

    return export_run(
        run,
        formats,
        int8=int8,
        precision=precision,
        calibration=calibration,
        data=data,
        to=to,
        rounds=rounds,
        notify=notify,
    )

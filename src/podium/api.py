"""The functions that mirror the command: train, evaluate, predict, report, compare, and so on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from podium.config.data_settings import DataSpec
from podium.config.settings import StudySpec
from podium.config.studyfile import load_study, machine_settings
from podium.errors import ConfigError, PodiumError
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.predictions import Predictions, SplitName
from podium.runtime.events import Message, Notify, WarningMessage, silent

if TYPE_CHECKING:
    from podium.auditing import Audit
    from podium.data.source import Source
    from podium.deploy.predict.look import FilePrediction
    from podium.statistics.power import Plan
    from podium.statistics.verdicts import Verdicts


def single_contender(
    model: str,
    data: str | Path | Mapping[str, Any],
    *,
    name: str | None = None,
    seeds: Sequence[int] = (0,),
    overrides: Iterable[str] = (),
    metric: str = "accuracy",
    **recipe: Any,
) -> StudySpec:
    """Build a study of one contender, named after its model.

    Args:
        model: a name that `podium models` lists, or any timm model.
        data: folder or table of images, or `sports100`, `demo`; or a mapping of `DataSpec`.
        name: name of the study's folder; None: the model's name.
        seeds: one run per seed.
        overrides: further `key=value` settings of the recipe.
        metric: chooses the best epoch.
        recipe: settings of `RunSpec`.

    Raises:
        ConfigError: a setting is invalid; the message names it and the reason.
    """
    key = model.replace("/", "-").replace(":", "-")
    spec: dict[str, Any] = {
        "name": name or key,
        "data": dict(data) if isinstance(data, Mapping) else data,
        "seeds": list(seeds),
        "metric": metric,
        "contenders": {key: {"model": model, **recipe}},
    }
    return load_study(spec, overrides=overrides, below="contenders.*.")


def train(
    data: str | Path | Mapping[str, Any],
    model: str = "simple_resnet",
    *,
    runs: str | Path = "runs",
    name: str | None = None,
    seed: int = 0,
    machine: dict[str, Any] | None = None,
    notify: Notify = silent,
    **recipe: Any,
) -> RunFolder:
    """Train one model on a folder or table of images and score it on the test split.

    Args:
        data: folder or table of images, or `sports100`, `demo`; or a mapping that also says how
            to read them, such as `{"path": "photos.csv", "label": "species"}`.
        model: a name that `podium models` lists, or any timm model.
        runs: folder that holds all studies.
        name: name of the study's folder in `runs`; None: the model's name.
        seed: seed of the initial weights, the order of images, augmentation and dropout.
        machine: settings of `Machine`, such as `{"device": "cuda"}`.
        notify: called with an event for every batch and epoch.
        recipe: settings of `RunSpec`, such as `epochs=10`, and the study's `metric`.

    Returns:
        The run's folder, with its history, weights and predictions.

    Raises:
        PodiumError: the images or settings cannot be used, or the training failed.

    Examples:
        Settings are checked before any image is read:

        >>> import podium
        >>> try:
        ...     podium.train("my-images", epochs=0)
        ... except podium.ConfigError as error:
        ...     print(error)
        study: 1 setting is wrong.
          contenders.simple_resnet.epochs: expected greater than or equal to 1; got 0.
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
    data: str | Path | DataSpec | Source,
    *,
    split: str = "test",
    device: str = "auto",
    workers: int | None = None,
    notify: Notify = silent,
) -> Predictions:
    """Predict the labelled images of a folder, or of one of its splits, with a run's best epoch.

    Args:
        run: folder of a run, or of a contender or study: the run with the best validation score.
        data: folder of images of classes that the run knows, or `sports100`, `demo`, or a
            `DataSpec` or `Source`. If it has split folders, the images of `split` are scored. If it
            has only class folders, all images are scored but those that the study trained or (for
            `test`) validated on.
        split: `test` or `valid`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        workers: number of decoding processes; None: chosen from the number of cores.
        notify: called with progress, and with a message for each image that is left out.

    Returns:
        Path, label and logits of every image, as input for `podium.statistics.metrics`.

    Raises:
        RunFolderError: `run` holds no trained model.
        DataError: the images cannot be used, or belong to other classes.

    Examples:
        >>> import podium
        >>> podium.evaluate("runs/my-study", "my-images", split="train")
        Traceback (most recent call last):
        ...
        podium.errors.ConfigError: --split 'train': expected test or valid.
    """
    from podium.data.listing import named_source
    from podium.deploy.find.choose import choose_run
    from podium.deploy.scored import index_to_score, write_down
    from podium.evaluation.trained import load_run, predict_split
    from podium.runtime.device import choose_device, choose_workers

    if split not in ("test", "valid"):
        raise ConfigError(f"--split {split!r}: expected test or valid.")
    folder = choose_run(run, lambda text: notify(Message(text)))
    machine = machine_settings(device=device, workers=workers)
    place = choose_device(machine)
    model = load_run(folder, place.torch)
    channels = model.windows.channels
    part = cast(SplitName, split)
    index = index_to_score(folder, named_source(data, channels), part, channels, notify)
    for notice in index.notices:
        notify(Message(notice))
    for path, reason in index.unreadable:
        notify(WarningMessage(f"left out, unreadable: {path} ({reason})"))
    predictions = predict_split(
        model,
        index,
        part,
        device=place.torch,
        workers=choose_workers(machine, place),
        notify=notify,
    )
    if split == "test":
        write_down(folder, index, predictions)
    return predictions


def predict(
    run: RunFolder | str | Path,
    paths: str | Path | Iterable[str | Path],
    *,
    top: int = 5,
    device: str = "auto",
    batch_size: int | None = None,
    gradcam: str | Path | None = None,
    coverage: float | None = None,
    by_class: bool = False,
    keep: float | None = None,
    on: str = "serial",
    cpus: int | None = None,
    gpus: float | None = None,
    insecure: bool = False,
) -> Iterator[FilePrediction]:
    """Predict images with a trained run's best epoch, one after the other, as they are read.

    Args:
        run: folder of a run, or of a contender or study (the run with the best validation score),
            the `hf://` address of a pushed run, an export, or a folder of a model's exports.
        paths: files, folders (all their images), patterns such as `photos/**/*.jpg`, packs, or
            addresses such as `s3://bucket/photos`.
        top: classes per image, the most likely first.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        batch_size: images per batch; None: a fast size, chosen automatically.
        gradcam: folder for a heat map over each image, for the predicted class; None: no maps.
        coverage: probability that an image's set of classes contains the true one, 0.5 to below 1,
            promised from the validation images; None: no sets.
        by_class: promise it for the images of each class, not only for all together.
        keep: share of images like the validation images, 0.5 to below 1, that are not called "none
            of these": images less similar to training images than all but these; None: none is.
        on: what computes: `serial`, this process; `ray` or `ray:HOST:PORT`, a Ray cluster, which
            is left when the last prediction was taken, or the iterator is closed.
        cpus: cores of a Ray task; None: all of a node.
        gpus: GPUs of a Ray task; None: one where there are any.
        insecure: use a Ray cluster that has no token.

    Returns:
        A `FilePrediction` per image. An image that cannot be read has an `error` instead of
        guesses, and does not stop the others.

    Raises:
        RunFolderError: `run` holds no trained model.
        ConfigError: `top` or `batch_size` is less than 1, heat maps are requested of an export or
            a cluster, the validation images are too few to promise the coverage, or the cluster
            cannot be used.
        DataError: there are no images at all; raised after all paths were searched.

    Examples:
        >>> import podium
        >>> podium.predict("runs/my-study", ["photo.jpg"], top=0)
        Traceback (most recent call last):
        ...
        podium.errors.ConfigError: top: expected 1 or more, got 0.
        >>> podium.predict("runs/my-study", "photos", on="slurm")
        Traceback (most recent call last):
        ...
        podium.errors.ConfigError: --on slurm: expected serial (this machine), ray or ray:HOST:PORT.
    """
    from podium.deploy.predict.files import predictions
    from podium.deploy.sets import Wanted
    from podium.study.engines.ray_parts import parts_named

    wanted = Wanted.of(coverage, by_class, keep)
    with contextlib.ExitStack() as stack:
        parts = stack.enter_context(
            parts_named(on, device=device, cpus=cpus, gpus=gpus, insecure=insecure)
        )
        found, _, _ = predictions(run, paths, top, device, batch_size, gradcam, wanted, parts=parts)
        stack.enter_context(contextlib.closing(found))
        lasting = _with(stack.pop_all(), found)
    next(lasting)
    return lasting


def _with(held: contextlib.ExitStack, found: Iterator[FilePrediction]) -> Iterator[Any]:
    """First None, so that what is held is let go also if nobody asks for a prediction."""
    with held:
        yield None
        yield from found


def report(
    study: str | Path, *, lang: Literal["en", "pt"] = "en", out: str | Path | None = None
) -> Path:
    """Write a study's figures, tables and page, from its files only.

    Args:
        study: folder of the study, `runs/<study>`.
        lang: language of all labels.
        out: folder to write to; None: `report/` in the study's folder.

    Returns:
        The path of `index.html`.

    Raises:
        RunFolderError: `study` is not a study folder, or none of its runs is finished.

    Examples:
        >>> import podium
        >>> podium.report("no-such-study")
        Traceback (most recent call last):
        ...
        podium.errors.RunFolderError: no-such-study ...
    """
    from podium.reporting import build_report

    place = None if out is None else Path(out)
    return build_report(StudyFolder(Path(study)), lang=lang, out=place).index


def compare(
    *sources: str | Path,
    split: str = "test",
    shared: bool = False,
    resamples: int = 2000,
    margin: float | None = None,
) -> Verdicts:
    r"""Compare finished runs, or predictions of other tools, on the same images.

    Args:
        sources: folders of studies, contenders or runs, or CSV files with the columns `path`,
            `label` and one column of predicted class names per model (`NAME@3`: model NAME,
            seed 3). A column `group` states which images belong together.
        split: split of the runs to compare on, `test` or `valid`.
        shared: compare on the images that all sources have in common, if they differ.
        resamples: number of bootstrap resamples of the images for the intervals of macro F1;
            0: no intervals.
        margin: contenders that differ by less count as equivalent: in points for accuracy and
            other shares, else in units of the metric; None: the studies' own, or what these images
            can show.

    Raises:
        RunFolderError: a folder holds no finished run.
        DataError: images or labels do not agree, or a CSV file is not as described.
        ConfigError: `split` or `resamples` is invalid.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import podium
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = Path(folder, "predictions.csv")
        ...     rows = ["path,label,good,poor", "1.jpg,cat,cat,dog", "2.jpg,dog,dog,dog"]
        ...     _ = table.write_text("\n".join(rows))
        ...     verdicts = podium.compare(table, resamples=0)
        >>> [(one.name, one.accuracy.value) for one in verdicts.standings]
        [('good', 1.0), ('poor', 0.5)]
    """
    from podium.statistics.comparison import compare_sources

    return compare_sources(sources, split=split, shared=shared, resamples=resamples, margin=margin)[
        1
    ]


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
    groups: int | None = None,
    design_effect: float = 1.0,
) -> Plan:
    """Compute what a test set of `n` images can show; shares and differences are in 0..1.

    Args:
        n: number of test images.
        difference: difference between two accuracies that the study should detect.
        seeds: seeds per contender; 1: two trained models are compared.
        accuracy: approximate mean accuracy of the two.
        disagreement: share of images that exactly one of them classifies correctly; None: the
            typical share at that accuracy.
        contenders: number of contenders in the study; all pairs are compared.
        target: desired power.
        seed_sd: standard deviation over seeds of the difference between two trained models.
        image_share: share of the variance over images that stays the same across seeds.
        groups: number of groups of images that belong together, such as patients; None: images are
            independent.
        design_effect: how many images of a group count as one, 1 to `n / groups`.

    Raises:
        ConfigError: a value is out of range.

    Examples:
        >>> import podium
        >>> plan = podium.power(2000, 0.02)
        >>> f"power {plan.power:.2f}, {plan.images} images for 0.80"
        'power 0.56, 3499 images for 0.80'
    """
    from podium.statistics.assumptions import Assumptions
    from podium.statistics.power import plan

    given = Assumptions(disagreement, accuracy, contenders, target, seed_sd, image_share)
    if groups is not None:
        given = given.in_groups(n, groups, design_effect)
    elif design_effect != 1:
        raise ConfigError("design_effect: it says how alike images of a group are; give groups.")
    return plan(n, difference, seeds, given)


def audit(data: str | Path | Source, *, labels: bool = True, notify: Notify = silent) -> Audit:
    """Look for damaged and unusual files, duplicates, leaks between splits, and wrong labels.

    Args:
        data: folder of images, or `sports100`, `demo`, or a `Source`.
        labels: also look for labels that are probably wrong; trains a small model on features.
        notify: called with progress.

    Raises:
        DataError: the folder cannot be used at all.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> import podium
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for number, grey in enumerate((0, 80, 160, 240)):
        ...         for name in ("light", "dark"):
        ...             Path(folder, name).mkdir(exist_ok=True)
        ...             image = Image.new("RGB", (32, 32), (grey, number, len(name)))
        ...             image.save(Path(folder, name, f"{number}.png"))
        ...     found = podium.audit(folder, labels=False)
        >>> len(found.oddities), found.oddities[0].kind
        (8, 'blank')
    """
    from podium.auditing import audit_images
    from podium.data.listing import named_source

    return audit_images(named_source(data), labels=labels, notify=notify)

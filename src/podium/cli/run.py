"""`podium run`, `demo`, `train` and `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from podium.cli.options import (
    AuditOption,
    BatchOption,
    CacheOption,
    ChannelsOption,
    CheckpointOption,
    CpusOption,
    DataOption,
    DeviceOption,
    DevicesOption,
    EpochsOption,
    GpusOption,
    GroupOption,
    InsecureOption,
    LabelOption,
    Lang,
    LangOption,
    LrOption,
    MetricOption,
    OnlyOption,
    OnOption,
    PrecisionOption,
    RunsOption,
    SeedOption,
    SetOption,
    SizeOption,
    SlurmOption,
    SourceOption,
    SourceSettings,
    TensorBoardOption,
    TrackerOption,
    WorkersOption,
    _machine,
    data_spec,
)
from podium.cli.terminal import bars, err, out, plain, say

if TYPE_CHECKING:
    from podium.study.outcome import StudyResult
    from podium.study.study import Study

app = typer.Typer()


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="A YAML file, or a name `podium studies` lists.")],
    data: DataOption = None,
    name: Annotated[str | None, typer.Option(help="Another name for the study's folder.")] = None,
    overrides: SetOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    lr: LrOption = None,
    image_size: SizeOption = None,
    seed: SeedOption = None,
    only: OnlyOption = None,
    metric: MetricOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    devices: DevicesOption = 1,
    workers: WorkersOption = None,
    cache_limit: CacheOption = 16,
    checkpoint_every: CheckpointOption = 300,
    tensorboard: TensorBoardOption = False,
    tracker: TrackerOption = None,
    on: OnOption = "serial",
    cpus: CpusOption = None,
    gpus: GpusOption = None,
    slurm: SlurmOption = None,
    insecure: InsecureOption = False,
    audit: AuditOption = True,
    runs: RunsOption = Path("runs"),
    lang: LangOption = Lang.en,
) -> None:
    """Train and score a study's contenders, then write its report. Resumes an interrupted study.

    Several processes may run one study at the same time: they share its cells, one contender with
    one seed each. With --only no report is written: `podium report` does so once all cells are
    done.
    """
    settings = list(overrides or [])
    given = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "image_size": image_size}
    for key, value in given.items():
        if value is not None:
            settings.append(f"contenders.*.{key}={value}")
    if seed:
        settings.append(f"seeds={list(seed)}")
    if metric is not None:
        settings.append(f"metric={metric!r}")
    if name is not None:
        settings.append(f"name={name!r}")
    machine = _machine(
        device,
        precision,
        devices,
        workers,
        cache_limit,
        checkpoint_every,
        tensorboard,
        tracker,
        on,
        cpus,
        gpus,
        slurm,
        insecure,
    )
    _run_study(study, data, settings, machine, runs, lang, audit, only or [])


@app.command()
def demo(
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    workers: WorkersOption = None,
    cache_limit: CacheOption = 16,
    runs: RunsOption = Path("runs"),
    lang: LangOption = Lang.en,
) -> None:
    """Run the whole study in a few minutes on images that Podium draws itself: no network."""
    machine = _machine(device, precision, 1, workers, cache_limit, 300, False)
    _run_study("demo", None, [], machine, runs, lang)


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="A name that `podium models` lists.")],
    data: Annotated[
        str, typer.Option("--data", help="Folder or table of images (or sports100, demo).")
    ],
    label: LabelOption = None,
    group: GroupOption = None,
    source: SourceOption = "auto",
    option: SourceSettings = None,
    channels: ChannelsOption = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Cross-validation: test every image once, each fold by a model of its own.",
            show_default="one split",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Epochs.")] = 30,
    augmentation: Annotated[str, typer.Option(help="none, autoaugment, randaugment...")] = "none",
    pretrained: Annotated[bool, typer.Option("--pretrained", help="ImageNet weights.")] = False,
    weights: Annotated[Path | None, typer.Option(help="Start from this file.")] = None,
    freeze: Annotated[
        str, typer.Option(help="none, or backbone: train only a linear head.")
    ] = "none",
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 32,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 1e-4,
    image_size: SizeOption = None,
    seed: SeedOption = None,
    metric: MetricOption = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other setting, e.g. mixup=0.2."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the study's folder.")] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    devices: DevicesOption = 1,
    workers: WorkersOption = None,
    cache_limit: CacheOption = 16,
    checkpoint_every: CheckpointOption = 300,
    tensorboard: TensorBoardOption = False,
    tracker: TrackerOption = None,
    on: OnOption = "serial",
    cpus: CpusOption = None,
    gpus: GpusOption = None,
    slurm: SlurmOption = None,
    insecure: InsecureOption = False,
    audit: AuditOption = True,
    runs: RunsOption = Path("runs"),
    lang: LangOption = Lang.en,
) -> None:
    """Train one model: a study of a single contender."""
    from podium.api import single_contender

    spec = single_contender(
        model,
        data_spec(data, label, group, source, option, folds=folds, channels=channels).model_dump(
            exclude_defaults=True
        ),
        name=name,
        seeds=tuple(seed or [0]),
        overrides=overrides or [],
        metric=metric or "accuracy",
        epochs=epochs,
        augmentation=augmentation,
        pretrained=pretrained,
        weights=weights,
        freeze=freeze,
        batch_size=batch_size,
        lr=lr,
        image_size=image_size,
    )
    machine = _machine(
        device,
        precision,
        devices,
        workers,
        cache_limit,
        checkpoint_every,
        tensorboard,
        tracker,
        on,
        cpus,
        gpus,
        slurm,
        insecure,
    )
    _finish(spec, machine, runs, lang, audit)


@app.command()
def evaluate(
    run_path: Annotated[Path, typer.Argument(metavar="RUN", help="runs/STUDY/CONTENDER/seed-N.")],
    data: Annotated[
        str, typer.Option("--data", help="Folder or table of images (or sports100, demo).")
    ],
    label: LabelOption = None,
    source: SourceOption = "auto",
    option: SourceSettings = None,
    split: Annotated[str, typer.Option(help="test or valid.")] = "test",
    save: Annotated[Path | None, typer.Option(help="File for the predictions.")] = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
) -> None:
    """Score a trained model on a folder of images: its own, or others of the same classes.

    In a folder with split folders it scores one split; with only class folders, all images.
    """
    from podium.api import evaluate as evaluate_run
    from podium.statistics.metrics import per_class, scores

    images = data_spec(data, label, None, source, option)
    predictions = evaluate_run(
        run_path, images, split=split, device=device, workers=workers, notify=say
    )
    if save is not None:
        predictions.write(save)
    total = scores(predictions)
    table = Table("class", "precision", "recall", "F1", "images", box=None)
    for one in per_class(predictions):
        figures = ["-" if value is None else f"{value:.3f}" for value in one.shown]
        table.add_row(plain(one.name), *figures, str(one.support))
    averages = [f"{v:.3f}" for v in (total.macro_precision, total.macro_recall, total.macro_f1)]
    table.add_section()
    table.add_row("macro average", *averages, str(total.n))
    out.print(table)
    out.print(f"accuracy {100 * total.accuracy:.2f} % of {total.n} images", highlight=False)


def _run_study(
    study: str,
    data: str | None,
    settings: list[str],
    machine: dict[str, Any],
    runs: Path,
    lang: Lang,
    audit: bool = True,
    only: Sequence[str] = (),
) -> None:
    from podium.config.studyfile import load_study, study_folder

    spec = load_study(study, data=data, overrides=settings)
    _finish(spec, machine, runs, lang, audit, study_folder(study), only)


def _finish(
    spec: Any,
    machine: dict[str, Any],
    runs: Path,
    lang: Lang,
    audit: bool = True,
    beside: str = "",
    only: Sequence[str] = (),
) -> None:
    from podium.cli.ending import print_ending
    from podium.config.studyfile import machine_settings
    from podium.reporting.words.labels import labels
    from podium.study.study import Study

    settings = machine_settings(**machine)
    study = Study(spec, runs=runs, machine=settings, audit=audit, beside=beside)
    result = run_cells(study, only)
    if only:
        tell_how_far(study, f"podium report {study.folder.path}")
    elif len(result.failed) < len(result.outcomes):
        with bars() as tell:
            report = study.write_report(lang=lang.value, notify=tell)
        print_ending(report, labels(lang.value))
    refuse_failed(result)


def run_cells(study: Study, only: Sequence[str]) -> StudyResult:
    """Train the cells of a study that are not done, and show the progress.

    Args:
        study: the study.
        only: the only cells or contenders to train; empty: all.

    Raises:
        Exit: it was interrupted.
    """
    from podium.cli.progress import StudyProgress

    try:
        with StudyProgress(err) as progress:
            return study.run(progress.notify, only=only)
    except KeyboardInterrupt:
        err.print("Interrupted. Finished training is kept; the same command resumes from there.")
        raise typer.Exit(130) from None


def refuse_failed(result: StudyResult) -> None:
    """Name the runs that failed, if any.

    Args:
        result: of a study.

    Raises:
        Exit: some failed.
    """
    if not result.failed:
        return
    for outcome in result.failed:
        err.print(f"not run: {outcome.run.path}", style="yellow", highlight=False, markup=False)
    done = len(result.outcomes) - len(result.failed)
    err.print(
        f"{done} of {len(result.outcomes)} runs are done. The same command tries the others again.",
        highlight=False,
    )
    raise typer.Exit(1)


def tell_how_far(study: Study, command: str) -> None:
    """Say how many cells of a study are done, and what writes its page once all are.

    Args:
        study: the study.
        command: that writes the page.
    """
    cells = study.folder.cells(study.spec)
    done = sum(cell.is_done() for cell in cells)
    once = "Once all are, " if done < len(cells) else ""
    err.tell(
        f"{done} of {len(cells)} cells of the study are done. {once}`{command}` writes the report."
    )

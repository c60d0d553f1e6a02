"""The `podium` command: parses, calls the package, prints. Nothing is computed here.

Heavy modules are imported inside the commands, so that `podium --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from podium.__about__ import __version__
from podium.cli_card import app as card_app
from podium.cli_data import app as data_app
from podium.cli_export import app as export_app
from podium.cli_lists import app as lists_app
from podium.cli_predict import app as predict_app
from podium.cli_serve import app as serve_app
from podium.cli_verdicts import app as verdicts_app
from podium.errors import PodiumError
from podium.terminal import accept_any_text, err, out, plain, say
from podium.threads import let_waiting_threads_sleep

__all__ = ["app", "main"]

app = typer.Typer(
    name="podium",
    help="Which image classifier wins on your images, and how sure can you be?",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
app.add_typer(lists_app)
app.add_typer(verdicts_app)
app.add_typer(predict_app)
app.add_typer(serve_app)
app.add_typer(export_app)
app.add_typer(card_app)


class Lang(StrEnum):
    """Languages of the report."""

    en = "en"
    pt = "pt"


RunsOption = Annotated[Path, typer.Option("--runs", help="Folder that holds all studies.")]
LangOption = Annotated[Lang, typer.Option(help="Language of the report.")]
DataOption = Annotated[
    str | None,
    typer.Option("--data", help="Folder of images (or sports100, demo), in place of the study's."),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
PrecisionOption = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")]
DevicesOption = Annotated[int, typer.Option(help="Data-parallel processes.")]
WorkersOption = Annotated[
    int | None, typer.Option(help="Decoding processes a device.", show_default="from the cores")
]
CacheOption = Annotated[
    float, typer.Option(help="GB that decoded images may take on disk; 0: decode every time.")
]
CheckpointOption = Annotated[
    float, typer.Option(help="Seconds after which a training saves its state within an epoch.")
]
TensorBoardOption = Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard logs.")]
AuditOption = Annotated[
    bool, typer.Option("--audit/--no-audit", help="Look for duplicates and wrong labels first.")
]
EpochsOption = Annotated[int | None, typer.Option(help="Epochs of every contender.")]
BatchOption = Annotated[int | None, typer.Option(help="Images a step, of every contender.")]
LrOption = Annotated[float | None, typer.Option(help="Learning rate of every contender.")]
SizeOption = Annotated[int | None, typer.Option(help="Side of the images, of every contender.")]
SeedOption = Annotated[list[int] | None, typer.Option(help="Seed; repeat it for several.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override, e.g. contenders.*.epochs=2."),
]


def _tell_version(wanted: bool) -> None:
    if wanted:
        out.print(f"podium {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", is_eager=True, callback=_tell_version
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks (may stand after any command).")
    ] = False,
) -> None:
    """Options that belong to no command; each acts by itself."""


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
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    devices: DevicesOption = 1,
    workers: WorkersOption = None,
    cache_limit: CacheOption = 16,
    checkpoint_every: CheckpointOption = 300,
    tensorboard: TensorBoardOption = False,
    audit: AuditOption = True,
    runs: RunsOption = Path("runs"),
    lang: LangOption = Lang.en,
) -> None:
    """Train and score a study's contenders, then write its report. Goes on where it left off."""
    settings = list(overrides or [])
    for key, value in (
        ("epochs", epochs), ("batch_size", batch_size), ("lr", lr), ("image_size", image_size),
    ):  # fmt: skip
        if value is not None:
            settings.append(f"contenders.*.{key}={value}")
    if seed:
        settings.append(f"seeds={list(seed)}")
    if name is not None:
        settings.append(f"name={name!r}")
    machine = _machine(
        device, precision, devices, workers, cache_limit, checkpoint_every, tensorboard
    )
    _run_study(study, data, settings, machine, runs, lang, audit)


@app.command()
def demo(
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    workers: WorkersOption = None,
    cache_limit: CacheOption = 16,
    runs: RunsOption = Path("runs"),
    lang: LangOption = Lang.en,
) -> None:
    """Run the whole study in a few minutes on pictures that Podium draws itself: no network."""
    machine = _machine(device, precision, 1, workers, cache_limit, 300, False)
    _run_study("demo", None, [], machine, runs, lang)


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="A name that `podium models` lists.")],
    data: Annotated[str, typer.Option("--data", help="Folder of images (or sports100, demo).")],
    epochs: Annotated[int, typer.Option(help="Epochs.")] = 30,
    augmentation: Annotated[str, typer.Option(help="none, autoaugment, randaugment...")] = "none",
    pretrained: Annotated[bool, typer.Option("--pretrained", help="ImageNet weights.")] = False,
    weights: Annotated[Path | None, typer.Option(help="Start from this file.")] = None,
    freeze: Annotated[str, typer.Option(help="none, or backbone: a linear head alone.")] = "none",
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 32,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 1e-4,
    image_size: SizeOption = None,
    seed: SeedOption = None,
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
    audit: AuditOption = True,
    runs: RunsOption = Path("runs"),
    lang: LangOption = Lang.en,
) -> None:
    """Train one model: a study of a single contender."""
    from podium.api import single_contender

    spec = single_contender(
        model,
        data,
        name=name,
        seeds=tuple(seed or [0]),
        overrides=overrides or [],
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
        device, precision, devices, workers, cache_limit, checkpoint_every, tensorboard
    )
    _finish(spec, machine, runs, lang, audit)


@app.command()
def evaluate(
    run_path: Annotated[Path, typer.Argument(metavar="RUN", help="runs/STUDY/CONTENDER/seed-N.")],
    data: Annotated[str, typer.Option("--data", help="Folder of images (or sports100, demo).")],
    split: Annotated[str, typer.Option(help="test or valid.")] = "test",
    save: Annotated[Path | None, typer.Option(help="Write the predictions here.")] = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
) -> None:
    """Score a trained model on a folder of images: its own, or others of the same classes.

    Of a folder with split folders, one split; of a folder with class folders alone, all of it.
    """
    from podium.api import evaluate as evaluate_run
    from podium.metrics import per_class, scores

    predictions = evaluate_run(
        run_path, data, split=split, device=device, workers=workers, notify=say
    )
    if save is not None:
        predictions.write(save)
    total = scores(predictions)
    table = Table("class", "precision", "recall", "F1", "images", box=None)
    for one in per_class(predictions):
        figures = [f"{value:.3f}" for value in (one.precision, one.recall, one.f1)]
        table.add_row(plain(one.name), *figures, str(one.support))
    averages = [f"{v:.3f}" for v in (total.macro_precision, total.macro_recall, total.macro_f1)]
    table.add_section()
    table.add_row("macro average", *averages, str(total.n))
    out.print(table)
    out.print(f"accuracy {100 * total.accuracy:.2f} % of {total.n} images", highlight=False)


@app.command()
def report(
    study: Annotated[Path, typer.Argument(help="A study's folder, such as runs/sports100.")],
    lang: LangOption = Lang.en,
    to: Annotated[Path | None, typer.Option(help="Write it here, not in STUDY/report.")] = None,
    dpi: Annotated[int, typer.Option(min=50, max=1200, help="Of the PNG figures.")] = 400,
) -> None:
    """Write the figures, tables and page of a study anew, from its files alone."""
    from podium.reporting import build_report
    from podium.store import StudyFolder

    with err.status("Writing the report") as status:
        result = build_report(
            StudyFolder(study),
            lang=lang.value,
            out=to,
            dpi=dpi,
            progress=lambda what, done, total: status.update(
                f"Writing the report: {what}, {done} of {total}"
            ),
        )
    out.print(f"Report: {result.index}", highlight=False, markup=False)


def _machine(
    device: str,
    precision: str,
    devices: int,
    workers: int | None,
    cache_limit: float,
    checkpoint_every: float,
    tensorboard: bool,
) -> dict[str, Any]:
    return {
        "device": device,
        "precision": precision,
        "devices": devices,
        "workers": workers,
        "cache_limit": cache_limit,
        "checkpoint_every": checkpoint_every,
        "tensorboard": tensorboard,
    }


def _run_study(
    study: str,
    data: str | None,
    settings: list[str],
    machine: dict[str, Any],
    runs: Path,
    lang: Lang,
    audit: bool = True,
) -> None:
    from podium.studyfile import load_study

    _finish(load_study(study, data=data, overrides=settings), machine, runs, lang, audit)


def _finish(spec: Any, machine: dict[str, Any], runs: Path, lang: Lang, audit: bool = True) -> None:
    from podium.progress import StudyProgress
    from podium.study import Study
    from podium.studyfile import machine_settings

    study = Study(spec, runs=runs, machine=machine_settings(**machine), audit=audit)
    try:
        with StudyProgress(err) as progress:
            result = study.run(progress.notify)
    except KeyboardInterrupt:
        err.print("Interrupted. What was trained is kept; the same command goes on from there.")
        raise typer.Exit(130) from None
    done = len(result.outcomes) - len(result.failed)
    if done:
        with err.status("Writing the report"):
            index = study.report(lang=lang.value)
        out.print(f"Report: {index}", highlight=False, markup=False)
    if result.failed:
        for outcome in result.failed:
            err.print(f"not run: {outcome.run.path}", style="yellow", highlight=False, markup=False)
        err.print(
            f"{done} of {len(result.outcomes)} runs are done. The same command tries the others "
            "again.",
            highlight=False,
        )
        raise typer.Exit(1)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 (a failure), 2 (a mistake), 130 (Ctrl-C)."""
    let_waiting_threads_sleep()  # before a command imports PyTorch
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words or bool(os.environ.get("PODIUM_DEBUG"))
    words = [word for word in words if word != "--debug"]
    accept_any_text()
    try:
        app(words, prog_name="podium")
    except SystemExit as end:  # how Typer ends, also after a wrong flag (2)
        return end.code if isinstance(end.code, int) else 1
    except Exception as error:
        if debug:
            raise
        known = isinstance(error, PodiumError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        err.print("[bold red]error:[/bold red]", end=" ")
        err.print(text, markup=False, highlight=False, soft_wrap=True)
        if not known:
            err.print("This is a bug, or the machine failed. --debug shows where.")
        return error.exit_code if isinstance(error, PodiumError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

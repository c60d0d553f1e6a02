"""`podium curve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from podium.cli.options import (
    CacheOption,
    CpusOption,
    DataOption,
    DeviceOption,
    GpusOption,
    InsecureOption,
    Lang,
    LangOption,
    OnlyOption,
    OnOption,
    PrecisionOption,
    RunsOption,
    SetOption,
    SlurmOption,
    WorkersOption,
    _machine,
)
from podium.cli.run import refuse_failed, run_cells, tell_how_far
from podium.cli.terminal import err, out, plain
from podium.errors import ConfigError

if TYPE_CHECKING:
    from podium.reporting.words.labels import Labels
    from podium.results.curve import CurveResults
    from podium.runs.folder import StudyFolder

app = typer.Typer()


@app.command()
def curve(
    study: Annotated[
        str,
        typer.Argument(
            help="A YAML file, a name `podium studies` lists, or the folder of an earlier curve."
        ),
    ],
    data: DataOption = None,
    shares: Annotated[
        str, typer.Option(metavar="SHARE,...", help="Shares of the training images, 0 to 1.")
    ] = "0.05,0.1,0.2,0.4,0.7,1",
    seed: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="Seed; repeatable.", show_default="0 to 4"),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2, help="Cross-validation on all but the test images.", show_default="the study's"
        ),
    ] = None,
    gain: Annotated[
        float, typer.Option(min=0.01, max=99, help="Points of accuracy whose price is told.")
    ] = 2.0,
    overrides: SetOption = None,
    only: OnlyOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    workers: WorkersOption = None,
    cache_limit: CacheOption = 16,
    on: OnOption = "serial",
    cpus: CpusOption = None,
    gpus: GpusOption = None,
    slurm: SlurmOption = None,
    insecure: InsecureOption = False,
    runs: RunsOption = Path("runs"),
    lang: LangOption = Lang.en,
) -> None:
    """Measure how accuracy grows with the number of training images, and what more would bring.

    Trains every contender of a study on nested shares of the training images, as the study
    `NAME-curve`, which resumes like any other. The test images are left alone: runs are scored on
    the validation images, or in folds of all the others. Cheap for linear probes, whose features
    are computed once.
    """
    from podium.config.curve import SEEDS, curve_study
    from podium.config.studyfile import load_study, machine_settings, study_folder
    from podium.reporting.words.labels import labels
    from podium.runs.folder import StudyFolder
    from podium.study.study import Study

    say = labels(lang.value)
    earlier = StudyFolder(Path(study))
    if earlier.spec.is_file():
        _write(earlier, say, gain)
        return
    spec = curve_study(
        load_study(study, data=data, overrides=overrides or []),
        _numbers(shares),
        tuple(seed or SEEDS),
        folds,
    )
    settings = machine_settings(
        **_machine(
            device,
            precision,
            1,
            workers,
            cache_limit,
            300,
            False,
            None,
            on,
            cpus,
            gpus,
            slurm,
            insecure,
        )
    )
    made = Study(spec, runs=runs, machine=settings, audit=False, beside=study_folder(study))
    result = run_cells(made, only or [])
    if only:
        tell_how_far(made, f"podium curve {made.folder.path}")
    elif len(result.failed) < len(result.outcomes):
        _write(made.folder, say, gain)
    refuse_failed(result)


def _numbers(shares: str) -> list[float]:
    try:
        return [float(one) for one in shares.split(",")]
    except ValueError:
        raise ConfigError(
            f"--shares {shares!r}: expected numbers with commas, such as 0.1,0.3,1."
        ) from None


def _write(folder: StudyFolder, say: Labels, gain: float) -> None:
    from podium.reporting.growth import build_growth_page

    with err.status("Fitting the curves"):
        made = build_growth_page(folder, lang=say.lang, gain=gain / 100)
    _print_table(made.found, say)
    for line in made.lines:
        out.tell(line)
    out.tell(say("podium_report", path=made.index))


def _print_table(found: CurveResults, say: Labels) -> None:
    from podium.reporting.growth import rows

    table = Table(say("col_contender"), box=None)
    for key in ("growth_share", "growth_images", "growth_accuracy", "t_interval"):
        table.add_column(say(key), justify="right")
    for name, *cells in rows(found, say):
        table.add_row(plain(name), *cells)
    out.print(table)

"""`podium cell`: one cell of a study, in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from podium.cli.options import (
    CacheOption,
    CheckpointOption,
    CpusOption,
    DeviceOption,
    DevicesOption,
    PrecisionOption,
    TensorBoardOption,
    TrackerOption,
    WorkersOption,
)
from podium.cli.terminal import err

app = typer.Typer()


@app.command()
def cell(
    study: Annotated[Path, typer.Argument(help="The study's folder, runs/STUDY.")],
    contender: Annotated[str, typer.Argument(help="Name of a contender.")],
    seed: Annotated[int, typer.Argument(help="One of the study's seeds.")],
    fold: Annotated[
        int | None, typer.Option(help="Number of a fold, from 0.", show_default="the whole run")
    ] = None,
    attempt: Annotated[int | None, typer.Option(hidden=True)] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    devices: DevicesOption = 1,
    workers: WorkersOption = None,
    cache_limit: CacheOption = 16,
    checkpoint_every: CheckpointOption = 300,
    cpus: CpusOption = None,
    tensorboard: TensorBoardOption = False,
    tracker: TrackerOption = None,
) -> None:
    """Train and score one cell of a study that `podium run` has begun: what executors start.

    Your own code needs `--import` here.
    """
    from podium.cli.progress import StudyProgress
    from podium.config.studyfile import machine_settings
    from podium.runs.folder import StudyFolder
    from podium.study.cells import cells_of, chosen
    from podium.study.engines.process import train_cell

    machine = machine_settings(
        device=device,
        precision=precision,
        devices=devices,
        workers=workers,
        cache_limit=cache_limit,
        checkpoint_every=checkpoint_every,
        cpus=cpus,
        tensorboard=tensorboard,
        trackers=tuple(tracker or ()),
    )
    folder = StudyFolder(study)
    name = f"{contender}/seed-{seed}" + ("" if fold is None else f"/fold-{fold}")
    named = {str(one): one for one in cells_of(folder.read_spec())}
    wanted = named[name] if name in named else chosen(tuple(named.values()), name)[0]
    try:
        with StudyProgress(err) as progress:
            outcome = train_cell(folder, wanted, machine, progress.notify, attempt=attempt)
    except KeyboardInterrupt:
        err.print("Interrupted. Finished training is kept; the same command resumes from there.")
        raise typer.Exit(130) from None
    if outcome.busy:
        err.print(f"{name} is being trained by {outcome.busy}.", highlight=False, markup=False)
    elif outcome.error:
        err.print(outcome.error, highlight=False, markup=False, soft_wrap=True)
    if outcome.busy or outcome.error:
        raise typer.Exit(1)

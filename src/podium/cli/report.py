"""`podium report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from podium.cli.options import Lang, LangOption
from podium.cli.terminal import err
from podium.runtime.events import Event, Progress

app = typer.Typer()


@app.command()
def report(
    study: Annotated[Path, typer.Argument(help="Folder of a study, such as runs/sports100.")],
    lang: LangOption = Lang.en,
    to: Annotated[
        Path | None, typer.Option(help="Folder to write to instead of STUDY/report.")
    ] = None,
    dpi: Annotated[
        int, typer.Option(min=50, max=1200, help="Resolution of the PNG figures.")
    ] = 400,
    class_scale: Annotated[
        tuple[float, float],
        typer.Option(
            metavar="LOW HIGH",
            help="Values at the ends of the colours of the class figures; the paper's: 0.6 1.25.",
        ),
    ] = (0.0, 1.0),
) -> None:
    """Write the figures, tables and page of a study again, from its files only."""
    from podium.cli.ending import print_ending
    from podium.reporting import build_report
    from podium.reporting.words.labels import labels
    from podium.runs.folder import StudyFolder

    with err.status("Writing the report") as status:

        def tell(event: Event) -> None:
            if isinstance(event, Progress):
                status.update(f"Writing the report: {event.done} of {event.total}")

        result = build_report(
            StudyFolder(study),
            lang=lang.value,
            out=to,
            dpi=dpi,
            class_scale=class_scale,
            notify=tell,
        )
    print_ending(result, labels(lang.value))

"""`podium verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from podium.cli.terminal import err, out

app = typer.Typer()

MOST = 12
"""Differences of a topic that are printed."""


@app.command()
def verify(
    receipt: Annotated[
        Path, typer.Argument(help="verdict.json of a study, or the study's folder.")
    ],
    study: Annotated[
        Path | None,
        typer.Option(help="Folder of the study.", show_default="the folder of the receipt"),
    ] = None,
) -> None:
    """Recompute a study's verdicts from its predictions, and compare with its receipt.

    No images are needed. Ends with exit code 1 where a number or a hash differs.
    """
    from podium.results.verification import verify as verify_receipt

    with err.status("Recomputing the verdicts"):
        found = verify_receipt(receipt, study)
    out.tell(f"{found.study}, receipt by Podium {found.podium}, SHA-256 {found.sha256}")
    for topic, what in found.compared.items():
        wrong = [one for one in found.differences if one.topic == topic]
        out.tell(f"  {topic:<12} {what}: {'DIFFERS' if wrong else 'agrees'}")
    shown: dict[str, int] = {}
    for one in found.differences:
        shown[one.topic] = shown.get(one.topic, 0) + 1
        if shown[one.topic] <= MOST:
            out.tell(f"! {one.topic}: {one.text}", style="bold")
    for name, count in shown.items():
        if count > MOST:
            out.tell(f"! {name}: and {count - MOST} more differences", style="bold")
    for note in found.notes:
        err.tell(note)
    if not found.agrees:
        out.tell("The receipt and the study do not agree.")
        raise typer.Exit(1)
    out.tell("Everything agrees: the verdicts follow from these predictions.")

"""The commands that show what there is to choose from: studies, models, augment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from podium.cli.terminal import out, write_data

app = typer.Typer()


@app.command()
def studies(
    name: Annotated[str | None, typer.Argument(help="Print this one's YAML.")] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of study files, for editors.")
    ] = False,
) -> None:
    """List the studies that come with Podium; with a NAME, print its YAML to start from."""
    from podium.config.studyfile import built_in_studies, study_text

    if schema:
        import json

        from podium.config.schema import study_schema

        write_data(json.dumps(study_schema(), indent=2) + "\n")
        return
    if name is not None:
        write_data(study_text(name))
        return
    table = Table("study", "what it is", box=None)
    for key, line in built_in_studies().items():
        table.add_row(key, line)
    out.print(table)


@app.command()
def models(
    classes: Annotated[int, typer.Option(min=2, help="Count parameters for this many.")] = 100,
    timm: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="List timm's models, e.g. 'convnext*'.")
    ] = None,
) -> None:
    """List the models: parameters, input size, and whether their weights are at hand."""
    from podium.models import list_models

    table = Table("model", "parameters", "input", "pre-trained weights", "what it is", box=None)
    for info in list_models(classes, timm=timm):
        table.add_row(
            info.name,
            "-" if info.parameters is None else f"{info.parameters:,}",
            f"{info.image_size} px",
            info.weights,
            info.description,
        )
    out.print(table)


@app.command()
def augment(
    image: Annotated[Path, typer.Argument(help="Any picture.")],
    to: Annotated[Path, typer.Option(help="PNG or PDF to write.")] = Path("augment.png"),
    policy: Annotated[
        list[str] | None,
        typer.Option(help="Only these augmentations; MODULE:NAME is one in a file of yours."),
    ] = None,
    examples: Annotated[int, typer.Option(min=1, max=20, help="Examples of each.")] = 6,
    image_size: Annotated[int, typer.Option(min=32, max=1024, help="Side in pixels.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Draw other examples.")] = 0,
) -> None:
    """Draw a sheet of examples of every augmentation on one picture."""
    from podium.config.registry import REFERENCE, allow
    from podium.data.augment_sheet import augmentation_sheet

    for name in policy or ():
        if REFERENCE.fullmatch(name):  # code that is asked for by this very command
            allow(name.partition(":")[0])
    augmentation_sheet(
        image, to, policies=policy or None, examples=examples, seed=seed, image_size=image_size
    )
    out.tell(f"Sheet: {to}")

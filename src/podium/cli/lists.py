"""The commands that list what is available: studies, models, augment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from podium.cli.terminal import out, write_data

app = typer.Typer()


@app.command()
def studies(
    name: Annotated[str | None, typer.Argument(help="Print the YAML of this study.")] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of study files.")
    ] = False,
) -> None:
    """List the studies that ship with Podium; with a NAME, print its YAML as a starting point."""
    from podium.config.studyfile import built_in_studies, study_text

    if schema:
        import json

        from podium.config.schema import study_schema

        write_data(json.dumps(study_schema(), indent=2) + "\n")
        return
    if name is not None:
        write_data(study_text(name))
        return
    table = Table("study", "description", box=None)
    for key, line in built_in_studies().items():
        table.add_row(key, line)
    out.print(table)


@app.command()
def models(
    classes: Annotated[
        int, typer.Option(min=2, help="Number of classes for the parameter count.")
    ] = 100,
    timm: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="List timm's models, e.g. 'convnext*'.")
    ] = None,
) -> None:
    """List the models: parameters, input size, and whether their weights are available."""
    from podium.models import list_models

    whole = [Column(name, no_wrap=True) for name in ("model", "parameters", "input", "weights")]
    table = Table(*whole, Column("description", overflow="fold"), box=None)
    for info in list_models(classes, timm=timm):
        table.add_row(
            info.name,
            "-" if info.parameters is None else f"{info.parameters:,}",
            f"{info.image_size} px",
            escape(info.weights),
            escape(info.description),
        )
    out.print(table)


@app.command()
def augment(
    image: Annotated[Path, typer.Argument(help="Any image.")],
    to: Annotated[Path, typer.Option(help="PNG or PDF to write.")] = Path("augment.png"),
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Only these augmentations; your own: MODULE:NAME; repeatable."
        ),
    ] = None,
    examples: Annotated[int, typer.Option(min=1, max=20, help="Examples per augmentation.")] = 6,
    image_size: Annotated[int, typer.Option(min=32, max=1024, help="Side in pixels.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the examples.")] = 0,
) -> None:
    """Draw a sheet with examples of every augmentation on one image."""
    from podium.config.registry import REFERENCE, allow
    from podium.data.augment_sheet import augmentation_sheet

    for name in policy or ():
        if REFERENCE.fullmatch(name):  # the user asks for this code in this command
            allow(name.partition(":")[0])
    augmentation_sheet(
        image, to, policies=policy or None, examples=examples, seed=seed, image_size=image_size
    )
    out.tell(f"Sheet: {to}")

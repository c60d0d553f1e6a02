"""The commands that fetch and check image folders. They parse, call the package, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from podium.cli.terminal import bars, err, out, plain

app = typer.Typer(help="Fetch and check folders of images.", no_args_is_help=True)


@app.command("fetch")
def data_fetch(
    name: Annotated[
        str, typer.Argument(help="sports100, demo, torchvision:NAME or hf:OWNER/NAME.")
    ],
    source: Annotated[str, typer.Option(help="auto, huggingface or kaggle.")] = "auto",
    into: Annotated[Path | None, typer.Option(help="Folder to use instead of the cache.")] = None,
) -> None:
    """Download a data set (or draw it: demo) into the cache, with checks; resumable."""
    from podium.data.fetch import fetch

    with bars() as tell:
        folder = fetch(name, source=source, into=into, notify=tell)
    out.tell(f"Images: {folder}")


@app.command("check")
def data_check(
    data: Annotated[str, typer.Argument(help="Images: a folder, an archive, hf:OWNER/NAME...")],
    workers: Annotated[
        int | None, typer.Option(help="Threads that read images.", show_default="from the cores")
    ] = None,
) -> None:
    """Read every image of a folder and show what a study would train, validate and test on."""
    from podium.data.index import build_index
    from podium.data.listing import named_source

    with err.status("Checking images"):
        index = build_index(named_source(data), workers=workers)
    table = Table("class", "train", "valid", "test", box=None)
    counts = {split: index.class_counts(split) for split in index.splits}
    for label in index.classes:
        table.add_row(plain(label), *(str(counts[split].get(label, 0)) for split in index.splits))
    table.add_section()
    sizes = [str(len(index.splits[split])) for split in index.splits]
    table.add_row(f"{len(index.classes)} classes", *sizes)
    out.print(table)
    for reason, count in index.skipped.items():
        err.tell(f"skipped: {count} x {reason}")
    for path, reason in index.unreadable:
        err.tell(f"unreadable: {path} ({reason})")
    for notice in index.notices:
        err.tell(notice)

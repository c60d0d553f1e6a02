"""The commands that fetch, check and import images. They parse, call the package, print."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from podium.cli.options import (
    ChannelsOption,
    GroupOption,
    ImagesArgument,
    LabelOption,
    SourceOption,
    SourceSettings,
    data_spec,
)
from podium.cli.terminal import bars, err, out, plain
from podium.data.words import shown
from podium.errors import ConfigError

if TYPE_CHECKING:
    from podium.data.index import DataIndex

app = typer.Typer(help="Fetch, check and import images.", no_args_is_help=True)


@app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="sports100, demo, torchvision:NAME, hf:OWNER/NAME.")],
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
    data: ImagesArgument,
    label: LabelOption = None,
    group: GroupOption = None,
    source: SourceOption = "auto",
    option: SourceSettings = None,
    channels: ChannelsOption = None,
    rows: Annotated[int, typer.Option(min=0, help="Images to show from the beginning.")] = 3,
    workers: Annotated[
        int | None, typer.Option(help="Threads that read images.", show_default="from the cores")
    ] = None,
) -> None:
    """Read every image and show what a study would train, validate and test on, and how to say so.

    The last lines are what to write into the study.
    """
    from podium.auditing import index_data
    from podium.auditing.grouping import hints_from_names
    from podium.data.listing import open_source, source_name
    from podium.data.understood import first_rows, spelled_out
    from podium.reporting.page.audit_page import hint_sentence
    from podium.reporting.words.labels import labels

    spec = data_spec(data, label, group, source, option, channels=channels)
    opened = open_source(spec)
    with err.status("Checking images"):
        index = index_data(spec, opened, workers=workers)
    given = spelled_out(spec, opened)
    out.tell(f"source: {source_name(spec)}, {shown(opened.place)}")
    _show_rows(first_rows(index, rows))
    _show_classes(index)
    groups = {one for split in index.splits.values() for one in split.groups if one is not None}
    if groups:
        out.tell(f"{len(groups):,} groups")
    _tell_problems(index)
    for hint in hints_from_names(index):
        err.tell(hint_sentence(hint, labels("en")))
    out.tell("In the study:")
    out.tell(given)


@app.command("import")
def data_import(
    data: ImagesArgument,
    to: Annotated[Path, typer.Option(help="Table to write: .parquet, or .csv for spreadsheets.")],
    label: LabelOption = None,
    group: GroupOption = None,
    source: SourceOption = "auto",
    option: SourceSettings = None,
    channels: ChannelsOption = None,
    workers: Annotated[
        int | None, typer.Option(help="Threads that read images.", show_default="from the cores")
    ] = None,
) -> None:
    """Write the images as Podium's own table: path, label, split, group, SHA-256, metadata.

    A study reads the table like any other, with the same splits: data: images.parquet.
    """
    from podium.auditing import index_data
    from podium.data.record import check_name, index_table, write_table

    check_name(to)
    with err.status("Reading images"):
        spec = data_spec(data, label, group, source, option, channels=channels)
        index = index_data(spec, workers=workers)
    _tell_problems(index)
    write_table(index_table(index), to)
    images = sum(map(len, index.splits.values()))
    out.tell(f"{to}: {images:,} images of {len(index.classes)} classes")
    out.tell(f"fingerprint {index.fingerprint}")


@app.command("pack")
def data_pack(
    data: ImagesArgument,
    to: Annotated[str, typer.Option(help="Empty folder, or an address such as s3://BUCKET/NAME.")],
    label: LabelOption = None,
    group: GroupOption = None,
    source: SourceOption = "auto",
    option: SourceSettings = None,
    channels: ChannelsOption = None,
    shard_size: Annotated[float, typer.Option(help="Size of a shard, GB.")] = 1.0,
    workers: Annotated[
        int | None, typer.Option(help="Threads that read images.", show_default="from the cores")
    ] = None,
) -> None:
    """Pack the images into tar shards and an index, for object stores and millions of images.

    A study reads the pack like any other data, with the same bits: data: s3://BUCKET/NAME. The
    shards are WebDataset's too. Interrupted, the same command goes on.
    """
    from podium.auditing import list_data
    from podium.data.pack import pack
    from podium.data.place import is_address

    within = Path(to).expanduser().resolve().is_relative_to(Path(data).expanduser().resolve())
    if within and not is_address(to):
        raise ConfigError(
            f"--to {to} lies within the images ({data}), and would be taken for a part of them. "
            "Choose a folder beside them."
        )
    spec = data_spec(data, label, group, source, option, channels=channels)
    with bars() as tell:
        found = list_data(spec, workers=workers, notify=tell)
        about, notices = pack(found, to, shard_size=shard_size, workers=workers, notify=tell)
    for notice in notices:
        err.tell(notice)
    shards = f"{about.shards:,} shard{'' if about.shards == 1 else 's'}"
    out.tell(f"{to}: {about.images:,} images of {len(about.classes)} classes in {shards}")
    out.tell(f"In the study: data: {to}")


def _show_rows(rows: list[dict[str, str]]) -> None:
    if not rows:
        return
    table = Table(box=None)
    for name in rows[0]:
        table.add_column(plain(name))
    for row in rows:
        table.add_row(*map(plain, row.values()))
    out.print(table)


def _show_classes(index: DataIndex) -> None:
    table = Table("class", *index.splits, box=None)
    counts = {split: index.class_counts(split) for split in index.splits}
    for label in index.classes:
        table.add_row(plain(label), *(str(counts[split].get(label, 0)) for split in index.splits))
    table.add_section()
    sizes = [str(len(index.splits[split])) for split in index.splits]
    table.add_row(f"{len(index.classes)} classes", *sizes)
    out.print(table)


def _tell_problems(index: DataIndex) -> None:
    for reason, count in index.skipped.items():
        err.tell(f"skipped: {count} x {reason}")
    for path, reason in index.unreadable:
        err.tell(f"unreadable: {path} ({reason})")
    for notice in index.notices:
        err.tell(notice)


class By(StrEnum):
    """What a split keeps whole."""

    group = "group"
    image = "image"


class Stratify(StrEnum):
    """What is shared out in proportion."""

    label = "label"
    none = "none"


@app.command("split")
def data_split(
    data: ImagesArgument,
    to: Annotated[Path, typer.Option(help="Table to write: .csv or .parquet.")],
    label: LabelOption = None,
    group: GroupOption = None,
    source: SourceOption = "auto",
    option: SourceSettings = None,
    channels: ChannelsOption = None,
    by: Annotated[
        By | None,
        typer.Option(
            help="Split all images anew: by group, or by image.",
            show_default="the source's splits; those missing are held out",
        ),
    ] = None,
    stratify: Annotated[
        Stratify, typer.Option(help="With --by: keep each class's share in each split, or not.")
    ] = Stratify.label,
    valid_fraction: Annotated[float, typer.Option(help="Share held out for validation.")] = 0.1,
    test_fraction: Annotated[float, typer.Option(help="Share held out for the test.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Of the random split.")] = 0,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Also deal all images into this many folds.")
    ] = None,
) -> None:
    """Write which image belongs to which split: path, label, split, fold, group; for any program.

    The splits are those of a study with the same settings. No image is read, unless the groups
    are found in the images (--group duplicates or capture).
    """
    from podium.auditing import list_data
    from podium.config.data_settings import SplitSpec
    from podium.data.record import check_name, write_table
    from podium.data.split_table import split_table

    check_name(to)
    spec = data_spec(
        data,
        label,
        group,
        source,
        option,
        split=None if by is None else SplitSpec(by=by.value, stratify=stratify.value),
        split_seed=seed,
        valid_fraction=valid_fraction,
        test_fraction=test_fraction,
        channels=channels,
    )
    with bars() as tell:
        found = split_table(list_data(spec, notify=tell), spec, folds)
    for notice in found.notices:
        err.tell(notice)
    write_table(found.table, to)
    out.tell(f"{to}: {', '.join(f'{name} {count:,}' for name, count in found.counts.items())}")

"""Options shared by several commands."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from podium.config.data_settings import DataSpec


class Lang(StrEnum):
    """Languages of the report."""

    en = "en"
    pt = "pt"


RunsOption = Annotated[Path, typer.Option("--runs", help="Folder that holds all studies.")]


LangOption = Annotated[Lang, typer.Option(help="Language of the report.")]


DataOption = Annotated[
    str | None,
    typer.Option("--data", help="Folder of images (or sports100, demo), instead of the study's."),
]


ImagesArgument = Annotated[
    str, typer.Argument(help="A folder, table, archive or set of images, such as hf:OWNER/NAME.")
]


LabelOption = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN|REGEX",
        help="Column of the labels, or a regular expression on the path, `'(?P<label>[a-z]+)'`.",
        show_default="chosen by the source",
    ),
]


GroupOption = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN|REGEX|RULE",
        help="What images belong to, such as a patient: a column; a regular expression on the "
        "path, `'(?P<group>...)'`; or `parent` (their folder), `capture` (bursts of one camera), "
        "`duplicates` (near-duplicates).",
        show_default="the source's",
    ),
]


SourceOption = Annotated[
    str, typer.Option(help="What reads the images: auto, folder, table... or MODULE:NAME.")
]


SourceSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="KEY=VALUE",
        help="Argument of the source, such as extension=.jpg; repeatable.",
    ),
]


DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]


PrecisionOption = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")]


DevicesOption = Annotated[int, typer.Option(help="Data-parallel processes.")]


WorkersOption = Annotated[
    int | None, typer.Option(help="Decoding processes per device.", show_default="from the cores")
]


CacheOption = Annotated[
    float, typer.Option(help="GB of disk space for decoded images; 0: decode every time.")
]


CheckpointOption = Annotated[
    float, typer.Option(help="Seconds between saved states within an epoch.")
]


TensorBoardOption = Annotated[
    bool, typer.Option("--tensorboard", help="Short for --tracker tensorboard.")
]


TrackerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tracker",
        metavar="NAME",
        help="Track the runs: tensorboard, mlflow, or MODULE:CLASS; repeatable.",
    ),
]


CoverageOption = Annotated[
    float | None,
    typer.Option(
        metavar="PERCENT",
        min=50,
        max=99.99,
        help="Sets of classes, of which at least as many contain the true one, such as 95.",
        show_default="no sets",
    ),
]


ByClassOption = Annotated[
    bool, typer.Option("--by-class", help="Promise the coverage for the images of each class.")
]


KeepOption = Annotated[
    float | None,
    typer.Option(
        metavar="PERCENT",
        min=50,
        max=99.99,
        help="Answer 'none of these' to images less similar to training images than PERCENT of "
        "the validation images, such as 95.",
        show_default="never",
    ),
]


def share_of(percent: float | None) -> float | None:
    """A coverage as the package takes it, a share in 0..1; None: none was given."""
    return None if percent is None else round(percent / 100, 6)


OnOption = Annotated[
    str,
    typer.Option(
        "--on",
        "--executor",
        metavar="EXECUTOR",
        help="What trains the cells: serial, local, ray, ray:HOST:PORT, slurm, or your own as "
        "MODULE:NAME.",
    ),
]


CpusOption = Annotated[
    int | None,
    typer.Option(
        help="Cores and threads of each cell.", show_default="as the study was begun, else all"
    ),
]


GpusOption = Annotated[
    float | None,
    typer.Option(help="GPUs of each cell; 0.5: two share one.", show_default="1 if there are any"),
]


SlurmOption = Annotated[
    str | None,
    typer.Option(
        metavar="KEY=VALUE,...", help="Options of sbatch, such as partition=gpu,time=240."
    ),
]


InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Use a Ray cluster that has no token.")
]


OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="CELL",
        help="Train only CONTENDER, CONTENDER/seed-N or CONTENDER/seed-N/fold-K; repeatable.",
    ),
]


AuditOption = Annotated[
    bool, typer.Option("--audit/--no-audit", help="Look for duplicates and wrong labels first.")
]


EpochsOption = Annotated[int | None, typer.Option(help="Epochs of every contender.")]


BatchOption = Annotated[int | None, typer.Option(help="Images per step, of every contender.")]


LrOption = Annotated[float | None, typer.Option(help="Learning rate of every contender.")]


MetricOption = Annotated[
    str | None,
    typer.Option(
        help="Chooses epochs and ranks: accuracy, macro_f1, log_loss... or MODULE:NAME.",
        show_default="the study's",
    ),
]


SizeOption = Annotated[int | None, typer.Option(help="Side of the images, of every contender.")]


SeedOption = Annotated[
    list[int] | None,
    typer.Option(metavar="N", help="Seed; repeatable.", show_default="the study's"),
]


SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override, e.g. contenders.*.epochs=2."),
]


def _machine(
    device: str,
    precision: str,
    devices: int,
    workers: int | None,
    cache_limit: float,
    checkpoint_every: float,
    tensorboard: bool,
    trackers: list[str] | None = None,
    executor: str = "serial",
    cpus: int | None = None,
    gpus: float | None = None,
    slurm: str | None = None,
    insecure: bool = False,
) -> dict[str, Any]:
    name, _, address = executor.partition(":")
    if name != "ray":
        name, address = executor, ""
    return {
        "device": device,
        "precision": precision,
        "devices": devices,
        "workers": workers,
        "cache_limit": cache_limit,
        "checkpoint_every": checkpoint_every,
        "tensorboard": tensorboard,
        "trackers": tuple(trackers or ()),
        "executor": name,
        "address": address,
        "cpus": cpus,
        "gpus": gpus,
        "slurm": _pairs(slurm),
        "insecure": insecure,
    }


ChannelsOption = Annotated[
    int | None,
    typer.Option(min=1, max=64, help="Channels of each TIFF or .npy image.", show_default="RGB"),
]


def _pairs(text: str | None) -> dict[str, str]:
    """`key=value,key=value` as a mapping."""
    from podium.errors import ConfigError

    found = {}
    for pair in (text or "").split(","):
        key, sign, value = pair.partition("=")
        if pair and not (sign and key.strip()):
            raise ConfigError(f"--slurm {pair!r}: expected KEY=VALUE, such as partition=gpu.")
        if pair:
            found[key.strip().removeprefix("--")] = value.strip()
    return found


def data_spec(
    path: str,
    label: str | None = None,
    group: str | None = None,
    source: str = "auto",
    options: list[str] | None = None,
    **settings: Any,
) -> DataSpec:
    """The images that a command's options describe; code that `source` names is imported.

    Args:
        path: of the images.
        label: `--label`.
        group: `--group`.
        source: `--source`.
        options: `--option`, each `key=value`; values are YAML.
        settings: further settings of `DataSpec`.

    Raises:
        ConfigError: an option is not `key=value`, or there is no such source.
    """
    import yaml
    from pydantic import ValidationError

    from podium.config.code import allow_named
    from podium.config.data_settings import DataSpec
    from podium.errors import ConfigError

    further = {}
    for option in options or []:
        key, sign, value = option.partition("=")
        try:
            further[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            sign = ""
        if not sign or not key.strip():
            raise ConfigError(f"--option {option!r}: expected KEY=VALUE, such as extension=.jpg.")
    try:
        given = {"path": path, "label": label, "group": group, "source": source}
        spec = DataSpec.model_validate({**given, "options": further, **settings})
    except ValidationError as error:
        first = error.errors()[0]
        where = (
            "--option" if first["loc"][0] == "options" else f"--{first['loc'][0]}".replace("_", "-")
        )
        raise ConfigError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
    allow_named((spec,))
    return spec

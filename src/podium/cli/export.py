"""The command that exports a trained model. It parses, calls the package, prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from podium.cli.options import ByClassOption, CoverageOption, KeepOption, share_of
from podium.cli.terminal import err, out, plain
from podium.runtime.events import Event, Message

if TYPE_CHECKING:
    from podium.deploy.export.run import Exports
    from podium.deploy.export.speed import Speed

app = typer.Typer()


@app.command()
def export(
    run_path: Annotated[Path, typer.Argument(metavar="RUN", help="runs/STUDY/CONTENDER/seed-N.")],
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="onnx, torchscript, pt2 or openvino; repeat it for several.",
            show_default="onnx",
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantise to 8 bits (onnx and openvino).")
    ] = False,
    calibration: Annotated[
        str | None,
        typer.Option(help="Images for --int8.", show_default="the study's training images"),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Images for the check.", show_default="the study's validation images"),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Folder to write to.", show_default="RUN/export")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Precision of an OpenVINO export: fp32 or bf16.")
    ] = "fp32",
    coverage: CoverageOption = None,
    by_class: ByClassOption = False,
    keep: KeepOption = None,
    rounds: Annotated[
        int, typer.Option(min=0, max=1000, help="Rounds of the speed measurement; 0: none.")
    ] = 5,
) -> None:
    """Export a trained model to other programs, checked against PyTorch before it is kept.

    Preprocessing, mirror test, temperature and class names are in the file. It takes uint8 RGB
    pixels of shape (n, S, S, 3) and returns calibrated probabilities and logits; with --coverage
    also sets of classes, and with --keep whether an image is none of these.
    """
    from podium.deploy.export.run import export as export_run

    wanted = formats or ["onnx"]
    if "torchscript" in wanted:
        err.print(
            "TorchScript is deprecated by PyTorch. It is supported because the paper's models and "
            "many C++ programs use it; for anything new choose onnx, openvino or pt2.",
            highlight=False,
        )
    with err.status("Exporting") as status:

        def tell(event: Event) -> None:
            if isinstance(event, Message):
                status.update(plain(event.text))

        found = export_run(
            run_path,
            wanted,
            int8=int8,
            precision=precision,
            coverage=share_of(coverage),
            by_class=by_class,
            keep=share_of(keep),
            calibration=calibration,
            data=data,
            to=to,
            rounds=rounds,
            notify=tell,
        )
    _table(found)
    for line in _notes(found):
        out.tell(line)


def _table(found: Exports) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("format", no_wrap=True)
    sets = _has_sets(found)
    covered = ("covered",) * sets
    for name in ("size", "agree", "largest", "accuracy", *covered, "1 image", "images/s", "x"):
        table.add_column(name, justify="right", no_wrap=True)
    first = found.exports[0].check
    table.add_row(
        "PyTorch fp32",
        _size(found.size),
        "",
        "",
        _share(first.accuracy_before),
        *([_share(first.covered_before)] * sets),
        *_speed(found.pytorch, found.pytorch),
    )
    for one in found.exports:
        table.add_row(
            f"{one.format} {one.precision}",
            _size(one.size),
            _share(one.check.agreement),
            f"{one.check.largest:.1g}",
            _share(one.check.accuracy),
            *([_share(one.check.covered)] * sets),
            *_speed(one.speed, found.pytorch),
        )
    out.print(table)


def _has_sets(found: Exports) -> bool:
    return any(one.check.covered is not None for one in found.exports)


def _notes(found: Exports) -> list[str]:
    lines = [
        f"Checked on {found.checked_on}. agree: same most likely class as PyTorch; largest: "
        "largest difference of any probability; images/s: in batches of 32."
    ]
    if _has_sets(found):
        lines.append("covered: share of the sets (output prediction_set) that contain the label.")
    lines += [f"int8: {one.quantization}." for one in found.exports if one.quantization]
    paths = dict.fromkeys(one.path for one in found.exports)
    return [*lines, *(f"Export: {path}" for path in paths)]


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"


def _speed(speed: Speed | None, base: Speed | None) -> tuple[str, str, str]:
    if speed is None or base is None:
        return "", "", ""
    return f"{speed[0]:.1f} ms", f"{speed[1]:.0f}", f"{speed[1] / base[1]:.1f}"

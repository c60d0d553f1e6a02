"""The commands that use a trained model: predict, explain. They parse, call the package, print."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer
from rich.table import Table

from podium.cli.options import (
    ByClassOption,
    CoverageOption,
    InsecureOption,
    KeepOption,
    share_of,
)
from podium.cli.terminal import bars, err, out, plain, write_data
from podium.errors import ConfigError
from podium.runtime.events import Event, Message, Progress

if TYPE_CHECKING:
    from podium.deploy.predict.look import FilePrediction
    from podium.deploy.predict.sources import Sources
    from podium.deploy.predictor import Guess

app = typer.Typer()

NONE_OF_THESE = "none of these"
MOST_NAMED = 1000  # unreadable files that are listed: memory must not grow with their number


class Format(StrEnum):
    """Formats of the predictions."""

    table = "table"
    csv = "csv"
    jsonl = "jsonl"


@app.command()
def predict(
    run_path: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A run, a study (best by validation) or an export."),
    ],
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Files, folders, packs, addresses such as s3://BUCKET/FOLDER, quoted patterns, "
            "or - for paths on standard input.",
        ),
    ],
    top: Annotated[int, typer.Option(min=1, help="Classes per image.")] = 5,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format", help="Output format.", show_default="table, or by the suffix of --out"
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--out", help="Write to this .csv or .jsonl, atomically.")
    ] = None,
    coverage: CoverageOption = None,
    by_class: ByClassOption = False,
    keep: KeepOption = None,
    gradcam: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write heat maps, one JPEG per image."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Images per batch.", show_default="4, on a GPU 64"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    null: Annotated[
        bool,
        typer.Option("--null", "-0", help="Paths on standard input end with NUL (find -print0)."),
    ] = False,
    on: Annotated[
        str, typer.Option("--on", help="What computes: serial (here), ray or ray:HOST:PORT.")
    ] = "serial",
    cpus: Annotated[
        int | None, typer.Option(help="Cores of a Ray task.", show_default="all of a node")
    ] = None,
    gpus: Annotated[
        float | None, typer.Option(help="GPUs of a Ray task.", show_default="1 if there are any")
    ] = None,
    insecure: InsecureOption = False,
) -> None:
    """Predict the classes of images, with probabilities at the model's temperature.

    With --coverage each image gets a set of classes. As many of the sets as that contain the true
    class, on images like the validation images, from which the sets are calibrated. With --keep,
    images unlike those that the model was trained on are answered with "none of these".

    With --on ray, parts of the images are tasks of a Ray cluster, see docs/cluster.md.

    Images that cannot be read are listed at the end and do not stop the others.
    """
    form = _format(form, to)
    if null and "-" not in paths:
        raise ConfigError("--null applies to paths on standard input: also give - as a PATH.")
    if paths.count("-") > 1:
        raise ConfigError("PATH -: standard input can be read only once.")
    from podium.deploy.predict.files import predictions
    from podium.deploy.sets import Wanted, kept, promise
    from podium.study.engines.ray_parts import parts_named

    wanted = Wanted.of(share_of(coverage), by_class, share_of(keep))
    given = paths if "-" not in paths else _with_standard_input(paths, null)
    failed = _Failed()
    try:
        with contextlib.ExitStack() as stack:
            parts = stack.enter_context(
                parts_named(on, device=device, cpus=cpus, gpus=gpus, insecure=insecure)
            )
            found, sources, predictor = predictions(
                run_path, given, top, device, batch_size, gradcam, wanted, err.tell, parts
            )
            stack.enter_context(contextlib.closing(found))
            quiet = to is None and out.is_terminal
            shown = failed.noting(_watched(found, paths, sources, quiet=quiet))
            if form is Format.table:
                _print_table(shown, predictor.class_names, top)
            else:
                line = _csv_lines if form is Format.csv else _jsonl_lines
                ranks = min(top, len(predictor.class_names))
                extra = predictor.sets is not None, predictor.known is not None
                _write(line(ranks, *extra), shown, to)
    except KeyboardInterrupt:
        err.print(f"Interrupted. {failed.of:,} images were predicted.", highlight=False)
        raise typer.Exit(130) from None
    except BrokenPipeError:  # the reader has closed the pipe
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    if gradcam is not None:
        err.tell(f"Heat maps: {gradcam}")
    if predictor.sets is not None:
        err.tell(promise(predictor.sets, predictor.class_names))
    if predictor.known is not None:
        err.tell(kept(predictor.known))
    passed = ", ".join(f"{count:,} {what}" for what, count in sources.skipped.items())
    if passed:
        err.tell(f"Skipped: {passed}.")
    failed.tell()
    if failed.count:
        raise typer.Exit(1)


def _format(form: Format | None, to: Path | None) -> Format:
    """The format given, or that of the file's suffix; refuses combinations that conflict."""
    ending = to.suffix.lower()[1:] if to is not None else ""
    by_suffix = Format(ending) if ending in ("csv", "jsonl") else None
    if to is None:
        return form or Format.table
    if to.is_dir():
        raise ConfigError(f"--out {to} is a folder. Expected a file, such as {to}/predictions.csv.")
    if form is Format.table or (form is None and by_suffix is None):
        raise ConfigError(
            f"--out {to}: tables are only for the screen. Give a name that ends in .csv or .jsonl, "
            "or --format csv or jsonl."
        )
    if form is not None and by_suffix is not None and form is not by_suffix:
        raise ConfigError(f"--out {to} and --format {form.value} conflict: drop one.")
    return form or by_suffix or Format.table


def _with_standard_input(paths: list[str], null: bool) -> Iterator[str]:
    from podium.deploy.predict.sources import read_paths

    for path in paths:
        if path == "-":
            yield from read_paths(typer.get_binary_stream("stdin"), null=null)
        else:
            yield path


def _watched(
    found: Iterator[FilePrediction], paths: list[str], sources: Sources, *, quiet: bool
) -> Iterator[FilePrediction]:
    """The predictions, with a progress bar if they are not themselves printed on the terminal."""
    if quiet or not err.is_terminal:
        yield from found
        return
    from podium.data.place import is_address

    if any(one == "-" or is_address(one) for one in paths):  # their number is not known
        with err.status("Predicting") as status:
            for done, one in enumerate(found, start=1):
                status.update(f"Predicting: {done:,}")
                yield one
        return
    from podium.deploy.predict.sources import Sources

    total = sum(1 for _ in Sources(paths, sources.leave_out, sources.suffixes))
    with bars() as tell:
        for done, one in enumerate(found, start=1):
            tell(Progress("images", done, total))
            yield one


class _Failed:
    """Files that could not be read, to be reported at the end."""

    def __init__(self) -> None:
        self.named: list[tuple[str, str]] = []
        self.count, self.of = 0, 0

    def noting(self, found: Iterator[FilePrediction]) -> Iterator[FilePrediction]:
        for one in found:
            if one.error:
                self.count += 1
                if len(self.named) < MOST_NAMED:
                    self.named.append((one.path, one.error))
            else:
                self.of += 1
            yield one

    def tell(self) -> None:
        for path, reason in self.named:
            err.tell(f"not predicted: {_sayable(path)} ({reason})", style="yellow")
        if self.count > len(self.named):
            err.tell(
                f"... and {self.count - len(self.named):,} more; --format jsonl lists them all."
            )


def _sayable(path: str) -> str:
    """A name with undecodable bytes as escapes: no stream accepts them otherwise."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def _print_table(
    found: Iterator[FilePrediction], class_names: tuple[str, ...], top: int = 5
) -> None:
    """Print each image's rows as soon as it is predicted; column widths are fixed in advance.

    Where sets were asked for, the rows are the classes of the set, at most `top` of them.
    """
    longest = max(plain(name).cell_len for name in class_names)
    wide = min(max(13, longest), max(13, out.width // 3))  # "none of these" fits
    head = True
    for one in found:
        if one.error:
            continue
        table = Table(box=None, show_header=head, pad_edge=False)
        table.add_column("image", width=max(12, out.width - wide - 16), overflow="fold")
        table.add_column("class", width=wide, overflow="fold")
        table.add_column("probability", width=11, justify="right", no_wrap=True)
        if one.none_of_these:
            table.add_row(plain(_sayable(one.path)), NONE_OF_THESE, "")
        for rank, guess in enumerate(one.candidates[:top] or one.guesses, one.none_of_these or 0):
            table.add_row(
                plain(_sayable(one.path)) if rank == 0 else "",
                plain(guess.name),
                f"{100 * guess.probability:.1f} %",
                style="" if rank == 0 else "dim",
            )
        if (rest := len(one.candidates) - top) > 0:
            table.add_row("", f"and {rest:,} more", "", style="dim")
        out.print(table)
        head = False


Lines = Callable[["FilePrediction | None"], str]
"""The text of a prediction, with its line ending; for None, the text before the first."""


def _csv_lines(ranks: int, sets: bool = False, known: bool = False) -> Lines:
    # Programs read this, so classes stay as they are: a guard against formulas, as in tables for
    # spreadsheets, would turn a class -1 into '-1. A path that begins like a formula can be
    # given in another form.
    def line(one: FilePrediction | None) -> str:
        cells: list[object] = ["path"]
        if one is None:
            for rank in range(1, ranks + 1):
                cells += [f"class_{rank}", f"probability_{rank}"]
            cells += ["set"] * sets + ["none_of_these"] * known
        elif one.error:
            return ""
        else:
            cells = [f"./{one.path}" if one.path[:1] in tuple("=+-@\t\r") else one.path]
            for guess in one.guesses:
                cells += [guess.name, f"{guess.probability:.6f}"]
            if sets:  # of any number of classes, whose names may hold any separator
                names = [guess.name for guess in one.candidates]
                cells.append(json.dumps(names, ensure_ascii=False))
            if known:
                cells.append("yes" if one.none_of_these else "no")
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(cells)
        return text.getvalue()

    return line


def _jsonl_lines(ranks: int, sets: bool = False, known: bool = False) -> Lines:
    def line(one: FilePrediction | None) -> str:
        if one is None:
            return ""
        values: dict[str, object] = {"path": one.path}
        if one.error:
            values["error"] = one.error
        else:
            values["predictions"] = _listed(one.guesses)
            if sets:
                values["set"] = _listed(one.candidates)
            if known:
                values["none_of_these"] = one.none_of_these
        if one.heat_map:
            values["gradcam"] = one.heat_map
        return json.dumps(values, ensure_ascii=False) + "\n"

    return line


def _listed(guesses: tuple[Guess, ...]) -> list[dict[str, object]]:
    return [{"class": one.name, "probability": round(one.probability, 6)} for one in guesses]


def _write(line: Lines, found: Iterator[FilePrediction], to: Path | None) -> None:
    """Write to standard output as predictions arrive, or to a file that is put in place at the end.

    After Ctrl-C the file holds the predictions so far, in whole lines.
    """
    if to is None:
        write_data(line(None))
        for one in found:
            write_data(line(one))
        return
    from podium.runtime.files import atomic_write

    interrupted = []

    def fill(file: BinaryIO) -> None:
        file.write(line(None).encode())
        try:
            for one in found:
                # undecodable bytes become escapes, which JSON reads back
                file.write(line(one).encode("utf-8", "backslashreplace"))
        except KeyboardInterrupt as stop:
            interrupted.append(stop)

    atomic_write(to, fill)
    out.tell(f"Predictions: {to}")
    if interrupted:
        raise interrupted[0]


@app.command()
def explain(
    study: Annotated[Path, typer.Argument(help="Folder of a study, such as runs/sports100.")],
    data: Annotated[
        str | None,
        typer.Option("--data", help="Its images, if they have moved."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
) -> None:
    """Make the heat maps that a report shows, for a study that was run without them.

    `podium run` makes them itself. Nothing is trained, and no accuracy is computed.
    """
    from podium.study.explain import explain as explain_study

    warned = 0

    def notify(event: Event) -> None:
        nonlocal warned
        if isinstance(event, Message):
            warned += 1
            err.tell(event.text, style="yellow")

    try:
        with err.status("Computing heat maps"):
            explained = explain_study(study, data, device=device, notify=notify)
    except KeyboardInterrupt:
        err.print("Interrupted. Finished heat maps are kept; the same command makes the rest.")
        raise typer.Exit(130) from None
    for run in explained:
        out.tell(f"Heat maps: {run.explanations}")
    if explained:
        err.tell(f"Run `podium report {study}` to show them.")
    elif not warned:
        err.tell("Every finished run already has its heat maps.")
    if warned:
        raise typer.Exit(1)

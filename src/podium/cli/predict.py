"""The commands that show a trained model at work: predict, explain. They parse, call, print."""

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

from podium.cli.terminal import bars, err, out, plain, write_data
from podium.errors import ConfigError
from podium.runtime.events import Event, Message, Progress

if TYPE_CHECKING:
    from podium.deploy.predict.files import FilePrediction
    from podium.deploy.predict.sources import Sources

app = typer.Typer()

MOST_NAMED = 1000  # files that could not be read: memory must not grow with their number


class Format(StrEnum):
    """How predictions are written."""

    table = "table"
    csv = "csv"
    jsonl = "jsonl"


@app.command()
def predict(
    run_path: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A run, a study (its best on validation) or an export."),
    ],
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Files, folders, quoted patterns, or - for paths on standard input.",
        ),
    ],
    top: Annotated[int, typer.Option(min=1, help="Classes a picture.")] = 5,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="How to write them.", show_default="table, or as --out ends"),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--out", help="Write to this .csv or .jsonl, whole or not.")
    ] = None,
    gradcam: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write where the model looked, a JPEG a picture."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures at a time.", show_default="4, on a GPU 64"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    null: Annotated[
        bool, typer.Option("--null", "-0", help="Paths of - end with NUL (find -print0).")
    ] = False,
) -> None:
    """Say what pictures show, with probabilities at the model's temperature.

    Pictures that cannot be read are named at the end and do not stop the others.
    """
    form = _format(form, to)
    if null and "-" not in paths:
        raise ConfigError("--null says how paths on standard input end: give - as a PATH, too.")
    if paths.count("-") > 1:
        raise ConfigError("PATH -: standard input can be read once.")
    from podium.deploy.predict.files import predictions

    given = paths if "-" not in paths else _with_standard_input(paths, null)
    failed = _Failed()
    try:
        found, sources, predictor = predictions(
            run_path, given, top, device, batch_size, gradcam, tell=err.tell
        )
        quiet = to is None and out.is_terminal
        shown = failed.noting(_watched(found, paths, sources, quiet=quiet))
        if form is Format.table:
            _print_table(shown, predictor.class_names)
        else:
            line = _csv_lines if form is Format.csv else _jsonl_lines
            _write(line(min(top, len(predictor.class_names))), shown, to)
    except KeyboardInterrupt:
        err.print(f"Interrupted. {failed.of:,} pictures were predicted.", highlight=False)
        raise typer.Exit(130) from None
    except BrokenPipeError:  # whoever read it has seen enough
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    if gradcam is not None:
        err.tell(f"Heat maps: {gradcam}")
    passed = ", ".join(f"{count:,} {what}" for what, count in sources.skipped.items())
    if passed:
        err.tell(f"Passed over: {passed}.")
    failed.tell()
    if failed.count:
        raise typer.Exit(1)


def _format(form: Format | None, to: Path | None) -> Format:
    """What is asked for, or what the file's ending says; refuses what does not go together."""
    ending = to.suffix.lower()[1:] if to is not None else ""
    said = Format(ending) if ending in ("csv", "jsonl") else None
    if to is None:
        return form or Format.table
    if to.is_dir():
        raise ConfigError(f"--out {to} is a folder: expected a file, such as {to}/predictions.csv.")
    if form is Format.table or (form is None and said is None):
        raise ConfigError(
            f"--out {to}: a table is for the screen. Give a name that ends in .csv or .jsonl, or "
            "--format csv or jsonl."
        )
    if form is not None and said is not None and form is not said:
        raise ConfigError(f"--out {to} and --format {form.value} do not go together: drop one.")
    return form or said or Format.table


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
    """The same, with a bar on the terminal where the predictions themselves do not go there."""
    if quiet or not err.is_terminal:
        yield from found
        return
    if "-" in paths:  # who knows how many will come
        with err.status("Predicting") as status:
            for done, one in enumerate(found, start=1):
                status.update(f"Predicting: {done:,}")
                yield one
        return
    from podium.deploy.predict.sources import Sources

    total = sum(1 for _ in Sources(paths, sources.leave_out))
    with bars() as tell:
        for done, one in enumerate(found, start=1):
            tell(Progress("pictures", done, total))
            yield one


class _Failed:
    """What could not be read, to be told at the end."""

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
                f"... and {self.count - len(self.named):,} more; --format jsonl names them all."
            )


def _sayable(path: str) -> str:
    """A name whose bytes are no text, with those as escapes: no stream takes them otherwise."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def _print_table(found: Iterator[FilePrediction], class_names: tuple[str, ...]) -> None:
    """A picture's rows as soon as it is predicted; the widths depend on no picture."""
    longest = max(plain(name).cell_len for name in class_names)
    wide = min(max(5, longest), max(12, out.width // 3))
    head = True
    for one in found:
        if one.error:
            continue
        table = Table(box=None, show_header=head, pad_edge=False)
        table.add_column("picture", width=max(12, out.width - wide - 16), overflow="fold")
        table.add_column("class", width=wide, overflow="fold")
        table.add_column("probability", width=11, justify="right", no_wrap=True)
        for rank, guess in enumerate(one.guesses):
            table.add_row(
                plain(_sayable(one.path)) if rank == 0 else "",
                plain(guess.name),
                f"{100 * guess.probability:.1f} %",
                style="" if rank == 0 else "dim",
            )
        out.print(table)
        head = False


Lines = Callable[["FilePrediction | None"], str]
"""The text of a prediction, with its line end; of None, what stands before the first."""


def _csv_lines(ranks: int) -> Lines:
    # Programs read this, so classes stay as they are: a guard against formulas, as in tables for
    # spreadsheets, would make '-1 of a class -1. A path that begins like a formula can be written
    # in another way that leads to the same file.
    def line(one: FilePrediction | None) -> str:
        cells: list[object] = ["path"]
        if one is None:
            for rank in range(1, ranks + 1):
                cells += [f"class_{rank}", f"probability_{rank}"]
        elif one.error:
            return ""
        else:
            cells = [f"./{one.path}" if one.path[:1] in tuple("=+-@\t\r") else one.path]
            for guess in one.guesses:
                cells += [guess.name, f"{guess.probability:.6f}"]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(cells)
        return text.getvalue()

    return line


def _jsonl_lines(ranks: int) -> Lines:
    def line(one: FilePrediction | None) -> str:
        if one is None:
            return ""
        values: dict[str, object] = {"path": one.path}
        if one.error:
            values["error"] = one.error
        else:
            values["predictions"] = [
                {"class": guess.name, "probability": round(guess.probability, 6)}
                for guess in one.guesses
            ]
        if one.heat_map:
            values["gradcam"] = one.heat_map
        return json.dumps(values, ensure_ascii=False) + "\n"

    return line


def _write(line: Lines, found: Iterator[FilePrediction], to: Path | None) -> None:
    """Write to standard output as it comes, or to a file that is put in its place at the end.

    Ctrl-C puts what there is in its place, in whole lines.
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
                # what is no text becomes an escape, which JSON reads back
                file.write(line(one).encode("utf-8", "backslashreplace"))
        except KeyboardInterrupt as stop:
            interrupted.append(stop)

    atomic_write(to, fill)
    out.tell(f"Predictions: {to}")
    if interrupted:
        raise interrupted[0]


@app.command()
def explain(
    study: Annotated[Path, typer.Argument(help="A study's folder, such as runs/sports100.")],
    data: Annotated[
        str | None,
        typer.Option("--data", help="Its images, if they are not where they were."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
) -> None:
    """Make the heat maps that a report shows, for a study that was run without them.

    `podium run` makes them itself. Nothing is trained, and no accuracy computed.
    """
    from podium.study.explain import explain as explain_study

    warned = 0

    def notify(event: Event) -> None:
        nonlocal warned
        if isinstance(event, Message):
            warned += 1
            err.tell(event.text, style="yellow")

    try:
        with err.status("Looking where the models looked"):
            explained = explain_study(study, data, device=device, notify=notify)
    except KeyboardInterrupt:
        err.print("Interrupted. What was made is kept; the same command makes the rest.")
        raise typer.Exit(130) from None
    for run in explained:
        out.tell(f"Heat maps: {run.explanations}")
    if explained:
        err.tell(f"`podium report {study}` shows them.")
    elif not warned:
        err.tell("Every finished run has its heat maps.")
    if warned:
        raise typer.Exit(1)

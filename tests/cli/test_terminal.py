"""What the command writes, in every encoding that a stream may have."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from podium.cli import terminal
from podium.cli.app import PANELS, app, main
from podium.cli.predict import _csv_lines, _jsonl_lines, _print_table, _write
from podium.cli.progress import StudyProgress
from podium.deploy.predict.look import FilePrediction
from podium.deploy.predictor import Guess
from podium.runtime.events import (
    EpochDone,
    Message,
    RunDone,
    RunStarted,
    StudyStarted,
    WarningMessage,
)
from tests.fake_study import fake_study

ENCODINGS = ("cp1252", "latin-1", "ascii", "cp437", "utf-8", "gbk")
FOUND = [FilePrediction("photos/鸟.png", (Guess("Vögel", 0.75), Guess("鸟 – 鱼", 0.25)))]


class Stream(io.TextIOWrapper):
    """A file or a screen of an encoding, as Python opens it: it raises on what that lacks."""

    def __init__(self, encoding: str, screen: bool = False) -> None:
        super().__init__(io.BytesIO(), encoding, newline="\n")
        self.screen = screen

    def isatty(self) -> bool:
        return self.screen

    def text(self, encoding: str = "") -> str:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode(encoding or self.encoding)


def opened(patch: pytest.MonkeyPatch, encoding: str, screen: bool = False) -> Stream:
    """Both streams of the command, prepared as `main` does it."""
    made = Stream(encoding, screen)
    for name in ("stdout", "stderr"):
        patch.setattr(sys, name, made)
    terminal.accept_any_text()
    return made


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "Vögel − 鸟 … \\udcff"),
        ("cp1252", "Vögel - \\u9e1f … \\udcff"),
        ("latin-1", "Vögel - \\u9e1f ... \\udcff"),
        ("ascii", "V\\xf6gel - \\u9e1f ... \\udcff"),
    ],
)
def test_a_sign_or_an_escape_stands_in_for_what_is_lacking(encoding: str, shown: str) -> None:
    assert "Vögel − 鸟 … \udcff".encode(encoding, "podium").decode(encoding) == shown


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_messages_tables_and_bars_go_through(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = opened(monkeypatch, encoding)
    terminal.out.print("Vögel − 鸟 [bold]✓[/bold]")
    terminal.err.print("error: 鸟.csv", markup=False)
    table = Table("−", "class", box=None)
    table.add_row("1 − 2 …", terminal.plain("鸟\x1b"))
    terminal.out.print(table)
    with StudyProgress(terminal.err) as progress:
        progress.console.print("鸟", markup=False)
    lines = stream.text().splitlines()
    if stream.encoding in ("utf-8", "gbk"):
        assert "鸟" in lines[0]
    else:
        assert "- \\u9e1f" in lines[0]
        assert lines[1] == "error: \\u9e1f.csv"
    assert all(len(line.rstrip()) < 40 for line in lines)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_columns_stay_straight_where_an_escape_is_longer(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = opened(monkeypatch, encoding)
    table = Table(box=None)
    table.add_column("class")
    table.add_column("n", justify="right", no_wrap=True)
    for name in ("鸟", "bird", "−"):
        table.add_row(name if name == "−" else terminal.plain(name), "7")
    terminal.out.print(table)
    from rich.cells import cell_len

    ends = {cell_len(line.rstrip()[:-1]) for line in stream.text().splitlines()}
    assert len(ends) == 1


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_bars_and_spinners_of_a_screen_go_through(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = opened(monkeypatch, encoding, screen=True)
    monkeypatch.setattr(terminal.err, "_force_terminal", True)
    spinner = terminal.err.status("Comparing").renderable
    "".join(map(str, spinner.frames)).encode(encoding)
    with Progress(console=terminal.err) as progress:
        progress.update(progress.add_task("鸟", total=2), completed=1)
        progress.refresh()
    shown = screen.text()
    assert ("━" in shown) == (encoding == "utf-8")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_data_are_utf_8_in_every_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = opened(monkeypatch, encoding)
    for lines in (_csv_lines(2), _jsonl_lines(2)):
        _write(lines, iter(FOUND), None)
    text = stream.text("utf-8")
    assert "photos/鸟.png,Vögel,0.750000,鸟 – 鱼,0.250000\n" in text
    assert json.loads(text.splitlines()[-1])["predictions"][1]["class"] == "鸟 – 鱼"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_table_of_predictions_goes_through(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = opened(monkeypatch, encoding)
    _print_table(iter(FOUND), ("Vögel", "鸟 – 鱼"))
    lines = stream.text().splitlines()
    assert len(lines) == 3
    assert lines[1].endswith("75.0 %")
    assert lines[2].endswith("25.0 %")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_the_command_ends_well_in_every_encoding(encoding: str, tmp_path: Path) -> None:
    """The real command, in a process whose streams are Python's own."""
    study = fake_study(tmp_path / "s", ("Vögel", "鸟"), contenders=2, per_class=8, epochs=1)
    words = ("--help", "compare {study} --lang pt --resamples 0", "compare 鸟.csv", "studies demo")
    code = (
        "import sys; from podium.cli.app import main\n"
        "for words in sys.argv[1:]: print(main(words.split()), flush=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *(word.format(study=study.path) for word in words)],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=True,
    )
    out, err = done.stdout.decode(encoding), done.stderr.decode(encoding)
    assert [line for line in out.splitlines() if len(line) == 1] == ["0", "0", "2", "0"]
    assert "error: \\u9e1f.csv is neither" in err
    assert "This is a bug" not in err
    assert "1 - 2" in out


def test_a_built_in_study_that_was_printed_is_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = opened(monkeypatch, "cp1252")
    assert main(["studies", "quick"]) == 0
    assert yaml.safe_load(stream.text("utf-8"))["name"] == "quick"


def _row(**changes: float) -> dict[str, float]:
    usual = {"epoch": 1, "lr": 1e-3, "train_loss": 2.1, "train_accuracy": 0.2}
    return {
        **usual,
        "valid_accuracy": 0.1,
        "seconds": 5.6,
        "images_per_second": 112.0,
        **changes,
    }


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_log_of_a_study_counts_its_runs_and_breaks_no_word(width: int) -> None:
    told = "a notice of several words that is longer than a narrow terminal is wide, " * 2
    screen = Console(file=io.StringIO(), force_terminal=True, width=width, no_color=True)
    progress = StudyProgress(screen)  # not entered: no bars, only what stays in the scrollback
    who: Any = {"contender": "a", "seed": 0}
    for event in (
        StudyStarted(2, 10),
        Message(told),
        WarningMessage(told),
        RunStarted("Frozen [Other]", 30, 5, **who),
        EpochDone(30, _row(lr=0.0), **who),
        EpochDone(30, _row(epoch=2), **who),
        RunDone("Frozen [Other]", {"valid_accuracy": 0.5, "test_accuracy": 0.4}, **who),
        RunStarted("Second", 1, 5, contender="b", seed=0),
    ):
        progress.notify(event)
    assert isinstance(screen.file, io.StringIO)
    lines = Text.from_ansi(screen.file.getvalue()).plain.splitlines()
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    assert words.count("narrow") == 4
    assert "Frozen [Other]  1 of 2" in lines
    assert "Second  2 of 2" in lines
    joined = " ".join(words)
    assert "epoch 1/30 loss 2.100 train" in joined  # a linear probe has no learning rate
    # what does not fit is left out: of 80 columns the images a second, of 60 the learning rate
    assert ("epoch 2/30 lr 1e-03 loss" in joined) is (width > 60)
    assert joined.count("img/s") == (2 if width == 120 else 1 if width == 80 else 0)


def test_a_busy_machine_is_told_once_below_the_epoch() -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=80, no_color=True)
    progress = StudyProgress(screen)
    who: Any = {"contender": "a", "seed": 0}
    progress.notify(RunStarted("A", 30, 5, **who))
    note = "machine busy: others use 1.4 of 2 cores"
    for epoch, busy in enumerate((note, note, "", note), start=1):
        progress.busy = busy
        progress.notify(EpochDone(30, _row(epoch=epoch), **who))
    assert isinstance(screen.file, io.StringIO)
    lines = Text.from_ansi(screen.file.getvalue()).plain.splitlines()[1:]
    assert [line.split()[0] for line in lines] == [
        "epoch", "(machine", "epoch", "epoch", "epoch", "(machine",
    ]  # fmt: skip
    assert f"  ({note})" in lines


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_name_of_a_model_is_cut(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    stream = opened(monkeypatch, "utf-8")
    assert main(["models"]) == 0
    text = stream.text()
    assert "…" not in text
    names = {line.split()[0] for line in text.splitlines()[1:] if line.startswith(" ") and
             line[1:2].strip()}  # fmt: skip
    assert {"simple_resnet", "inception_resnet", "resnet18", "efficientnet_lite0"} <= names


def test_help_groups_the_commands_and_shows_no_type_of_python(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    places = [told.index(f" {panel} ─") for panel in PANELS]
    assert places == sorted(places)
    assert " Commands ─" not in told  # every command is in a group
    root = typer.main.get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        inner = [[name, one] for one in getattr(command, "commands", ())] or [[name]]
        for words in inner:
            assert main([*words, "--help"]) == 0
            assert "list[" not in capsys.readouterr().out, words

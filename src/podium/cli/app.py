"""The `podium` command: parses arguments, calls the package, prints. It computes nothing itself.

Heavy modules are imported inside the commands, so that `podium --help` starts at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand

from podium.__about__ import __version__
from podium.cli.card import app as card_app
from podium.cli.cell import app as cell_app
from podium.cli.curve import app as curve_app
from podium.cli.data import app as data_app
from podium.cli.export import app as export_app
from podium.cli.lists import app as lists_app
from podium.cli.planning import app as planning_app
from podium.cli.predict import app as predict_app
from podium.cli.report import app as report_app
from podium.cli.run import app as run_app
from podium.cli.serve import app as serve_app
from podium.cli.stress import app as stress_app
from podium.cli.terminal import accept_any_text, err, out
from podium.cli.verdicts import app as verdicts_app
from podium.cli.verify import app as verify_app
from podium.errors import ConfigError, PodiumError
from podium.runtime.threads import let_waiting_threads_sleep

app = typer.Typer(
    name="podium",
    help="Which image classifier wins on your images, and how sure can you be?",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
PANELS = {
    "Study": "run cell demo train curve report studies models",
    "Judge": "evaluate compare stress verify power claim",
    "Use": "predict explain serve export card push",
    "Data": "data audit augment",
}
"""Groups of the commands in `podium --help`, in the order of a project."""


class _Command(TyperCommand):
    """Shows no Python type beside an argument of several values: its name says what they are."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        for one in self.params:
            if isinstance(one, TyperArgument) and one.nargs == -1:
                one.__dict__["display_type_rich"] = lambda ctx: None


def _add_in_order(parts: Sequence[typer.Typer]) -> None:
    """Give `app` the commands of its parts, in the panels and the order of `PANELS`."""
    commands = {}
    for part in parts:
        for command in part.registered_commands:
            assert command.callback is not None
            commands[command.name or command.callback.__name__] = command
    panels = {name: panel for panel, names in PANELS.items() for name in names.split()}
    for name in sorted(commands, key=[*panels].index):
        command = commands[name]
        command.rich_help_panel, command.cls = panels[name], _Command
        app.registered_commands.append(command)
    app.add_typer(data_app, name="data", rich_help_panel=panels["data"])


_add_in_order(
    (
        run_app,
        cell_app,
        curve_app,
        report_app,
        verdicts_app,
        stress_app,
        verify_app,
        planning_app,
        predict_app,
        serve_app,
        export_app,
        card_app,
        lists_app,
    )
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        out.print(f"podium {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", is_eager=True, callback=_tell_version
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks (also allowed after any command).")
    ] = False,
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            help="Import your own code that a run needs, such as my_networks in the current "
            "folder, or code/my_networks; repeatable (also allowed after any command).",
        ),
    ] = None,
) -> None:
    """Options that do not belong to a command; each takes effect on its own."""


def take_imports(words: list[str]) -> tuple[list[str], list[str]]:
    """Split a command line into its other words and the modules of its `--import` options.

    Args:
        words: the command line, without the program's name.

    Returns:
        `(rest, modules)`: the other words, and the names of the modules.

    Raises:
        ConfigError: an `--import` names no module.
    """
    rest: list[str] = []
    modules: list[str] = []
    ahead = iter(words)
    for word in ahead:
        option, sign, module = word.partition("=")
        if word == "--":  # no options follow
            rest += [word, *ahead]
        elif option == "--import":
            module = module if sign else next(ahead, "")
            if not module or module.startswith("-"):
                raise ConfigError("--import: expected the name of a module, such as my_networks.")
            modules.append(module)
        else:
            rest.append(word)
    return rest, modules


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 (failure), 2 (user error), 130 (Ctrl-C).

    Args:
        arguments: the command line without the program's name; None: that of this process.
    """
    let_waiting_threads_sleep()  # before a command imports PyTorch
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words or bool(os.environ.get("PODIUM_DEBUG"))
    accept_any_text()
    try:
        words, modules = take_imports([word for word in words if word != "--debug"])
        for module in modules:
            from podium.config.registry import allow

            folder, name = os.path.split(module.removesuffix(".py"))
            allow(name, folder)
        app(words, prog_name="podium")
    except SystemExit as end:  # Typer's way to end, also after a wrong flag (2)
        return end.code if isinstance(end.code, int) else 1
    except Exception as error:
        if debug:
            raise
        known = isinstance(error, PodiumError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        err.print("[bold red]error:[/bold red]", end=" ")
        err.print(text, markup=False, highlight=False, soft_wrap=True)
        if not known:
            err.print("This is a bug or a machine failure. --debug shows where.")
        return error.exit_code if isinstance(error, PodiumError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

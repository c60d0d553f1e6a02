"""The commands that publish a run: card, push. They parse, call the package, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from podium.cli.terminal import err, out, plain, write_data
from podium.errors import UserError

if TYPE_CHECKING:
    from podium.deploy.publish.pack import Package

app = typer.Typer()

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="Folder of a run, or of a study (best by validation).")
]
LicenseOption = Annotated[
    str | None,
    typer.Option(
        "--license", help="Licence of the weights, such as apache-2.0.", show_default="not stated"
    ),
]
DatasetOption = Annotated[
    str | None,
    typer.Option(
        help="The images on the Hub (OWNER/NAME), or sports100.", show_default="from the study"
    ),
]
LangOption = Annotated[str, typer.Option(help="Language of the card: en or pt.")]


@app.command()
def card(
    run: RunArgument,
    to: Annotated[
        Path | None,
        typer.Option(help="File to write; -: standard output.", show_default="RUN/README.md"),
    ] = None,
    license_id: LicenseOption = None,
    dataset: DatasetOption = None,
    repo_id: Annotated[
        str | None, typer.Option(help="OWNER/NAME on the Hub: describe how to fetch the model.")
    ] = None,
    lang: LangOption = "en",
) -> None:
    """Write a run's model card, in Hugging Face's format.

    It covers results with uncertainty, data, training, limits and licence.
    """
    from podium.deploy.find.choose import choose_run
    from podium.deploy.publish.card import card as write_card
    from podium.runtime.files import write_text

    folder = choose_run(run, err.tell)
    place = folder.path / "README.md" if to is None else to
    if str(place) != "-":
        _refuse_strange(place)
    with err.status("Reading the run"):
        text = write_card(
            folder, license=license_id, dataset=dataset, repo_id=repo_id, lang=lang, tell=err.tell
        )
    if str(place) == "-":
        write_data(text)
        return
    write_text(place, text)
    if license_id is None:
        err.tell("The card states no licence: choose one with --license.")
    out.tell(f"Card: {place}")


def _refuse_strange(place: Path) -> None:
    """Refuse to overwrite a file that is not a model card by Podium."""
    if place.is_dir():
        raise UserError(f"--to {place}: this is a folder. Give a file, such as {place}/README.md.")
    if place.is_file():
        with open(place, encoding="utf-8", errors="replace") as file:
            if "library_name: podium" not in file.read(100_000):
                raise UserError(
                    f"{place} already exists and is not a model card by Podium, so it is not "
                    "overwritten. Give another file with --to."
                )


@app.command()
def push(
    run: RunArgument,
    repo_id: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hub.")],
    private: Annotated[
        bool, typer.Option("--private", help="Make it private. A public repository is refused.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="Branch to commit to.", show_default="main")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with a Hub token.", show_default="HF_TOKEN, or the Hub's login"),
    ] = None,
    license_id: LicenseOption = None,
    dataset: DatasetOption = None,
    lang: LangOption = "en",
    with_predictions: Annotated[
        bool,
        typer.Option(
            "--with-predictions",
            help="Add the test predictions, which contain the names of your test images.",
        ),
    ] = False,
    with_exports: Annotated[
        bool, typer.Option("--with-exports", help="Add the models in RUN/export.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be uploaded; no network needed.")
    ] = False,
) -> None:
    """Upload a run to the Hugging Face Hub, as one commit: weights, description, recipe, card.

    It never prompts. The token comes from a file, HF_TOKEN or the Hub's login, and is never shown.
    """
    from podium.deploy.find.hub_errors import refuse_offline
    from podium.deploy.publish.pack import pack
    from podium.deploy.publish.push import quiet_unless_terminal, read_token, upload

    token = ""
    if not dry_run:
        refuse_offline()
        token = read_token(token_file)
    with err.status("Packing"):
        package = pack(
            run,
            repo_id,
            license=license_id,
            dataset=dataset,
            lang=lang,
            with_predictions=with_predictions,
            with_exports=with_exports,
            tell=err.tell,
        )
    if license_id is None:
        err.tell("The card states no licence: choose one with --license.")
    if dry_run:
        _show(package, private, revision)
        return
    quiet_unless_terminal()
    err.tell(
        f"Uploading {len(package.files)} files, {_size(sum(one.size for one in package.files))}"
    )
    url = upload(package, token=token, private=private, revision=revision, tell=err.tell)
    out.tell(f"Pushed: {url}")


def _show(package: Package, private: bool, revision: str | None) -> None:
    from podium.deploy.publish.card import front_matter

    table = Table(box=None)
    table.add_column("file", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    for one in package.files:
        table.add_row(plain(one.name), _size(one.size))
    kind = (
        "private" if private else "public, unless it already exists or its owner's default differs"
    )
    out.tell(f"Would upload to {package.repo_id}, branch {revision or 'main'} ({kind}):")
    out.print(table)
    out.tell(f"\n---\n{front_matter(package.card)}\n---")


def _size(count: int) -> str:
    for unit, size in (("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} B"

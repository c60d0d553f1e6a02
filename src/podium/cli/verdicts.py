"""The commands that judge results and data: compare, audit. They parse, call, print."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from podium.cli.options import (
    ChannelsOption,
    GroupOption,
    ImagesArgument,
    LabelOption,
    SourceOption,
    SourceSettings,
    data_spec,
)
from podium.cli.terminal import bars, err, out
from podium.errors import ConfigError, UserError

if TYPE_CHECKING:
    from podium.reporting.words.labels import Labels
    from podium.statistics.table import PredictionTable
    from podium.statistics.verdicts import Verdicts

app = typer.Typer()


@app.command()
def compare(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of studies, contenders or runs, or CSVs."),
    ],
    split: Annotated[str, typer.Option(help="Split of the runs: test or valid.")] = "test",
    shared: Annotated[
        bool, typer.Option("--shared", help="Use only the images that all have in common.")
    ] = False,
    resamples: Annotated[
        int, typer.Option(help="Resamples for the intervals of macro F1; 0: none.")
    ] = 2000,
    margin: Annotated[
        float | None,
        typer.Option(
            help="Contenders that differ by less are equivalent: points of accuracy and other "
            "shares, else units of the metric.",
            show_default="the studies' own, or what the images can show",
        ),
    ] = None,
    anytime: Annotated[
        bool,
        typer.Option(
            "--anytime",
            help="Verdicts that hold however often you look, for a test set that grows.",
        ),
    ] = False,
    planned: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="With --anytime: images at which you end at the latest.",
            show_default="not planned",
        ),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Also write the pairs to this .csv, .md or .json.")
    ] = None,
    lang: Annotated[str, typer.Option(help="Language: en or pt.")] = "en",
) -> None:
    """Report which contender beats which on the same images, and how certain that is.

    RUN is a finished run, a contender (all its seeds) or a whole study; or a CSV file from any
    tool with the columns path, label and one column of predicted classes per model
    (NAME@3: model NAME, trained with seed 3), or one column of scores per class (NAME_CLASS).
    A column group states which images belong together, such as the frames of a patient.
    """
    from podium.cli.verdict_tables import print_costs, print_pairs, print_standings
    from podium.reporting.words.cost_words import margin_sentence, trade_offs
    from podium.reporting.words.design_words import groups_sentence
    from podium.reporting.words.labels import labels
    from podium.reporting.words.metric_words import metric_title
    from podium.reporting.words.verdict_words import claim_sentence, headline, places_sentence
    from podium.statistics.comparison import compare_sources

    say = labels(lang)
    if save is not None and save.suffix not in (".csv", ".md", ".json"):
        raise ConfigError(f"--save {save}: expected a name that ends in .csv, .md or .json.")
    if planned is not None and not anytime:
        raise ConfigError(f"--planned {planned}: it belongs to --anytime.")
    with err.status("Comparing"):
        sheet, verdicts = compare_sources(
            sources, split=split, shared=shared, resamples=resamples, margin=margin
        )
    print_standings(verdicts, say)
    if anytime:
        _print_anytime(sheet, verdicts, margin, planned, say)
    elif verdicts.pairs:
        print_pairs(verdicts, say)
        if not sheet.metric.is_accuracy:
            out.tell(say("v_judged", metric=metric_title(verdicts.metric, say)))
        costs = {one.name: one.cost for one in sheet.contenders}
        gains = trade_offs(verdicts, costs, say)
        first = f"{headline(verdicts, say)} {places_sentence(verdicts, say)}".strip()
        for line in (first, *gains, *_answers(sheet, verdicts, say)):
            out.tell(line)
        print_costs(verdicts, costs, say)
        for line in (claim_sentence(verdicts, say), margin_sentence(verdicts, say)):
            out.tell(line, style="dim")
    if verdicts.grouping is not None:
        out.tell(groups_sentence(verdicts, say), style="dim")
    if verdicts.why_accuracy:
        err.tell(f"Compared by accuracy: {verdicts.why_accuracy}")
    for notice in verdicts.notices:
        err.tell(notice)
    if save is not None:
        _save(verdicts, save, say)


def _print_anytime(
    sheet: PredictionTable,
    verdicts: Verdicts,
    margin: float | None,
    planned: int | None,
    say: Labels,
) -> None:
    from podium.reporting.words.anytime_words import anytime_lines
    from podium.statistics.anytime import anytime_verdicts
    from podium.statistics.scoring import ACCURACY

    if planned is not None and planned < len(sheet):
        raise ConfigError(
            f"--planned {planned}: there are {len(sheet):,} images already. Give the number at "
            "which the study ends at the latest."
        )
    size = ACCURACY.in_units(margin)
    if size is None and sheet.metric.is_accuracy:
        size = sheet.margin
    found = anytime_verdicts(sheet, margin=size, planned=planned)
    for line in anytime_lines(found, verdicts.labels, size, planned, say):
        out.tell(line)


def _answers(sheet: PredictionTable, verdicts: Verdicts, say: Labels) -> list[str]:
    from podium.reporting.words.verdict_words import answers
    from podium.statistics.questions import questions

    recipes = {one.name: one.recipe for one in sheet.contenders if one.recipe is not None}
    if len(recipes) < len(sheet.contenders):
        return []
    valid = {one.name: one.valid_merit for one in sheet.contenders}
    found = answers(verdicts, questions(recipes, valid), recipes, say)
    return [" ".join(filter(None, [f"{one.topic}:", one.text, one.caveat])) for one in found]


def _save(verdicts: Verdicts, path: Path, say: Labels) -> None:
    from dataclasses import asdict

    from podium.reporting.tables import pair_table, pairs_csv
    from podium.runtime.files import write_json, write_text

    if path.suffix == ".json":
        values = asdict(verdicts)
        for one in (values, *values["pairs"]):
            one["metric"] = verdicts.metric.described()
        write_json(path, values)
    else:
        csv = path.suffix == ".csv"
        write_text(path, pairs_csv(verdicts) if csv else pair_table(verdicts, say))
    out.tell(f"Pairs: {path}")


@app.command()
def audit(
    data: ImagesArgument,
    label: LabelOption = None,
    group: GroupOption = None,
    source: SourceOption = "auto",
    option: SourceSettings = None,
    channels: ChannelsOption = None,
    labels: Annotated[
        bool, typer.Option("--labels/--no-labels", help="Look for labels that are probably wrong.")
    ] = True,
    price: Annotated[
        bool,
        typer.Option(
            "--price-of-leakage",
            help="With --group: measure by how much a random split of the images flatters.",
        ),
    ] = False,
    to: Annotated[Path, typer.Option(help="Folder for the page and the tables.")] = Path("audit"),
    lang: Annotated[str, typer.Option(help="Language of the page: en or pt.")] = "en",
    workers: Annotated[
        int | None, typer.Option(help="Threads that decode images.", show_default="from the cores")
    ] = None,
) -> None:
    """Look for damaged and unusual files, duplicates, leaks between splits and wrong labels.

    Writes a page that shows the images side by side, tables, and audit.json.
    """
    from podium.auditing import audit_images, index_data, leakage_price, write_audit
    from podium.reporting.page.audit_page import (
        audit_sections,
        write_audit_page,
        write_audit_tables,
    )
    from podium.reporting.words.labels import labels as get_labels
    from podium.results.pictures import audit_thumbnails

    say = get_labels(lang)
    if to.exists() and not (to / "audit.json").is_file() and (to.is_file() or any(to.iterdir())):
        raise UserError(
            f"--to {to}: it already exists and holds no earlier audit, so it is not changed. "
            "Give a new or empty folder."
        )
    spec = data_spec(data, label, group, source, option, channels=channels)
    with bars() as tell:
        index = index_data(spec, workers=workers, notify=tell)
        found = audit_images(index, labels=labels, workers=workers, notify=tell)
        if price:
            found = replace(found, price=leakage_price(index, notify=tell))
    name = index.root.name
    sections = audit_sections(found, {}, say)
    out.tell(sections["headline"])
    for text, alarm in sections["findings"]:
        if alarm:
            out.tell(f"! {text}", style="bold")
    if any(alarm for _, alarm in sections["findings"]):
        out.tell(say("audit_also"))
    for text, alarm in sections["findings"]:
        if not alarm:
            out.tell(f"- {text}")
    pictures = audit_thumbnails(found, index.reader)
    page = write_audit_page(
        found, index.root, to / "index.html", lang, title=name, thumbnails=pictures
    )
    write_audit_tables(found, to)
    if found.pairs:
        from podium.reporting.figures.audit_figure import audit_figure
        from podium.reporting.figures.style import figure_style, save_figure

        with figure_style(), err.status("Drawing"):
            sheet = audit_figure(found, pictures, say, title=name)
            save_figure(sheet, to / "duplicates", dpi=150, formats=("png",))
    write_audit(found, to / "audit.json")
    out.tell(f"Audit: {page}")

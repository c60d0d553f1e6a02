"""The tables that `podium compare` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table

from podium.cli.terminal import out, plain

if TYPE_CHECKING:
    from rich.text import Text

    from podium.reporting.words.labels import Labels
    from podium.statistics.costs import Cost
    from podium.statistics.verdicts import Verdicts


def print_standings(verdicts: Verdicts, say: Labels) -> None:
    """Print the contenders, numbered for the other tables, since names are long.

    Args:
        verdicts: of the contenders.
        say: the language.
    """
    from podium.reporting.words.metric_words import metric_interval, metric_title, metric_value
    from podium.reporting.words.verdict_words import place_words

    numbers = {one.name: str(at) for at, one in enumerate(verdicts.standings, start=1)}
    table = Table("#", box=None)
    table.add_column(say("col_contender"), overflow="fold", min_width=16)
    heads = ("v_col_place", "t_tied", "t_accuracy", "t_interval", "t_f1")
    for head in (*heads, "col_n"):
        table.add_column(say(head), justify="right", no_wrap=True)
    metric = verdicts.metric
    if not metric.is_accuracy:
        for head in (metric_title(metric, say), say("t_interval")):
            table.add_column(head, justify="right", no_wrap=True)
    several = any(one.seeds > 1 for one in verdicts.standings)
    if several:
        table.add_column(say("t_seeds"), justify="right", no_wrap=True)
    for one in verdicts.standings:
        cells: list[str | Text] = [
            numbers[one.name],
            plain(one.label),
            place_words(one, say),
            ", ".join(sorted(numbers[name] for name in one.tied)) or "–",
            say.number(100 * one.accuracy.value),
            say.interval((one.accuracy.low, one.accuracy.high)).removesuffix(" %"),
            say.number(100 * one.macro_f1),
            say.count(one.n),
            *(
                []
                if metric.is_accuracy
                else [
                    metric_value(metric, one.judged.value, say),
                    metric_interval(metric, one.judged, say),
                ]
            ),
            *([str(one.seeds)] if several else []),
        ]
        table.add_row(*cells)
    out.print(table)


def print_pairs(verdicts: Verdicts, say: Labels) -> None:
    """Print every pair with its difference and verdict.

    Args:
        verdicts: of the contenders.
        say: the language.
    """
    from podium.reporting.words.verdict_words import ordered_pairs, pair_cells

    numbers = {one.name: str(at) for at, one in enumerate(verdicts.standings, start=1)}
    table = Table(box=None)
    table.add_column(say("v_col_pair"), no_wrap=True)
    heads = ("t_difference", "t_interval", "t_only", "t_f1_difference", "t_p")
    for head in heads:
        table.add_column(say(head), justify="right", no_wrap=True)
    table.add_column(say("v_col_verdict"), no_wrap=True)
    for pair in ordered_pairs(verdicts):
        first, second, *cells = pair_cells(pair, numbers, say)
        cells[3] = cells[3].partition(" (")[0]  # --save has the interval of macro F1, and
        del cells[4]  # the unadjusted p: not enough room in 80 columns
        table.add_row(f"{first} − {second}", *cells, style="dim" if pair.winner is None else "")
    out.print()
    out.print(table)
    out.print()


def print_costs(verdicts: Verdicts, costs: Mapping[str, Cost], say: Labels) -> None:
    """Print what each contender costs; nothing for predictions of other tools.

    Args:
        verdicts: of the contenders.
        costs: of each, by name.
        say: the language.
    """
    from podium.reporting.words.cost_words import cost_headings, cost_rows

    rows = cost_rows(verdicts, costs, say)
    if not rows:
        return
    table = Table("#", box=None)
    for name in cost_headings(verdicts, costs, say)[2:]:
        table.add_column(name, justify="right")
    for number, (_, _, *cells) in enumerate(rows, start=1):
        table.add_row(str(number), *(text for text, _ in cells))
    out.print()
    out.print(table)
    out.print()

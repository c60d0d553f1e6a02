"""What `podium run` and `podium report` end with: a podium, what it is worth, what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from podium.cli.terminal import out, plain

if TYPE_CHECKING:
    from podium.reporting import ReportResult
    from podium.reporting.words.labels import Labels
    from podium.results.study import Contender, StudyResults

MOST_ROWS = 12
METALS = ("bold yellow", "bright_white", "dark_orange3")
BLOCKS = ("█████", "███  ", "█    ")
STRIP = 24  # characters of an interval


def print_ending(report: ReportResult, say: Labels) -> None:
    """Print the podium of a study and what follows from it.

    Args:
        report: of the study, as just written.
        say: the language.
    """
    from podium.reporting.page.audit_page import audit_headline
    from podium.reporting.words.look_words import look_sentence
    from podium.reporting.words.podium_words import (
        needed_sentence,
        next_commands,
        outlook_sentence,
        verdict_sentence,
    )
    from podium.reporting.words.slice_words import slice_sentences
    from podium.reporting.words.tuning_words import tuning_sentences

    results = report.results
    out.print()
    _print_steps(results, say)
    out.print()
    out.tell(verdict_sentence(results, say), style="bold")
    stopped = [look_sentence(one, say) for one in results.looks[-1:]]
    for line in (*stopped, outlook_sentence(results, say), needed_sentence(results, say)):
        if line:
            out.tell(line)
    if results.slices is not None and results.table is not None:
        labels = {one.name: one.label for one in results.table.contenders}
        for line in slice_sentences(results.slices, labels, say):
            out.tell(line)
    if results.tuning is not None:
        for line in tuning_sentences(results.tuning, say):
            out.tell(line)
    if results.audit is not None:
        out.tell(say("podium_audit", text=audit_headline(results.audit, say)))
    out.tell(say("podium_report", path=report.index))
    out.print()
    out.tell(f"{say('next_title')}:", style="bold")
    for command, what in next_commands(results, say):
        out.print(Text.assemble("  ", (command, "cyan"), (f"  # {what}", "dim")))


def _print_steps(results: StudyResults, say: Labels) -> None:
    from podium.reporting.words.podium_words import bounds, score_words, standings_by_name, steps
    from podium.reporting.words.verdict_words import place_words

    standings, every = standings_by_name(results), steps(results)
    known = [bounds(results, one) for one in results.contenders]
    ends = [end for found in known if found is not None for end in found]
    table = Table.grid(padding=(0, 2))
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold", min_width=16)
    table.add_column(justify="right", no_wrap=True)
    for _ in range(2):
        table.add_column(no_wrap=True)
    left = MOST_ROWS
    for number, step in enumerate(every):
        style = METALS[number] if number < len(METALS) else ""
        block = BLOCKS[number] if number < len(BLOCKS) else ""
        for one in step[:left]:
            value, interval = score_words(results, one, say)
            place = place_words(standings[one.name], say) if standings else ""
            table.add_row(
                Text(out.sayable(block), style),
                Text(out.sayable(place), style),
                plain(one.label),
                Text(value, "bold"),
                _strip(results, one, min(ends), max(ends)) if ends else "",
                Text(out.sayable(interval), "dim"),
            )
        left -= min(left, len(step))
    out.print(table)
    hidden = len(results.contenders) - MOST_ROWS
    if hidden > 0:
        out.tell(say("podium_more", count=hidden), style="dim")


def _strip(results: StudyResults, one: Contender, low: float, high: float) -> Text:
    """An interval on an axis that all contenders share, with a dot at the score."""
    from podium.reporting.words.podium_words import bounds

    found = bounds(results, one)
    if found is None or one.score is None:
        return Text("")

    def column(value: float) -> int:
        return round((STRIP - 1) * (value - low) / (high - low)) if high > low else 0

    line = [" "] * STRIP
    for at in range(column(found[0]), column(found[1]) + 1):
        line[at] = "─"
    line[min(STRIP - 1, max(0, column(one.score)))] = "●"
    return Text(out.sayable("".join(line)))

"""The contenders and their pairs as LaTeX tables that fit the text of an article."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from podium.reporting.page.leaderboard import Value, leaderboard, metric_heads
from podium.reporting.words.labels import Labels
from podium.reporting.words.verdict_words import ordered_pairs, pair_cells, pair_headings
from podium.results.study import StudyResults

ROWS_A_TABLE = 30
"""A float with more rows than fit on a page would not be printed."""
LONGEST_LINE = 9  # characters of a heading, broken so that figures set the width of their column
SIGNS = {
    **{sign: f"\\{sign}" for sign in "{}_&%$#"},
    **dict.fromkeys("\n\r\t", " "),
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\u00a0": "~",
    "–": "--",
    "−": "$-$",
    "±": r"$\pm$",
    "·": r"\textperiodcentered{}",
    "†": r"\textdagger{}",
    "…": r"\ldots{}",
    "→": r"$\to$",
}


def escape_latex(text: str) -> str:
    """Escape text so that LaTeX prints it verbatim.

    Args:
        text: any text.
    """
    return "".join(SIGNS.get(character, character) for character in text)


Cell = tuple[int, int]  # row, column


@dataclass(frozen=True)
class Column:
    """A column: its heading, and whether its cells are words, which wrap, or figures."""

    heading: str
    is_text: bool = False


def contenders_table(results: StudyResults, say: Labels) -> str:
    """The contenders by place: parameters, validation and test accuracy, macro F1.

    The best value of a column is bold. A study with a metric of its own has that in place of the
    validation accuracy and macro F1.

    Args:
        results: the study.
        say: the language.
    """
    # within a place, the better score comes first
    entries = sorted(leaderboard(results, say), key=lambda one: one.place_key)
    metric = results.metric
    accuracy, interval = Column(say("col_test_accuracy")), Column(say("col_interval"))
    if metric.is_accuracy:
        columns = [Column(say("col_valid_accuracy")), accuracy, interval]
        columns.append(Column(say("col_macro_f1")))
        # of the deviations only that of the test accuracy: with more, names would not fit
        values = []
        for one in entries:
            valid, f1 = (one.figures[at]._replace(deviation="") for at in (2, 5))
            values.append([valid, *one.figures[:2], f1])
        best = _bold(values, 0) | _bold(values, 1) | _bold(values, 3)
    else:
        heads = [Column(head) for head, _ in metric_heads(results, say)[:2]]
        columns = [*heads, accuracy, interval]
        values = [[*one.scores[:2], *one.figures[:2]] for one in entries]
        best = _bold(values, 0, metric.greater_is_better) | _bold(values, 2)
    columns = [
        Column(say("v_col_place")),
        Column(say("col_contender"), is_text=True),
        Column(say("col_parameters")),
        *columns,
    ]
    rows = []
    for number, (entry, figures) in enumerate(zip(entries, values, strict=True)):
        cells = [_figure(value, (number, at) in best) for at, value in enumerate(figures)]
        head = [escape_latex(entry.place), escape_latex(entry.label), _figure(entry.figures[6])]
        rows.append([*head, *cells])
    n = say.count(results.runs[0].scores.n)
    caption = [say("table_caption", title=results.title, n=n), say("latex_note")]
    if any(entry.place for entry in entries):
        caption.append(say("v_place_hint"))
    else:  # a single contender
        columns, rows = columns[1:], [row[1:] for row in rows]
    return _tables(columns, rows, " ".join(caption), _label(results, "contenders"))


def pairs_table(results: StudyResults, say: Labels) -> str:
    """Every pair, as on the page: difference, interval, adjusted p and verdict.

    Args:
        results: a study with pairs.
        say: the language.
    """
    verdicts = results.verdicts
    assert verdicts is not None
    kept = (0, 1, 2, 3, 7, 8)  # the page also has counts, macro F1 and the unadjusted p
    heads = pair_headings(say, verdicts.metric)
    if verdicts.metric.is_accuracy:
        heads[2] += f" ({say('v_points')})"
    columns = [Column(heads[at], at in (0, 1, 8)) for at in kept]
    rows = []
    for pair in ordered_pairs(verdicts):
        cells = pair_cells(pair, verdicts.labels, say)
        cells = [escape_latex(cells[at]) for at in kept]
        if pair.winner is not None:
            won = 0 if pair.winner == pair.first else 1
            cells[won] = rf"\textbf{{{cells[won]}}}"
        rows.append(cells)
    caption = f"{results.title}: {say('v_pairs_title')}, n = {say.count(verdicts.n)}."
    caption = f"{caption} {say('latex_pairs_note')}"
    return _tables(columns, rows, caption, _label(results, "pairs"))


def _figure(value: Value, is_best: bool = False) -> str:
    text = escape_latex(f"{value.text} {value.deviation}".strip())
    return rf"\textbf{{{text}}}" if is_best else text


def _bold(values: Sequence[Sequence[Value]], column: int, greatest: bool = True) -> set[Cell]:
    """The cells of a column that have its best value."""
    known = [row[column].key for row in values if row[column].key >= 0]
    if len(known) < 2:
        return set()
    best = max(known) if greatest else min(known)
    return {(at, column) for at, row in enumerate(values) if row[column].key == best}


def _label(results: StudyResults, part: str) -> str:
    return f"tab:{re.sub(r'[^A-Za-z0-9]+', '-', results.spec.name)}-{part}"


def _heading(column: Column) -> str:
    lines = textwrap.wrap(column.heading, LONGEST_LINE, break_long_words=False)
    text = r"\\".join(map(escape_latex, lines))
    return rf"\shortstack[{'l' if column.is_text else 'r'}]{{{text}}}"


def _tables(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], caption: str, label: str
) -> str:
    """One table, or several of `ROWS_A_TABLE` rows."""
    kinds = "".join(r">{\raggedright\arraybackslash}X" if one.is_text else "r" for one in columns)
    parts = [rows[at : at + ROWS_A_TABLE] for at in range(0, len(rows), ROWS_A_TABLE)]
    lines = [r"% needs \usepackage[T1]{fontenc} and \usepackage{booktabs,tabularx}"]
    for number, part in enumerate(parts, start=1):
        of = f" ({number}/{len(parts)})" if len(parts) > 1 else ""
        lines += [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escape_latex(caption + of)}}}",
            rf"  \label{{{label}{'' if number == 1 else f'-{number}'}}}",
            r"  \footnotesize",
            r"  \setlength{\tabcolsep}{3pt}",
            rf"  \begin{{tabularx}}{{\textwidth}}{{@{{}}{kinds}@{{}}}}",
            r"    \toprule",
            rf"    {' & '.join(map(_heading, columns))} \\",
            r"    \midrule",
            # braces: a cell that starts with [ would be parsed as the argument of the preceding \\
            *(rf"    {{{row[0]}}} & {' & '.join(row[1:])} \\" for row in part),
            r"    \bottomrule",
            r"  \end{tabularx}",
            r"\end{table}",
        ]
    return "\n".join([*lines, ""])

"""The coloured table of precision, recall and F1 per class, in pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure

from podium.reporting.figures.style import GREY, draw_cells, shorten
from podium.reporting.words.labels import NOTHING, Labels
from podium.statistics.classes import significant_class_names
from podium.statistics.metrics import ClassScores

ROWS_A_PAGE = 34
MOST_LISTED = 500  # with more classes, only the weakest are shown; the CSV lists all
COLOURS = matplotlib.colormaps["PiYG"]  # as in the paper: weak classes are pink, good ones green
Scale = tuple[float, float]
WHOLE: Scale = (0.0, 1.0)
"""The values of the two ends of the colours. The paper's are 0.6 and 1.25: there, all values below
0.6 look the same, and 1.0 is pale."""


@dataclass(frozen=True)
class Cell:
    """How one value is shown: its text, the cell colour and a legible text colour."""

    text: str
    fill: str
    ink: Literal["#000000", "#ffffff"]


def cell(value: float | None, say: Labels, scale: Scale = WHOLE) -> Cell:
    """The cell of one value.

    Args:
        value: a share, 0..1; None: undefined, a dash on grey.
        say: the language.
        scale: values of the two ends of the colours.
    """
    if value is None:
        return Cell(NOTHING, "#dddddd", "#000000")
    colour = COLOURS(float(Normalize(*scale, clip=True)(value)))
    return Cell(say.number(value, 2), to_hex(colour), _ink(colour[:3]))


def _ink(rgb: tuple[float, ...]) -> Literal["#000000", "#ffffff"]:
    """Black or white, whichever has the higher WCAG contrast."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#ffffff"


def by_f1(classes: Sequence[ClassScores]) -> list[ClassScores]:
    """Sort classes by F1, weakest first; ties by recall, precision and name.

    Args:
        classes: of one run.
    """
    return sorted(classes, key=lambda one: (one.f1, one.recall, one.precision, one.name))


def cells(one: ClassScores, say: Labels, scale: Scale = WHOLE) -> tuple[Cell, Cell, Cell]:
    """Precision, recall and F1 of a class as cells.

    Args:
        one: the class.
        say: the language.
        scale: values of the two ends of the colours.
    """
    precision, recall, f1 = (cell(value, say, scale) for value in one.shown)
    return precision, recall, f1


def class_table_pages(
    classes: Sequence[ClassScores],
    title: str,
    say: Labels,
    *,
    heading: str | None = None,
    told: frozenset[str] | None = None,
    scale: Scale = WHOLE,
) -> Iterator[Figure]:
    """Draw figures of at most `ROWS_A_PAGE` classes each, in the order given.

    Args:
        classes: of one run.
        title: of the run.
        say: the language.
        heading: of the table; None: the heading for all classes.
        told: names of the classes whose recall differs significantly; the others are grey. None:
            computed from these classes.
        scale: values of the two ends of the colours.
    """
    if told is None:
        told = significant_class_names(classes)
    pages = -(-len(classes) // ROWS_A_PAGE)
    rows = -(-len(classes) // pages)  # pages of equal length
    for page in range(pages):
        part = classes[page * rows : (page + 1) * rows]
        head = heading or say("class_table_title")
        yield _page(part, rows, title, head, page + 1, pages, say, told, scale)


def _page(
    classes: Sequence[ClassScores],
    rows: int,
    title: str,
    heading: str,
    page: int,
    pages: int,
    say: Labels,
    told: frozenset[str],
    scale: Scale,
) -> Figure:
    # positioned in inches: a layout engine would take longer than the drawing
    high, low = 0.235 * rows, 0.32
    total = low + high + 0.72
    figure = Figure(figsize=(7.2, total))
    axes = figure.add_axes((0.36, low / total, 0.63, high / total))
    places, fills = [], []
    for i, one in enumerate(classes):
        for j, box in enumerate(cells(one, say, scale)):
            places.append((j, i))
            fills.append(box.fill)
            axes.text(j, i, box.text, ha="center", va="center", color=box.ink, fontsize=8.5)
    draw_cells(axes, places, fills)
    axes.set_xlim(-0.5, 2.5)
    axes.set_ylim(rows - 0.5, -0.5)  # cells on the last page have the same height
    names = [f"{shorten(one.name, 44)} ({say.count(one.support)})" for one in classes]
    axes.set_yticks(range(len(classes)), names)
    for tick, one in zip(axes.get_yticklabels(), classes, strict=True):
        if one.name not in told:  # its rank is noise and should not stand out
            tick.set_color(GREY)
    axes.set_xticks(range(3), [say("precision"), say("recall"), say("f1")], fontsize=9)
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for edge in np.arange(0.5, len(classes) - 0.5):
        axes.axhline(edge, color="white", linewidth=0.8)
    for edge in (0.5, 1.5):
        axes.axvline(edge, ymin=1 - len(classes) / rows, color="white", linewidth=2)
    under = f"{heading}, {say('page_of', page=page, pages=pages)}" if pages > 1 else heading
    figure.suptitle(
        f"{under}\n{shorten(title, 70)}", fontsize=9.5, x=0.6, y=1 - 0.04 / total, va="top"
    )
    ends = dict(zip(("low", "high"), map(say.short, scale), strict=True))
    note = say("support_note", **ends)
    figure.text(0.6, (low - 0.1) / total, note, fontsize=7.5, ha="center", va="top")
    return figure

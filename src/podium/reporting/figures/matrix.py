"""The confusion matrix for 10 to 10,000 classes: a figure, and an SVG for the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from podium.reporting.figures.style import draw_cells, shorten
from podium.reporting.words.labels import Labels
from podium.statistics.metrics import confusion

if TYPE_CHECKING:
    from podium.runs.predictions import Predictions

MOST_INTERACTIVE = 150
"""With more classes, the page shows an image of the matrix instead of drawing it."""

MOST_WHOLE = 300
"""With more classes, only `MOST_INTERACTIVE` of them are drawn."""

# does not start at white: one image in a hundred must differ visibly from none
COLOURS = ListedColormap(matplotlib.colormaps["Blues"](np.linspace(0.12, 1, 256)), "podium-blues")


@dataclass(frozen=True, eq=False)
class MatrixPart:
    """The classes that the matrix shows: all, or the ones with the most mistakes.

    `counts` has shape (shown, shown), row = true class; `support` counts all images of a shown
    class, including those predicted as a class that is not shown; `total` counts all classes.
    """

    counts: npt.NDArray[np.int64]
    names: tuple[str, ...]
    support: npt.NDArray[np.int64]
    total: int

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        """Counts divided by the support of their row; a row without images stays 0."""
        return np.asarray(self.counts / np.maximum(self.support[:, None], 1))

    @property
    def is_whole(self) -> bool:
        return len(self.names) == self.total

    def title(self, say: Labels) -> str:
        """The title of the matrix.

        Args:
            say: the language.
        """
        if self.is_whole:
            return say("confusion_title")
        shown, total = say.count(len(self.names)), say.count(self.total)
        return say("confusion_part_title", shown=shown, total=total)


def matrix_part(predictions: Predictions) -> MatrixPart:
    """Choose the classes to show, in their order.

    With more than `MOST_WHOLE` classes, those involved in the most mistakes, as the true or the
    predicted class; ties go to the first.

    Args:
        predictions: of a run on the test images.
    """
    total = len(predictions.class_names)
    labels, predicted = predictions.labels, predictions.predicted
    shown = np.arange(total)
    if total > MOST_WHOLE:
        wrong = labels != predicted
        involved = np.concatenate([labels[wrong], predicted[wrong]])
        mistakes = np.bincount(involved, minlength=total)
        shown = np.sort(np.argsort(-mistakes, kind="stable")[:MOST_INTERACTIVE])
    counts = confusion(predictions, shown)
    names = tuple(predictions.class_names[number] for number in shown)
    return MatrixPart(counts, names, np.bincount(labels, minlength=total)[shown], total)


def confusion_figure(part: MatrixPart, title: str, say: Labels) -> Figure:
    """Draw a row-normalised confusion matrix in a single hue, with counts in non-empty cells.

    Args:
        part: the classes to show.
        title: of the run.
        say: the language.
    """
    counts, names = part.counts, part.names
    size = len(names)
    pitch = max(0.055, min(0.5, 3.2 / size + 0.09))  # inches per cell
    side = pitch * size
    font = min(9.0, pitch * 72 * 0.66)
    longest = 30 if size <= 40 else 26
    shown = [shorten(name, longest) for name in names]
    margin = 0.6 + max(map(len, shown)) * font * 0.62 / 72
    # positioned in inches, so that cells and text keep their size whatever the names
    wide, high = margin + side + 1.1, margin + side + 0.7
    figure = Figure(figsize=(wide, high))
    axes = figure.add_axes((margin / wide, margin / high, side / wide, side / high))
    shares = 100 * part.shares
    colours = ScalarMappable(Normalize(0, 100), COLOURS)
    filled = np.argwhere(counts)
    draw_cells(
        axes, [(j, i) for i, j in filled], colours.to_rgba(shares[filled[:, 0], filled[:, 1]])
    )
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal")
    axes.set_xticks(range(size), shown, rotation=90, fontsize=font)
    axes.set_yticks(range(size), shown, fontsize=font)
    axes.tick_params(length=0, pad=2)
    # a thin line between all cells and a stronger one every ten, to help follow a row
    every, tens = np.arange(0.5, size - 1), np.arange(9.5, size - 1, 10)
    for edges, ink, width in ((every, "#e4e4e4", 1.4 * pitch), (tens, "#9a9a9a", 0.5)):
        if len(edges) and (size > 20 or edges is every):
            axes.hlines(edges, -0.5, size - 0.5, colors=ink, linewidths=width, zorder=0.8)
            axes.vlines(edges, -0.5, size - 0.5, colors=ink, linewidths=width, zorder=0.8)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.6)
    if size <= MOST_INTERACTIVE:
        for i, j in filled:
            axes.text(
                j,
                i,
                say.count(int(counts[i, j])),
                ha="center",
                va="center",
                fontsize=font * (0.95 if size <= 40 else 0.75),
                color="white" if shares[i, j] > 55 else "black",
            )
    axes.set_xlabel(say("predicted_class"), fontsize=max(9.0, font))
    axes.set_ylabel(say("true_class"), fontsize=max(9.0, font))
    tall = min(4.0, 0.8 * side)
    left, low = margin + side + 0.18, margin + (side - tall) / 2
    bar = figure.colorbar(
        colours, cax=figure.add_axes((left / wide, low / high, 0.14 / wide, tall / high))
    )
    bar.set_label(say("row_share"))
    bar.outline.set_visible(False)
    figure.suptitle(
        f"{part.title(say)}\n{shorten(title, 70)}",
        x=(margin + side / 2) / wide,
        y=(margin + side + 0.1) / high,
        va="bottom",
    )
    return figure


@dataclass(frozen=True)
class MatrixCell:
    """A non-empty cell: position, colour opacity (0..1) and tooltip."""

    row: int
    column: int
    count: str
    opacity: float
    dark: bool
    words: str


@dataclass(frozen=True)
class MatrixView:
    """What the page needs to draw the matrix: lengths in the SVG's units (CSS pixels)."""

    names: tuple[str, ...]
    cells: tuple[MatrixCell, ...]
    pitch: float
    font: float
    margin: float
    side: float
    lines: tuple[int, ...]


def matrix_view(part: MatrixPart, say: Labels) -> MatrixView | None:
    """The matrix as drawn on the page; None where it has too many classes for that.

    Args:
        part: the classes to show.
        say: the language.
    """
    counts, names, support = part.counts, part.names, part.support
    size = len(names)
    if size > MOST_INTERACTIVE:
        return None
    pitch = max(9.4, min(44.0, 440 / size + 2))
    font = min(12.0, pitch * 0.86)
    shown = tuple(shorten(name, 26) for name in names)
    shares = part.shares
    cells = tuple(
        MatrixCell(
            row=int(i),
            column=int(j),
            count=say.count(int(counts[i, j])),
            opacity=round(0.1 + 0.9 * float(shares[i, j]), 3),
            dark=bool(shares[i, j] > 0.7),
            words=say(
                "took_for",
                true=names[i],
                predicted=names[j],
                count=say.count(int(counts[i, j])),
                support=say.count(int(support[i])),
            ),
        )
        for i, j in np.argwhere(counts)
    )
    margin = 12 + max(map(len, shown)) * font * 0.62
    lines = tuple(range(10, size, 10)) if size > 20 else ()
    return MatrixView(shown, cells, pitch, font, margin, pitch * size, lines)

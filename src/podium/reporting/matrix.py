"""The confusion matrix, readable at 10 and at 100 classes: a figure, and an SVG for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from podium.reporting.labels import Labels
from podium.reporting.style import draw_cells, shorten

__all__ = ["MOST_INTERACTIVE", "MatrixView", "confusion_figure", "matrix_view"]

MOST_INTERACTIVE = 150
"""Up to so many classes the page draws the matrix itself; above, it shows the picture."""

# not from white on: one image in a hundred is still told from none
COLOURS = ListedColormap(matplotlib.colormaps["Blues"](np.linspace(0.12, 1, 256)), "podium-blues")


def _shares(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Rows over their sums; a row without an image stays 0."""
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def confusion_figure(
    counts: npt.NDArray[np.int64], names: Sequence[str], title: str, say: Labels
) -> Figure:
    """Row-normalised confusion matrix in a single hue, with counts in cells that are not empty.

    Args:
        counts: shape (classes, classes), row = true class.
        names: of the classes.
        title: of the run.
        say: the language.
    """
    size = len(names)
    pitch = max(0.055, min(0.5, 3.2 / size + 0.09))  # inches a cell
    side = pitch * size
    font = min(9.0, pitch * 72 * 0.66)
    longest = 30 if size <= 40 else 26
    shown = [shorten(name, longest) for name in names]
    margin = 0.6 + max(map(len, shown)) * font * 0.62 / 72
    # placed in inches, so that cells and letters keep their size whatever the names are
    wide, high = margin + side + 1.1, margin + side + 0.7
    figure = Figure(figsize=(wide, high))
    axes = figure.add_axes((margin / wide, margin / high, side / wide, side / high))
    shares = 100 * _shares(counts)
    colours = ScalarMappable(Normalize(0, 100), COLOURS)
    filled = np.argwhere(counts)
    draw_cells(
        axes, [(j, i) for i, j in filled], colours.to_rgba(shares[filled[:, 0], filled[:, 1]])
    )
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal")
    axes.set_xticks(range(size), shown, rotation=90, fontsize=font)
    axes.set_yticks(range(size), shown, fontsize=font)
    axes.tick_params(length=0, pad=2)
    # a line between all cells, a stronger one every ten, so that an eye can follow a row
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
        f"{say('confusion_title')}\n{shorten(title, 70)}",
        x=(margin + side / 2) / wide,
        y=(margin + side + 0.1) / high,
        va="bottom",
    )
    return figure


@dataclass(frozen=True)
class MatrixCell:
    """One cell that is not empty: place, colour's strength (0..1), words for it."""

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


def matrix_view(
    counts: npt.NDArray[np.int64], names: Sequence[str], say: Labels
) -> MatrixView | None:
    """The matrix as the page draws it; none where it has too many classes for that."""
    size = len(names)
    if size > MOST_INTERACTIVE:
        return None
    pitch = max(9.4, min(44.0, 440 / size + 2))
    font = min(12.0, pitch * 0.86)
    shown = tuple(shorten(name, 26) for name in names)
    shares = _shares(counts)
    support = counts.sum(axis=1)
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

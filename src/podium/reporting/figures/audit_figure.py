"""A figure of duplicates side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from podium.auditing.record import Audit, DuplicatePair
from podium.reporting.figures.gallery import decoded, frame
from podium.reporting.figures.style import GREY, WRONG, shorten
from podium.reporting.words.labels import Labels

COLUMNS = 4  # pairs in a row
SIDE, WORDS, HEAD, GAP = 1.0, 0.5, 0.45, 0.22  # inches: image, text below, title, gap


def audit_figure(
    audit: Audit, thumbnails: Mapping[str, bytes], say: Labels, *, title: str = "", most: int = 16
) -> Figure:
    """Draw the most serious pairs, with a dashed frame where labels differ.

    Call it within `figure_style`.

    Args:
        audit: with at least one pair.
        thumbnails: JPEGs by path, as returned by `audit_thumbnails`; pairs without both are
            skipped.
        say: the language, from `podium.reporting.words.labels`.
        title: name of the data set; empty: the folder name.
        most: maximum number of pairs.

    Raises:
        ValueError: no pair has both of its thumbnails.
    """
    pairs = [one for one in audit.pairs if one.first in thumbnails and one.second in thumbnails]
    pairs = pairs[:most]
    if not pairs:
        raise ValueError("audit_figure: expected pairs of duplicates with thumbnails, got none.")
    columns = min(COLUMNS, len(pairs))
    rows = -(-len(pairs) // columns)
    wide, high = columns * (2 * SIDE + GAP) + GAP, HEAD + rows * (SIDE + WORDS)
    figure = Figure(figsize=(wide, high))
    for number, pair in enumerate(pairs):
        left = GAP + (number % columns) * (2 * SIDE + GAP)
        top = high - HEAD - (number // columns) * (SIDE + WORDS)
        _draw(figure, pair, thumbnails, say, (left / wide, (top - SIDE) / high))
    figure.suptitle(
        say(
            "audit_figure_title",
            name=shorten(title or Path(audit.root).name or audit.root, 40),
            shown=len(pairs),
            total=say.count(len(audit.pairs)),
        ),
        y=1 - 0.1 / high,
        va="top",
    )
    return figure


def _draw(
    figure: Figure,
    pair: DuplicatePair,
    thumbnails: Mapping[str, bytes],
    say: Labels,
    corner: tuple[float, float],
) -> None:
    wide, high = figure.get_size_inches()
    ends = (
        (pair.first, pair.first_split, pair.first_label),
        (pair.second, pair.second_split, pair.second_label),
    )
    for place, (path, split, label) in enumerate(ends):
        box = (corner[0] + place * SIDE / wide, corner[1], 0.97 * SIDE / wide, SIDE / high)
        axes = figure.add_axes(box)
        axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
        axes.spines[:].set_visible(False)
        pixels = decoded(thumbnails[path])
        if pixels is not None:
            axes.imshow(pixels, extent=(0, 1, 0, 1), interpolation="none", aspect="auto")
        wide_line, colour = (2.2, WRONG) if pair.conflicting else (0.8, GREY)
        frame(axes, colour, wide_line, dashed=pair.conflicting)
        ink = WRONG if pair.across else "black"
        axes.text(0, -0.04, say(split), va="top", fontsize=6.6, color=ink)
        ink = WRONG if pair.conflicting else "black"
        axes.text(0, -0.17, shorten(label, 18), va="top", fontsize=6.6, color=ink)

"""Galleries of test images: random ones, and the most confident mistakes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from podium.reporting.figures.style import RIGHT, WRONG, shorten
from podium.reporting.words.labels import Labels
from podium.results.pictures import COLUMNS, Picture

HEAD, SIDE, WORDS = 0.62, 1.7, 0.68  # inches: title, image, text below it


def gallery_figure(pictures: Sequence[Picture], heading: str, title: str, say: Labels) -> Figure:
    """Draw up to 4 x 3 images: a tick and solid frame for correct, a cross and dashed for wrong.

    Args:
        pictures: at least one.
        heading: of the gallery.
        title: of the run.
        say: the language.
    """
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // COLUMNS)
    # laid out in inches: layout engines ignore the text below an image, as it is not an axes label
    wide, high = max(4.4, 1.85 * columns), HEAD + rows * (SIDE + WORDS)
    figure = Figure(figsize=(wide, high))
    grid = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={
            "left": 0.08 / wide,
            "right": 1 - 0.08 / wide,
            "top": 1 - HEAD / high,
            "bottom": WORDS / high,
            "hspace": WORDS / SIDE,
            "wspace": 0.1,
        },
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, picture in zip(grid.flat, pictures, strict=False):
        pixels = decoded(picture.jpeg)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        if pixels is None:
            axes.text(0.5, 0.5, say("no_picture"), ha="center", va="center", fontsize=7)
        else:
            show(axes, pixels)
        colour = RIGHT if picture.right else WRONG
        frame(axes, colour, 1.4 if picture.right else 2.4, dashed=not picture.right)
        mark = "✓" if picture.right else "✗"
        lines = (
            ("{}", "gallery_true", picture.true, "black"),
            (mark + " {}", "gallery_predicted", picture.predicted, colour),
        )
        for number, (form, key, name, ink) in enumerate(lines):
            fitted_words(
                axes,
                -0.04 - 0.1 * number,
                partial(_worded, form, key, say=say),
                name,
                fontsize=7.4,
                color=ink,
            )
        axes.text(
            0, -0.24, say.percent(picture.probability, 1), va="top", fontsize=7.4, color=colour
        )
    figure.suptitle(f"{heading}\n{shorten(title, 80 if columns > 2 else 40)}")
    return figure


def _worded(frame: str, key: str, name: str, say: Labels) -> str:
    return frame.format(say(key, name=name))


def show(axes: Axes, pixels: Any) -> None:
    """Show an image in the middle of axes from 0 to 1, keeping its aspect ratio.

    Args:
        axes: to draw on.
        pixels: shape (height, width, 3).
    """
    height, width = pixels.shape[:2]
    w, h = width / max(width, height), height / max(width, height)
    box = (0.5 - w / 2, 0.5 + w / 2, 0.5 - h / 2, 0.5 + h / 2)
    # "none": a PDF then stores the original pixels instead of resampled ones
    axes.imshow(pixels, extent=box, interpolation="none")
    axes.set(xlim=(0, 1), ylim=(0, 1))


def frame(axes: Axes, colour: str, width: float, *, dashed: bool) -> None:
    """Draw a frame around an image.

    Args:
        axes: of the image.
        colour: of the frame.
        width: of the line, points.
        dashed: whether the line is dashed.
    """
    line: dict[str, Any] = {"linewidth": width, "linestyle": (0, (4, 2)) if dashed else "-"}
    axes.add_patch(Rectangle((0, 0), 1, 1, fill=False, edgecolor=colour, clip_on=False, **line))


def fitted_words(
    axes: Axes, y: float, words: Callable[[str], str], name: str, **style: Any
) -> None:
    """Write a line of text below an image, with as much of a name as fits its width.

    Args:
        axes: of the image.
        y: top of the line, in axes units.
        words: returns the line for a shortened name.
        name: the full name.
        style: of the text.
    """
    line = axes.text(0, y, "", va="top", **style)
    room = 1.06 * axes.get_window_extent().width
    for length in (40, 32, 26, 22, 19, 16, 13, 10):
        line.set_text(words(shorten(name, length)))
        if line.get_window_extent().width <= room:
            break


def decoded(jpeg: bytes) -> Any:
    """Decode a JPEG and enlarge it; None where it cannot be read.

    Args:
        jpeg: the file's bytes.

    Returns:
        Pixels, shape (height, width, 3).
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(jpeg)) as image:
            # looks smooth when enlarged, at a fraction of the cost of resampling to 400 dpi
            double = (image.width * 2, image.height * 2)
            return np.asarray(image.convert("RGB").resize(double, Image.Resampling.BICUBIC))
    except (OSError, UnidentifiedImageError, ValueError):
        return None

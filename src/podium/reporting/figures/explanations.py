"""Grad-CAM maps overlaid on images, for correct and wrong predictions.

The maps were computed with the run's weights and stored with it; here they are only shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from podium.reporting.figures.gallery import decoded, fitted_words, frame, show
from podium.reporting.figures.style import RIGHT, WRONG, shorten
from podium.reporting.words.labels import Labels
from podium.runs.predictions import Predictions
from podium.statistics.likeliest import TopClasses

LABEL_MARK = "#label"
"""Suffix of the key of a map for the true class, where the prediction is wrong."""
MOST_OF_A_KIND = 6  # correct and wrong predictions each
COLUMNS = 6  # panels per row: 3 correct predictions with two panels, or 2 wrong ones with three
HEAD, SIDE, WORDS = 0.62, 1.45, 0.62  # inches: title, image, text below it
PITCH = 1.7  # inches from one image to the next


@dataclass(frozen=True)
class Explanation:
    """A test image with its prediction and Grad-CAM maps."""

    path: str
    picture: bytes | None  # JPEG, if stored
    true: str
    predicted: str
    probability: float  # calibrated, of the predicted class
    of_predicted: bytes  # JPEG
    of_true: bytes | None  # JPEG; only where the prediction is wrong

    @property
    def right(self) -> bool:
        return self.true == self.predicted


def explanations_shown(
    predictions: Predictions,
    said: TopClasses,
    stored: Mapping[str, bytes],
    thumbnails: Mapping[str, bytes],
) -> list[Explanation]:
    """Up to six correct predictions in storage order, then up to six wrong ones, most confident
    first.

    Args:
        predictions: of a run on the test images.
        said: the run's likeliest classes.
        stored: maps as JPEGs, by path, or by path and `LABEL_MARK` for the true class.
        thumbnails: JPEGs of the test images by path.
    """
    places = {path: row for row, path in enumerate(predictions.paths)}
    names = predictions.class_names
    right: list[Explanation] = []
    wrong: list[Explanation] = []
    for path, jpeg in stored.items():
        if path not in places:
            continue
        row = places[path]
        one = Explanation(
            path=path,
            picture=thumbnails.get(path),
            true=names[predictions.labels[row]],
            predicted=names[said.top[row, 0]],
            probability=float(said.share[row, 0]),
            of_predicted=jpeg,
            of_true=stored.get(path + LABEL_MARK),
        )
        (right if one.right else wrong).append(one)
    wrong.sort(key=lambda one: (-one.probability, one.path))
    return right[:MOST_OF_A_KIND] + wrong[:MOST_OF_A_KIND]


def explanation_figure(shown: Sequence[Explanation], title: str, say: Labels) -> Figure:
    """Draw each image next to its map; wrong predictions also get the map for the true class.

    Args:
        shown: at least one.
        title: of the run.
        say: the language.
    """
    rows = _rows(shown)
    wide, high = PITCH * COLUMNS, HEAD + len(rows) * (SIDE + WORDS)
    figure = Figure(figsize=(wide, high))
    # positioned in inches, like the other galleries
    for number, row in enumerate(rows):
        low = (high - HEAD - number * (SIDE + WORDS) - SIDE) / high
        column = 0
        for one in row:
            panels = [(one.picture, "")] if one.picture is not None else []
            panels.append((one.of_predicted, one.predicted))
            if one.of_true is not None:
                panels.append((one.of_true, one.true))
            for place, (jpeg, name) in enumerate(panels):
                left = ((column + place) * PITCH + 0.08) / wide
                axes = figure.add_axes((left, low, SIDE / wide, SIDE / high))
                axes.set_axis_off()
                axes.set(xlim=(0, 1), ylim=(0, 1))
                pixels = decoded(jpeg)
                if pixels is None:
                    axes.text(0.5, 0.5, say("no_picture"), ha="center", va="center", fontsize=7)
                else:
                    show(axes, pixels)
                _caption(axes, one, name, say)
            column += 3 if not one.right else 2
    figure.suptitle(f"{say('cam_title')}\n{shorten(title, 80)}", y=1 - 0.08 / high, va="top")
    return figure


def _caption(axes: Axes, one: Explanation, name: str, say: Labels) -> None:
    """The prediction below an image; the class (`name`) below a map."""
    colour = RIGHT if one.right else WRONG
    lines: list[tuple[Callable[[str], str], str, str]]
    if name:
        lines = [(str, say("cam_of", name="").strip(), "black"), (str, name, "black")]
    else:
        frame(axes, colour, 1.4, dashed=not one.right)
        mark = "✓ " if one.right else "✗ "
        lines = [
            (lambda cut: say("gallery_true", name=cut), one.true, "black"),
            (lambda cut: mark + cut, one.predicted, colour),
            (str, say.percent(one.probability, 1), colour),
        ]
    for number, (words, text, ink) in enumerate(lines):
        fitted_words(axes, -0.04 - 0.115 * number, words, text, fontsize=7.2, color=ink)


def _rows(shown: Sequence[Explanation]) -> list[list[Explanation]]:
    """Rows of three correct predictions, then rows of two wrong ones."""
    rows = []
    for kind, most in ((True, COLUMNS // 2), (False, COLUMNS // 3)):
        part = [one for one in shown if one.right is kind]
        rows += [part[at : at + most] for at in range(0, len(part), most)]
    return rows

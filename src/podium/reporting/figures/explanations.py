"""Where a model looked: pictures with the Grad-CAM map laid over them, of right and wrong answers.

The maps were made with the run's own weights and stored with it; here they are only shown.
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
"""Ends the key of a map of the true class, where the prediction is another."""
MOST_OF_A_KIND = 6  # right ones, and wrong ones
COLUMNS = 6  # pictures in a row of the figure: 3 right answers of two, or 2 wrong ones of three
HEAD, SIDE, WORDS = 0.62, 1.45, 0.62  # inches: the title, a picture, the words below it
PITCH = 1.7  # inches from a picture to the next


@dataclass(frozen=True)
class Explanation:
    """A test image, what was said of it, and where the model looked."""

    path: str
    picture: bytes | None  # JPEG, where one is stored
    true: str
    predicted: str
    probability: float  # softmax, of the predicted class
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
    """Up to six right answers, in the order in which they are stored, then up to six wrong ones,
    the most confident first.

    Args:
        predictions: of the test images.
        said: the same run's.
        stored: maps as JPEGs, by path, or path and `LABEL_MARK`.
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
    """Each image beside its map; a wrong answer also beside the map of the true class.

    Args:
        shown: at least one.
        title: of the run.
        say: the language.
    """
    rows = _rows(shown)
    wide, high = PITCH * COLUMNS, HEAD + len(rows) * (SIDE + WORDS)
    figure = Figure(figsize=(wide, high))
    # placed in inches, as the other galleries are
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
    """Below the picture what was said of it; below a map (`name` of a class) what it is for."""
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
    """Three right answers a row, then two wrong ones."""
    rows = []
    for kind, most in ((True, COLUMNS // 2), (False, COLUMNS // 3)):
        part = [one for one in shown if one.right is kind]
        rows += [part[at : at + most] for at in range(0, len(part), most)]
    return rows

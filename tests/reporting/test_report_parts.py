from __future__ import annotations

import itertools
import json
import string
from importlib import resources

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from podium.errors import ConfigError
from podium.reporting.figures.class_table import by_f1, cell, class_table_pages
from podium.reporting.figures.curves import learning_curves
from podium.reporting.figures.gallery import gallery_figure
from podium.reporting.figures.matrix import MatrixPart, confusion_figure, matrix_part, matrix_view
from podium.reporting.figures.style import figure_style, shorten
from podium.reporting.latex import escape_latex
from podium.reporting.words.labels import labels
from podium.results.pictures import Picture, confident_mistakes, random_pictures
from podium.runs.predictions import Predictions
from podium.runtime.csv_text import guard_cell
from podium.statistics.likeliest import top_classes
from podium.statistics.metrics import ClassScores, confusion
from tests.statistics.test_metrics import voted

EN, PT = labels("en"), labels("pt")


def history(epochs: int, drop: int | None = None) -> list[dict[str, float]]:
    return [
        {
            "epoch": float(epoch),
            "lr": 1e-4 if drop is None or epoch <= drop else 1e-5,
            "train_loss": 3 / epoch,
            "train_accuracy": 1 - 0.9 / epoch,
            "valid_loss": 3.5 / epoch,
            "valid_accuracy": 0.9 - 0.8 / epoch,
            "seconds": 1.0,
            "images_per_second": 100.0,
        }
        for epoch in range(1, epochs + 1)
    ]


def test_both_languages_have_the_same_keys_and_places() -> None:
    assert EN.words.keys() == PT.words.keys()

    def places(text: str) -> set[str | None]:
        return {field for _, field, _, _ in string.Formatter().parse(text) if field is not None}

    for key in EN.words:
        assert places(EN.words[key]) == places(PT.words[key]), key
        assert EN.words[key].strip()
        assert PT.words[key].strip()


def test_no_key_is_written_twice() -> None:
    for lang in ("en", "pt"):
        text = (resources.files("podium.reporting.words") / "locales" / f"{lang}.json").read_text(
            "utf-8"
        )
        keys = [key for key, _ in json.loads(text, object_pairs_hook=list)]
        assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("value", "digits", "en", "pt"),
    [(1234567.891, 2, "1,234,567.89", "1.234.567,89"), (0.5, 1, "0.5", "0,5"),
     (float("nan"), 2, "–", "–"), (None, 2, "–", "–")],
)  # fmt: skip
def test_numbers_as_each_language_writes_them(
    value: float | None, digits: int, en: str, pt: str
) -> None:
    assert (EN.number(value, digits), PT.number(value, digits)) == (en, pt)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.21, "3.2 s"), (59.4, "59 s"), (59.9, "1 min 00 s"), (61, "1 min 01 s"),
     (3599.9, "1 h 00 min"), (7322, "2 h 02 min"), (None, "–")],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert EN.duration(seconds) == text


def test_unknown_language_is_refused() -> None:
    with pytest.raises(ConfigError, match="'en' or 'pt'"):
        labels("fr")


def test_latex_specials_are_escaped() -> None:
    escaped = escape_latex(r"_ & % # $ { } ~ ^ \ <b>")
    expected = (
        r"\_ \& \% \# \$ \{ \} \textasciitilde{} \textasciicircum{} \textbackslash{} "
        r"\textless{}b\textgreater{}"
    )
    assert escaped == expected


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1|x", "@x", "\tx", "\rx", "-", "+abc"])
def test_formulas_are_guarded(text: str) -> None:
    assert guard_cell(text) == f"'{text}"


def test_numbers_and_plain_text_are_not_guarded() -> None:
    assert guard_cell(-0.5) == -0.5
    assert guard_cell("golf = fun") == "golf = fun"
    for number in ("-1", "+1", "-0.5", "+1e3"):  # names of classes
        assert guard_cell(number) == number
    assert guard_cell(None) == ""


def test_long_names_are_cut_and_put_on_one_line() -> None:
    assert shorten("a\nb\tc", 10) == "a b c"
    assert shorten("x" * 60, 30) == "x" * 29 + "…"
    assert shorten("x" * 30, 30) == "x" * 30


def test_ink_reads_on_every_cell() -> None:
    def luminance(colour: str) -> float:
        channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
                    for c in to_rgb(colour)]  # fmt: skip
        return float(np.dot([0.2126, 0.7152, 0.0722], channels))

    for value in np.linspace(0, 1, 101):
        box = cell(float(value), EN)
        light, dark = sorted((luminance(box.fill), luminance(box.ink)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG AA


def test_colours_tell_apart_all_values_and_can_be_the_papers() -> None:
    colours = colormaps["PiYG"]
    values = np.linspace(0, 1, 21).tolist()
    fills = [cell(value, EN).fill for value in values]
    assert fills == [to_hex(colours(value)) for value in values]
    assert len(set(fills)) == len(values)
    paper = (0.6, 1.25)
    expected = to_hex(colours((1.0 - 0.6) / (1.25 - 0.6)))
    assert cell(1.0, EN, paper).fill == expected
    assert cell(0.2, EN, paper).fill == cell(0.6, EN, paper).fill
    one = ClassScores("a", 0.7, 0.7, 0.7, 5, 5)
    with figure_style():
        for scale, note in (((0, 1), "0 (pink) to 1 (green)"), (paper, "0.6 (pink) to 1.25")):
            (figure,) = class_table_pages([one], "A run", EN, scale=scale)
            assert note in figure.texts[-1].get_text()
            (drawn,) = figure.axes[0].collections
            fill = cell(0.7, EN, scale).fill
            assert {to_hex(face) for face in np.atleast_2d(drawn.get_facecolor())} == {fill}


def test_undefined_values_are_dashes() -> None:
    assert cell(None, EN).text == "–"
    assert cell(0.83, PT).text == "0,83"


def test_weakest_class_comes_first() -> None:
    classes = [ClassScores(name, f, f, f, 5, 5) for name, f in (("a", 0.9), ("b", 0.1), ("c", 1))]
    assert [one.name for one in by_f1(classes)] == ["b", "a", "c"]


@pytest.mark.parametrize(("count", "pages"), [(1, 1), (34, 1), (35, 2), (100, 3)])
def test_every_class_is_on_some_page(count: int, pages: int) -> None:
    classes = [ClassScores(f"sport {i}", 1, 0.5, 0.67, 5, 5) for i in range(count)]
    with figure_style():
        figures = list(class_table_pages(classes, "A run", EN))
    assert len(figures) == pages
    shown = [label.get_text() for f in figures for label in f.axes[0].get_yticklabels()]
    assert shown == [f"sport {i} (5)" for i in range(count)]


@pytest.mark.parametrize("epochs", [1, 2, 60])
def test_learning_curves_are_as_the_paper_draws_them(epochs: int) -> None:
    with figure_style():
        figure = learning_curves(history(epochs, drop=epochs - 1), epochs, "A run", PT)
    loss, accuracy = figure.axes
    assert loss.get_ylabel() == "Valor da função de perda"
    assert accuracy.get_ylabel() == "Acurácia total (%)"
    assert accuracy.get_ylim() == (0, 110)
    train, valid = accuracy.get_lines()[:2]
    assert (train.get_label(), valid.get_label()) == ("Treino", "Validação")
    assert to_rgb(valid.get_color()) == (0, 0, 0)
    assert len(set(to_rgb(train.get_color()))) == 1
    assert train.get_linestyle() == valid.get_linestyle() == "--"
    assert np.allclose(
        np.asarray(valid.get_ydata()), [100 * row["valid_accuracy"] for row in history(epochs)]
    )


@pytest.mark.parametrize("title", ["A run", "A contender whose label is of sixty characters " * 2])
@pytest.mark.parametrize("size", [2, 10, 100])
def test_no_label_of_the_matrix_is_cut_or_overlaps(size: int, title: str) -> None:
    counts = np.eye(size, dtype=np.int64) * 5
    names = [f"a class with a long name, number {i}" for i in range(size)]
    with figure_style():
        part = MatrixPart(counts, tuple(names), counts.sum(axis=1), size)
        figure = confusion_figure(part, title, EN)
        figure.draw_without_rendering()
        _assert_ticks_apart(figure)


def _assert_ticks_apart(figure: Figure) -> None:
    axes = figure.axes[0]
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    for upper, lower in itertools.pairwise(boxes):
        assert upper.y0 >= lower.y1 - 1
    label, ticks = axes.xaxis.label.get_window_extent(), axes.get_xticklabels()
    assert label.y1 <= min(tick.get_window_extent().y0 for tick in ticks)
    assert min(box.x0 for box in boxes) >= axes.yaxis.label.get_window_extent().x1


def test_matrix_on_the_page_holds_every_count() -> None:
    counts = np.array([[4, 1], [0, 5]])
    view = matrix_view(MatrixPart(counts, ("golf", "polo"), counts.sum(axis=1), 2), EN)
    assert view is not None
    drawn = [(one.row, one.column, one.count) for one in view.cells]
    assert drawn == [(0, 0, "4"), (0, 1, "1"), (1, 1, "5")]
    assert view.cells[1].words == "golf predicted as polo: 1 of 5"
    many = np.eye(151, dtype=np.int64)
    whole = MatrixPart(many, tuple(map(str, range(151))), many.sum(axis=1), 151)
    assert matrix_view(whole, EN) is None


@pytest.mark.parametrize("classes", [5, 300])
def test_up_to_300_classes_the_matrix_is_whole(classes: int) -> None:
    random = np.random.default_rng(0)
    labels, votes = random.integers(classes, size=(2, 900)).tolist()
    found = voted(labels, votes, classes)
    part = matrix_part(found)
    assert part.is_whole
    assert part.title(EN) == "Confusion matrix (test images)"
    assert (part.counts == confusion(found)).all()
    assert (part.support == np.bincount(found.labels, minlength=classes)).all()


def test_of_more_classes_those_with_most_mistakes_are_shown() -> None:
    labels = [number for number in range(1000) for _ in range(3)]
    votes = list(labels)
    for number in range(0, 1000, 8):  # 125 classes, taken for the one after them
        votes[3 * number] = votes[3 * number + 1] = number + 1
    part = matrix_part(voted(labels, votes, 1000))
    assert part.counts.shape == (150, 150)
    assert part.title(EN).startswith(
        "Confusion matrix of the 150 classes with the most mistakes, of 1,000"
    )
    shown = [int(name.split()[1]) for name in part.names]
    assert shown == sorted(shown)
    # 250 classes have two mistakes each; of equals, the first
    assert set(shown) == {n + k for n in range(0, 600, 8) for k in (0, 1)}
    assert part.support.tolist() == [3] * 150
    first = shown.index(8)
    assert part.counts[first, first : first + 2].tolist() == [1, 2]
    assert part.shares[first, first : first + 2] == pytest.approx([1 / 3, 2 / 3])


def test_shares_count_images_taken_for_a_class_that_is_not_shown() -> None:
    labels, votes = [0] * 4 + [1] * 4, [0, 0, 400, 1, 1, 1, 1, 0]
    part = matrix_part(voted(labels, votes, 500))
    assert part.shares[0, :2] == pytest.approx([0.5, 0.25])
    view = matrix_view(part, EN)
    assert view is not None
    assert view.cells[0].words == "class 0 predicted as class 0: 2 of 4"


def _predictions() -> Predictions:
    paths = tuple(f"test/{i:02d}.jpg" for i in range(30))
    logits = np.zeros((30, 3), np.float32)
    logits[:, 0] = np.arange(30) / 10
    return Predictions(("a", "b", "c"), paths, np.arange(30) % 3, logits)


def test_captions_keep_to_their_picture() -> None:
    long = "a class of sixty characters, whose name no figure shows whole"
    pictures = [Picture(str(i), b"not a jpeg", long, long.upper(), 0.5) for i in range(5)]
    with figure_style():
        figure = gallery_figure(pictures, "Heading", "A run", PT)
    for axes in figure.axes[: len(pictures)]:
        room = axes.get_window_extent()
        for line in axes.texts:
            assert line.get_window_extent().x1 <= room.x0 + 1.07 * room.width


def test_galleries_choose_by_path_and_by_confidence() -> None:
    made = _predictions()
    said = top_classes(made, temperature=1.0)
    stored = {path: b"jpeg" for path in made.paths if path != "test/29.jpg"}
    chosen = [one.path for one in random_pictures(made, stored, said)]
    assert len(set(chosen)) == 12
    other = Predictions(made.class_names, made.paths, made.labels, -made.logits)
    assert [one.path for one in random_pictures(other, stored, said)] == chosen
    mistakes = confident_mistakes(made, stored, said)
    assert len(mistakes) == 12
    assert not any(one.right for one in mistakes)
    assert mistakes[0].path == "test/28.jpg"  # 29 has no picture
    certainty = [one.probability for one in mistakes]
    assert certainty == sorted(certainty, reverse=True)
    assert certainty[0] == pytest.approx(np.exp(2.8) / (np.exp(2.8) + 2))
    assert random_pictures(made, {}, said) == []

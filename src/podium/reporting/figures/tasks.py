"""The figures of a report, each drawn by a task that can run in any process."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from podium.reporting.figures.class_table import (
    MOST_LISTED,
    ROWS_A_PAGE,
    WHOLE,
    Scale,
    by_f1,
    class_table_pages,
)
from podium.reporting.figures.curves import accuracies, learning_curves
from podium.reporting.figures.differences import difference_figure
from podium.reporting.figures.explanations import (
    Explanation,
    explanation_figure,
    explanations_shown,
)
from podium.reporting.figures.gallery import gallery_figure
from podium.reporting.figures.matrix import (
    MOST_INTERACTIVE,
    confusion_figure,
    matrix_part,
)
from podium.reporting.figures.reliability import reliability_figure
from podium.reporting.figures.risk import risk_figure
from podium.reporting.figures.style import inline_svg, save_pages
from podium.reporting.figures.tuning_figure import tuning_figure
from podium.reporting.words.labels import Labels
from podium.reporting.words.metric_words import metric_title, metric_value, say_by
from podium.results.answered import mean_risk_curve
from podium.results.pictures import Picture, confident_mistakes, random_pictures
from podium.results.run import RunResult

if TYPE_CHECKING:
    from podium.results.run import RunResult
    from podium.results.study import StudyResults
from podium.reporting.words.recipes import run_title

LONGEST = ("matrix", "classes", "mistakes", "gallery")
"""Tasks that take 1.2 to 2 s with 100 classes at 400 dpi; the others take less than 1 s.
They start first."""


@dataclass(frozen=True)
class FigureResult:
    """The result of a task: files relative to the report, and the figure's markup on the page."""

    files: list[Path]
    inline: str = ""


@dataclass(frozen=True)
class FigureWriter:
    """Saves figures to a folder in the chosen formats."""

    to: Path
    dpi: int
    formats: tuple[str, ...]
    say: Labels
    class_scale: Scale = WHOLE

    def save(self, pages: Iterable[Figure], name: str) -> list[Path]:
        stem = self.to / "figures" / name
        saved = save_pages(pages, stem, dpi=self.dpi, formats=self.formats)
        return [path.relative_to(self.to) for path in saved]


Task = Callable[[], FigureResult]


def overview_tasks(results: StudyResults, writer: FigureWriter) -> dict[str, Task]:
    """Tasks by name that draw and save the figures of all contenders.

    Args:
        results: the study.
        writer: saves the figures.
    """
    say = writer.say
    figure = partial(accuracies, results.contenders, say)
    alt = say("compare_alt")
    tasks = {"compare": partial(_plot, writer, figure, "test-accuracy", "compare", alt)}
    if results.verdicts is not None and results.verdicts.pairs:
        figure = partial(difference_figure, results.verdicts, say)
        tasks["differences"] = partial(
            _plot,
            writer,
            figure,
            "differences",
            "differences",
            say_by("v_difference_alt", results.verdicts.metric, say),
        )
    if results.table is not None:
        curves = [(one.label, mean_risk_curve(one.runs)) for one in results.ranking]
        figure = partial(risk_figure, curves, say)
        alt = say("answered_alt")
        tasks["risk"] = partial(_plot, writer, figure, "risk-coverage", "risk", alt)
    if results.tuning is not None and results.tuning.contenders:
        figure = partial(tuning_figure, results.tuning, say)
        alt = say("tuning_alt")
        tasks["tuning"] = partial(_plot, writer, figure, "best-of-k-trials", "tuning", alt)
    return dict(tasks)


def figure_tasks(
    run: RunResult, thumbnails: Mapping[str, bytes], writer: FigureWriter
) -> dict[str, Task]:
    """Tasks by name that draw and save the figures of a run, in the page's order of files.

    Everything is computed here, so a task carries only what it draws.

    Args:
        run: the run.
        thumbnails: JPEGs of test images by path.
        writer: saves the figures.
    """

    slug, say = run.slug, writer.say
    title = run_title(run, say)
    tasks: dict[str, Task] = {}
    if run.history:
        alt = say(
            "curves_alt",
            name=title,
            epoch=say.count(run.best_epoch),
            accuracy=say.percent(run.valid_accuracy),
        )
        metric = run.noted.metric
        if not metric.is_accuracy:
            value = metric_value(metric, run.noted.valid, say)
            alt += " " + say("curves_alt_metric", metric=metric_title(metric, say), value=value)
        named = title if run.folds is None else f"{title}, {say('curves_folds', folds=run.folds)}"
        figure = partial(learning_curves, run.history, run.best_epoch, named, say, metric)
        tasks["curves"] = partial(_plot, writer, figure, f"{slug}-learning-curves", slug, alt)

    draw = partial(class_table_pages, told=run.told, scale=writer.class_scale)

    def weakest(most: int) -> Callable[[], Iterable[Figure]]:
        found = by_f1([one for one in run.classes if one.support])[:most]
        heading = say("class_table_weakest", count=len(found))
        return partial(draw, found, title, say, heading=heading)

    pages: Callable[[], Iterable[Figure]]
    pages = partial(draw, run.classes, title, say)
    if len(run.classes) > MOST_LISTED:
        pages = weakest(MOST_LISTED)
    tasks["classes"] = partial(_pages, writer, pages, f"{slug}-classes")
    if len(run.classes) > ROWS_A_PAGE:
        pages = weakest(ROWS_A_PAGE)
        tasks["weakest"] = partial(_pages, writer, pages, f"{slug}-weakest-classes")
    part = matrix_part(run.test)
    figure = partial(confusion_figure, part, title, say)
    picture = len(part.names) > MOST_INTERACTIVE
    tasks["matrix"] = partial(_matrix, writer, figure, f"{slug}-confusion", picture)
    figure = partial(reliability_figure, *run.calibration, title, say)
    name, alt = f"{slug}-reliability", reliability_alt(run, say)
    tasks["reliability"] = partial(_plot, writer, figure, name, name, alt)
    galleries = {
        "gallery": random_pictures(run.test, thumbnails, run.top_classes),
        "mistakes": confident_mistakes(run.test, thumbnails, run.top_classes),
    }
    for name, pictures in galleries.items():
        if pictures:
            sheet = partial(_gallery, pictures, say(f"{name}_title"), title, say)
            tasks[name] = partial(_pages, writer, sheet, f"{slug}-{name}")
    shown = explanations_shown(run.test, run.top_classes, run.explanations, thumbnails)
    if shown:
        figure = partial(explanation_figure, shown, title, say)
        tasks["explanations"] = partial(_page, writer, figure, f"{slug}-explanations")
    return tasks


def run_pictures(
    run: RunResult, thumbnails: Mapping[str, bytes], drawn: Mapping[str, FigureResult]
) -> RunPictures:
    """Collect the figures of a run for the page.

    Args:
        run: the run.
        thumbnails: JPEGs of test images by path.
        drawn: results of the run's tasks by name.
    """

    def inline(name: str) -> str:
        return drawn[name].inline if name in drawn else ""

    return RunPictures(
        curves=inline("curves"),
        matrix=inline("matrix"),
        gallery=random_pictures(run.test, thumbnails, run.top_classes),
        mistakes=confident_mistakes(run.test, thumbnails, run.top_classes),
        explanations=explanations_shown(run.test, run.top_classes, run.explanations, thumbnails),
        reliability=inline("reliability"),
        files=[path for one in drawn.values() for path in one.files],
    )


def _plot(
    writer: FigureWriter, figure: Callable[[], Figure], name: str, key: str, alt: str
) -> FigureResult:
    drawn = figure()
    return FigureResult(writer.save([drawn], name), inline_svg(drawn, key, alt))


def _pages(writer: FigureWriter, pages: Callable[[], Iterable[Figure]], name: str) -> FigureResult:
    return FigureResult(writer.save(pages(), name))


def _page(writer: FigureWriter, figure: Callable[[], Figure], name: str) -> FigureResult:
    return FigureResult(writer.save([figure()], name))


def _gallery(pictures: Sequence[Picture], heading: str, title: str, say: Labels) -> list[Figure]:
    return [gallery_figure(pictures, heading, title, say)]


def _matrix(
    writer: FigureWriter, figure: Callable[[], Figure], name: str, picture: bool
) -> FigureResult:
    drawn = figure()
    files = writer.save([drawn], name)
    return FigureResult(files, _data_address(drawn) if picture else "")


def _data_address(figure: Figure) -> str:
    out = io.BytesIO()
    figure.savefig(out, format="webp", dpi=150)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


@dataclass(frozen=True)
class RunPictures:
    """The figures and images of one run, as the page shows them."""

    curves: str  # an <svg> element; empty where there is no history
    matrix: str  # a data: URL of an image; empty where the page draws the matrix itself
    gallery: Sequence[Picture]
    mistakes: Sequence[Picture]
    explanations: Sequence[Explanation]
    reliability: str  # an <svg> element
    files: Sequence[Path]  # of this run, relative to the page


def reliability_alt(run: RunResult, say: Labels) -> str:
    """A description of the reliability diagram for screen readers.

    Args:
        run: the run.
        say: the language.
    """
    before, after = run.calibration
    return say(
        "cal_alt",
        name=run_title(run, say),
        before=say.percent(before.ece.value, 1),
        after=say.percent(after.ece.value, 1),
    )

"""The page of a study's learning curves: a figure, a table and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podium.__about__ import __version__
from podium.reporting.build import put_in_place
from podium.reporting.words.growth_words import GAIN, lead, sentences
from podium.reporting.words.labels import Labels, labels
from podium.results.curve import CurveResults, read_curves
from podium.results.study import gather
from podium.runs.folder import StudyFolder
from podium.runtime.csv_text import csv_text
from podium.runtime.files import write_text

COLUMNS = ("contender", "label", "share", "training_images", "seeds", "accuracy", "low", "high")


@dataclass(frozen=True)
class GrowthResult:
    """The page, and what it says."""

    index: Path
    found: CurveResults
    lines: tuple[str, ...]
    """What was trained, and what follows: one paragraph each."""


def build_growth_page(
    folder: StudyFolder, *, lang: str = "en", gain: float = GAIN, dpi: int = 400
) -> GrowthResult:
    """Write `curve/` in a study's folder, from its files only.

    Args:
        folder: the study folder, of `podium curve`.
        lang: language of all texts: `en` or `pt`.
        gain: in accuracy, whose price is told; 0..1.
        dpi: of the PNG figure.

    Raises:
        ConfigError: the language is not supported.
        RunFolderError: it is not such a study, or its runs are not done.
    """
    say = labels(lang)
    found = read_curves(gather(folder))
    lines = (lead(found, say), *sentences(found, say, gain))
    place = folder.path / "curve"
    with put_in_place(place) as workshop:
        write_text(workshop / "learning-curve.csv", csv_text(COLUMNS, _values(found)))
        write_text(workshop / "index.html", _page(found, lines, workshop, dpi, say))
    return GrowthResult(place / "index.html", found, lines)


def _values(found: CurveResults) -> list[list[Any]]:
    return [
        [
            point.contender,
            curve.label,
            point.share,
            point.images,
            point.seeds,
            *(round(getattr(point.accuracy, end), 6) for end in ("value", "low", "high")),
        ]
        for curve in found.curves
        for point in curve.points
    ]


def rows(found: CurveResults, say: Labels) -> list[tuple[str, str, str, str, str]]:
    """The table of the curves: contender, share, training images, accuracy, interval.

    Args:
        found: the learning curves.
        say: the language.
    """
    return [
        (
            curve.label,
            say.percent(point.share, 0 if round(100 * point.share, 6) % 1 == 0 else 1),
            say.count(point.images),
            say.number(100 * point.accuracy.value),
            say.interval((point.accuracy.low, point.accuracy.high)).removesuffix(" %"),
        )
        for curve in found.curves
        for point in curve.points
    ]


def _page(
    found: CurveResults, lines: tuple[str, ...], workshop: Path, dpi: int, say: Labels
) -> str:
    from podium.reporting.figures.growth import growth_figure
    from podium.reporting.figures.style import figure_style, inline_svg, save_figure
    from podium.reporting.page.templating import fill_in

    with figure_style():
        figure = growth_figure(found, say)
        save_figure(figure, workshop / "learning-curve", dpi=dpi, formats=("png", "pdf"))
        svg = inline_svg(figure, "growth", _alt(found, say))
    return fill_in(
        "growth.html.j2",
        parts=("base", "tables"),
        say=say,
        name=found.study.title,
        lines=lines,
        figure=svg,
        rows=rows(found, say),
        footer=say("growth_written", version=__version__, study=found.study.spec.name),
    )


def _alt(found: CurveResults, say: Labels) -> str:
    """A description of the figure for screen readers."""
    told = [
        say(
            "growth_alt_curve",
            name=one.label,
            first=say.percent(one.points[0].accuracy.value, 1),
            few=say.count(one.points[0].images),
            last=say.percent(one.points[-1].accuracy.value, 1),
            most=say.count(one.points[-1].images),
        )
        for one in found.curves
    ]
    return say("growth_alt", curves="; ".join(told))

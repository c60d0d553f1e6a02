"""A study's folder -> its report: figures, tables and the page, put in place as a whole."""

from __future__ import annotations

import base64
import io
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from podium.errors import ConfigError, UserError
from podium.gc_pause import collection_paused
from podium.store import StudyFolder, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from podium.reporting.gather import RunResult, StudyResults
    from podium.reporting.labels import Labels
    from podium.reporting.panel import RunPictures

__all__ = ["Progress", "ReportResult", "build_report"]

Progress = Callable[[str, int, int], None]
"""Called with what is being drawn, how many parts are done, and how many there are."""

FORMATS = ("png", "pdf", "svg")
MARK = '<meta name="generator" content="Podium'
LEFTOVER_SECONDS = 3600


@dataclass(frozen=True)
class ReportResult:
    """What was written: the page, and every file of the report with it."""

    index: Path
    files: tuple[Path, ...]


def build_report(
    folder: StudyFolder | Path,
    *,
    lang: Literal["en", "pt"] = "en",
    out: Path | None = None,
    dpi: int = 400,
    formats: Sequence[str] = ("png", "pdf"),
    progress: Progress | None = None,
) -> ReportResult:
    """Write a study's figures, tables and page from its files alone. Runs no model.

    The report is made beside its place and put there when it is whole, in place of an earlier
    one. Runs that are not finished are named in it, with the reason.

    Args:
        folder: the study's folder, `runs/<study>`.
        lang: language of every label.
        out: folder to write to; empty: `report/` in the study's folder.
        dpi: of the PNG figures, 20 to 2400.
        formats: of the figures: `png`, `pdf`, `svg`.
        progress: told of every part, for a display.

    Raises:
        ConfigError: `lang`, `dpi` or `formats` is none of those.
        RunFolderError: the folder is no study's, or none of its runs is finished.
        UserError: `out` holds something that is no report of Podium's.
    """
    from podium.reporting.labels import labels

    say = labels(lang)
    unknown = [kind for kind in formats if kind not in FORMATS]
    if unknown or not formats:
        raise ConfigError(f"formats: expected some of {', '.join(FORMATS)}, got {list(formats)}.")
    if not 20 <= dpi <= 2400:
        raise ConfigError(f"dpi: expected 20 to 2400, got {dpi}.")
    study = folder if isinstance(folder, StudyFolder) else StudyFolder(Path(folder))
    study.read_spec()  # a wrong folder is told at once, before a second of imports
    with collection_paused():
        from podium.reporting.gather import gather

    results = gather(study, say)
    place = out if out is not None else study.report
    with _put_in_place(place) as workshop:
        files = _write(results, workshop, say, dpi, tuple(formats), progress or _silent)
    return ReportResult(place / "index.html", tuple(place / path for path in files))


def _silent(what: str, done: int, total: int) -> None:
    return None


def _write(
    results: StudyResults,
    to: Path,
    say: Labels,
    dpi: int,
    formats: Sequence[str],
    progress: Progress,
) -> list[Path]:
    """Write all into `to`; returns the paths relative to it, the page first."""
    from podium.reporting.audit_page import write_audit_tables
    from podium.reporting.curves import accuracies
    from podium.reporting.differences import difference_figure
    from podium.reporting.page import render_page
    from podium.reporting.style import figure_style, inline_svg, save_figure
    from podium.reporting.tables import write_tables

    total = len(results.runs) + 2
    thumbnails = results.folder.read_thumbnails()
    drawn = {}
    with figure_style():
        progress(say("compare_title"), 0, total)
        plots = {"compare": (accuracies(results.contenders, say), "test-accuracy", "compare_alt")}
        if results.verdicts is not None and results.verdicts.pairs:
            figure = difference_figure(results.verdicts, say)
            plots["differences"] = (figure, "differences", "v_difference_alt")
        files, inline = [], {}
        for key, (figure, name, alt) in plots.items():
            saved = save_figure(figure, to / "figures" / name, dpi=dpi, formats=formats)
            files += [path.relative_to(to) for path in saved]
            inline[key] = inline_svg(figure, key, say(alt))
        for number, run in enumerate(results.runs, start=1):
            progress(run.title, number, total)
            drawn[run.slug] = _draw_run(run, thumbnails, to, say, dpi, formats)
            files += drawn[run.slug].files
    progress("index.html", total - 1, total)
    files += [path.relative_to(to) for path in write_tables(results, to / "tables", say)]
    if results.audit is not None:
        tables = write_audit_tables(results.audit, to / "tables")
        files += [path.relative_to(to) for path in tables]
    page = render_page(results, drawn, inline, files, say)
    write_text(to / "index.html", page)
    progress("index.html", total, total)
    return [Path("index.html"), *files]


def _draw_run(
    run: RunResult,
    thumbnails: dict[str, bytes],
    to: Path,
    say: Labels,
    dpi: int,
    formats: Sequence[str],
) -> RunPictures:
    from podium.metrics import confusion
    from podium.reporting.class_table import ROWS_A_PAGE, by_f1, class_table_pages
    from podium.reporting.curves import learning_curves
    from podium.reporting.gallery import confident_mistakes, gallery_figure, random_pictures
    from podium.reporting.matrix import MOST_INTERACTIVE, confusion_figure
    from podium.reporting.panel import RunPictures, reliability_alt
    from podium.reporting.reliability import reliability_figure
    from podium.reporting.style import inline_svg, save_pages

    files: list[Path] = []

    def save(pages: Iterable[Figure], name: str) -> None:
        stem = to / "figures" / f"{run.slug}-{name}"
        files.extend(
            path.relative_to(to) for path in save_pages(pages, stem, dpi=dpi, formats=formats)
        )

    curves = ""
    if run.history:
        figure = learning_curves(run.history, run.best_epoch, run.title, say)
        save([figure], "learning-curves")
        alt = say(
            "curves_alt",
            name=run.title,
            epoch=say.count(run.best_epoch),
            accuracy=say.percent(run.valid_accuracy),
        )
        curves = inline_svg(figure, run.slug, alt)
    save(class_table_pages(run.classes, run.title, say, told=run.told), "classes")
    if len(run.classes) > ROWS_A_PAGE:
        weakest = by_f1([one for one in run.classes if one.support])[:ROWS_A_PAGE]
        heading = say("class_table_weakest", count=len(weakest))
        pages = class_table_pages(weakest, run.title, say, heading=heading, told=run.told)
        save(pages, "weakest-classes")
    figure = confusion_figure(confusion(run.test), run.test.class_names, run.title, say)
    save([figure], "confusion")
    matrix = "" if len(run.classes) <= MOST_INTERACTIVE else _data_address(figure)
    figure = reliability_figure(*run.calibration, run.title, say)
    save([figure], "reliability")
    reliability = inline_svg(figure, f"{run.slug}-reliability", reliability_alt(run, say))
    gallery = random_pictures(run.test, thumbnails)
    mistakes = confident_mistakes(run.test, thumbnails)
    for pictures, name in ((gallery, "gallery"), (mistakes, "mistakes")):
        if pictures:
            save([gallery_figure(pictures, say(f"{name}_title"), run.title, say)], name)
    return RunPictures(curves, matrix, gallery, mistakes, reliability, files)


def _data_address(figure: Figure) -> str:
    out = io.BytesIO()
    figure.savefig(out, format="webp", dpi=150)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


@contextmanager
def _put_in_place(place: Path) -> Iterator[Path]:
    """A temporary folder that becomes `place` when the block ends well.

    After a kill `place` is the old report, the new one, or (for an instant between two renames)
    absent; it is never a part.
    """
    if place.exists() and not _is_replaceable(place):
        raise UserError(
            f"{place} is there already and is no report of Podium's, so it is left alone. "
            "Give a folder that is new or empty, or an earlier report."
        )
    parent = place.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent, place.name)
    workshop = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".new", dir=parent))
    try:
        workshop.chmod(0o755)
        yield workshop
        old = workshop.with_suffix(".old")
        if place.exists():
            place.rename(old)
        workshop.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(workshop, ignore_errors=True)
        raise


def _is_replaceable(place: Path) -> bool:
    if not place.is_dir():
        return False
    if not any(place.iterdir()):
        return True
    index = place / "index.html"
    return index.is_file() and MARK in index.read_text(encoding="utf-8", errors="replace")[:4000]


def _sweep(parent: Path, name: str) -> None:
    """Remove what reports that were killed long ago left behind."""
    for kind in ("new", "old"):
        for left in parent.glob(f".{name}.*.{kind}"):
            if left.is_dir() and time.time() - left.stat().st_mtime > LEFTOVER_SECONDS:
                shutil.rmtree(left, ignore_errors=True)

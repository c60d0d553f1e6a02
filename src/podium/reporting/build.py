"""A study's folder -> its report: figures, tables and the page, put in place as a whole."""

from __future__ import annotations

import errno
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from podium.errors import ConfigError, StorageError, UserError
from podium.reporting.figures.helpers import Helpers, helpers_that_pay
from podium.runs.folder import StudyFolder
from podium.runtime.events import Notify, Progress, silent
from podium.runtime.files import make_folder, write_text
from podium.runtime.imports import collection_paused

if TYPE_CHECKING:
    from podium.reporting.figures.tasks import FigureResult
    from podium.reporting.words.labels import Labels
    from podium.results.study import StudyResults

FORMATS = ("png", "pdf", "svg")
MARK = '<meta name="generator" content="Podium'
LEFTOVER_SECONDS = 3600
FIGURES_A_RUN = 6


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
    notify: Notify = silent,
    helpers: int | None = None,
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
        notify: told how many parts are done, for a display.
        helpers: processes that help to draw; empty: one a core but one, where it pays. The files
            are the same, however many there are.

    Raises:
        ConfigError: `lang`, `dpi` or `formats` is none of those.
        RunFolderError: the folder is no study's, or none of its runs is finished.
        UserError: `out` holds something that is no report of Podium's.
    """
    from podium.reporting.words.labels import labels

    say = labels(lang)
    unknown = [kind for kind in formats if kind not in FORMATS]
    if unknown or not formats:
        raise ConfigError(f"formats: expected some of {', '.join(FORMATS)}, got {list(formats)}.")
    if not 20 <= dpi <= 2400:
        raise ConfigError(f"dpi: expected 20 to 2400, got {dpi}.")
    study = folder if isinstance(folder, StudyFolder) else StudyFolder(Path(folder))
    spec = study.read_spec()  # a wrong folder is told at once, before a second of imports
    place = out if out is not None else study.report
    if helpers is None:
        done = sum(run.is_done() for run in study.runs(spec))
        helpers = helpers_that_pay(FIGURES_A_RUN * done, dpi)
    with Helpers(helpers) as drawing:  # they start while this process reads and judges
        with collection_paused():
            from podium.results.study import gather
        results = gather(study)
        with _put_in_place(place) as workshop:
            files = _write(results, workshop, say, dpi, tuple(formats), notify, drawing)
    return ReportResult(place / "index.html", tuple(place / path for path in files))


def _write(
    results: StudyResults,
    to: Path,
    say: Labels,
    dpi: int,
    formats: Sequence[str],
    notify: Notify,
    helpers: Helpers,
) -> list[Path]:
    """Write all into `to`; returns the paths relative to it, the page first."""
    from podium.reporting.figures.style import figure_style
    from podium.reporting.figures.tasks import (
        LONGEST,
        FigureWriter,
        figure_tasks,
        overview_tasks,
        run_pictures,
    )
    from podium.reporting.page.audit_page import write_audit_tables
    from podium.reporting.page.page import render_page
    from podium.reporting.tables import write_tables

    thumbnails = results.folder.read_thumbnails()
    writer = FigureWriter(to, dpi, tuple(formats), say)
    tasks = {("", key): task for key, task in overview_tasks(results, writer).items()}
    for run in results.runs:
        found = figure_tasks(run, thumbnails, writer).items()
        tasks |= {(run.slug, key): task for key, task in found}
    total = len(tasks) + 1
    notify(Progress("figures", 0, total))
    order = sorted(tasks, key=lambda place: place[1] not in LONGEST)
    with figure_style():
        done = helpers.call_all(
            [tasks[place] for place in order],
            lambda number: notify(Progress("figures", number, total)),
        )
    made = dict(zip(order, done, strict=True))
    drawn: dict[str, dict[str, FigureResult]] = {}
    for slug, key in tasks:
        drawn.setdefault(slug, {})[key] = made[slug, key]
    files = [path for of_run in drawn.values() for one in of_run.values() for path in one.files]
    files += [path.relative_to(to) for path in write_tables(results, to / "tables", say)]
    if results.audit is not None:
        tables = write_audit_tables(results.audit, to / "tables")
        files += [path.relative_to(to) for path in tables]
    overview = {key: one.inline for key, one in drawn.pop("").items()}
    pictures = {run.slug: run_pictures(run, thumbnails, drawn[run.slug]) for run in results.runs}
    page = render_page(results, pictures, overview, thumbnails, files, say)
    write_text(to / "index.html", page)
    notify(Progress("index.html", total, total))
    return [Path("index.html"), *files]


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
    make_folder(parent)
    _sweep(parent, place.name)
    try:
        workshop = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".new", dir=parent))
    except OSError as error:
        raise StorageError(place, error) from None
    try:
        workshop.chmod(0o755)
        yield workshop
        old = workshop.with_suffix(".old")
        if place.exists():
            place.rename(old)
        workshop.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException as error:
        shutil.rmtree(workshop, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise StorageError(place, error) from error
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

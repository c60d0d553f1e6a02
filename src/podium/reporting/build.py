"""Build a study's report: figures, tables and the HTML page, replaced atomically."""

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
    from podium.reporting.figures.tasks import FigureResult, FigureWriter
    from podium.results.study import StudyResults

FORMATS = ("png", "pdf", "svg")
MARK = '<meta name="generator" content="Podium'
LEFTOVER_SECONDS = 3600
FIGURES_A_RUN = 6
WHAT = "writing the report"  # one task of a progress display: its last step is the page


@dataclass(frozen=True)
class ReportResult:
    """The files of a report: the page, and all files including it."""

    index: Path
    files: tuple[Path, ...]
    results: StudyResults
    """The study that it was built from."""


def build_report(
    folder: StudyFolder | Path,
    *,
    lang: Literal["en", "pt"] = "en",
    out: Path | None = None,
    dpi: int = 400,
    formats: Sequence[str] = ("png", "pdf"),
    notify: Notify = silent,
    helpers: int | None = None,
    class_scale: tuple[float, float] = (0.0, 1.0),
) -> ReportResult:
    """Write a study's figures, tables and HTML page from its files, without running a model.

    The report is built in a temporary folder and moved into place when complete, replacing any
    earlier one. It lists unfinished runs with the reason. A report in the study's folder comes with
    the study's receipt, see `podium.results.receipt`.

    Args:
        folder: the study folder, `runs/<study>`.
        lang: language of all texts.
        out: folder to write to; None: `report/` in the study folder.
        dpi: of the PNG figures, 20 to 2400.
        formats: of the figures' files: `png`, `pdf`, `svg`; none: they are in the page alone.
        notify: called with the number of finished parts, for a progress display.
        helpers: number of extra drawing processes; None: one per core minus one, where that is
            faster. The files do not depend on it.
        class_scale: values, lowest first, at the two ends of the colours in the figures of
            precision, recall and F1 per class. The paper's are 0.6 and 1.25. The page's own table
            always uses 0 and 1.

    Raises:
        ConfigError: `lang`, `dpi`, `formats` or `class_scale` is not one of the values above.
        RunFolderError: it is not a study folder, or none of its runs is finished.
        UserError: `out` holds something that is not a Podium report.
    """
    from podium.reporting.words.labels import labels

    say = labels(lang)
    unknown = [kind for kind in formats if kind not in FORMATS]
    if unknown:
        raise ConfigError(f"formats: expected some of {', '.join(FORMATS)}, got {list(formats)}.")
    if not 20 <= dpi <= 2400:
        raise ConfigError(f"dpi: expected 20 to 2400, got {dpi}.")
    if not class_scale[0] < class_scale[1]:
        raise ConfigError(
            f"class_scale: expected the lower value first, as in 0.6 and 1.25, got {class_scale}."
        )
    study = folder if isinstance(folder, StudyFolder) else StudyFolder(Path(folder))
    spec = study.read_spec()  # a wrong folder fails at once, before a second of imports
    place = out if out is not None else study.report
    if helpers is None:
        done = sum(run.is_done() for run in study.runs(spec))
        helpers = helpers_that_pay(FIGURES_A_RUN * done, dpi)
    with Helpers(helpers) as drawing:  # they start while this process reads the results
        with collection_paused():
            from podium.reporting.figures.tasks import FigureWriter
            from podium.results.receipt import write_receipt
            from podium.results.study import gather
        results = gather(study)
        with put_in_place(place) as workshop:
            writer = FigureWriter(workshop, dpi, tuple(formats), say, class_scale)
            files = _write(results, writer, notify, drawing)
    if out is None:
        write_receipt(results)
    return ReportResult(place / "index.html", tuple(place / path for path in files), results)


def _write(
    results: StudyResults, writer: FigureWriter, notify: Notify, helpers: Helpers
) -> list[Path]:
    """Write the report to the writer's folder; returns paths relative to it, the page first."""
    from podium.reporting.figures.style import figure_style
    from podium.reporting.figures.tasks import (
        LONGEST,
        figure_tasks,
        overview_tasks,
        run_pictures,
    )
    from podium.reporting.page.audit_page import write_audit_tables
    from podium.reporting.page.page import render_page
    from podium.reporting.tables import write_tables

    thumbnails = results.folder.read_thumbnails()
    to, say = writer.to, writer.say
    tasks = {("", key): task for key, task in overview_tasks(results, writer).items()}
    for run in results.runs:
        found = figure_tasks(run, thumbnails, writer).items()
        tasks |= {(run.slug, key): task for key, task in found}
    total = len(tasks) + 1
    notify(Progress(WHAT, 0, total))
    order = sorted(tasks, key=lambda place: place[1] not in LONGEST)
    with figure_style():
        done = helpers.call_all(
            [tasks[place] for place in order],
            lambda number: notify(Progress(WHAT, number, total)),
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
    notify(Progress(WHAT, total, total))
    return [Path("index.html"), *files]


@contextmanager
def put_in_place(place: Path) -> Iterator[Path]:
    """A temporary folder that becomes `place` when the block succeeds.

    If the process is killed, `place` is the old report, the new one, or (for an instant between
    two renames) absent; it is never incomplete.

    Args:
        place: new, empty, or an earlier report.

    Raises:
        UserError: it holds something else.
    """
    if place.exists() and not _is_replaceable(place):
        raise UserError(
            f"{place} exists and is not a Podium report, so it was left unchanged. Give a new or "
            "empty folder, or an earlier report."
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
    """Remove temporary folders left behind by killed processes."""
    for kind in ("new", "old"):
        for left in parent.glob(f".{name}.*.{kind}"):
            if left.is_dir() and time.time() - left.stat().st_mtime > LEFTOVER_SECONDS:
                shutil.rmtree(left, ignore_errors=True)

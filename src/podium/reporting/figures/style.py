"""The style and saving of figures, without pyplot or the caller's rcParams."""

from __future__ import annotations

import contextlib
import io
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

ACCENT = "#0b5fa5"
GREY = "#8a8a8a"
# Okabe and Ito's colours, distinct under colour vision deficiencies
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
RIGHT, WRONG = COLOURS[:2]  # blue and vermilion

# For scripts that DejaVu, which comes with matplotlib, lacks.
FALLBACK_FONTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans",
    "Arial Unicode MS",
)


def _style() -> dict[str, Any]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return {
        "font.family": ["DejaVu Sans", *(name for name in FALLBACK_FONTS if name in installed)],
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.labelsize": 9,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8,
        "figure.titlesize": 11,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "text.parse_math": False,  # a class may be called "$x$"
        "text.usetex": False,
        "pdf.fonttype": 42,  # TrueType, which journals require and editors can edit
        "svg.fonttype": "none",  # the page's font
        "svg.hashsalt": "podium",  # identical figures give identical files
        "figure.facecolor": "white",
    }


@contextlib.contextmanager
def figure_style() -> Iterator[None]:
    """Use Podium's style regardless of the caller's matplotlibrc, and restore theirs afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_style())  # type: ignore[arg-type]
        with warnings.catch_warnings():
            # a script without an installed font: boxes in a figure must not prevent the report
            warnings.filterwarnings("ignore", message=r"Glyph \d+", category=UserWarning)
            warnings.filterwarnings("ignore", message=r"Matplotlib currently does not support")
            yield


def draw_cells(axes: Axes, places: Sequence[tuple[int, int]], colours: Any) -> None:
    """Fill unit squares around (column, row), like `imshow` but as vector shapes.

    Vector cells are sharp at any zoom and need no resampling to millions of pixels.

    Args:
        axes: to draw on.
        places: (column, row) of each cell.
        colours: one per cell.
    """
    corners = [
        [(x - 0.5, y - 0.5), (x + 0.5, y - 0.5), (x + 0.5, y + 0.5), (x - 0.5, y + 0.5)]
        for x, y in places
    ]
    axes.add_collection(
        PolyCollection(corners, facecolors=colours, edgecolors="none", linewidths=0, zorder=0.5)
    )


METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "svg": {"Date": None},
}
MARGIN = 0.07  # inches around a figure


def save_figure(figure: Figure, stem: Path, *, dpi: int, formats: Sequence[str]) -> list[Path]:
    """Write `stem`.png, `stem`.pdf... without dates, so identical figures give identical files.

    Args:
        figure: the figure.
        stem: path without extension.
        dpi: of the PNG.
        formats: `png`, `pdf`, `svg`.

    Returns:
        The paths of the files.
    """
    return save_pages([figure], stem, dpi=dpi, formats=formats)


def save_pages(
    figures: Iterable[Figure], stem: Path, *, dpi: int, formats: Sequence[str]
) -> list[Path]:
    """Write one PDF of all pages, and `stem`-1.png, `stem`-2.png... (a single page has no number).

    Args:
        figures: the pages.
        stem: path without extension.
        dpi: of the PNG.
        formats: `png`, `pdf`, `svg`; none: nothing is written.

    Returns:
        The paths of the files.
    """
    if not formats:
        return []
    stem.parent.mkdir(parents=True, exist_ok=True)
    written: dict[str, list[Path]] = {kind: [] for kind in formats}
    pages = iter(figures)
    page, number = next(pages, None), 1
    with contextlib.ExitStack() as open_files:
        if "pdf" in formats:  # fonts are embedded once per file, which takes most of the time
            path = stem.parent / f"{stem.name}.pdf"
            book = open_files.enter_context(PdfPages(path, metadata=METADATA["pdf"]))
            written["pdf"].append(path)
        while page is not None:  # one by one: 15 pages of a table took 0.7 GB
            following = next(pages, None)
            name = stem.name if number == 1 and following is None else f"{stem.name}-{number}"
            box = _place(page, dpi)
            for kind in formats:
                if kind == "pdf":
                    book.savefig(page, bbox_inches=box)
                    continue
                path = stem.parent / f"{name}.{kind}"
                options: dict[str, Any] = {"metadata": METADATA[kind]}
                if kind == "png":
                    # for flat colours, level 1 is nearly as small as 9 and several times faster
                    options["pil_kwargs"] = {"compress_level": 1}
                page.savefig(path, format=kind, dpi=dpi, bbox_inches=box, **options)
                written[kind].append(path)
            page, number = following, number + 1
    return [path for kind in formats for path in written[kind]]


def _place(figure: Figure, dpi: int) -> Bbox:
    """Lay out the figure once for all formats; returns its bounding box in inches.

    Saving exactly this box keeps labels whole that a layout engine could not fit.
    """
    figure.set_dpi(dpi)
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine(None)
    box = figure.get_tightbbox()
    return Bbox.from_extents(box.x0 - MARGIN, box.y0 - MARGIN, box.x1 + MARGIN, box.y1 + MARGIN)


def inline_svg(figure: Figure, key: str, alt: str) -> str:
    """The figure as an <svg> element with the page's font and colours.

    Black becomes `currentColor`, so lines are light in the dark theme.

    Args:
        figure: the figure.
        key: prefix that makes its ids unique on the page.
        alt: description for screen readers.
    """
    from markupsafe import escape

    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{key}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", svg)
    svg = re.sub(r"font-family: [^;\"]*;?|font: ([\d.]+px) [^;\"]*", _own_font, svg)
    # text and lines without a colour are black by default
    svg = svg.replace("#000000", "currentColor").replace(ACCENT, "var(--accent)")
    svg = svg.replace("#ffffff", "var(--card)")  # hollow markers and gaps between bars
    svg = re.sub(r"<text ", '<text fill="currentColor" ', svg)
    head = re.match(r"<svg[^>]*>", svg)
    assert head is not None
    box = re.search(r'viewBox="([^"]+)"', head[0])
    assert box is not None
    width = float(box[1].split()[2])
    start = (
        f'<svg class="plot" viewBox="{box[1]}" style="max-width:{width * 4 / 3:.0f}px" '
        f'role="img" aria-label="{escape(alt)}" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return start + svg[head.end() :]


def _own_font(found: re.Match[str]) -> str:
    return f"font-size: {found[1]}" if found[1] else ""


def shorten(text: str, length: int) -> str:
    """Put text on one line and truncate it with '…'.

    Args:
        text: any text.
        length: maximum number of characters.
    """
    line = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)
    line = " ".join(line.split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"

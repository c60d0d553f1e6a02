"""The page, figure and tables of contenders on corrupted images."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from podium.config.text import words
from podium.reporting.words.labels import Labels, labels
from podium.reporting.words.stress_words import (
    corruption_title,
    ranking_sentence,
    turn_sentences,
)
from podium.reporting.words.verdict_words import p_words, points, points_interval
from podium.results.stress import read_stress
from podium.runs.folder import StudyFolder
from podium.runs.predictions import SplitName
from podium.runtime.csv_text import csv_text
from podium.runtime.files import make_folder, write_text
from podium.statistics.families import Tested
from podium.statistics.stress import EVERY, Stressed, StressPair

CURVE_COLUMNS = words("corruption strength value contender images accuracy low high")
PAIR_COLUMNS = words(
    "corruption first second clean_difference difference low high p p_adjusted change change_low "
    "change_high change_p change_p_adjusted turns"
)


def write_stress_report(
    study: StudyFolder, split: SplitName, to: Path, lang: str = "en", dpi: int = 200
) -> Stressed:
    """Write `index.html`, the figure and two tables from what `podium stress` has kept.

    Args:
        study: the study's folder.
        split: of the images.
        to: folder to write to.
        lang: `en` or `pt`.
        dpi: of the PNG figure.

    Returns:
        What the page shows.

    Raises:
        RunFolderError: nothing is kept, or it is damaged.
    """
    from podium.reporting.figures.stress_figure import stress_figure
    from podium.reporting.figures.style import figure_style, inline_svg, save_figure
    from podium.reporting.page.templating import fill_in

    say, found, spec = labels(lang), read_stress(study, split), study.read_spec()
    title = spec.title or spec.name
    make_folder(to)
    with figure_style():
        drawn = stress_figure(found, say, title)
        save_figure(drawn, to / "stress", dpi=dpi, formats=("png", "pdf"))
        plot = inline_svg(drawn, "stress", say("stress_alt", n=say.count(found.n)))
    write_text(to / "stress.csv", csv_text(CURVE_COLUMNS, _curve_rows(found)))
    write_text(to / "stress-pairs.csv", csv_text(PAIR_COLUMNS, map(_pair_row, found.pairs)))
    page = fill_in(
        "stress.html.j2",
        parts=("base", "tables", "audit"),
        say=say,
        title=title,
        plot=plot,
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **_texts(found, split, say),
    )
    write_text(to / "index.html", page)
    return found


def _texts(found: Stressed, split: SplitName, say: Labels) -> dict[str, Any]:
    groups = "" if found.groups is None else say("stress_groups", groups=say.count(found.groups))
    intro = say("stress_intro", n=say.count(found.n), split=say(f"stress_on_{split}"))
    several = len(found.curves) > 1
    turns = turn_sentences(found, say)
    return {
        "intro": f"{intro} {groups}".strip(),
        "ranking": ranking_sentence(found, say) if several else "",
        "turns": turns,
        "no_turn": say("stress_no_turn") if several and not turns else "",
        "headings": [
            say("col_contender"),
            say("stress_clean"),
            *(corruption_title(name, say) for name in [*found.corruptions, EVERY]),
        ],
        "rows": [(_mean_row(name, found, say), True) for name in found.curves],
        "pair_headings": [
            say("stress_col_corruption"),
            say("v_col_pair"),
            say("stress_col_clean"),
            say("stress_col_difference"),
            say("v_col_p_adjusted"),
            say("slices_col_change"),
            say("slices_col_p_change"),
        ],
        "pairs": [(_pair_cells(pair, found, say), pair.change.is_significant)
                  for pair in found.pairs],
    }  # fmt: skip


def _mean_row(name: str, found: Stressed, say: Labels) -> list[tuple[str, float]]:
    curve = found.curves[name]
    row = [(found.labels[name], 0.0)]
    clean = curve[0]
    interval = say.interval((clean.low, clean.high))
    row.append((f"{say.percent(clean.value, 1)} ({interval})", clean.value))
    for kind in found.corruptions:
        values = [
            one.value for one, of in zip(curve, found.conditions, strict=True) if of[0] == kind
        ]
        mean = sum(values) / len(values)
        row.append((say.percent(mean, 1), mean))
    return [*row, (say.percent(found.means[name], 1), found.means[name])]


def _pair_cells(pair: StressPair, found: Stressed, say: Labels) -> list[tuple[str, float]]:
    name = f"{found.labels[pair.first]} – {found.labels[pair.second]}"
    cells = [
        (corruption_title(pair.corruption, say), 0.0),
        (name, 0.0),
        (points(pair.clean, say), pair.clean),
    ]
    for one in (pair.stressed, pair.change):
        text = f"{points(one.interval.value, say)} ({points_interval(one.interval, say)})"
        p = p_words(one.p_adjusted, say).removeprefix("p = ").removeprefix("p ")
        cells += [(text, one.interval.value), (p, one.p_adjusted)]
    return cells


def _curve_rows(found: Stressed) -> list[tuple[object, ...]]:
    return [
        (*condition, name, found.n, one.value, one.low, one.high)
        for name, curve in found.curves.items()
        for condition, one in zip(found.conditions, curve, strict=True)
    ]


def _pair_row(pair: StressPair) -> tuple[object, ...]:
    def cells(one: Tested) -> tuple[float, ...]:
        return one.interval.value, one.interval.low, one.interval.high, one.p, one.p_adjusted

    who = pair.corruption, pair.first, pair.second, pair.clean
    return *who, *cells(pair.stressed), *cells(pair.change), "yes" if pair.turns else "no"

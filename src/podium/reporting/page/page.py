"""The report page: the texts and numbers of its template.

The page is one self-contained file: style, script, images and figures are embedded, and its content
security policy forbids external requests.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from podium.config.text import words
from podium.reporting.figures.explanations import LABEL_MARK
from podium.reporting.figures.tasks import RunPictures
from podium.reporting.page.answered_section import answered_section
from podium.reporting.page.audit_page import audit_sections
from podium.reporting.page.compare_section import compare_section
from podium.reporting.page.decided_section import decided_section
from podium.reporting.page.explorer import Explorer
from podium.reporting.page.head import head_section, store_telling_images
from podium.reporting.page.image_store import ImageStore
from podium.reporting.page.leaderboard import leaderboard, metric_heads
from podium.reporting.page.panel import anchor, run_panel
from podium.reporting.page.paper_section import paper_section
from podium.reporting.page.sizes_section import sizes_section
from podium.reporting.page.slice_section import slice_section
from podium.reporting.page.templating import fill_in
from podium.reporting.page.tuning_section import tuning_section
from podium.reporting.page.verdict_section import verdict_section
from podium.reporting.words.advice_words import advice, shortcut_sentences
from podium.reporting.words.cautions import at_chance, cross_validated, majority, may_be_known
from podium.reporting.words.design_words import groups_sentence
from podium.reporting.words.labels import Labels
from podium.reporting.words.metric_words import (
    metric_title,
    say_by,
)
from podium.reporting.words.podium_words import needed_sentence, score_sentence
from podium.reporting.words.protocol_words import leaks, looks
from podium.reporting.words.recipes import run_title
from podium.results.run import RunResult
from podium.results.study import StudyResults, Unfinished
from podium.runs.pictures import read_pictures

SCRIPTS = words(
    "base tables tabs board data cards views dialog matrix search explore charts compare "
    "decided sizes paper report"
)


def render_page(
    results: StudyResults,
    pictures: Mapping[str, RunPictures],
    plots: Mapping[str, str],
    thumbnails: Mapping[str, bytes],
    files: Sequence[Path],
    say: Labels,
) -> str:
    """Render the report as one HTML page.

    Args:
        results: the study.
        pictures: figures and images of each run, by its slug.
        plots: <svg> elements: `compare` for all contenders, and `differences` if there are pairs.
        thumbnails: JPEGs of test images by path.
        files: all figures and tables, relative to the page.
        say: the language.
    """
    seen = looks(results, say)
    explorer, store = Explorer(results), ImageStore()
    told = store_telling_images(results, store, thumbnails)
    _fill(store, results, pictures, explorer, thumbnails)

    def panel(run: RunResult) -> dict[str, Any]:
        return run_panel(run, pictures[run.slug], explorer, store, say)

    compare = compare_section(results, explorer, say)
    return fill_in(
        "page.html.j2",
        parts=SCRIPTS,
        charts=compare is not None,
        store=store.style,
        explorer=explorer.block(store, say),
        class_numbers=explorer.classes,
        say=say,
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        title=results.title,
        spec=results.spec,
        head=head_section(results, told, explorer, store, say),
        scored=score_sentence(results, say),
        needed=needed_sentence(results, say),
        caution=_caution(results, say),
        notes=_notes(results, seen["text"] if seen["rows"] else "", say),
        stats=_stats(results, say),
        entries=leaderboard(results, say),
        comparison=Markup(plots["compare"]),
        differences=Markup(plots.get("differences", "")),
        verdicts=verdict_section(results, say),
        decided=decided_section(results, say),
        sizes=sizes_section(results, say),
        paper=paper_section(results, say),
        answered=answered_section(results, say),
        risk=Markup(plots.get("risk", "")),
        slices=slice_section(results, say),
        tuning=tuning_section(results, say),
        best_of_k=Markup(plots.get("tuning", "")),
        compare=compare,
        advice=_advice(results, say),
        looks=seen,
        leaks=leaks(results, say),
        by=lambda key: say_by(key, results.metric, say),
        metric_heads=metric_heads(results, say),
        audit=_audit(results, say),
        unfinished=[_unfinished(run, say) for run in results.unfinished],
        data=_data(results, say),
        contenders=[
            (one.name, one.label, [panel(run) for run in one.runs]) for one in results.contenders
        ],
        figures=[path.as_posix() for path in files if path.suffix in (".png", ".pdf", ".svg")],
        tables=[path.as_posix() for path in files if path.suffix not in (".png", ".pdf", ".svg")],
        study_yaml=results.spec.to_yaml(),
        command=f"podium run {results.spec.name}.yaml --data {_quoted(results.spec.data.path)}",
        environment=_environment(results),
    )


def _fill(
    store: ImageStore,
    results: StudyResults,
    pictures: Mapping[str, RunPictures],
    explorer: Explorer,
    thumbnails: Mapping[str, bytes],
) -> None:
    """Store the images that are shown at once first, those of the best contender before others."""
    ranked = [run for contender in results.ranking for run in contender.runs]
    for run in ranked:
        for one in (*pictures[run.slug].gallery, *pictures[run.slug].mistakes):
            store.put(one.jpeg, one.path)
    for run in ranked:
        for shown in pictures[run.slug].explanations:
            if shown.picture is not None:
                store.put(shown.picture, shown.path)
            store.put(shown.of_predicted, shown.path, run.slug)
            if shown.of_true is not None:
                store.put(shown.of_true, shown.path + LABEL_MARK, run.slug)
    explorer.fill(store, thumbnails)


def _audit(results: StudyResults, say: Labels) -> dict[str, Any] | None:
    if results.audit is None:
        return None
    sections = audit_sections(results.audit, read_pictures(results.folder.audit_pictures), say)
    sections["findings"] = [*shortcut_sentences(results, say), *sections["findings"]]
    return sections


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)


def _notes(results: StudyResults, rescored: str, say: Labels) -> list[str]:
    """Sentences that a reader must not miss; `rescored` warns of earlier scorings, or is empty."""
    notes = {
        say(
            "stand_in",
            used=run.model,
            wanted=run.stood_in_for,
            name=results.spec.label(run.folder.contender),
        ): None
        for run in results.runs
        if run.stood_in_for
    }
    if results.verdicts is not None and results.verdicts.why_accuracy:
        title = metric_title(results.metric, say)
        notes[say("note_metric", metric=title, why=results.verdicts.why_accuracy)] = None
    if results.verdicts is not None and results.verdicts.grouping is not None:
        notes[groups_sentence(results.verdicts, say)] = None
    told = [*notes, *cross_validated(results, say)]
    told += [*at_chance(results, say), *may_be_known(results, say)]
    if rescored:
        told.append(rescored)
    if results.unfinished:
        done = len(results.runs)
        told.append(say("unfinished_some", done=done, total=done + len(results.unfinished)))
    return told


def _advice(results: StudyResults, say: Labels) -> list[tuple[str, str, str]]:
    """What to try, why, and the id of the part of the page that shows more."""
    anchors = {one.name: anchor(one.runs[0]) for one in results.contenders}
    return [
        (one.what, one.why, anchors[one.contender] if one.contender else "audit")
        for one in advice(results, say)
    ]


def _stats(results: StudyResults, say: Labels) -> list[tuple[str, str]]:
    runs = len(results.runs)
    total = runs + len(results.unfinished)
    return [
        (say.count(results.runs[0].scores.n), say("stat_images")),
        (say.count(len(results.class_names)), say("stat_classes")),
        (f"{runs}" if runs == total else f"{runs} / {total}", say("stat_runs")),
        (say.percent(majority(results.runs[0].test)[1]), say("stat_majority")),
    ]


def _caution(results: StudyResults, say: Labels) -> str:
    """What the intervals of the leaderboard cover."""
    verdicts = results.verdicts
    if verdicts is not None and verdicts.folds is not None:
        trained = say.count(verdicts.folds.training_images)
        return say("headline_caution_folds", trained=trained)
    several = any(len(one.runs) > 1 for one in results.contenders)
    return say("headline_caution_seeds" if several else "headline_caution")


def _unfinished(run: Unfinished, say: Labels) -> dict[str, str]:
    why = run.message
    if run.state == "unfinished":
        why = say("why_unfinished", epochs=say.count(run.epochs), wanted=say.count(run.wanted))
    elif run.state == "not_started":
        why = say("why_not_started")
    elif run.state == "no_members":
        why = say("why_no_members", names=run.message)
    return {"title": run_title(run, say), "state": say(f"state_{run.state}"), "why": why}


def _data(results: StudyResults, say: Labels) -> dict[str, Any] | None:
    """Counts and notices about the images, from data.json; missing keys are left out."""
    data = results.data
    if not data:
        return None
    splits: dict[str, dict[str, int]] = dict(data.get("splits") or {})
    classes = data.get("classes") or results.class_names
    rows = []
    for name, counts in splits.items():
        known = [int(counts[one]) for one in classes if counts.get(one)]
        low, high = (min(known), max(known)) if known else (0, 0)
        span = say("data_range", low=say.count(low), high=say.count(high))
        rows.append(
            {
                "name": say(name) if name in ("train", "valid", "test") else name,
                "images": say.count(sum(known)),
                "classes": say.count(len(known)),
                "span": span if low != high else say.count(low),
            }
        )
    return {
        "splits": rows,
        "counts": [
            (
                one,
                [(say.count(counts.get(one, 0)), counts.get(one, 0)) for counts in splits.values()],
            )
            for one in classes
        ],
        "skipped": [
            (reason, say.count(n)) for reason, n in dict(data.get("skipped") or {}).items()
        ],
        "unreadable": [(str(path), str(reason)) for path, reason in data.get("unreadable") or []],
        "notices": [str(notice) for notice in data.get("notices") or []],
        "fingerprint": data.get("fingerprint"),
    }


def _environment(results: StudyResults) -> list[tuple[str, str]]:
    """Versions that the runs were trained with, where known."""
    found: dict[str, dict[str, None]] = {}
    for run in results.runs:
        for name, key in (("Podium", "podium_version"), ("PyTorch", "torch_version")):
            if run.done.get(key):
                found.setdefault(name, {})[str(run.done[key])] = None
    return [(name, ", ".join(values)) for name, values in found.items()]

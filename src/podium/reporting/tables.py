"""Table 1 and the other tables: CSV for programs, Markdown and LaTeX for documents."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from podium.config.text import words
from podium.reporting.latex import contenders_table, pairs_table
from podium.reporting.markdown import markdown_table
from podium.reporting.references import bibliography
from podium.reporting.slice_tables import slice_tables
from podium.reporting.tuning_tables import tuning_tables
from podium.reporting.words.cost_words import margin_sentence
from podium.reporting.words.labels import NOTHING, Labels
from podium.reporting.words.metric_words import metric_title, metric_value, say_by
from podium.reporting.words.paper_words import paper_text
from podium.reporting.words.recipes import augmentation, model_words, pretraining
from podium.reporting.words.verdict_words import ordered_pairs, pair_cells, pair_headings
from podium.results.run import RunResult
from podium.results.study import Contender, StudyResults
from podium.runtime.csv_text import csv_text
from podium.runtime.files import write_text
from podium.statistics.intervals import Interval
from podium.statistics.metrics import most_confused
from podium.statistics.scoring import Metric
from podium.statistics.verdicts import Pair, Standing, Verdicts

MOST_CONFUSED = 200  # pairs per run in confused.csv
NUMBERS = 12  # numeric columns of Table 1, after the text columns

CSV_COLUMNS = words(
    "contender label seed model stood_in_for augmentation pretraining parameters epochs "
    "best_epoch train_accuracy valid_accuracy test_accuracy test_low test_high test_images "
    "macro_precision macro_recall macro_f1 top5_accuracy nll seconds"
)


CALIBRATION_COLUMNS = words(
    "contender seed n temperature ece ece_low ece_high ece_if_perfect_low ece_if_perfect_high "
    "nll nll_low nll_high brier brier_low brier_high calibrated_ece calibrated_ece_low "
    "calibrated_ece_high calibrated_nll calibrated_brier"
)
COVERAGE_COLUMNS = words(
    "contender seed n valid_n promised by_class covered low high mean_size single"
)
PAIR_COLUMNS = words(
    "first second claim seeds n difference low high only_first only_second macro_f1_difference "
    "macro_f1_low macro_f1_high macro_recall_difference macro_recall_low macro_recall_high "
    "p p_adjusted winner joint_low joint_high verdict within"
)
PLACE_COLUMNS = words(
    "contender best_place worst_place accuracy low high macro_f1 n seeds tied_with may_be_best"
)

ANSWERED_COLUMNS = words(
    "contender best_place worst_place accuracy accuracy_at_90 low high n seeds may_be_best"
)
ANSWERED_PAIR_COLUMNS = words(
    "first second claim seeds n difference low high joint_low joint_high p p_adjusted winner"
)

METRIC_COLUMNS = ("metric", "valid_metric", "test_metric")  # only for metrics other than accuracy
SCORE_COLUMNS = ("metric", "metric_value", "metric_low", "metric_high")


@dataclass(frozen=True)
class Row:
    """One row of Table 1 as text, in the order of `headings`; `is_mean`: mean over seeds."""

    cells: tuple[str, ...]
    is_mean: bool
    run: RunResult


def headings(say: Labels, seeds: bool) -> list[str]:
    """The headings of Table 1.

    Args:
        say: the language.
        seeds: whether the study has several seeds, which adds a column.
    """
    keys = ["contender", "seed", "model", "augmentation", "pretraining", "parameters", "epochs"]
    keys += ["best_epoch", "train_accuracy", "valid_accuracy", "test_accuracy", "interval", "n"]
    keys += ["macro_precision", "macro_recall", "macro_f1", "time"]
    return [say(f"col_{key}") for key in keys if seeds or key != "seed"]


def table1_rows(results: StudyResults, say: Labels) -> list[Row]:
    """The rows of Table 1: one per run, and the mean and sd of contenders with several seeds.

    Args:
        results: the study.
        say: the language.
    """
    seeds = len(results.spec.every_seed) > 1
    rows = []
    for contender in results.contenders:
        for run in contender.runs:
            rows.append(Row(tuple(_run_cells(run, say, seeds)), False, run))
        if len(contender.runs) > 1:
            rows.append(Row(tuple(_mean_cells(contender, say)), True, contender.runs[0]))
    return rows


def _run_cells(run: RunResult, say: Labels, seeds: bool) -> list[str]:
    done, score = run.done, run.scores
    low, high = run.interval
    return [
        run.label,
        *([str(run.folder.seed)] if seeds else []),
        model_words(run, say),
        augmentation(run, say) or NOTHING,
        pretraining(run.recipe, say) or NOTHING,
        say.count(done.get("parameters")),
        say.count(done.get("epochs") or len(run.history) or None),
        say.count(run.best_epoch),
        _hundred(run.train_accuracy, say),
        _hundred(run.valid_accuracy, say),
        _hundred(score.accuracy, say),
        f"{say.number(100 * low, 1)}–{say.number(100 * high, 1)}",
        say.count(score.n),
        _hundred(score.macro_precision, say),
        _hundred(score.macro_recall, say),
        _hundred(score.macro_f1, say),
        say.duration(done.get("seconds")),
    ]


def _mean_cells(contender: Contender, say: Labels) -> list[str]:
    runs = contender.runs

    def spread(pick: Callable[[RunResult], float | None]) -> str:
        values = [value for run in runs if (value := pick(run)) is not None]
        if len(values) < 2:
            return NOTHING
        mean, deviation = statistics.mean(values), statistics.stdev(values)
        return f"{say.number(100 * mean)} ± {say.number(100 * deviation)}"

    return [
        contender.label,
        say("mean_row", count=len(runs)),
        *[""] * 6,
        spread(lambda run: run.train_accuracy),
        spread(lambda run: run.valid_accuracy),
        spread(lambda run: run.scores.accuracy),
        "",
        say.count(runs[0].scores.n),
        spread(lambda run: run.scores.macro_precision),
        spread(lambda run: run.scores.macro_recall),
        spread(lambda run: run.scores.macro_f1),
        "",
    ]


def _hundred(share: float | None, say: Labels) -> str:
    return say.number(None if share is None else 100 * share)


def write_tables(results: StudyResults, folder: Path, say: Labels) -> list[Path]:
    """Write Table 1, tables of pairs and slices, references.bib, and the other tables as CSV.

    CSV files have the same columns, '.' as decimal point and shares in 0..1 in every language.

    Args:
        results: the study.
        folder: to write to.
        say: the language.

    Returns:
        The paths of the files.
    """
    rows = table1_rows(results, say)
    head = headings(say, len(results.spec.every_seed) > 1)
    caption = say("table_caption", title=results.title, n=say.count(results.runs[0].scores.n))
    caption = f"{caption} {say_by('table_note', results.metric, say)}"
    numbers = NUMBERS
    if not results.metric.is_accuracy:
        head, rows = _with_metric(results, head, rows, say)
        numbers += 2
    files = {
        "table1.csv": csv_text(
            (*CSV_COLUMNS, *(() if results.metric.is_accuracy else METRIC_COLUMNS)),
            map(_csv_row, results.runs),
        ),
        "table1.md": markdown_table(head, [row.cells for row in rows], caption, numbers=numbers),
        "table1.tex": contenders_table(results, say),
        "per-class.csv": csv_text(
            ("contender", "seed", "class", "precision", "recall", "f1", "support"),
            (
                (*_named(run), one.name, *one.shown, one.support)
                for run in results.runs
                for one in run.classes
            ),
        ),
        "confused.csv": csv_text(
            ("contender", "seed", "true", "predicted", "count", "share"),
            (
                (*_named(run), *pair)
                for run in results.runs
                for pair in most_confused(run.test, MOST_CONFUSED)
            ),
        ),
        "calibration.csv": csv_text(CALIBRATION_COLUMNS, map(_calibration_row, results.runs)),
        "coverage.csv": csv_text(COVERAGE_COLUMNS, chain(*map(_coverage_rows, results.runs))),
    }
    if results.verdicts is not None and results.verdicts.pairs:
        files["pairs.csv"] = pairs_csv(results.verdicts)
        files["places.csv"] = _places_csv(results.verdicts)
        files["pairs.md"] = pair_table(results.verdicts, say)
        files["pairs.tex"] = pairs_table(results, say)
        cited = paper_text(results.verdicts, say, results.tuning, results.looks)
        assert cited is not None
        files["references.bib"] = bibliography(cited.references)
    if results.answered is not None:
        files["answered.csv"] = csv_text(
            ANSWERED_COLUMNS, map(_answered_row, results.answered.standings)
        )
        if results.answered.pairs:
            files["answered-pairs.csv"] = csv_text(
                ANSWERED_PAIR_COLUMNS, map(_answered_pair_row, results.answered.pairs)
            )
    if results.slices is not None and results.table is not None:
        files |= slice_tables(results.slices, results.table)
    if results.tuning is not None:
        files |= tuning_tables(results.tuning)
    for name, text in files.items():
        write_text(folder / name, text)
    return [folder / name for name in files]


def _with_metric(
    results: StudyResults, head: list[str], rows: list[Row], say: Labels
) -> tuple[list[str], list[Row]]:
    """Append two columns: the study's metric on the validation and the test images."""
    metric, title = results.metric, metric_title(results.metric, say)

    def values(row: Row) -> tuple[str, str]:
        if not row.is_mean:
            known = row.run.noted
            return metric_value(metric, known.valid, say), metric_value(metric, known.test, say)
        name = row.run.folder.contender
        of_seeds = [one.noted for one in results.runs if one.folder.contender == name]
        return (
            _spread(metric, [one.valid for one in of_seeds], say),
            _spread(metric, [one.test for one in of_seeds], say),
        )

    heads = [*head, f"{say('valid')}: {title}", f"{say('test')}: {title}"]
    return heads, [Row((*row.cells, *values(row)), row.is_mean, row.run) for row in rows]


def _spread(metric: Metric, values: list[float | None], say: Labels) -> str:
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return NOTHING
    mean, deviation = statistics.mean(known), statistics.stdev(known)
    return f"{metric_value(metric, mean, say)} ± {metric_value(metric, deviation, say)}"


def _named(run: RunResult) -> tuple[str, int]:
    return run.folder.contender, run.folder.seed


def _csv_row(run: RunResult) -> tuple[object, ...]:
    done, score, recipe, known = run.done, run.scores, run.recipe, run.noted
    source = "imagenet" if recipe.pretrained else "file" if recipe.weights else "none"
    extras = [f"{k}:{v:g}" for k, v in (("mixup", recipe.mixup), ("cutmix", recipe.cutmix)) if v]
    model = done.get("model") or recipe.model, done.get("stood_in_for")
    how = "+".join([recipe.augmentation, *extras]), source
    if recipe.mean_of:
        model, how = (f"mean of {'+'.join(recipe.mean_of)}", None), ("", "")
    training = *how, done.get("parameters")
    epochs = done.get("epochs"), run.best_epoch, run.train_accuracy, run.valid_accuracy
    macro = score.macro_precision, score.macro_recall, score.macro_f1
    test = score.accuracy, *run.interval, score.n, *macro, score.top5_accuracy, score.nll
    who = run.folder.contender, run.label, run.folder.seed
    metric = () if known.metric.is_accuracy else (known.metric.name, known.valid, known.test)
    return *who, *model, *training, *epochs, *test, done.get("seconds"), *metric


def _calibration_row(run: RunResult) -> tuple[object, ...]:
    before, after = run.calibration
    perfect = before.expected_if_perfect.low, before.expected_if_perfect.high
    raw = *before.ece, *perfect, *before.nll, *before.brier
    calibrated = *after.ece, after.nll.value, after.brier.value
    return *_named(run), before.n, run.temperature, *raw, *calibrated


def _coverage_rows(run: RunResult) -> list[tuple[object, ...]]:
    return [
        (
            *(*_named(run), one.n, run.valid_n, one.promised, "yes" if one.by_class else "no"),
            *(one.covered.value, one.covered.low, one.covered.high, one.size, one.single),
        )
        for one in run.coverages
    ]


def _pair_row(pair: Pair) -> tuple[object, ...]:
    f1 = pair.macro_f1
    who = pair.first, pair.second, pair.claim, min(pair.seed_counts), pair.n
    accuracy = pair.accuracy.value, pair.accuracy.low, pair.accuracy.high
    macro = ("", "", "") if f1 is None else (f1.value, f1.low, f1.high)
    recall = pair.macro_recall.value, pair.macro_recall.low, pair.macro_recall.high
    right, winner = (pair.only_first, pair.only_second), pair.winner or ""
    metric = _metric_cells(pair.metric, pair.score)
    joint = pair.joint.low, pair.joint.high
    tested = pair.p, pair.p_adjusted, winner, *joint, pair.verdict, pair.within
    return *who, *accuracy, *right, *macro, *recall, *tested, *metric


def _place_row(one: Standing, metric: Metric) -> tuple[object, ...]:
    accuracy = one.accuracy.value, one.accuracy.low, one.accuracy.high
    more = one.macro_f1, one.n, one.seeds, " ".join(one.tied), "yes" if one.may_be_best else "no"
    return one.name, one.best, one.worst, *accuracy, *more, *_metric_cells(metric, one.score)


def _answered_row(one: Standing) -> tuple[object, ...]:
    judged = one.judged.value, one.judged.low, one.judged.high
    more = one.n, one.seeds, "yes" if one.may_be_best else "no"
    return one.name, one.best, one.worst, one.accuracy.value, *judged, *more


def _answered_pair_row(pair: Pair) -> tuple[object, ...]:
    who = pair.first, pair.second, pair.claim, min(pair.seed_counts), pair.n
    difference = pair.judged.value, pair.judged.low, pair.judged.high
    tested = pair.joint.low, pair.joint.high, pair.p, pair.p_adjusted, pair.winner or ""
    return *who, *difference, *tested


def _metric_cells(metric: Metric, interval: Interval | None) -> tuple[object, ...]:
    """Cells in the order of `SCORE_COLUMNS`; none where the metric is accuracy."""
    if interval is None:
        return ()
    return metric.name, interval.value, interval.low, interval.high


def pairs_csv(verdicts: Verdicts) -> str:
    """Every pair as CSV, with shares in 0..1 and '.' as decimal point in every language.

    Args:
        verdicts: of a study's contenders.
    """
    further = () if verdicts.metric.is_accuracy else SCORE_COLUMNS
    return csv_text((*PAIR_COLUMNS, *further), map(_pair_row, verdicts.pairs))


def _places_csv(verdicts: Verdicts) -> str:
    further = () if verdicts.metric.is_accuracy else SCORE_COLUMNS
    rows = (_place_row(one, verdicts.metric) for one in verdicts.standings)
    return csv_text((*PLACE_COLUMNS, *further), rows)


def pair_table(verdicts: Verdicts, say: Labels) -> str:
    """Every pair as a Markdown table, as on the page.

    Args:
        verdicts: of a study's contenders.
        say: the language.
    """
    rows = [pair_cells(pair, verdicts.labels, say) for pair in ordered_pairs(verdicts)]
    hint = say_by("v_pairs_hint", verdicts.metric, say)
    note = f"{hint} n = {say.count(verdicts.n)}. {margin_sentence(verdicts, say)}".strip()
    return markdown_table(pair_headings(say, verdicts.metric), rows, note)

"""The parts of a model card with figures: results, classes, rivals, calibration."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from statistics import median

from podium.reporting.figures.class_table import by_f1, cells
from podium.reporting.markdown import escape_markdown, markdown_table
from podium.reporting.page.panel import calibration_caution, groups_caution
from podium.reporting.tables import headings, table1_rows
from podium.reporting.words.labels import NOTHING, Labels
from podium.reporting.words.metric_words import metric_title, metric_value
from podium.reporting.words.recipes import calibration_rows, recall_interval
from podium.reporting.words.verdict_words import (
    claim_sentence,
    headline,
    pair_sentence,
    place_words,
    places_sentence,
)
from podium.results.run import RunResult
from podium.results.study import StudyResults
from podium.statistics.metrics import ClassScores, most_confused, wilson_interval

WEAKEST = 10
CONFUSED = 10
MOST_CLASSES = 200
RIVALS_SHOWN = 5


def folded(summary: str, body: str) -> str:
    """A collapsible part.

    Args:
        summary: its heading.
        body: Markdown.
    """
    return f"<details>\n<summary>{html.escape(summary)}</summary>\n\n{body}\n\n</details>"


def bullets(sentences: Sequence[str]) -> str:
    """A bullet list, with each sentence escaped."""
    return "\n".join(f"- {escape_markdown(one)}" for one in sentences)


def fence(text: str, language: str) -> str:
    """A code block that its text cannot end early."""
    longest = max((len(found) for found in re.findall("`+", text)), default=0)
    mark = "`" * max(3, longest + 1)
    return f"{mark}{language}\n{text.rstrip()}\n{mark}"


def images_a_class(run: RunResult) -> int:
    """Median number of test images per class."""
    return int(median(one.support for one in run.classes))


def results(
    run: RunResult, study: StudyResults | None, pictures: Sequence[tuple[str, str]], say: Labels
) -> list[str]:
    """Totals, the weakest classes, the most frequent confusions, every class.

    Args:
        run: the run's results.
        study: the study's results, for the spread over seeds; None: outside a study.
        pictures: figures of this part, (alternative text, path).
        say: the language's labels.
    """
    n = say.count(run.scores.n)
    weakest = by_f1([one for one in run.classes if one.support])
    parts = [
        f"## {say('card_results')}",
        escape_markdown(
            say("card_results_text" if run.folds is None else "card_results_folds", n=n)
        ),
        markdown_table(
            (say("card_col_measure"), say("card_col_value")), _totals(run, study, say)
        ).strip(),
        *(f"![{escape_markdown(alt)}]({path})" for alt, path in pictures),
    ]
    if len(weakest) > WEAKEST:
        shown = {"count": WEAKEST, "total": say.count(len(run.classes))}
        parts += [
            f"### {say('card_weakest')}",
            escape_markdown(f"{say('card_weakest_text', **shown)} {_told(run, say)}"),
            _class_table(weakest[:WEAKEST], say),
        ]
    confused = most_confused(run.test, CONFUSED)
    parts += [
        f"### {say('card_confused')}",
        markdown_table(
            [say(key) for key in ("true_class", "predicted_class", "col_count", "col_share")],
            [
                (one.true, one.predicted, say.count(one.images), say.percent(one.share, 0))
                for one in confused
            ],
            numbers=2,
        ).strip()
        if confused
        else escape_markdown(say("no_mistakes")),
    ]
    listed = by_f1(run.classes)[:MOST_CLASSES]
    key = "card_all_classes" if len(listed) == len(run.classes) else "card_classes_capped"
    summary = say(key, count=say.count(len(run.classes)), shown=say.count(len(listed)))
    return [*parts, folded(summary, _class_table(listed, say))]


def _totals(run: RunResult, study: StudyResults | None, say: Labels) -> list[tuple[str, str]]:
    score = run.scores
    accuracy = say(
        "card_correct",
        value=say.percent(score.accuracy),
        correct=say.count(score.correct),
        n=say.count(score.n),
        interval=say.interval(run.interval),
    )
    rows = [(say("card_accuracy"), accuracy)]
    metric = run.noted.metric
    if not metric.is_accuracy:
        rows.append((metric_title(metric, say), metric_value(metric, run.noted.test, say)))
    if study is not None:
        rows += _over_seeds(run, study, say)
    rows += [
        (say("card_macro_precision"), say.percent(score.macro_precision)),
        (say("card_macro_recall"), say.percent(score.macro_recall)),
        (say("card_macro_f1"), say.percent(score.macro_f1)),
    ]
    if score.top5_accuracy is not None:
        rows.append((say("fact_top5"), say.percent(score.top5_accuracy)))
    if run.valid_accuracy is not None:
        key = "card_valid_mean" if run.members else "card_valid"
        rows.append((say(key), say.percent(run.valid_accuracy)))
    return rows


def _over_seeds(run: RunResult, study: StudyResults, say: Labels) -> list[tuple[str, str]]:
    """Mean and standard deviation over the seeds of the run's contender, as in Table 1."""
    column = headings(say, seeds=True).index(say("col_test_accuracy"))
    return [
        (say("card_seeds", mean=row.cells[1]), f"{row.cells[column]} %")
        for row in table1_rows(study, say)
        if row.is_mean and row.run.folder.contender == run.folder.contender
    ]


def _told(run: RunResult, say: Labels) -> str:
    return say(
        "card_few",
        told=say.count(len(run.told)),
        count=say.count(len(run.classes)),
        n=say.count(images_a_class(run)),
    )


def _class_table(classes: Sequence[ClassScores], say: Labels) -> str:
    keys = ("col_class", "precision", "recall", "f1", "class_recall_interval", "col_support")
    return markdown_table(
        [say(key) for key in keys],
        [
            (
                one.name,
                *(cell.text for cell in cells(one, say)),
                recall_interval(one, say)[0],
                say.count(one.support),
            )
            for one in classes
        ],
        numbers=5,
    ).strip()


def rivals(run: RunResult, study: StudyResults, say: Labels) -> list[str]:
    """The run's contender against each of the others: places, and one sentence per pair."""
    title = f"## {say('card_rivals')}"
    if len(study.contenders) < 2:
        return [title, escape_markdown(say("card_rivals_none"))]
    verdicts = study.verdicts
    if verdicts is None:
        return [title, escape_markdown(say("card_rivals_other_images"))]
    own = run.folder.contender
    others = [one for one in verdicts.standings if one.name != own]
    standing = next(one for one in verdicts.standings if one.name == own)
    head = say(
        "card_rivals_text" if len(others) > 1 else "card_rivals_one",
        count=len(others),
        n=say.count(verdicts.n),
        place=place_words(standing, say),
        of=len(verdicts.standings),
    )
    told = [pair_sentence(verdicts.pair(own, one.name), verdicts.labels, say) for one in others]
    head = f"{head} {headline(verdicts, say)} {places_sentence(verdicts, say)}".strip()
    parts = [title, escape_markdown(head), bullets(told[:RIVALS_SHOWN])]
    if rest := told[RIVALS_SHOWN:]:
        parts.append(folded(say("card_rivals_rest", count=len(rest)), bullets(rest)))
    return [*parts, escape_markdown(claim_sentence(verdicts, say))]


def calibration(run: RunResult, pictures: Sequence[tuple[str, str]], say: Labels) -> list[str]:
    """The temperature, and whether the model's probabilities match its accuracy."""
    key = "card_calibration_none" if run.temperature == 1 else "card_calibration_text"
    cautions = filter(None, [calibration_caution(run, say), groups_caution(run, say)])
    names = ("cal_col_figure", "cal_col_before", "cal_col_after")
    return [
        f"## {say('card_calibration')}",
        escape_markdown(say(key, temperature=say.number(run.temperature, 3))),
        *map(escape_markdown, cautions),
        markdown_table([say(name) for name in names], calibration_rows(run, say)).strip(),
        escape_markdown(say("card_calibration_ece")),
        *(f"![{escape_markdown(alt)}]({path})" for alt, path in pictures),
    ]


def class_interval(n: int, say: Labels) -> str:
    """The confidence interval of a recall of 100 % on `n` images."""
    return say.interval(wilson_interval(n, n), 0) if n else NOTHING

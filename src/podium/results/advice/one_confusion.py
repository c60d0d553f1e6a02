"""A class is often taken for one other."""

from __future__ import annotations

from collections.abc import Iterator

from podium.results.advice.finding import Finding
from podium.results.study import StudyResults
from podium.statistics.metrics import most_confused, wilson_interval

LEAST_SHARE = 0.10  # lower end of the interval
MOST_PAIRS = 3


def one_confusion(results: StudyResults) -> Iterator[Finding]:
    """The best contender, in its first run, takes at least half of a class's misclassified images
    for the same other class, and more than 10 % of its images at 95 % confidence.

    Args:
        results: the study.
    """
    best = results.ranking[0]
    run = best.runs[0]
    support = {one.name: one.support for one in run.classes}
    wrong = {one.name: round(one.support * (1 - one.recall)) for one in run.classes}
    found = 0
    for pair in most_confused(run.test, len(run.classes)):
        low, _ = wilson_interval(pair.images, support[pair.true])
        if low > LEAST_SHARE and 2 * pair.images >= wrong[pair.true] and found < MOST_PAIRS:
            found += 1
            yield Finding(
                "one_confusion",
                names={"name": best.label, "true": pair.true, "predicted": pair.predicted},
                counts={"images": pair.images, "support": support[pair.true]},
                contender=best.name,
            )

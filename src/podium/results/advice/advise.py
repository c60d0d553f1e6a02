"""All advice on a study."""

from __future__ import annotations

from podium.results.advice.finding import Finding
from podium.results.advice.identical_seeds import identical_seeds
from podium.results.advice.leaked_images import leaked_images
from podium.results.advice.one_confusion import one_confusion
from podium.results.advice.overfitting import overfitting
from podium.results.advice.penalty_edge import penalty_edge
from podium.results.advice.shortcut import is_shortcut, shortcut
from podium.results.advice.still_rising import still_rising
from podium.results.study import StudyResults

RULES = (
    leaked_images,
    shortcut,
    overfitting,
    still_rising,
    penalty_edge,
    one_confusion,
    identical_seeds,
)
"""The most serious first."""


def advise(results: StudyResults) -> list[Finding]:
    """What the rules find in a study, in their order.

    Args:
        results: the study.
    """
    shortcuts = {one.name for one in results.contenders if is_shortcut(one)}
    return [
        finding
        for rule in RULES
        for finding in rule(results)
        if rule is shortcut or finding.contender not in shortcuts  # nobody improves on those
    ]

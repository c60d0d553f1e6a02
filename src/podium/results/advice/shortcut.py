"""A contender that sees no object comes close to the best."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from podium.config.shortcuts import SHORTCUT_MODELS
from podium.results.advice.finding import Finding
from podium.results.study import Contender, StudyResults

LEAST_SHARE = 0.5  # of what the best gains over always naming the most frequent class


def is_shortcut(contender: Contender) -> bool:
    """Whether a contender sees no object.

    Args:
        contender: of a study.
    """
    return contender.runs[0].recipe.model in SHORTCUT_MODELS


def shortcut(results: StudyResults) -> Iterator[Finding]:
    """A contender that sees only the file, the mean colour, the border or a thumbnail reaches, by
    the lower end of its 95 % interval, half or more of what the best contender gains over always
    naming the most frequent class.

    Args:
        results: the study.
    """
    others = [one for one in results.ranking if not is_shortcut(one)]
    if not others or results.verdicts is None:
        return
    best, test = others[0], results.runs[0].test
    chance = float(np.bincount(test.labels).max() / len(test))
    low = {one.name: one.accuracy.low for one in results.verdicts.standings}
    for one in filter(is_shortcut, results.ranking):
        if low[one.name] - chance >= LEAST_SHARE * max(best.accuracy - chance, 1e-9):
            sees_pixels = one.runs[0].recipe.model in ("shortcut_colour", "shortcut_thumbnail")
            yield Finding(
                "shortcut_pixels" if sees_pixels else "shortcut",
                names={"name": one.label, "best": best.label},
                shares={"accuracy": one.accuracy, "reached": best.accuracy, "chance": chance},
                contender=one.name,
            )

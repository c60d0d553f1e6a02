"""How often contenders give the same answer, and what the best choice among them could reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from podium.statistics.table import PredictionTable


@dataclass(frozen=True, eq=False)
class Agreement:
    """Agreement of the contenders of a table; shares of images, 0..1."""

    same: npt.NDArray[np.float64]
    """Shape (contenders, contenders): share of images on which two give the same class, a mean
    over all pairs of their seeds. On the diagonal, between the seeds of one; NaN: it has one."""
    all_right: float
    """Images that every run of every contender gets right."""
    none_right: float
    """Images that no run gets right: more of the same will not help there."""


def agreement(table: PredictionTable) -> Agreement:
    """Compare the answers of all contenders, whether or not they are right.

    Args:
        table: the predictions of all contenders, of one image or more.

    Examples:
        >>> import numpy as np
        >>> from podium.statistics.table import ContenderPredictions, PredictionTable
        >>> labels = np.array([0, 0, 1, 1])
        >>> first = ContenderPredictions("a", "A", (0,), np.array([[0, 0, 1, 0]]))
        >>> second = ContenderPredictions("b", "B", (0,), np.array([[0, 1, 1, 0]]))
        >>> table = PredictionTable(("cat", "dog"), tuple("wxyz"), labels, (first, second))
        >>> found = agreement(table)
        >>> float(found.same[0, 1]), found.all_right, found.none_right
        (0.75, 0.5, 0.25)
    """
    answers = [one.predicted for one in table.contenders]
    same = np.full((len(answers), len(answers)), np.nan)
    for i, first in enumerate(answers):
        for j, second in enumerate(answers[: i + 1]):
            shares = (first[:, None] == second[None]).mean(axis=2)
            if i == j:
                shares = shares[np.triu_indices(len(first), k=1)]
            if shares.size:
                same[i, j] = same[j, i] = shares.mean()
    right = np.concatenate([one == table.labels for one in answers])
    return Agreement(same, float(right.all(axis=0).mean()), float((~right.any(axis=0)).mean()))

"""Studies drawn from a known truth: what statistics are checked against.

An image is right when skill + what the images share + what is the model's own exceeds 0, all of
them normal; so every accuracy and difference has an exact expectation.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from podium.comparison import Answers, Sheet

__all__ = ["SHARED", "accuracy_at", "right_answers", "sheet_from", "skill_for"]

SHARED, OWN, NOISE = 1.0, 0.5, 0.5
"""Standard deviations: an image's difficulty for all, for one recipe, for one training run."""


def _spread(seed_sd: float) -> float:
    return float(np.sqrt(SHARED**2 + OWN**2 + NOISE**2 + seed_sd**2))


def skill_for(accuracy: float, seed_sd: float = 0.0) -> float:
    """The skill whose mean accuracy over seeds and images is `accuracy`."""
    return float(norm.ppf(accuracy)) * _spread(seed_sd)


def accuracy_at(skill: float, seed_sd: float = 0.0) -> float:
    return float(norm.cdf(skill / _spread(seed_sd)))


def right_answers(
    random: np.random.Generator,
    skills: list[float],
    n: int,
    *,
    seeds: int = 1,
    seed_sd: float = 0.0,
) -> npt.NDArray[np.bool_]:
    """Which images each contender has right, shape (contenders, seeds, n).

    `seed_sd` is that of the skill; where there are no seeds to speak of, the trained models have
    exactly the accuracy of their skill.
    """
    count = len(skills)
    level = np.asarray(skills)[:, None, None] + random.normal(0, seed_sd, (count, seeds, 1))
    images = random.normal(0, SHARED, (1, 1, n)) + random.normal(0, OWN, (count, 1, n))
    found = level + images + random.normal(0, NOISE, (count, seeds, n)) > 0
    return np.asarray(found)


def sheet_from(
    right: npt.NDArray[np.bool_], classes: int = 10, random: np.random.Generator | None = None
) -> Sheet:
    """An answer sheet with these right answers; wrong ones are drawn, or the next class."""
    n = right.shape[-1]
    labels = np.arange(n) % classes
    shift = 1 if random is None else random.integers(1, classes, right.shape)
    predicted = np.where(right, labels, (labels + shift) % classes)
    return Sheet(
        class_names=tuple(f"class {number}" for number in range(classes)),
        paths=tuple(f"test/{number}.jpg" for number in range(n)),
        labels=labels,
        contenders=tuple(
            Answers(f"c{at}", f"Contender {at}", tuple(range(right.shape[1])), predicted[at])
            for at in range(right.shape[0])
        ),
    )

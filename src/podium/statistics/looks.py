"""What each look costs at a study that adds seeds until its verdicts are decided.

With `seeds: auto` the study looks after every round of seeds, and stops if it likes what it sees. A
test at 5 % at each of nine looks would claim falsely in far more than 5 % of studies. So the looks
share the 5 % (Bonferroni, whatever they have in common): half is for the last, with the most seeds,
and the other half is divided equally among those before it.

Only the seeds pay. The images are the same at every look, and so is what they have by chance; the
part of an interval that other images account for needs no allowance for looking again. The seeds'
part, with Student's t of few seeds, does: see `podium.statistics.paired.SeedEffect`.
"""

from __future__ import annotations

from podium.config.seeds import FIRST_SEEDS, MOST_SEEDS
from podium.config.settings import StudySpec

LAST = 0.5
"""The last look's part."""


def seed_level(seeds: int) -> float:
    """The part of any level that the look with so many seeds gets.

    Args:
        seeds: of each contender, of a study with `seeds: auto`.

    Examples:
        >>> from podium.statistics.looks import seed_level
        >>> [seed_level(seeds) for seeds in (2, 9, 10)]
        [0.0625, 0.0625, 0.5]
        >>> sum(map(seed_level, range(2, 11)))
        1.0
    """
    return LAST if seeds >= MOST_SEEDS else (1 - LAST) / (MOST_SEEDS - FIRST_SEEDS)


def looked_level(seeds: int, spec: StudySpec) -> float:
    """The part of any level that the seeds of a study get: all of it, unless they are `auto`.

    Args:
        seeds: the fewest that a contender has.
        spec: the study.
    """
    return seed_level(seeds) if spec.seeds == "auto" else 1.0

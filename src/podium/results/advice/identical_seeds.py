"""Another seed changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from podium.results.advice.finding import Finding
from podium.results.study import StudyResults


def identical_seeds(results: StudyResults) -> Iterator[Finding]:
    """All seeds of a contender give every test image the same classes with the same probabilities,
    as a linear probe does: its optimum does not depend on the seed. Of a mean nothing is said: that
    it is the same follows from its members.

    Args:
        results: the study.
    """
    for one in results.contenders:
        first, *others = one.runs
        if (
            others
            and not first.members
            and all(
                run.test.paths == first.test.paths
                and np.array_equal(run.top_classes.top, first.top_classes.top)
                and np.array_equal(run.top_classes.share, first.top_classes.share)
                for run in others
            )
        ):
            yield Finding(
                "identical_seeds",
                names={"name": one.label},
                counts={"count": len(one.runs)},
                contender=one.name,
            )

"""Wrong labels that a verdict survives, against every possible change of the test set."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import pytest

from podium.statistics.paired import mcnemar
from podium.statistics.robustness import Survived, survived

Counts = tuple[int, int, int, int]  # images right by: only the first, only the second, both, none

STRUCK = [tuple(-int(at == kind) for at in range(4)) for kind in range(4)]
MOVES = {0: (1, 3), 1: (0, 3), 2: (3,), 3: (0, 1)}  # by another label: both right -> both wrong
RELABELLED = [
    tuple(int(at == end) - int(at == start) for at in range(4))
    for start, ends in MOVES.items()
    for end in ends
]


def most_survived(start: Counts, changes: Iterable[tuple[int, ...]], level: float) -> int:
    """By enumeration: the largest number of changes after which the first always wins."""
    reached, count = {start}, -1
    while reached and all(a > b and mcnemar(a, b) < level for a, b, *_ in reached):
        count += 1
        after = (
            tuple(x + y for x, y in zip(one, change, strict=True))
            for one, change in product(reached, changes)
        )
        reached = {one for one in after if min(one) >= 0}  # type: ignore[misc]
    return count


@pytest.mark.parametrize("level", [0.05, 0.019])
@pytest.mark.parametrize(("a", "b"), [*product((4, 5, 6, 7, 9, 12, 15), (0, 1, 2, 4)), (24, 9)])
def test_as_by_enumeration(a: int, b: int, level: float) -> None:
    found = survived(a, b, level)
    assert found == survived(b, a, level)
    if a <= b or mcnemar(a, b) >= level:
        assert found is None
        return
    start = (a, b, 3, 2)
    wanted = [most_survived(start, changes, level) for changes in (STRUCK, RELABELLED)]
    assert found == Survived(*wanted)


def test_a_large_lead_is_searched_at_once() -> None:
    found = survived(40_000, 10_000)
    assert found is not None
    for struck, held in ((found.struck, True), (found.struck + 1, False)):
        assert (mcnemar(40_000 - struck, 10_000) < 0.05) is held
    assert found.relabelled < found.struck

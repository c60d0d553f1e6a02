"""What accuracies that others published can show, where nobody knows who was right on which image.

The paired test needs the number of images that only one of two models gets right. Two accuracies
on the same n images bound it from both sides, and with it p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from podium.errors import ConfigError
from podium.statistics.assumptions import MOST_IMAGES, TYPICAL_SHARE, independent_disagreement
from podium.statistics.families import holm
from podium.statistics.intervals import LEVEL
from podium.statistics.paired import mcnemar

MOST_CONTENDERS = 50


class Overlap(NamedTuple):
    """One possible answer to "on how many images is exactly one of the two right?"."""

    only_first: int
    """Images that only the first gets right."""
    only_second: int
    """Images that only the second gets right."""
    p: float
    """Two-sided, by McNemar's test with mid-p, adjusted by Holm over the pairs; 0..1."""

    @property
    def discordant(self) -> int:
        """Images that exactly one of the two gets right."""
        return self.only_first + self.only_second


@dataclass(frozen=True)
class Claim:
    """Bounds on what two published accuracies can show.

    Attributes:
        names: of the two, the more accurate one first.
        n: number of test images.
        right: images that each gets right: more than one number where its accuracy is rounded.
        least: with the fewest images that exactly one of the two gets right: p cannot be smaller.
        typical: with so many as models of these accuracies usually have.
        most: with the largest possible number: p cannot be larger.
        holds_up_to: the claim that the first is better holds at the 5 % level as long as at most so
            many images are classified correctly by exactly one of the two; None: no such number is
            enough, whatever the other pairs and the rounding of the accuracies.

    Examples:
        >>> import podium
        >>> found, = podium.claim(2000, [1880, 1800])
        >>> found.names, found.holds
        (('A', 'B'), True)
    """

    names: tuple[str, str]
    n: int
    right: tuple[range, range]
    least: Overlap
    typical: Overlap
    most: Overlap
    holds_up_to: int | None

    @property
    def holds(self) -> bool | None:
        """Whether the claim holds: True or False whatever the overlap; None: it depends on it."""
        if self.most.p <= LEVEL:
            return True
        return None if self.least.p <= LEVEL else False


def claim(n: int, right: Sequence[int | range], names: Sequence[str] | None = None) -> list[Claim]:
    """Compute what accuracies on the same n test images can show without their predictions.

    For each pair, p is bounded over all possible overlaps of the images that the two get right.
    With a given difference, p grows with the number of images on which exactly one is right: both
    bounds are attained, at the fewest and at the most such images.

    Several pairs are adjusted by Holm (1979): of all bounds from below, and of all from above. As
    the adjusted values grow with every p, both remain bounds.

    Args:
        n: number of test images, all independent and the same for all.
        right: images that each model classifies correctly, 0..n; two or more models. A range of
            numbers, such as `counts_of` returns, where an accuracy is rounded.
        names: of the models; None: A, B, C, ...

    Returns:
        One claim per pair, in the order of `itertools.combinations`.

    Raises:
        ConfigError: a value is out of range, or there are fewer than two models.

    Examples:
        The published study on 100 sports: 87.4 against 84.6 % of 500 images.

        >>> import podium
        >>> found, = podium.claim(500, [437, 423])
        >>> found.holds, found.holds_up_to
        (None, 50)
        >>> f"p from {found.least.p:.4f} to {found.most.p:.2f}"
        'p from 0.0001 to 0.24'
    """
    named = _names(len(right)) if names is None else tuple(names)
    _check(n, right, named)
    counts = [one if isinstance(one, range) else range(one, one + 1) for one in right]
    pairs = [
        (i, j) if _middle(counts[i]) >= _middle(counts[j]) else (j, i)
        for i, j in combinations(range(len(counts)), 2)
    ]
    spans = [_span(n, counts[i], counts[j]) for i, j in pairs]
    bounds = [holm([mcnemar(*one) for one in of]) for of in zip(*spans, strict=True)]
    # Holm rejects those first that are significant whatever the overlap; the others share the level
    level = LEVEL / max(1, sum(p > LEVEL for p in bounds[2]))
    found = []
    for (i, j), span, own in zip(pairs, spans, zip(*bounds, strict=True), strict=True):
        least, typical, most = (Overlap(*only, p) for only, p in zip(span, own, strict=True))
        up_to = most.discordant if most.p <= LEVEL else _holds_up_to(span[2], level)
        held = (counts[i], counts[j])
        found.append(Claim((named[i], named[j]), n, held, least, typical, most, up_to))
    return found


def counts_of(text: str, n: int) -> range:
    """The numbers of correct images that a published accuracy can stand for.

    Args:
        text: accuracy in %, rounded as it was published, such as `87.4`.
        n: number of test images.

    Returns:
        All counts whose accuracy rounds to it; a half may have been rounded up or down.

    Raises:
        ConfigError: it is no percentage, or no number of the images rounds to it.
    """
    from fractions import Fraction

    said = text.strip().removesuffix("%").strip()
    whole, _, decimals = said.partition(".")
    if not (whole.isdecimal() and (decimals.isdecimal() or not decimals)):
        raise ConfigError(f"{text}: expected an accuracy in %, such as 87.4.")
    value, half = Fraction(said), Fraction(1, 2 * 10 ** len(decimals))
    if value > 100:
        raise ConfigError(f"{text}: expected an accuracy from 0 to 100 %.")
    low = max(0, -((-(value - half) * n) // 100))
    high = min(n, ((value + half) * n) // 100)
    if low > high:
        near = round(value * n / 100)
        raise ConfigError(
            f"{text}: no number of {n:,} images has this accuracy; {near:,} right are "
            f"{100 * near / n:.{max(2, len(decimals))}f} %. Is --n the number of test images?"
        )
    return range(int(low), int(high) + 1)


def _names(count: int) -> tuple[str, ...]:
    return tuple(chr(ord("A") + i) if count <= 26 else f"model {i + 1}" for i in range(count))


def _check(n: int, right: Sequence[int | range], names: Sequence[str]) -> None:
    if not 1 <= n <= MOST_IMAGES:
        raise ConfigError(f"n: expected 1 to {MOST_IMAGES:,} images, found {n}.")
    if not 2 <= len(right) <= MOST_CONTENDERS:
        raise ConfigError(
            f"expected the accuracies of 2 to {MOST_CONTENDERS} models, found {len(right)}."
        )
    if len(names) != len(right) or len(set(names)) < len(names):
        raise ConfigError(
            f"names: expected {len(right)} different ones, found {', '.join(names) or 'none'}."
        )
    for one in right:
        for count in (one[0], one[-1]) if isinstance(one, range) and one else (one,):
            if not isinstance(count, int) or not 0 <= count <= n:
                raise ConfigError(f"right: expected numbers from 0 to {n:,}, found {one}.")


def _middle(counts: range) -> int:
    return counts[len(counts) // 2]


_Discordant = tuple[int, int]


def _span(n: int, first: range, second: range) -> tuple[_Discordant, _Discordant, _Discordant]:
    """(only first, only second) that give the smallest p, a usual one, and the largest."""
    # p falls with the difference, so the rounding that says least is the one that brings them near
    more, fewer = max(first[0], second[-1]), second[-1]
    most = min(fewer, n - more)
    middle, other = _middle(first), _middle(second)
    usual = TYPICAL_SHARE * independent_disagreement(middle / n, other / n) * n
    both = min(other, n - middle, max(0, round((usual - middle + other) / 2)))
    return (
        (first[-1] - second[0], 0),
        (middle - other + both, both),
        (more - fewer + most, most),
    )


def _holds_up_to(most: _Discordant, level: float) -> int | None:
    """The largest number of discordant images with which p is at most the level."""
    apart, low, high = most[0] - most[1], -1, most[1]
    while low < high:
        middle = (low + high + 1) // 2
        if mcnemar(apart + middle, middle) <= level:
            low = middle
        else:
            high = middle - 1
    return None if low < 0 else apart + 2 * low

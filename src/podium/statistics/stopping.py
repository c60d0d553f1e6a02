"""When a study with `seeds: auto` has seen enough: looks at its verdicts, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from podium.config.seeds import FIRST_SEEDS, MOST_SEEDS
from podium.config.shortcuts import SHORTCUT_MODELS
from podium.statistics.comparison import compare_table
from podium.statistics.influence import judged_of
from podium.statistics.looks import LAST, seed_level
from podium.statistics.margins import EQUIVALENCE
from podium.statistics.pair_tests import (
    OverSeeds,
    PairTest,
    joint_intervals,
    over_seeds,
    pair_tests,
)
from podium.statistics.paired import SeedEffect
from podium.statistics.table import PredictionTable
from podium.statistics.together import Together
from podium.statistics.verdicts import Verdicts

Outcome = Literal["superior", "equivalent", "futile", "open"]

LEAST_CHANCE = 0.05
"""Further seeds are futile for a pair when the chance that all of them decide it is lower."""


@dataclass(frozen=True)
class PairLook:
    """A pair of contenders at one look."""

    first: str
    second: str
    outcome: Outcome
    """`superior`: one is; `equivalent`: within the margin that was chosen; `futile`: further seeds
    will hardly show either; `open`: they may."""
    chance: float | None
    """That the pair is decided with all seeds, if further ones are like these; None: it is decided
    already, or these are all."""
    counts: bool = True
    """Whether the study goes on for it: not for a pair with a shortcut, which probes whether the
    labels leak, if there are pairs without one."""


@dataclass(frozen=True)
class Look:
    """A study after a round of seeds."""

    seeds: int
    """Of every contender."""
    pairs: tuple[PairLook, ...]

    @property
    def is_last(self) -> bool:
        """Whether the study stops here."""
        return self.seeds >= MOST_SEEDS or not self.count("open")

    @property
    def judged(self) -> tuple[PairLook, ...]:
        """The pairs that the study goes on for."""
        return tuple(one for one in self.pairs if one.counts)

    def count(self, outcome: Outcome) -> int:
        """The number of pairs with an outcome, of those that the study goes on for.

        Args:
            outcome: of a pair.
        """
        return sum(one.outcome == outcome for one in self.judged)


def looks(table: PredictionTable) -> Iterator[Look]:
    """All looks up to the seeds that there are, as the study took them; only the last may stop it.

    Args:
        table: the predictions of all contenders, of a study with `seeds: auto`.

    Yields:
        A look for every number of seeds; none where contenders have different seeds.
    """
    seeds = {one.seeds for one in table.contenders}
    if len(seeds) > 1:
        return
    for count in range(FIRST_SEEDS, len(seeds.pop()) + 1):
        part = with_seeds(table, count)
        yield look(part, compare_table(part, resamples=0))


def with_seeds(table: PredictionTable, count: int) -> PredictionTable:
    """The table after a round of seeds.

    Args:
        table: of a study with `seeds: auto`.
        count: number of seeds of each contender.
    """
    contenders = tuple(
        replace(
            one,
            seeds=one.seeds[:count],
            predicted=one.predicted[:count],
            logits=one.logits[:count],
        )
        for one in table.contenders
    )
    return replace(table, contenders=contenders, seed_level=seed_level(count))


def look(table: PredictionTable, verdicts: Verdicts) -> Look:
    """What a round of seeds shows, and whether further ones may show more.

    Args:
        table: the predictions of all contenders, with the same seeds.
        verdicts: of the table.
    """
    seeds = len(table.contenders[0].seeds)
    chances: Sequence[float | None] = [None] * len(verdicts.pairs)
    if seeds < MOST_SEEDS:
        chances = _chances(table, verdicts, seeds)
    probes = {
        one.name
        for one in table.contenders
        if one.recipe is not None and one.recipe.model in SHORTCUT_MODELS
    }
    if len(table.contenders) - len(probes) < 2:
        probes = set()  # else nothing would decide
    found = []
    for pair, chance in zip(verdicts.pairs, chances, strict=True):
        outcome: Outcome = "open"
        if pair.winner is not None:
            outcome = "superior"
        elif pair.equivalent and verdicts.margin.chosen:
            outcome = "equivalent"
        elif chance is not None and chance < LEAST_CHANCE:
            outcome = "futile"
        settled = outcome in ("superior", "equivalent")
        counts = probes.isdisjoint((pair.first, pair.second))
        found.append(
            PairLook(pair.first, pair.second, outcome, None if settled else chance, counts)
        )
    return Look(seeds, tuple(found))


def _chances(table: PredictionTable, verdicts: Verdicts, seeds: int) -> list[float]:
    """The chance of each pair to be decided with all seeds, if further ones are like these.

    The mean over all seeds is then Student's t around that of these; the mean squares are taken to
    stay as they are.
    """
    from scipy.special import stdtr

    tests, covariance = pair_tests(table, judged_of(table))
    together = Together(covariance, [one.name for one in table.contenders])
    ahead = [_with_all_seeds(one, seeds) for one in tests]
    margin = verdicts.margin.size if verdicts.margin.chosen else -math.inf
    within = [-math.inf] * len(tests)
    if margin > 0:
        joint = joint_intervals(ahead, together.level(EQUIVALENCE), EQUIVALENCE)
        within = [margin - (one.high - one.low) / 2 for one in joint]
    level, found = together.level(), []
    for test, now, then, near in zip(
        tests, over_seeds(tests), over_seeds(ahead), within, strict=True
    ):
        if _is_tie(test):
            found.append(0.0)
            continue
        reach = max(one.effect.margin(level, one.pooled, one.freedom) for one in then)
        mean, spread, freedom = _to_come(now[0], seeds)

        def below(value: float, of: tuple[float, float, float] = (mean, spread, freedom)) -> float:
            return float(stdtr(of[2], (value - of[0]) / of[1])) if of[1] else float(value > of[0])

        chance = 1 - below(reach) + below(-reach)
        if near > 0:  # between -near and near they are equivalent
            chance += below(min(near, reach)) - below(-min(near, reach))
        found.append(chance)
    return found


def _is_tie(test: PairTest) -> bool:
    """Whether every seed of the two has the same score on every image: nothing differs so far."""
    effect = test.paired
    assert effect is not None
    squares = effect.seed_square, effect.image_square, effect.rest_square
    return effect.mean == 0 and not any(squares)


def _to_come(now: OverSeeds, seeds: int) -> tuple[float, float, float]:
    """Centre, scale and degrees of freedom of the mean difference over all seeds."""
    effect = now.effect
    square = max(effect.seed_square, now.pooled, effect.rest_square)
    variance = square * seeds / effect.count  # of one seed
    spread = math.sqrt(variance * (MOST_SEEDS - seeds) / (MOST_SEEDS * seeds))
    return effect.mean, spread, effect.freedom if now.freedom is None else now.freedom


def _with_all_seeds(test: PairTest, seeds: int) -> PairTest:
    """The test of a pair as it will be with all seeds, if they go on as they do."""
    assert test.paired is not None
    assert test.unpaired is not None
    paired, more = test.paired, MOST_SEEDS / seeds
    images = max(paired.image_square - paired.rest_square, 0.0)
    return replace(
        test,
        paired=_later(
            replace(paired, image_square=more * images + paired.rest_square), more, count=True
        ),
        unpaired=_later(
            replace(
                test.unpaired,
                seed_square=test.unpaired.seed_square / more,
                image_square=(images + paired.rest_square / more) * seeds / paired.count,
                rest_square=test.unpaired.rest_square / more,
            ),
            more,
        ),
    )


def _later(effect: SeedEffect, more: float, *, count: bool = False) -> SeedEffect:
    """The effect with all seeds, their part of the level and their degrees of freedom."""
    return replace(
        effect,
        seeds=MOST_SEEDS,
        count=round(effect.count * more) if count else effect.count,
        freedom=effect.freedom * (MOST_SEEDS - 1) / (effect.seeds - 1),
        seed_level=LAST,
    )

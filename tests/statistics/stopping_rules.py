"""How often studies that look again and again claim falsely: `seeds: auto` and `--anytime`.

`python -m tests.statistics.stopping_rules [NAME...] [--studies N]` prints the rows of
docs/statistics.md; test_stopping.py repeats some of them with fewer studies.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from podium.config.seeds import FIRST_SEEDS, MOST_SEEDS
from podium.statistics.anytime import anytime_verdicts
from podium.statistics.comparison import compare_table
from podium.statistics.stopping import look, with_seeds
from podium.statistics.table import PredictionTable
from tests.statistics.studies_simulated import Setting, sheets

LOW, MIDDLE, HIGH = 0.0, 0.05, 0.1
"""Of the skill: on 500 images, accuracies of one recipe's seeds then have standard deviations of
1.0, 1.4 and 2.2 points; docs/results.md has 0.3 to 2.1."""


def _seeds(
    *accuracies: float, n: int = 500, sd: float | tuple[float, ...] = MIDDLE, margin: float | None
) -> Setting:
    return Setting(accuracies, n, seeds=MOST_SEEDS, seed_sd=sd, margin=margin)


SEEDS = {
    # equal recipes: whatever is claimed is false
    **{
        f"seeds-equal-{k}-{n}-{name}": _seeds(*(0.85,) * k, n=n, sd=sd, margin=None)
        for k, n, name, sd in [
            (2, 500, "low", LOW), (2, 500, "middle", MIDDLE), (2, 500, "high", HIGH),
            (2, 500, "wild", 0.3), (2, 5000, "middle", MIDDLE), (2, 5000, "wild", 0.3),
            (3, 500, "wild", 0.3), (5, 500, "low", LOW), (5, 500, "wild", 0.3),
        ]
    },
    "seeds-equal-5-500-one": _seeds(*(0.85,) * 5, sd=(0.3, *(0.03,) * 4), margin=None),
    "seeds-equal-2-500-groups": Setting(
        (0.85,) * 2, seeds=MOST_SEEDS, seed_sd=MIDDLE, groups=100, alike=0.5
    ),
    "seeds-equal-2-500-f1": Setting((0.85,) * 2, seeds=MOST_SEEDS, seed_sd=0.3, metric="macro_f1"),
    # at the margin: equivalence is just false
    "seeds-margin-2-2000": _seeds(0.865, 0.835, n=2000, margin=0.03),
    "seeds-margin-2-2000-high": _seeds(0.865, 0.835, n=2000, sd=HIGH, margin=0.03),
    "seeds-margin-3-2000": _seeds(0.865, 0.835, 0.835, n=2000, margin=0.03),
    # true differences of 1, 2 and 5 points
    **{
        f"seeds-apart-{k}-{points}-{n}-{name}": _seeds(
            0.85 + points / 200, *(0.85 - points / 200,) * (k - 1), n=n, sd=sd, margin=0.01
        )
        for k, points, n, name, sd in [
            (2, 0, 5000, "low", LOW), (2, 0, 5000, "middle", MIDDLE),
            (2, 1, 500, "middle", MIDDLE), (2, 1, 5000, "low", LOW), (2, 1, 5000, "middle", MIDDLE),
            (2, 2, 500, "middle", MIDDLE), (2, 2, 2000, "middle", MIDDLE),
            (2, 2, 5000, "low", LOW), (2, 2, 5000, "middle", MIDDLE), (2, 2, 5000, "high", HIGH),
            (2, 5, 500, "low", LOW), (2, 5, 500, "middle", MIDDLE), (2, 5, 500, "high", HIGH),
            (2, 5, 2000, "middle", MIDDLE), (5, 5, 500, "middle", MIDDLE),
            (5, 5, 2000, "middle", MIDDLE),
        ]
    },
}  # fmt: skip

IMAGES = {
    "images-equal-2": Setting((0.85,) * 2, 1000),
    "images-equal-5": Setting((0.85,) * 5, 1000),
    "images-equal-2-high": Setting((0.97,) * 2, 1000),
    "images-equal-2-seeds": Setting((0.85,) * 2, 1000, seeds=3),
    "images-equal-2-groups": Setting((0.85,) * 2, 1000, groups=250, alike=0.9),
    "images-margin-2": Setting((0.86, 0.84), 2000, margin=0.02),
    "images-apart-2-5": Setting((0.875, 0.825), 2000, margin=0.02),
}
STEP = 20
"""Images, in whole groups, after which one looks again."""


@dataclass
class Stopped:
    """What so many studies came to."""

    studies: int = 0
    false_claim: int = 0
    """Any pair was declared different that is not so, at the last look or before."""
    false_equivalent: int = 0
    """Any pair that differs by the margin or more was declared equivalent."""
    usual: int = 0
    """The usual test would have claimed falsely at some look."""
    found: int = 0
    """Of the pairs that differ: declared so in the end."""
    apart: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """Of all pairs, at the look that ended the study."""
    ends: list[int] = field(default_factory=list)
    """Number of seeds, or images, at the end."""

    def percent(self, count: float) -> float:
        """In percent of the studies."""
        return 100 * count / self.studies

    def __str__(self) -> str:
        pairs = sum(self.outcomes.values())
        told = [f"{key} {100 * one / pairs:.1f}" for key, one in sorted(self.outcomes.items())]
        found = f", found {100 * self.found / self.apart:.1f}" if self.apart else ""
        low, high = np.quantile(self.ends, [0.1, 0.9])
        return (
            f"false claims {self.percent(self.false_claim):.1f}, false equivalences "
            f"{self.percent(self.false_equivalent):.1f}, usual test "
            f"{self.percent(self.usual):.1f}{found}; {', '.join(told)}; ends at "
            f"{np.mean(self.ends):.1f} ({low:.0f} to {high:.0f})"
        )


def _gaps(accuracies: tuple[float, ...]) -> dict[tuple[str, str], float]:
    return {
        (f"c{i}", f"c{j}"): accuracies[i] - accuracies[j]
        for i in range(len(accuracies))
        for j in range(i + 1, len(accuracies))
    }


def seeds_stopped(setting: Setting, studies: int, *, usual: bool = False) -> Stopped:
    """Studies with `seeds: auto`: every look as the study takes it, until it stops.

    Args:
        setting: with as many seeds as there can be.
        studies: how many.
        usual: also look with the usual test, at all looks.
    """
    found, gaps = Stopped(), _gaps(setting.accuracies)
    for sheet in sheets(setting, studies):
        claimed: set[tuple[str, str]] = set()
        equal: set[tuple[str, str]] = set()
        for count in range(FIRST_SEEDS, MOST_SEEDS + 1):
            part = with_seeds(sheet, count)
            verdicts = compare_table(part, resamples=0, margin=setting.margin)
            now = look(part, verdicts)
            for pair, seen in zip(verdicts.pairs, now.pairs, strict=True):
                names, gap = (pair.first, pair.second), gaps[pair.first, pair.second]
                if seen.outcome == "superior" and (pair.winner == pair.first) != (gap > 0):
                    claimed.add(names)
                if seen.outcome == "superior" and gap == 0:
                    claimed.add(names)
                if seen.outcome == "equivalent" and abs(gap) > (setting.margin or 0) - 1e-12:
                    equal.add(names)
            if now.is_last:
                break
        found.studies += 1
        found.false_claim += bool(claimed)
        found.false_equivalent += bool(equal)
        found.ends.append(now.seeds)
        found.outcomes.update(one.outcome for one in now.pairs)
        true = [one for one in now.pairs if gaps[one.first, one.second]]
        found.apart += len(true)
        found.found += sum(one.outcome == "superior" for one in true)
        found.usual += usual and any(_usual_claims(sheet))
    return found


def _usual_claims(sheet: PredictionTable) -> Iterator[bool]:
    """Whether the usual test claims anything, at every look at equal recipes."""
    for count in range(FIRST_SEEDS, MOST_SEEDS + 1):
        part = replace(with_seeds(sheet, count), seed_level=1.0)
        yield any(pair.winner for pair in compare_table(part, resamples=0).pairs)


def images_stopped(setting: Setting, studies: int, *, futile: bool = False) -> Stopped:
    """Test sets that grow, judged by `compare --anytime` at every step until all is decided.

    Args:
        setting: with as many images as are planned.
        studies: how many.
        futile: also stop where it is futile; else go on, since whoever does must not be misled.
    """
    found, gaps = Stopped(), _gaps(setting.accuracies)
    for sheet in sheets(setting, studies):
        order = np.random.default_rng(found.studies).permutation(len(sheet))
        if sheet.groups is not None:
            order = np.argsort(sheet.groups, kind="stable")
        claimed = equal = False
        for n in range(STEP, len(sheet) + 1, STEP):
            inside = np.zeros(len(sheet), bool)
            inside[order[:n]] = True
            planned = len(sheet) if futile else None
            verdicts = anytime_verdicts(sheet.take(inside), margin=setting.margin, planned=planned)
            for one in verdicts:
                gap = gaps[one.first, one.second]
                ahead = one.first if gap > 0 else one.second
                claimed |= one.outcome == "superior" and (gap == 0 or one.ahead != ahead)
                equal |= one.outcome == "equivalent" and abs(gap) > (setting.margin or 0) - 1e-12
            if all(one.outcome != "open" for one in verdicts):
                break
        found.studies += 1
        found.false_claim += claimed
        found.false_equivalent += equal
        found.ends.append(n)
        found.outcomes.update(one.outcome for one in verdicts)
        true = [one for one in verdicts if gaps[one.first, one.second]]
        found.apart += len(true)
        found.found += sum(one.outcome == "superior" for one in true)
    return found


def main() -> None:
    """Print one line per setting."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help=f"of {', '.join([*SEEDS, *IMAGES])}")
    parser.add_argument("--studies", type=int, default=2000)
    given = parser.parse_args()
    for name, setting in {**SEEDS, **IMAGES}.items():
        if given.names and not any(name.startswith(one) for one in given.names):
            continue
        begun = time.perf_counter()
        if name in SEEDS:
            found = seeds_stopped(setting, given.studies, usual="-equal-2" in name)
        else:
            found = images_stopped(setting, given.studies, futile="-apart-" in name)
        print(f"{name} ({time.perf_counter() - begun:.0f} s): {found}", flush=True)


if __name__ == "__main__":
    main()

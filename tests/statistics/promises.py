"""What is promised of all contenders together, counted in studies of a known truth.

`python -m tests.statistics.promises [NAME...] [--studies N]` prints the rows of docs/statistics.md;
test_promises.py repeats some of them with fewer studies.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field

import numpy as np

from podium.statistics.intervals import Interval
from podium.statistics.verdicts import Pair, Verdicts
from tests.statistics.metric_studies import METRIC_SETTINGS, counted_by_metric
from tests.statistics.studies_simulated import Setting, judged, sheets

STEADY = (0.03,) * 4  # standard deviations of the skill over seeds

SEEDS: list[tuple[int, float, tuple[int, ...], float | tuple[float, ...], str]] = [
    (2, 0.85, (3,), 0.05, ""), (2, 0.85, (3,), 0.3, "-varied"),
    (5, 0.85, (3,), 0.05, ""), (5, 0.85, (3,), 0.3, "-varied"),
    (2, 0.995, (2,), 0.05, "-high"), (2, 0.995, (3,), 0.05, "-high"),
    (2, 0.85, (5, 2), 0.05, ""), (2, 0.85, (5, 3), 0.05, ""),
    (3, 0.85, (5, 3, 2), 0.05, ""), (3, 0.85, (3, 3, 1), 0.0, ""),
    (5, 0.85, (2,), (0.3, *STEADY), "-one-varies"),
    (5, 0.85, (3,), (0.3, *STEADY), "-one-varies"),
    (5, 0.85, (2,), (0.3, 0.3, *STEADY[1:]), "-two-vary"),
    (5, 0.85, (3,), (0.3, 0.3, *STEADY[1:]), "-two-vary"),
]  # fmt: skip

SETTINGS = {
    # equal contenders: whatever is claimed is false
    **{
        f"equal-{k}-{round(100 * accuracy)}-{n}": Setting((accuracy,) * k, n)
        for k, accuracy, n in [
            (2, 0.6, 500), (2, 0.85, 50), (2, 0.85, 500), (2, 0.85, 2000), (2, 0.95, 500),
            (2, 0.99, 500), (3, 0.85, 500), (5, 0.6, 500), (5, 0.85, 50), (5, 0.85, 500),
            (5, 0.85, 2000), (5, 0.95, 100), (5, 0.95, 500), (5, 0.99, 500), (10, 0.85, 500),
            (10, 0.95, 100),
        ]
    },
    **{
        f"equal-{k}-groups-{groups}-{round(100 * alike)}": Setting(
            (0.85,) * k, n, groups=groups, alike=alike
        )
        for k, groups, n, alike in [
            (2, 30, 300, 0.0), (2, 30, 300, 0.5), (2, 30, 300, 0.9), (5, 30, 300, 0.5),
            (5, 30, 300, 0.9), (5, 10, 500, 0.5),
        ]
    },
    **{
        f"equal-{k}-seeds-{'-'.join(map(str, seeds))}{name}": Setting(
            (accuracy,) * k, seeds=seeds * (k // len(seeds)), seed_sd=sd
        )
        for k, accuracy, seeds, sd, name in SEEDS
    },
    # where no test helps: one recipe in two or five fails in one training of ten
    **{
        f"failing-{k}-seeds-{seeds}": Setting(
            (0.85,) * k, seeds=seeds, seed_sd=(0.3, *STEADY)[:k], luck="failing"
        )
        for k in (2, 5)
        for seeds in (2, 3, 5, 10)
    },
    "skewed-2-seeds-3": Setting((0.85,) * 2, seeds=3, seed_sd=(0.3, 0.03), luck="skewed"),
    "equal-3-f1-2": Setting((0.85,) * 3, 200, classes=2, metric="macro_f1"),
    "equal-3-f1-10": Setting((0.85,) * 3, 200, classes=10, metric="macro_f1"),
    "equal-3-f1-100": Setting((0.85,) * 3, 200, classes=100, metric="macro_f1"),
    # true differences: power, and whether claims are true
    "planned-500": Setting((0.874, 0.846)),
    "planned-2000": Setting((0.874, 0.846), 2000),
    "ahead-2": Setting((0.88, 0.85)),
    "ahead-3": Setting((0.87, 0.84, 0.84)),
    "ahead-5": Setting((0.87, 0.84, 0.84, 0.84, 0.84)),
    "ahead-5-1000": Setting((0.87, 0.84, 0.84, 0.84, 0.84), 1000),
    "two-ahead-5": Setting((0.87, 0.87, 0.84, 0.84, 0.84)),
    "near-5": Setting((0.86, 0.86, 0.855, 0.85, 0.84)),
    "clusters-5": Setting((0.9, 0.9, 0.8, 0.8, 0.8)),
    "stairs-5": Setting((0.89, 0.87, 0.85, 0.83, 0.81)),
    "stairs-5-1000": Setting((0.87, 0.85, 0.85, 0.82, 0.82), 1000),
    "stairs-5-high": Setting((0.99, 0.98, 0.97, 0.96, 0.95)),
    "stairs-5-groups": Setting((0.89, 0.87, 0.85, 0.83, 0.81), 500, groups=50, alike=0.5),
    "stairs-5-seeds": Setting((0.89, 0.87, 0.85, 0.83, 0.81), seeds=3, seed_sd=0.05),
    "stairs-10": Setting((0.9, 0.89, 0.88, 0.87, 0.86, 0.85, 0.84, 0.83, 0.82, 0.81)),
    # at the margin, where equivalence is just false
    "margin-5-500": Setting((0.88, 0.88, 0.82, 0.82, 0.82), margin=0.06),
    "margin-5-2000": Setting((0.865, 0.865, 0.835, 0.835, 0.835), 2000, margin=0.03),
    "margin-5-ahead": Setting((0.87, 0.84, 0.84, 0.84, 0.84), 2000, margin=0.03),
}  # fmt: skip


@dataclass
class Counted:
    """What happened in how many of `studies`."""

    studies: int = 0
    false_claim: float = 0
    """Any pair was declared different in a direction that is not true."""
    found: float = 0
    """Share of the true differences that were declared; a sum over studies."""
    joint_held: float = 0
    """The joint intervals of all pairs contained their true difference."""
    alone_held: float = 0
    """So did all the intervals that are of one pair each."""
    all_best_kept: float = 0
    """Every contender that truly is the best was among those that may be."""
    a_best_kept: float = 0
    """Share of the truly best that were; a sum over studies."""
    places_held: float = 0
    """Every contender's true place, or places where it is tied, was possible."""
    winner_named: float = 0
    """Only the one true best was left as possibly the best."""
    winner_by_pairs: float = 0
    """All others had lost a pair."""
    false_winner: float = 0
    """Only one was left, and it was not the one true best."""
    shown: list[float] = field(default_factory=list)
    true: list[float] = field(default_factory=list)
    """Of the pairs declared different: difference as shown, and true, seen from the declared
    winner."""
    false_equivalent: float = 0
    """Any pair that differs by the margin or more was declared equivalent."""
    equivalent: float = 0
    """Share of the pairs that differ by less that were; a sum over studies."""
    bounds_held: float = 0
    """No contender was worse than the best, and no pair differed, by more than its bound."""
    won_alone_held: float = 0
    """Pairs declared different whose own interval contained the true difference."""
    won_joint_held: float = 0
    """The same of their joint interval."""

    def percent(self, name: str) -> float:
        """In percent of the studies."""
        return 100 * float(getattr(self, name)) / self.studies

    def count(self, verdicts: Verdicts, accuracies: tuple[float, ...]) -> None:
        """Add a study."""
        truth = {f"c{at}": one for at, one in enumerate(accuracies)}
        best = {name for name, one in truth.items() if one == max(accuracies)}
        gaps = [truth[pair.first] - truth[pair.second] for pair in verdicts.pairs]
        pairs = list(zip(verdicts.pairs, gaps, strict=True))
        self.studies += 1
        won = [(pair, gap) for pair, gap in pairs if pair.winner is not None]
        self.false_claim += any(not _is_true(pair, gap) for pair, gap in won)
        different = [pair for pair, gap in pairs if gap]
        self.found += sum(
            pair.winner is not None and _is_true(pair, gap) for pair, gap in pairs if gap
        ) / max(1, len(different))
        self.joint_held += all(_holds(pair.joint, gap) for pair, gap in pairs)
        self.alone_held += all(_holds(pair.judged, gap) for pair, gap in pairs)
        size = verdicts.margin.size
        apart = [pair.equivalent for pair, gap in pairs if abs(gap) > size - 1e-12]
        near = [pair.equivalent for pair, gap in pairs if abs(gap) <= size - 1e-12]
        self.false_equivalent += any(apart)
        self.equivalent += sum(near) / max(1, len(near))
        self.bounds_held += all(pair.within >= abs(gap) - 1e-12 for pair, gap in pairs) and all(
            one.behind >= max(accuracies) - truth[one.name] - 1e-12 for one in verdicts.standings
        )
        kept = {one.name for one in verdicts.leaders}
        self.all_best_kept += best <= kept
        self.a_best_kept += len(best & kept) / len(best)
        self.winner_named += kept == best and len(best) == 1
        self.false_winner += len(kept) == 1 and kept != best
        unbeaten = {one.name for one in verdicts.standings if one.best == 1}
        self.winner_by_pairs += unbeaten == best and len(best) == 1
        self.places_held += all(
            one.best <= sum(other >= truth[one.name] for other in accuracies)
            and one.worst >= 1 + sum(other > truth[one.name] for other in accuracies)
            for one in verdicts.standings
        )
        for pair, gap in won:
            sign = 1 if pair.winner == pair.first else -1
            self.shown.append(sign * pair.judged.value)
            self.true.append(sign * gap)
            self.won_alone_held += _holds(pair.judged, gap)
            self.won_joint_held += _holds(pair.joint, gap)


def _is_true(pair: Pair, gap: float) -> bool:
    return pair.winner == (pair.first if gap > 0 else pair.second) and gap != 0


def _holds(interval: Interval, value: float) -> bool:
    return interval.low <= value + 1e-12 and value - 1e-12 <= interval.high


def counted(setting: Setting, studies: int) -> Counted:
    """Simulate so many studies and count."""
    found = Counted()
    for sheet in sheets(setting, studies):
        found.count(judged(sheet, margin=setting.margin), setting.accuracies)
    return found


def main() -> None:
    """Print one line per setting."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help=f"of {', '.join([*SETTINGS, *METRIC_SETTINGS])}")
    parser.add_argument("--studies", type=int, default=2000)
    given = parser.parse_args()

    def wanted(name: str) -> bool:
        return not given.names or any(name.startswith(one) for one in given.names)

    for name, metric_setting in METRIC_SETTINGS.items():
        if wanted(name):
            claimed, held, alone = counted_by_metric(metric_setting, given.studies)
            print(
                f"{name}: claimed {claimed:.1f}, held {held:.1f}, one model's {alone:.1f}",
                flush=True,
            )
    for name, setting in SETTINGS.items():
        if not wanted(name):
            continue
        begun = time.perf_counter()
        found = counted(setting, given.studies)
        told = [
            f"{key} {found.percent(key):.1f}"
            for key in ("false_claim", "found", "joint_held", "alone_held", "all_best_kept",
                        "a_best_kept", "places_held", "winner_named", "winner_by_pairs",
                        "false_winner", "false_equivalent", "equivalent", "bounds_held")
        ]  # fmt: skip
        if found.shown:
            won = len(found.shown)
            told.append(
                f"declared {won}: shown {100 * np.mean(found.shown):.2f} "
                f"true {100 * np.mean(found.true):.2f} "
                f"own interval holds {100 * found.won_alone_held / won:.1f} "
                f"joint {100 * found.won_joint_held / won:.1f}"
            )
        print(f"{name} ({time.perf_counter() - begun:.0f} s): {', '.join(told)}", flush=True)


if __name__ == "__main__":
    main()

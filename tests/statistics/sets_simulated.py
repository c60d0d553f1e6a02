"""What sets of classes promise, counted in draws of a known truth, and their size on real runs.

`python -m tests.statistics.sets_simulated [--draws N] [NAME...]` prints the rows of
docs/single-pictures.md; with `--runs RUN...`, the comparison of scores on finished runs.
test_conformal.py repeats some of the draws.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import KFold, train_test_split

from podium.results.run import conformity_scores, run_temperature
from podium.runs.find import find_runs
from podium.runs.predictions import Predictions
from podium.statistics.calibration import calibrated_probabilities, fit_temperature
from podium.statistics.conformal import (
    ConformityScores,
    SetRule,
    label_probabilities,
    measure_coverage,
)

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

FURTHER = 1000  # images that each draw's sets are tested on


@dataclass(frozen=True)
class Draw:
    """A way to train and validate a model, and a promise."""

    valid: int = 500
    """Validation images."""
    coverage: float = 0.95
    classes: int = 10
    balance: float = 1.0
    """Frequency of each class over that of the one before it."""
    by_class: bool = False
    temperature: bool = True
    """Whether it is fitted, on the same validation images."""
    epochs: int = 1
    """Epochs that the best is chosen from, by its accuracy on the same validation images."""
    alike: float = 0.0
    """Share of an image's difficulty that it has in common with the other nine of its group."""


DRAWS = {
    **{f"n-{n}": Draw(n, temperature=False) for n in (19, 50, 100, 500, 2000)},
    **{
        f"coverage-{level}": Draw(coverage=level / 100, temperature=False) for level in (80, 90, 99)
    },
    **{f"temperature-{n}": Draw(n) for n in (50, 100, 500)},
    **{f"epochs-{e}-{n}": Draw(n, epochs=e) for e, n in ((20, 100), (20, 500), (50, 500))},
    "by-class": Draw(by_class=True, classes=5, balance=0.7),
    "groups-half": Draw(alike=0.5),
    "groups-most": Draw(alike=0.9),
}


def simulated(draw: Draw, random: np.random.Generator) -> tuple[Predictions, Predictions]:
    """Validation images and further ones, as the chosen epoch predicts them."""
    n = draw.valid + FURTHER
    truth = 2.5 * random.normal(size=(n, draw.classes))
    truth += np.log(draw.balance) * np.arange(draw.classes)
    labels = (truth + random.gumbel(size=truth.shape)).argmax(axis=1)
    noise = random.normal(size=(draw.epochs, n, draw.classes))
    if draw.alike:
        shared = random.normal(size=(draw.epochs, -(-n // 10), draw.classes)).repeat(10, axis=1)
        noise = np.sqrt(1 - draw.alike) * noise + np.sqrt(draw.alike) * shared[:, :n]
    epochs = 2 * (truth + noise)  # twice too sure
    right = (epochs.argmax(axis=2) == labels)[:, : draw.valid].mean(axis=1)
    made = _predictions(epochs[right.argmax()], labels)
    return made.take(slice(draw.valid)), made.take(slice(draw.valid, None))


def coverages(draw: Draw, draws: int, seed: int = 0) -> Floats:
    """The share of further images whose set contains the true class; of the rarest class, if the
    promise is by class. Shape (draws,)."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        valid, further = simulated(draw, random)
        temperature = fit_temperature(valid) if draw.temperature else 1.0
        scores = ConformityScores.of(valid, temperature)
        rule = scores.rule(draw.coverage, by_class=draw.by_class)
        if draw.by_class:
            further = further.take(further.labels == draw.classes - 1)
        found.append(_covered(further, temperature, rule))
    return np.array(found)


def _covered(further: Predictions, temperature: float, rule: SetRule) -> float:
    """As `measure_coverage` counts, without its interval and sizes."""
    own = label_probabilities(further, temperature) >= rule.least[further.labels]
    return float((own | (further.predicted == further.labels)).mean())


def fold_coverages(draws: int, seed: int = 0, n: int = 300) -> dict[str, Floats]:
    """The same of models made after five folds of `n` images: a refit on all, and an ensemble.

    The sets are calibrated on the validation images of the folds, as Podium pools them.
    """
    random = np.random.default_rng(seed)
    found: dict[str, list[float]] = {"refit": [], "ensemble": []}
    for _ in range(draws):
        features, labels = _features(n + FURTHER, random)
        known, new, of_known, of_new = features[:n], features[n:], labels[:n], labels[n:]
        valid: dict[int, Floats] = {}
        members = []
        for train, _ in KFold(5, shuffle=True, random_state=int(random.integers(2**31))).split(
            known
        ):
            inner, held = train_test_split(train, test_size=0.15, random_state=0)
            model = LinearDiscriminantAnalysis().fit(known[inner], of_known[inner])
            own = model.decision_function(known[held])
            for at, row in zip(held.tolist(), own, strict=True):
                valid.setdefault(at, row)
            fitted = fit_temperature(_predictions(own, of_known[held]))
            members.append((model, fitted))
        order = np.array(sorted(valid))
        pooled = _predictions(np.stack([valid[at] for at in order]), of_known[order])
        temperature = fit_temperature(pooled)
        rule = ConformityScores.of(pooled, temperature).rule(0.95)
        refit = LinearDiscriminantAnalysis().fit(known, of_known).decision_function(new)
        shares = [
            calibrated_probabilities(_predictions(model.decision_function(new), of_new), fitted)
            for model, fitted in members
        ]
        for name, logits, used in (
            ("refit", refit, temperature),
            ("ensemble", np.log(np.mean(shares, axis=0)), 1.0),
        ):
            found[name].append(_covered(_predictions(logits, of_new), used, rule))
    return {name: np.array(values) for name, values in found.items()}


def _features(n: int, random: np.random.Generator) -> tuple[Floats, Indices]:
    """Features of five classes, of which a discriminant gets some 80 % right."""
    labels = random.integers(0, 5, n)
    centres = np.eye(5, 20) * 2.0
    return centres[labels] + random.normal(size=(n, 20)), labels


def _predictions(logits: Floats, labels: Indices) -> Predictions:
    names = tuple(str(one) for one in range(logits.shape[1]))
    paths = tuple(map(str, range(len(labels))))
    return Predictions(names, paths, labels, logits.astype(np.float32))


# The scores to choose from, each (n, classes): a set has the classes whose score is small enough.


def lac(shares: Floats, random: np.random.Generator) -> Floats:
    """Least ambiguous (Sadinle, Lei & Wasserman, 2019): 1 less the probability."""
    return 1 - shares


def aps(shares: Floats, random: np.random.Generator) -> Floats:
    """Adaptive (Romano, Sesia & Candes, 2020): probability of the classes that are likelier."""
    return raps(shares, random, weight=0.0)


def raps(
    shares: Floats, random: np.random.Generator, *, weight: float = 0.01, free: int = 5
) -> Floats:
    """Regularised (Angelopoulos et al., 2021): adaptive, plus a penalty on ranks beyond `free`."""
    order = np.argsort(-shares, axis=1, kind="stable")
    ranked = np.take_along_axis(shares, order, axis=1)
    before = ranked.cumsum(axis=1) - ranked
    ranks = np.arange(1, shares.shape[1] + 1)
    scores = (
        before + random.random((len(shares), 1)) * ranked + weight * np.maximum(0, ranks - free)
    )
    found = np.empty(shares.shape)
    np.put_along_axis(found, order, scores, axis=1)
    return found


SCORES: dict[str, Callable[[Floats, np.random.Generator], Floats]] = {
    "LAC": lac, "APS": aps, "RAPS": raps,
}  # fmt: skip


def on_a_run(place: Path, coverage: float) -> list[tuple[str, float, float]]:
    """Score, test coverage and mean size of the sets of a finished run, all in %, or classes."""
    (run,) = find_runs(place).runs
    temperature = run_temperature(run)
    valid, test = (run.read_predictions(split) for split in ("valid", "test"))
    own, further = (calibrated_probabilities(one, temperature) for one in (valid, test))
    rows = []
    for name, score in SCORES.items():
        random = np.random.default_rng(0)
        found = np.sort(score(own, random)[np.arange(len(valid)), valid.labels])
        rank = int(np.ceil((len(valid) + 1) * coverage - 1e-9))
        inside = score(further, random) <= found[rank - 1]
        inside |= further >= further.max(axis=1, keepdims=True)
        hit = inside[np.arange(len(test)), test.labels]
        rows.append((name, 100 * float(hit.mean()), float(inside.sum(axis=1).mean())))
    kept = measure_coverage(test, temperature, conformity_scores(run).rule(coverage))
    assert (100 * kept.covered.value, kept.size) == rows[0][1:]  # ours is the first
    return rows


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[*DRAWS, "folds"])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--runs", nargs="*", type=Path)
    given = parser.parse_args()
    if given.runs:
        for place in given.runs:
            for coverage in (0.9, 0.95):
                told = "  ".join(
                    f"{n} {c:5.1f} % {s:6.2f}" for n, c, s in on_a_run(place, coverage)
                )
                print(f"{'/'.join(place.parts[-3:])} {100 * coverage:g} %: {told}", flush=True)
        return
    for name in given.names:
        began = time.perf_counter()
        if name == "folds":
            found = fold_coverages(given.draws)
        else:
            found = {"": coverages(DRAWS[name], given.draws)}
        for which, values in found.items():
            low, high = np.quantile(values, (0.025, 0.975))
            print(
                f"{f'{name} {which}':18} mean {100 * values.mean():6.2f} %, "
                f"95 % of draws {100 * low:5.1f} to {100 * high:5.1f} %  "
                f"({len(values)} draws, {time.perf_counter() - began:.0f} s)",
                flush=True,
            )


if __name__ == "__main__":
    _main()

"""Studies drawn from a known truth: what statistics are checked against.

An image is right when skill + what the images share + what is the model's own exceeds 0, all of
them normal; so every accuracy and difference has an exact expectation. Seeds may vary more for
one recipe than for another, and unevenly; images may come in groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from unittest import mock

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import norm

from podium.statistics import verdicts
from podium.statistics.scoring import find_metric
from podium.statistics.table import ContenderPredictions, PredictionTable
from podium.statistics.verdicts import Verdicts

__all__ = [
    "SHARED", "Luck", "Setting", "accuracy_at", "judged", "judged_by", "right_answers",
    "sheet_from", "sheets", "skill_for",
]  # fmt: skip

SHARED, OWN, NOISE = 1.0, 0.5, 0.5
"""Standard deviations: an image's difficulty for all, for one recipe, for one training run."""

Luck = Literal["normal", "skewed", "failing"]
QUANTILES: dict[Luck, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "normal": lambda share: np.asarray(norm.ppf(share)),
    "skewed": lambda share: 1 + np.log(share),  # an exponential, the long end downwards
    "failing": lambda share: np.where(share < 0.1, -3.0, 1 / 3),  # one training in ten fails
}
"""What seeds do to the skill, in standard deviations; mean 0."""


def _spread(seed_sd: float) -> float:
    return float(np.sqrt(SHARED**2 + OWN**2 + NOISE**2 + seed_sd**2))


def skill_for(accuracy: float, seed_sd: float = 0.0, luck: Luck = "normal") -> float:
    """The skill whose mean accuracy over seeds and images is `accuracy`."""
    if luck == "normal":
        return float(norm.ppf(accuracy)) * _spread(seed_sd)
    found = brentq(lambda skill: accuracy_at(skill, seed_sd, luck) - accuracy, -30, 30)
    return float(found)


def accuracy_at(skill: float, seed_sd: float = 0.0, luck: Luck = "normal") -> float:
    """The mean accuracy over seeds and images of a skill."""
    if luck == "normal":
        return float(norm.cdf(skill / _spread(seed_sd)))
    levels = skill + seed_sd * QUANTILES[luck]((np.arange(20_000) + 0.5) / 20_000)
    return float(norm.cdf(levels / _spread(0.0)).mean())


def right_answers(
    random: np.random.Generator,
    skills: Sequence[float],
    n: int,
    *,
    seeds: int = 1,
    seed_sd: float | Sequence[float] = 0.0,
    luck: Luck = "normal",
    groups: npt.NDArray[np.int64] | None = None,
    alike: float = 0.0,
) -> npt.NDArray[np.bool_]:
    """Which images each contender has right, shape (contenders, seeds, n).

    `seed_sd` is that of the skill, of all contenders or of each; where there are no seeds to
    speak of, the trained models have exactly the accuracy of their skill. `alike`: share of every
    image's variance that its group has in common.
    """
    count = len(skills)
    if luck == "normal":
        luck_of_seeds = random.normal(0, 1, (count, seeds, 1))
    else:
        luck_of_seeds = QUANTILES[luck](random.random((count, seeds, 1)))
    level = np.asarray(skills)[:, None, None] + _each(seed_sd, count) * luck_of_seeds

    def drawn(sd: float, *shape: int) -> npt.NDArray[np.float64]:
        own = random.normal(0, sd, (*shape, n))
        if groups is None:
            return own
        common = random.normal(0, sd, (*shape, int(groups.max()) + 1))[..., groups]
        return np.asarray(alike**0.5 * common + (1 - alike) ** 0.5 * own)

    images = drawn(SHARED, 1, 1) + drawn(OWN, count, 1)
    found = level + images + drawn(NOISE, count, seeds) > 0
    return np.asarray(found)


def _each(value: float | Sequence[float], count: int) -> npt.NDArray[np.float64]:
    return np.broadcast_to(np.asarray(value, np.float64), count)[:, None, None]


def sheet_from(
    right: npt.NDArray[np.bool_] | Sequence[npt.NDArray[np.bool_]],
    classes: int = 10,
    random: np.random.Generator | None = None,
    groups: npt.NDArray[np.int64] | None = None,
) -> PredictionTable:
    """An answer sheet with these right answers; wrong ones are drawn, or the next class.

    `right`: of each contender, shape (seeds, n); the numbers of seeds may differ.
    """
    n = right[0].shape[-1]
    labels = np.arange(n) % classes

    def answered(one: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        shift = 1 if random is None else random.integers(1, classes, one.shape)
        return np.where(one, labels, (labels + shift) % classes)

    return PredictionTable(
        class_names=tuple(f"class {number}" for number in range(classes)),
        paths=tuple(f"test/{number}.jpg" for number in range(n)),
        labels=labels,
        contenders=tuple(
            ContenderPredictions(f"c{at}", f"Contender {at}", tuple(range(len(one))), answered(one))
            for at, one in enumerate(right)
        ),
        groups=groups,
    )


def cross_validated(
    studies: int, *, n: int, folds: int, repeats: int, gap: float = 0.0, start: int = 7
) -> Iterator[tuple[PredictionTable, float]]:
    """Cross-validated studies of two recipes, and the true accuracy of the first.

    Linear discriminant analysis on two common features and four of the recipe's own, which carry
    as much information unless there is a `gap`: with none, the recipes are exactly equal.
    """
    random = np.random.default_rng(start)
    truth = _accuracy_of_lda(random, round(n * (1 - 1 / folds)))
    for _ in range(studies):
        classes, features = _drawn_features(random, n, gap)
        number = np.stack([random.permutation(np.arange(n) % folds) for _ in range(repeats)])
        answers = np.empty((2, repeats, n), np.int64)
        for repeat, fold in ((at, fold) for at in range(repeats) for fold in range(folds)):
            test = number[repeat] == fold
            for recipe, x in enumerate(features):
                answers[recipe, repeat, test] = _lda(x[~test], classes[~test], x[test])
        contenders = tuple(
            ContenderPredictions(f"c{at}", f"c{at}", tuple(range(repeats)), one, folds=number)
            for at, one in enumerate(answers)
        )
        yield PredictionTable(("0", "1"), tuple(map(str, range(n))), classes, contenders), truth


def _drawn_features(
    random: np.random.Generator, n: int, gap: float = 0.0
) -> tuple[npt.NDArray[np.int64], list[npt.NDArray[np.float64]]]:
    classes = random.permutation(np.arange(n) % 2)
    side = (2 * classes - 1)[:, None]
    common = random.normal(size=(n, 2)) + 0.35 * side
    own = [random.normal(size=(n, 4)) + (0.45 - less) * side for less in (0.0, gap)]
    return classes, [np.hstack([common, one]) for one in own]


def _lda(
    x: npt.NDArray[np.float64], classes: npt.NDArray[np.int64], test: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    means = [x[classes == number].mean(axis=0) for number in (0, 1)]
    apart = x - np.where(classes[:, None] == 1, means[1], means[0])
    weights = np.linalg.solve(apart.T @ apart / (len(x) - 2), means[1] - means[0])
    return np.asarray((test - (means[0] + means[1]) / 2) @ weights > 0, np.int64)


def _accuracy_of_lda(random: np.random.Generator, trained: int, draws: int = 1000) -> float:
    found = []
    for _ in range(draws):
        (classes, (x, _)), (truth, (test, _)) = (
            _drawn_features(random, trained),
            _drawn_features(random, 1000),
        )
        found.append((_lda(x, classes, test) == truth).mean())
    return float(np.mean(found))


@dataclass(frozen=True)
class Setting:
    """What the studies of a simulation have in common; the truth is in `accuracies`."""

    accuracies: tuple[float, ...]
    n: int = 500
    seeds: int | tuple[int, ...] = 1
    """Of every contender, or of each."""
    seed_sd: float | tuple[float, ...] = 0.0
    """Of the skill over seeds, likewise."""
    luck: Luck = "normal"
    groups: int = 0
    """Number of groups of images, of equal size; 0: images are independent."""
    alike: float = 0.0
    """Share of an image's variance that its group has in common."""
    classes: int = 10
    metric: str = "accuracy"
    margin: float | None = None
    """Within which contenders are equivalent; None: what the images can show."""


def sheets(setting: Setting, count: int, seed: int = 1) -> Iterator[PredictionTable]:
    """The answer sheets of so many studies, always the same ones."""
    random, k = np.random.default_rng(seed), len(setting.accuracies)
    seeds = [setting.seeds] * k if isinstance(setting.seeds, int) else setting.seeds
    spreads = [setting.seed_sd] * k if isinstance(setting.seed_sd, float) else setting.seed_sd
    skills = [
        skill_for(one, sd, setting.luck)
        for one, sd in zip(setting.accuracies, spreads, strict=True)
    ]
    groups = None
    if setting.groups:
        groups = np.arange(setting.n) * setting.groups // setting.n
    for _ in range(count):
        right = right_answers(
            random, skills, setting.n, seeds=max(seeds), seed_sd=spreads, luck=setting.luck,
            groups=groups, alike=setting.alike,
        )  # fmt: skip
        kept = [one[:number] for one, number in zip(right, seeds, strict=True)]
        yield judged_by(setting.metric, sheet_from(kept, setting.classes, random, groups))


def judged_by(metric: str, sheet: PredictionTable) -> PredictionTable:
    """The same sheet in a study of another metric, whose logits are 1 for the answer, else 0."""
    if metric == "accuracy":
        return sheet
    sure = np.eye(len(sheet.class_names), dtype=np.float32)
    contenders = tuple(
        replace(one, logits=tuple(sure[answers] for answers in one.predicted))
        for one in sheet.contenders
    )
    return replace(sheet, contenders=contenders, metric=find_metric(metric))


def judged(
    sheet: PredictionTable, *, resamples: int = 0, seed: int = 0, margin: float | None = None
) -> Verdicts:
    """The verdicts of a study, without the chances of being the best.

    They are drawn, which takes most of the time, and no verdict or interval depends on them.
    """
    with mock.patch.object(verdicts, "chances_of_being_best", return_value=None):
        return verdicts.compare_contenders(sheet, resamples=resamples, seed=seed, margin=margin)

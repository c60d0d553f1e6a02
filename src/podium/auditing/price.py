"""The price of leakage: by how many points a split that tears groups apart flatters a classifier.

Two cheap classifiers on the features of the bundled network, computed once, classify every image
out of fold twice: with folds that ignore the groups, and with folds that keep them together. The
difference is paired image by image. Its interval takes groups as units, and several draws of the
folds as seeds (`podium.statistics.paired.seed_effect`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from podium.auditing.discriminant import out_of_fold_logits
from podium.auditing.record import LeakagePrice
from podium.data.index import DataIndex
from podium.data.shares import fold_numbers, group_numbers
from podium.errors import ConfigError, DataError
from podium.features.scaling import standardised
from podium.runtime.events import AuditProgress, Event, Notify, Progress, silent
from podium.statistics.f1_difference import SamplingUnits
from podium.statistics.intervals import bounded
from podium.statistics.paired import design_effect, seed_effect

FOLDS = 5
DRAWS = 5
"""How often both kinds of folds are drawn."""

NEIGHBOURS = 5
Integers = npt.NDArray[np.int64]
Features = npt.NDArray[np.float32]
Classifier = Callable[[Features, Integers, Integers], Integers]


def leakage_price(
    index: DataIndex, *, device: str = "auto", notify: Notify = silent
) -> tuple[LeakagePrice, ...]:
    """Measure by how much a random split of the images flatters two cheap classifiers.

    Args:
        index: the images of all splits, with their groups.
        device: where the network runs: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        notify: receives the progress.

    Returns:
        The price of each classifier.

    Raises:
        ConfigError: no image has a group, or the images are not RGB.
        DataError: there are too few groups.
        WeightsUnavailableError: the bundled weights are not installed.
    """
    splits = index.splits.values()
    groups = [group for split in splits for group in split.groups or (None,) * len(split)]
    if not any(groups):
        raise ConfigError(
            "--price-of-leakage: expected groups, found none. State what belongs together with "
            "--group, such as --group parent, a column, or --group duplicates."
        )
    if index.windows.channels is not None:
        raise ConfigError(
            "--price-of-leakage: its network takes RGB images, not those of data.channels. Run a "
            "study with data.group and one without it instead."
        )
    from podium.auditing.embed import embed  # loads torch

    def report(event: Event) -> None:
        if isinstance(event, Progress):
            event = AuditProgress("labels", event.done, event.total)
        notify(event)

    labels = np.concatenate([split.labels for split in splits]).astype(np.int64)
    paths = [path for split in splits for path in split.paths]
    order = np.argsort(np.asarray(paths, dtype=object))  # folds depend on the sorted paths
    features = embed(index, device=device, notify=report)[order]
    return price_of(features, labels[order], [groups[at] for at in order], draws=DRAWS)


def price_of(
    features: Features, labels: Integers, groups: list[str | None], *, draws: int = DRAWS
) -> tuple[LeakagePrice, ...]:
    """Measure the price of leakage from features.

    Args:
        features: float32 of shape (n, d).
        labels: of shape (n,), from 0.
        groups: the group of each image, None where it belongs to no other; n of them.
        draws: how often both kinds of folds are drawn.

    Raises:
        DataError: fewer than two classes have images of several groups, or there are fewer groups
            than folds.
    """
    units = group_numbers(groups)
    pairs = np.unique(np.stack([labels, units]), axis=1)[0]
    # a class of one group is never learned where it is tested: that is no leak
    kept = np.flatnonzero(np.bincount(pairs)[labels] > 1)
    classes, own = np.unique(labels[kept], return_inverse=True)
    if len(classes) < 2:
        raise DataError(
            "The price of leakage needs two or more classes with images of two or more groups, "
            f"found {len(classes)}. State groups that are smaller than a class."
        )
    values, truth = standardised(features[kept])[:], own.astype(np.int64)
    names = [groups[at] for at in kept]
    numbers = group_numbers(names)
    folds = [
        (fold_numbers(truth, None, FOLDS, seed), fold_numbers(truth, names, FOLDS, seed))
        for seed in range(draws)
    ]
    drawn = SamplingUnits(truth, numbers)
    found = []
    classifiers: dict[str, Classifier] = {"linear": _linear, "neighbours": _neighbours}
    for name, classify in classifiers.items():
        right = np.asarray(
            [[classify(values, truth, fold) == truth for fold in both] for both in folds]
        )  # (draws, random and grouped, images)
        apart = right[:, 0].astype(np.float64) - right[:, 1]
        # where hardly any image differs, the interval is not of width 0, as in all verdicts
        least = design_effect(apart.mean(axis=0), numbers) ** 2 * drawn.least
        interval = bounded(seed_effect(apart, numbers), least)
        found.append(
            LeakagePrice(
                classifier=name,
                random=float(right[:, 0].mean()),
                grouped=float(right[:, 1].mean()),
                low=interval.low,
                high=interval.high,
                groups=int(numbers.max()) + 1,
                images=len(kept),
                left_out=len(labels) - len(kept),
            )
        )
    return tuple(found)


def _linear(features: Features, labels: Integers, folds: Integers) -> Integers:
    logits = out_of_fold_logits(features, labels, folds)[:]
    for fold in range(int(folds.max()) + 1):
        absent = np.setdiff1d(labels, labels[folds != fold])  # not learned, so never the answer
        logits[np.ix_(folds == fold, absent)] = -np.inf
    return np.asarray(logits.argmax(axis=1), dtype=np.int64)


def _neighbours(features: Features, labels: Integers, folds: Integers) -> Integers:
    from sklearn.neighbors import KNeighborsClassifier

    found = np.empty(len(labels), dtype=np.int64)
    for fold in range(int(folds.max()) + 1):
        held = folds == fold
        most = min(NEIGHBOURS, int((~held).sum()))
        nearest = KNeighborsClassifier(most, metric="cosine", weights="distance")
        found[held] = nearest.fit(features[~held], labels[~held]).predict(features[held])
    return found

"""Suggests that images belong together where their features lie far closer than chance allows.

Among independent images of a class, the distance to the k-th nearest grows smoothly with k: in m
dimensions, k images lie within r, and k (r'/r)^m within r'. Then (d_1 / d_K)^m is distributed as
the smallest of K - 1 uniform numbers. Frames of one video lie close together, and nothing lies
between them and the next video: d_1 is far below what the images farther out let expect.

m is measured for each class where the neighbours are far, between K/2 and K: the estimator of
Levina & Bickel (2004), "Maximum Likelihood Estimation of Intrinsic Dimension", there alone. No
threshold is in units of the features. In a real class m is lower the nearer the neighbours are, so
that independent photographs stay below the share that is expected by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from podium.auditing.record import GroupHint
from podium.data.groups import DUPLICATES
from podium.runtime.large_array import Chosen, Table, in_parts

REACHES = (32, 64, 128)
"""Neighbours K that are looked at; groups of up to about K / 2 images stand out."""

CHANCE = 0.05
"""Probability that the nearest of independent images counts as too close."""

LEAST_SHARE = 0.15
"""Share of the images that must have too close a neighbour: three times that expected by chance.

Measured: 0.04 of the 100 sports (42 classes), 0.03 of cats and dogs, 0.02 of malaria cells, whose
patients no feature shows, and 0.24 of the frames of traffic signs. A class of two densities, such
as drawings among photographs, can reach 0.11.
"""

QUERIES = 2000  # images whose neighbours are looked up: the share is then within 2 points
LEAST_QUERIES = 100

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def hint_from_features(
    features: Table, labels: Integers, paths: Sequence[str], splits: Sequence[str], seed: int = 0
) -> GroupHint | None:
    """Suggest groups where many images have a neighbour far closer than independent ones would.

    Args:
        features: standardised, float32 of shape (n, d); of copies of an image, only one.
        labels: class of each image, shape (n,).
        paths: of the images, n.
        splits: the split of each image, n. Nothing is suggested if close neighbours are in the same
            split much more often than in a random split.
        seed: of the sample of images whose neighbours are looked up.

    Returns:
        A hint of kind `features`, whose `groups` is an order of magnitude; None: nothing stands
        out.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> scenes = rng.normal(size=(60, 16)).repeat(10, axis=0)
        >>> frames = (scenes + 0.3 * rng.normal(size=scenes.shape)).astype(np.float32)
        >>> names = [f"{n}.jpg" for n in range(600)]
        >>> found = hint_from_features(frames, np.zeros(600, dtype=np.int64), names, ["all"] * 600)
        >>> found.kind, 30 < found.groups < 120
        ('features', True)
    """
    asked = np.sort(np.random.default_rng(seed).permutation(len(features))[:QUERIES])
    classes = _neighbours_by_class(features, labels, asked)
    strongest: tuple[float, GroupHint] | None = None
    for reach in REACHES:
        parts = [_close(one, reach) for one in classes if one.apart.shape[1] >= reach]
        if not parts:
            continue
        query, nearest, sizes, chance = (
            np.concatenate(column) for column in zip(*parts, strict=True)
        )
        close = chance < CHANCE
        share = float(close.mean())
        if len(query) < LEAST_QUERIES or share < LEAST_SHARE or not _surely(close):
            continue
        if not _torn(np.asarray(splits, dtype=object), query[close], nearest[close]):
            continue
        size = float(np.median(sizes[close]))
        first = int(np.flatnonzero(close)[chance[close].argmin()])
        examples = (paths[query[first]], paths[nearest[first]])
        groups = int(float(f"{len(features) / size:.1g}"))  # no more is known
        images = round(share * len(features))
        hint = GroupHint("features", DUPLICATES, groups, images, examples)
        if strongest is None or share > strongest[0]:
            strongest = share, hint
    return None if strongest is None else strongest[1]


@dataclass(frozen=True)
class _Neighbours:
    """Of the images of a class that are asked about: the neighbours in their class.

    `query`: the images, (q,); `nearest`: of each, (q,); `apart`: distances of the nearest ones,
    ascending, (q, K).
    """

    query: Integers
    nearest: Integers
    apart: Floats


def _neighbours_by_class(features: Table, labels: Integers, asked: Integers) -> list[_Neighbours]:
    """For each class with enough images, as many neighbours as any reach looks at."""
    found = []
    for label in np.unique(labels[asked]):
        own = np.flatnonzero(labels == label)
        # the farther half of the neighbours must not be the whole class
        most = max((reach for reach in REACHES if 2 * reach <= len(own)), default=0)
        if most:
            found.append(_neighbours(features, asked[labels[asked] == label], own, most))
    return found


def _neighbours(features: Table, query: Integers, own: Integers, most: int) -> _Neighbours:
    """The nearest image of each, and the distances of its `most` nearest."""
    a = features[query]
    lengths = np.square(a).sum(axis=1)[:, None]
    least = np.full((len(query), most), np.inf, dtype=np.float32)
    nearest = np.zeros(len(query), dtype=np.int64)
    for place, b in in_parts(Chosen(features, own)):
        squares = lengths + np.square(b).sum(axis=1) - 2 * a @ b.T
        squares[own[place][None, :] == query[:, None]] = np.inf
        at = squares.argmin(axis=1)
        closer = squares[np.arange(len(query)), at] < least[:, 0]
        nearest[closer] = own[place][at[closer]]
        both = np.concatenate([least, squares], axis=1)
        least = np.sort(np.partition(both, most - 1, axis=1)[:, :most], axis=1)
    return _Neighbours(query, nearest, np.sqrt(np.maximum(least, 1e-6).astype(np.float64)))


def _close(found: _Neighbours, reach: int) -> tuple[Integers, Integers, Integers, Floats]:
    """The images asked about, their nearest, group sizes, and chances of d_1."""
    apart = found.apart[:, :reach]
    ranks = np.arange(1, reach)
    # of mean 1 / m if the images are independent
    steps = ranks * np.diff(np.log(apart), axis=1)
    dimension = 1 / max(float(steps[:, reach // 2 :].mean()), 1e-9)
    ratio = (apart[:, 0] / apart[:, -1]) ** dimension
    chance = 1 - (1 - ratio) ** (reach - 1)
    sizes = steps[:, : reach // 2].argmax(axis=1) + 2  # the widest gap ends the group
    return found.query, found.nearest, sizes.astype(np.int64), chance


def _surely(close: npt.NDArray[np.bool_]) -> bool:
    """Whether more are too close than by chance, at 1 %."""
    from scipy.stats import binomtest

    tested = binomtest(int(close.sum()), len(close), CHANCE, alternative="greater")
    return bool(tested.pvalue < 0.01)


def _torn(splits: npt.NDArray[np.object_], first: Integers, second: Integers) -> bool:
    """Whether neighbours are in different splits at least half as often as at random."""
    if len(set(splits)) < 2:
        return True
    sizes = np.unique(splits, return_counts=True)[1] / len(splits)
    across = float((splits[first] != splits[second]).mean())
    return across >= (1 - float(np.square(sizes).sum())) / 2

"""Which images may be near-duplicates, where there are too many to compare all of them.

Each image is described by the low frequencies that its perceptual hash takes the signs of, as
numbers: two images whose hashes differ in few bits point in similar directions. The directions
are sorted into cells by k-means, and each image is compared with those of the cells nearest to it:
some thousands, however many images there are.

Close pairs that lie in cells far from each other are missed: docs/scale.md has the share that is
found of a set of photographs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when they are first used

from podium.auditing.similarity import greys
from podium.runtime.large_array import Table

CELL = 500  # images of a cell, on average
MOST_CELLS = 4096  # beyond two million images, cells grow instead
PROBES = 16  # cells that an image is compared with
SAMPLE = 40  # images per cell that the cells are made from
LEAST_COSINE = 0.6  # of two directions; hashes 14 bits apart are at about 0.77
NEAREST = 16  # others that are kept of each image and cell, of a set with many alike
PART = 2**22  # numbers that are compared at a time

Halves = npt.NDArray[np.float16]
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

SIDE = 8
MIRROR = np.tile([1, -1], SIDE * SIDE // 2).astype(np.float16)[1:]
"""What mirroring does to each frequency: those of odd columns change their sign."""


def directions(thumbs: Table) -> Halves:
    """Describe each image by its low frequencies, each scaled to unit variance over the set.

    Args:
        thumbs: uint8, (n, THUMB, THUMB, 3).

    Returns:
        float16, (n, 63), of length 1. Times `MIRROR`, those of the mirror images.
    """
    found = np.empty((len(thumbs), SIDE * SIDE - 1), dtype=np.float16)
    squares = np.zeros(found.shape[1])
    for start in range(0, len(thumbs), 2048):
        grey = greys(thumbs[start : start + 2048]) / np.float32(255)
        low = scipy.fft.dctn(grey, axes=(1, 2), norm="ortho")[:, :SIDE, :SIDE]
        found[start : start + 2048] = low.reshape(len(grey), -1)[:, 1:]  # without the mean
        squares += np.square(found[start : start + 2048].astype(np.float64)).sum(axis=0)
    scale = np.sqrt(squares / max(1, len(thumbs))).clip(1e-6).astype(np.float32)
    for start in range(0, len(thumbs), 2048):
        part = found[start : start + 2048].astype(np.float32) / scale
        lengths = np.linalg.norm(part, axis=1, keepdims=True).clip(1e-6)
        found[start : start + 2048] = part / lengths
    return found


def likely_pairs(
    vectors: Halves,
    *,
    mirrored: bool = False,
    asked: npt.NDArray[np.bool_] | None = None,
    among: npt.NDArray[np.bool_] | None = None,
    close: Callable[[Integers, Integers], npt.NDArray[np.bool_]] | None = None,
    seed: int = 0,
) -> Integers:
    """Find pairs of images that point in similar directions.

    Args:
        vectors: from `directions`, (n, d).
        mirrored: compare the mirror images of those asked about with the others.
        asked: images to find others for; bool, (n,). None: all.
        among: images that are found; bool, (n,). None: all.
        close: tells which of some pairs, i and j of shape (m,) each, are kept; asked early, since
            all pairs may not fit into memory. None: all.
        seed: of the cells.

    Returns:
        int64, (pairs, 2): i < j, each pair once.
    """
    n = len(vectors)
    rows = np.arange(n) if asked is None else np.flatnonzero(asked)
    base = np.arange(n) if among is None else np.flatnonzero(among)
    if not len(rows) or not len(base):
        return np.zeros((0, 2), dtype=np.int64)
    centres = _centres(vectors, base, seed)
    cells = np.concatenate([cell[:, 0] for _, cell in _nearest_cells(vectors[base], centres, 1)])
    order = np.argsort(cells, kind="stable")
    bounds = np.searchsorted(cells[order], np.arange(len(centres) + 1))
    members = base[order]
    turn = MIRROR if mirrored else np.float16(1)
    keys = [np.zeros(0, dtype=np.int64)]
    for start in range(0, len(rows), PART // 16):
        some = rows[start : start + PART // 16]
        wanted = vectors[some] * turn
        probed = np.concatenate([cell for _, cell in _nearest_cells(wanted, centres, PROBES)])
        who = np.repeat(np.arange(len(some)), probed.shape[1])
        by_cell = np.argsort(probed.ravel(), kind="stable")
        ends = np.searchsorted(probed.ravel()[by_cell], np.arange(len(centres) + 1))
        for cell in range(len(centres)):
            theirs = members[bounds[cell] : bounds[cell + 1]]
            mine = who[by_cell[ends[cell] : ends[cell + 1]]]
            if not len(theirs) or not len(mine):
                continue
            for query, at in _similar(wanted[mine], vectors[theirs]):
                first, second = some[mine[query]], theirs[at]
                low, high = np.minimum(first, second), np.maximum(first, second)
                once = low < high
                low, high = low[once], high[once]
                if close is not None:
                    kept = close(low, high)
                    low, high = low[kept], high[kept]
                keys.append(np.unique(low * n + high))
    found = np.unique(np.concatenate(keys))
    return np.stack([found // n, found % n], axis=1)


def _centres(vectors: Halves, base: Integers, seed: int) -> Floats:
    """Centres of the cells of the images that are searched, (cells, d)."""
    from sklearn.cluster import MiniBatchKMeans

    count = min(MOST_CELLS, max(1, len(base) // CELL))
    random = np.random.default_rng(seed)
    sample = random.choice(base, min(len(base), SAMPLE * count), replace=False)
    clusters = MiniBatchKMeans(
        count, n_init=1, batch_size=4096, max_iter=20, random_state=seed, reassignment_ratio=0
    )
    clusters.fit(vectors[sample].astype(np.float32))
    return np.asarray(clusters.cluster_centers_, dtype=np.float32)


def _nearest_cells(vectors: Halves, centres: Floats, count: int) -> Iterator[tuple[int, Integers]]:
    """The `count` nearest cells of each image, the nearest first if it is one; in parts."""
    count = min(count, len(centres))
    offset = 0.5 * np.square(centres).sum(axis=1)
    step = max(1, PART // len(centres))
    for start in range(0, len(vectors), step):
        apart = offset - vectors[start : start + step].astype(np.float32) @ centres.T
        if count < len(centres):
            nearest = np.argpartition(apart, count - 1, axis=1)[:, :count]
        else:
            nearest = np.tile(np.arange(count), (len(apart), 1))
        yield start, nearest.astype(np.int64)


def _similar(queries: Halves, others: Halves) -> Iterator[tuple[Integers, Integers]]:
    """Places of similar pairs, of each query at most about `NEAREST`; in parts."""
    base = others.astype(np.float32).T
    step = max(1, PART // base.shape[1])
    for start in range(0, len(queries), step):
        alike = queries[start : start + step].astype(np.float32) @ base
        close = alike >= LEAST_COSINE
        crowded = np.flatnonzero(close.sum(axis=1) > NEAREST + 1)  # an image is like itself
        if len(crowded):
            bar = np.partition(alike[crowded], -NEAREST - 1, axis=1)[:, -NEAREST - 1]
            close[crowded] = alike[crowded] >= bar[:, None]
        query, at = np.nonzero(close)
        yield query + start, at

"""Images that occur twice: the same file, the same pixels, or nearly the same image.

Near-duplicates are found in two steps. A 64-bit perceptual hash of each image and of its mirror
image (pHash: Zauner, 2010, "Implementation and benchmarking of perceptual image hash functions";
the bits are those of the `imagehash` package) yields candidates: pairs that differ in few bits.
Then each candidate is checked on small colour thumbnails, cropped against each other.

docs/results.md ("How well the audit's checks work") has the measured recall per kind of change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when they are first used

from podium.auditing.evidence import Evidence
from podium.auditing.neighbours import directions, likely_pairs
from podium.auditing.similarity import greys, is_blank, similarity
from podium.runtime.events import AuditProgress, Notify, silent
from podium.runtime.large_array import Table

MAX_DISTANCE = 14
"""Maximum Hamming distance between the 64-bit hashes of two candidates."""

MIN_SIMILARITY = 0.9
"""Minimum similarity of two near-duplicates."""

EXACT_UP_TO = 200_000
"""Images up to which the hashes of all pairs are compared; with more, those of neighbours."""

ALL_PAIRS = 30  # a larger group of identical files is reported as pairs with its first image only

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Halves = npt.NDArray[np.float16]
Floats = npt.NDArray[np.float32]


def perceptual_hashes(thumbs: Table) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Compute the pHash of each thumbnail and of its mirror image.

    Args:
        thumbs: uint8, (n, THUMB, THUMB, 3).

    Returns:
        Two uint64 arrays of shape (n,): the hashes, and those of the mirror images.
    """
    hashes, mirrored = np.zeros((2, len(thumbs)), dtype=np.uint64)
    for start in range(0, len(thumbs), 2048):
        grey = greys(thumbs[start : start + 2048])
        hashes[start : start + 2048] = _phash(grey)
        mirrored[start : start + 2048] = _phash(grey[:, :, ::-1])
    return hashes, mirrored


def _phash(grey: Floats) -> npt.NDArray[np.uint64]:
    """Pack which of the 8 x 8 lowest frequencies are above their median into one number."""
    low = scipy.fft.dctn(grey, axes=(1, 2))[:, :8, :8].reshape(-1, 64)
    bits = np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)
    return bits.view(">u8")[:, 0].astype(np.uint64)


def close_pairs(
    hashes: npt.NDArray[np.uint64], others: npt.NDArray[np.uint64], most: int
) -> npt.NDArray[np.int64]:
    """Find all i < j for which hashes[i] and others[j] differ in at most `most` bits.

    The search is exhaustive, in blocks of a few MB: n^2/2 XORs. 14,492 images take 0.4 s, 200,000
    just over a minute; a million would take half an hour, so they are searched by
    `podium.auditing.neighbours`.

    Args:
        hashes: uint64, (n,).
        others: uint64, (n,): the same hashes, or those of the mirror images.
        most: maximum Hamming distance, in bits.

    Returns:
        int64, (pairs, 3): i, j, bits.
    """
    found = []
    rows = max(1, 2**22 // max(1, len(hashes)))
    for start in range(0, len(hashes), rows):
        bits = np.bitwise_count(hashes[start : start + rows, None] ^ others[None, start:])
        i, j = np.nonzero(bits <= most)
        i, j, bits = i[j > i], j[j > i], bits[i[j > i], j[j > i]]
        found.append(np.stack([i + start, j + start, bits.astype(np.int64)], axis=1))
    return np.concatenate(found) if found else np.zeros((0, 3), dtype=np.int64)


def near_pairs(
    thumbs: Table,
    labels: Sequence[str] | None = None,
    notify: Notify = silent,
    *,
    exact_up_to: int = EXACT_UP_TO,
    between: tuple[Mask, Mask] | None = None,
) -> tuple[list[tuple[str, int, int, int, float]], int]:
    """Find the near-duplicates among images of which no two have the same pixels.

    Args:
        thumbs: uint8, (n, THUMB, THUMB, 3).
        labels: the class of each image; None: all belong to one class.
        notify: receives the progress: number of candidates compared.
        exact_up_to: number of images up to which all pairs are looked at.
        between: with more images, only pairs of one of the first and one of the second; bool,
            (n,) each. None: all pairs.

    Returns:
        `(pairs, look_alikes)`: (`near` or `mirrored`, i, j, bits of 64, similarity up to 1) with
        i < j, each pair once; and the number of other pairs that are as similar, but no more than
        unrelated images of this set can be (see `podium.auditing.evidence`).
    """
    kinds = np.unique(labels or [""] * len(thumbs), return_inverse=True)[1].astype(np.int64)
    vectors = None if len(thumbs) <= exact_up_to else directions(thumbs)
    found = [_alike(thumbs, vectors, between, mirrored, notify) for mirrored in (False, True)]
    if not sum(map(len, found)):
        return [], 0
    evidence = Evidence(thumbs, kinds)
    weights = [
        evidence.correlation(pairs[:, 0].astype(int), pairs[:, 1].astype(int), mirrored=mirrored)
        for mirrored, pairs in zip((False, True), found, strict=True)
    ]
    sure = evidence.sure(np.concatenate(weights))
    best: dict[tuple[int, int], tuple[str, int, int, int, float]] = {}
    look_alikes: set[tuple[int, int]] = set()
    kind = ["near"] * len(found[0]) + ["mirrored"] * len(found[1])
    for name, (i, j, bits, alike), counts in zip(kind, np.concatenate(found), sure, strict=True):
        pair = int(i), int(j)
        if not counts:
            look_alikes.add(pair)
        # a symmetric image also resembles its mirror image
        elif pair not in best or best[pair][4] < alike:
            best[pair] = (name, *pair, int(bits), float(alike))
    return [best[key] for key in sorted(best)], len(look_alikes - best.keys())


def _alike(
    thumbs: Table,
    vectors: Halves | None,
    between: tuple[Mask, Mask] | None,
    mirrored: bool,
    notify: Notify,
) -> npt.NDArray[np.float64]:
    """Find pairs of close hashes that are similar enough: rows of i, j, bits, similarity."""
    hashes, turned = perceptual_hashes(thumbs)
    others = turned if mirrored else hashes
    if vectors is None:
        pairs = close_pairs(hashes, others, MAX_DISTANCE)
    else:
        asked, among = between or (None, None)
        i, j = likely_pairs(
            vectors,
            mirrored=mirrored,
            asked=asked,
            among=among,
            close=lambda i, j: np.bitwise_count(hashes[i] ^ others[j]) <= MAX_DISTANCE,
        ).T
        bits = np.bitwise_count(hashes[i] ^ others[j]).astype(np.int64)
        pairs = np.stack([i, j, bits], axis=1)
    informative = ~is_blank(thumbs)
    pairs = pairs[informative[pairs[:, 0]] & informative[pairs[:, 1]]]
    found = [np.zeros((0, 4))]
    for start in range(0, len(pairs), 2048):
        part = pairs[start : start + 2048]
        first, second = thumbs[part[:, 0]], thumbs[part[:, 1]]
        alike = similarity(first, second[:, :, ::-1] if mirrored else second)
        close = alike >= MIN_SIMILARITY
        found.append(np.column_stack([part[close], alike[close]]))
        done = min(start + 2048, len(pairs)) + mirrored * len(pairs)
        notify(AuditProgress("pairs", done, 2 * len(pairs)))
    return np.concatenate(found)


def same_pairs(digests: Sequence[str]) -> list[tuple[int, int]]:
    """Find pairs i < j of equal digests; in large groups, only those with the first member."""
    first: dict[str, int] = {}
    groups: dict[int, list[int]] = {}  # only of those that occur again, which are few
    for place, digest in enumerate(digests):
        at = first.setdefault(digest, place)
        if at != place:
            groups.setdefault(at, [at]).append(place)
    pairs: list[tuple[int, int]] = []
    for group in groups.values():
        if len(group) <= ALL_PAIRS:
            pairs += combinations(group, 2)
        else:
            pairs += [(group[0], other) for other in group[1:]]
    return sorted(pairs)


def components(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Group items that are linked by pairs, directly or through others; largest group first.

    Args:
        count: number of items.
        pairs: the links, as indices below `count`.
    """
    if not pairs:
        return []
    i, j = np.asarray(pairs, dtype=np.int64).T
    links = scipy.sparse.coo_array((np.ones(len(i), dtype=np.int8), (i, j)), shape=(count, count))
    _, names = scipy.sparse.csgraph.connected_components(links, directed=False)
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for place in sorted(set(i.tolist()) | set(j.tolist())):
        groups[int(names[place])].append(place)
    return sorted(groups.values(), key=lambda group: (-len(group), group))

"""Pictures that occur twice: the same file, the same pixels, or nearly the same picture.

Near-duplicates are found in two steps. A 64-bit perceptual hash of each picture and of its mirror
image (pHash: Zauner, 2010, "Implementation and benchmarking of perceptual image hash functions";
the bits are those of the `imagehash` package) names candidates: pairs that differ in few bits.
Then each candidate is checked on small colour thumbnails, cropped against each other.

Share of 1,000 photographs of the 100-sports set (224 x 224) that are found again after a change:

    JPEG of quality 50, 60 % of the size, brightness or contrast +-15 %, grey, mirrored    1.000
    5 % cropped (half from each side)                                                      0.998
    a translucent watermark over 4 % of the picture                                        0.997
    a band of 6 % above and below                                                          0.968
    a white bar over 3 % of the picture                                                    0.943
    10 % cropped (half from each side)                                                     0.932
    5 % cropped from the left and the top alone                                            0.916
    a white frame of 4 % on all sides                                                      0.794

On all of the set, 14 bits make some 9,400 candidates of 14,492 pictures, and the check keeps 100.
Looked at side by side, 99 of them show one picture or another moment of one scene, and one shows
two pictures of one layout (similarity 0.935). Right below the threshold, look-alikes (racing cars
in two liveries, 0.89) become frequent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when they are first used

from podium.auditing.evidence import Evidence
from podium.auditing.similarity import greys, is_blank, similarity

MAX_DISTANCE = 14
"""Most bits of 64 in which the hashes of two candidates differ."""

MIN_SIMILARITY = 0.9
"""Least similarity of two near-duplicates."""

ALL_PAIRS = 30  # a larger group of the same file is told as pairs with its first picture only

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def perceptual_hashes(thumbs: Bytes) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """The pHash of each thumbnail and of its mirror image: two uint64 arrays of shape (n,)."""
    hashes, mirrored = np.zeros((2, len(thumbs)), dtype=np.uint64)
    for start in range(0, len(thumbs), 2048):
        grey = greys(thumbs[start : start + 2048])
        hashes[start : start + 2048] = _phash(grey)
        mirrored[start : start + 2048] = _phash(grey[:, :, ::-1])
    return hashes, mirrored


def _phash(grey: Floats) -> npt.NDArray[np.uint64]:
    """Which of the 8 x 8 lowest frequencies are above their median, as bits of one number."""
    low = scipy.fft.dctn(grey, axes=(1, 2))[:, :8, :8].reshape(-1, 64)
    bits = np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)
    return bits.view(">u8")[:, 0].astype(np.uint64)


def close_pairs(
    hashes: npt.NDArray[np.uint64], others: npt.NDArray[np.uint64], most: int
) -> npt.NDArray[np.int64]:
    """All i < j for which hashes[i] and others[j] differ in at most `most` bits; none is missed.

    Every pair is compared, in blocks of a few MB: n^2/2 XORs. 14,492 pictures take 0.4 s, 200,000
    a good minute; for a million (half an hour) an index of the hashes would pay.

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
    thumbs: Bytes,
    labels: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[tuple[str, int, int, int, float]], int]:
    """The near-duplicates among pictures of which no two have the same pixels.

    Args:
        thumbs: uint8, (n, THUMB, THUMB, 3).
        labels: the class of each; None: all are of one kind.
        progress: called with (candidates compared, candidates in all).

    Returns:
        `(pairs, look_alikes)`: (`near` or `mirrored`, i, j, bits of 64, similarity up to 1) with
        i < j, each pair once; and how many other pairs are as similar, but no more so than
        unrelated pictures of this set can be (see `podium.auditing.evidence`).
    """
    kinds = np.unique(labels or [""] * len(thumbs), return_inverse=True)[1].astype(np.int64)
    found = [_alike(thumbs, mirrored, progress) for mirrored in (False, True)]
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
        # a symmetric picture resembles its mirror image, too
        elif pair not in best or best[pair][4] < alike:
            best[pair] = (name, *pair, int(bits), float(alike))
    return [best[key] for key in sorted(best)], len(look_alikes - best.keys())


def _alike(
    thumbs: Bytes, mirrored: bool, progress: Callable[[int, int], None] | None
) -> npt.NDArray[np.float64]:
    """Pairs of near hashes that are similar enough: rows of i, j, bits, similarity."""
    hashes, turned = perceptual_hashes(thumbs)
    pairs = close_pairs(hashes, turned if mirrored else hashes, MAX_DISTANCE)
    informative = ~is_blank(thumbs)
    pairs = pairs[informative[pairs[:, 0]] & informative[pairs[:, 1]]]
    found = [np.zeros((0, 4))]
    for start in range(0, len(pairs), 2048):
        part = pairs[start : start + 2048]
        first, second = thumbs[part[:, 0]], thumbs[part[:, 1]]
        alike = similarity(first, second[:, :, ::-1] if mirrored else second)
        close = alike >= MIN_SIMILARITY
        found.append(np.column_stack([part[close], alike[close]]))
        if progress is not None:
            done = min(start + 2048, len(pairs)) + mirrored * len(pairs)
            progress(done, 2 * len(pairs))
    return np.concatenate(found)


def same_pairs(digests: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs i < j of equal digests; of large groups, those with the first alone."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, digest in enumerate(digests):
        places[digest].append(place)
    pairs: list[tuple[int, int]] = []
    for group in places.values():
        if len(group) <= ALL_PAIRS:
            pairs += combinations(group, 2)
        else:
            pairs += [(group[0], other) for other in group[1:]]
    return sorted(pairs)


def components(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Groups of what is linked by pairs, directly or through others; largest first."""
    if not pairs:
        return []
    i, j = np.asarray(pairs, dtype=np.int64).T
    links = scipy.sparse.coo_array((np.ones(len(i), dtype=np.int8), (i, j)), shape=(count, count))
    _, names = scipy.sparse.csgraph.connected_components(links, directed=False)
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for place in sorted(set(i.tolist()) | set(j.tolist())):
        groups[int(names[place])].append(place)
    return sorted(groups.values(), key=lambda group: (-len(group), group))

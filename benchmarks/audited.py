"""An audit of images that do not exist: their thumbnails and features are drawn.

So what is measured is the search for duplicates and groups, and the check of labels, without the
decoding of images and without the network. One image in a hundred is a near-duplicate of another,
one label in a hundred is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from benchmarks import entries
from benchmarks.common import BenchmarkError

FEATURES = 3072  # as many as the audit's network has
SPREAD = 0.1  # of the classes' centres; that of the images in a class is 1
SHARE = 0.01  # of near-duplicates, and of wrong labels
TOGETHER = 2048

Bytes = npt.NDArray[np.uint8]


def audit(count: int, place: Path) -> Callable[[], object]:
    """Audit the pack of `count` drawn entries that `entries.draw` wrote into `place`.

    Args:
        count: number of images.
        place: also takes the audit, so that it is made, not found.
    """
    from podium.auditing import labels, run

    index: Any = entries.opening(count, place)()
    random = np.random.default_rng(1)
    looks, twins = _looks(index, random)
    features = _features(index, random)

    def work() -> object:
        with (
            mock.patch.object(run, "inspect_all", return_value=looks),
            mock.patch.object(labels, "image_features", return_value=features),
        ):
            found = run.audit_images(index, cache_folder=place / "audit")
        near = {(pair.first, pair.second) for pair in found.pairs}
        shown = len(near & twins) / len(twins)
        issues = 0 if found.labels is None else len(found.labels.issues)
        print(json.dumps({"seconds": dict(found.seconds), "twins": shown, "issues": issues}))
        if shown < 0.5 or not issues:
            raise BenchmarkError(f"found {shown:.0%} of the near-duplicates, {issues} wrong labels")
        return found

    return work


def _looks(index: Any, random: np.random.Generator) -> tuple[Any, set[tuple[str, str]]]:
    """What the audit sees of each image; and the pairs of near-duplicates."""
    from podium.auditing.files import PictureFacts
    from podium.auditing.similarity import THUMB
    from podium.runtime.large_array import LargeArray

    splits = index.splits.items()
    paths = tuple(path for _, split in splits for path in split.paths)
    count = len(paths)
    thumbs = LargeArray(count, (THUMB, THUMB, 3), np.uint8)
    for first in range(0, count, TOGETHER):
        thumbs[first : first + TOGETHER] = _drawn(random, min(TOGETHER, count - first))
    chosen = random.permutation(count)[: 2 * int(SHARE * count)].reshape(2, -1)
    for one, other in chosen.T:
        noise = random.normal(0, 2, (1, THUMB, THUMB, 3))
        values = thumbs[one : one + 1] + noise
        thumbs[int(other) : int(other) + 1] = values.clip(0, 255).round().astype(np.uint8)
    looks = PictureFacts(
        paths=paths,
        splits=tuple(name for name, split in splits for _ in range(len(split))),
        labels=tuple(index.classes[label] for _, split in splits for label in split.labels),
        sizes=np.full((count, 2), 500, dtype=np.int64),
        pixels=tuple(random.bytes(32).hex() for _ in range(count)),
        thumbs=thumbs,
    )
    return looks, {(paths[min(pair)], paths[max(pair)]) for pair in chosen.T.tolist()}


def _drawn(random: np.random.Generator, count: int) -> Bytes:
    """Smooth pictures with some detail, (count, 32, 32, 3)."""
    import scipy

    found = np.full((count, 32, 32, 3), 128.0, dtype=np.float32)
    for side, height in ((4, 30), (8, 25), (16, 15), (32, 8)):
        shape = (count, side, side, 3)
        coarse = random.standard_normal(shape, dtype=np.float32).repeat(32 // side, axis=1)
        found += height * coarse.repeat(32 // side, axis=2)
    smooth = scipy.ndimage.uniform_filter(found, (0, 3, 3, 0), mode="nearest")
    return np.asarray(smooth.clip(0, 255), dtype=np.uint8)


def _features(index: Any, random: np.random.Generator) -> Any:
    """Features around a centre of each class, a hundredth of them around another's."""
    from podium.features.scaling import standardised
    from podium.runtime.large_array import LargeArray

    labels = np.concatenate([split.labels for split in index.splits.values()])
    classes = len(index.classes)
    found = LargeArray(len(labels), (FEATURES,), np.float32, kept_as=np.float16)
    centres = SPREAD * random.standard_normal((classes, FEATURES), dtype=np.float32)
    wrong = random.random(len(labels)) < SHARE
    shown = np.where(wrong, (labels + random.integers(1, classes, len(labels))) % classes, labels)
    for first in range(0, len(labels), TOGETHER):
        own = centres[shown[first : first + TOGETHER]]
        found[first : first + len(own)] = own + random.standard_normal(own.shape, dtype=np.float32)
    return standardised(found)

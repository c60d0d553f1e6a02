"""Which images a report shows, chosen from a study's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from podium.auditing.record import Audit, DuplicatePair
from podium.data.folder import FolderSource
from podium.data.grey import GreyWindows
from podium.data.images import decode_rgb, thumbnail_jpeg
from podium.data.source import Reader
from podium.errors import UnreadableImageError
from podium.runs.predictions import Predictions
from podium.statistics.likeliest import TopClasses

MOST_PAIRS = 60  # shown on the page; the table lists all


MOST_SUSPECTS = 40


LEAST_WITHIN = 12  # pairs within a split that are shown, however many there are across splits


SIDE = 240  # pixels of a thumbnail: sharp at half the width of a card


def audit_thumbnails(audit: Audit, images: Path | Reader) -> dict[str, bytes]:
    """Small JPEGs of the images that the page shows, by path; images that are gone are left out.

    Args:
        audit: the audit.
        images: the audited folder, or a reader of the audited images.
    """
    reader = Reader(FolderSource(images)) if isinstance(images, Path) else images
    paths = [path for pair in _shown_pairs(audit) for path in (pair.first, pair.second)]
    if audit.labels is not None:
        paths += [one.path for one in audit.labels.issues[:MOST_SUSPECTS]]
    windows = GreyWindows.from_json(audit.settings.get("grey_windows"))
    found: dict[str, bytes] = {}
    for path in dict.fromkeys(paths):
        if Path(path).is_absolute() or ".." in Path(path).parts:
            continue  # a hand-written audit must not reach files outside the folder
        try:
            picture = decode_rgb(reader.read(path), path, windows=windows)
            found[path] = thumbnail_jpeg(picture, SIDE)
        except UnreadableImageError:
            continue
    return found


def _shown_pairs(audit: Audit) -> list[DuplicatePair]:
    across = [pair for pair in audit.pairs if pair.across]
    within = [pair for pair in audit.pairs if not pair.across]
    room = max(MOST_PAIRS - len(across), LEAST_WITHIN)
    return across[: MOST_PAIRS - min(LEAST_WITHIN, len(within))] + within[:room]


COLUMNS = 4


ROWS = 3


GALLERY_SEED = 20231201  # fixed, so all contenders and all reports show the same images


@dataclass(frozen=True)
class Picture:
    """A test image with its prediction."""

    path: str
    jpeg: bytes
    true: str
    predicted: str
    probability: float  # calibrated, of the predicted class

    @property
    def right(self) -> bool:
        return self.true == self.predicted


def random_pictures(
    predictions: Predictions, thumbnails: Mapping[str, bytes], said: TopClasses
) -> list[Picture]:
    """Twelve random test images, or all where there are fewer.

    The choice depends only on the paths, so it is the same for every contender.

    Args:
        predictions: of one run on the test images.
        thumbnails: JPEGs by path; images without one are skipped.
        said: the run's likeliest classes, with calibrated probabilities.
    """
    stored = sorted(
        (path, number) for number, path in enumerate(predictions.paths) if path in thumbnails
    )
    order = np.random.default_rng(GALLERY_SEED).permutation(len(stored))[: COLUMNS * ROWS]
    return _pictures(predictions, thumbnails, [stored[place][1] for place in order], said)


def confident_mistakes(
    predictions: Predictions, thumbnails: Mapping[str, bytes], said: TopClasses
) -> list[Picture]:
    """The twelve wrong predictions with the highest probability, or all where there are fewer.

    Args:
        predictions: of one run on the test images.
        thumbnails: JPEGs by path; images without one are skipped.
        said: the run's likeliest classes, with calibrated probabilities.
    """
    wrong = [
        number
        for number in np.flatnonzero(predictions.predicted != predictions.labels).tolist()
        if predictions.paths[number] in thumbnails
    ]
    certainty = said.share[:, 0]
    wrong.sort(key=lambda number: (-certainty[number], predictions.paths[number]))
    return _pictures(predictions, thumbnails, wrong[: COLUMNS * ROWS], said)


def _pictures(
    predictions: Predictions,
    thumbnails: Mapping[str, bytes],
    numbers: Sequence[int],
    said: TopClasses,
) -> list[Picture]:
    names = predictions.class_names
    return [
        Picture(
            path=predictions.paths[number],
            jpeg=thumbnails[predictions.paths[number]],
            true=names[predictions.labels[number]],
            predicted=names[said.top[number, 0]],
            probability=float(said.share[number, 0]),
        )
        for number in numbers
    ]

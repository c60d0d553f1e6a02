"""A few example images: small copies of test images, or images of a folder."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from podium.data.grey import OWN_WINDOWS, GreyWindows
from podium.data.images import load_rgb, thumbnail_jpeg
from podium.data.walk import walk_images
from podium.deploy.serve.models import Served
from podium.errors import DataError, RunFolderError, UnreadableImageError
from podium.runs.folder import StudyFolder

One = TypeVar("One")

MANY = 12
_SIDE = 800  # longer side in pixels, for images of a folder
_LOOKED_AT = 20_000  # most files of a folder that are considered


@dataclass(frozen=True)
class Example:
    """An example image.

    Attributes:
        jpeg: its bytes.
        label: its true class; None: not known.
    """

    jpeg: bytes
    label: str | None = None


def study_examples(models: Sequence[Served], *, count: int = MANY, seed: int = 0) -> list[Example]:
    """Test images of the models' studies, as the small copies that the studies keep.

    Args:
        models: the server's models.
        count: most images.
        seed: seed of the random selection: one image per class before a second of any.

    Returns:
        The images; empty if no study of the models has small copies.
    """
    known: dict[str, list[tuple[str, StudyFolder]]] = {}
    seen: set[Path] = set()
    for one in models:
        if one.run is None:
            continue
        study = one.run.study
        test = one.run.predictions("test")
        if study.path in seen or not study.thumbnails.is_file() or not test.is_file():
            continue
        seen.add(study.path)
        try:
            found = one.run.read_predictions("test")
        except RunFolderError:
            continue
        for path, label in zip(found.paths, found.labels, strict=True):
            known.setdefault(found.class_names[label], []).append((path, study))
    kept = {study: StudyFolder(study).read_thumbnails() for study in seen}
    pool = {
        label: [
            (label, kept[study.path][path]) for path, study in pairs if path in kept[study.path]
        ]
        for label, pairs in known.items()
    }
    return [Example(jpeg, label) for label, jpeg in _spread(pool, count, seed)]


def folder_examples(
    root: Path,
    classes: Sequence[str],
    *,
    count: int = MANY,
    seed: int = 0,
    windows: GreyWindows = OWN_WINDOWS,
) -> list[Example]:
    """Images of a folder and its subfolders.

    Args:
        root: the folder.
        classes: an image in a folder of such a name is of that class; other classes are unknown.
        count: most images.
        seed: seed of the random selection: one image per class before a second of any.
        windows: grey-value windows of the model that will see them.

    Raises:
        DataError: it contains no image.
    """
    names = frozenset(classes)
    found: dict[str, list[tuple[str | None, Path]]] = {}
    looked = 0
    for at, files in walk_images(root, Counter()):
        label = at.name if at.name in names else None
        found.setdefault(label or "", []).extend((label, at / name) for name in sorted(files))
        looked += len(files)
        if looked >= _LOOKED_AT:
            break
    examples = []
    for label, path in _spread(found, 4 * count, seed):
        try:
            examples.append(
                Example(thumbnail_jpeg(load_rgb(path, windows=windows), _SIDE, 88), label)
            )
        except UnreadableImageError:
            continue
        if len(examples) == count:
            break
    if not examples:
        raise DataError(
            f"--examples {root}: expected a folder of images, found none that can be opened."
        )
    return examples


def _spread(groups: dict[str, list[One]], count: int, seed: int) -> list[One]:
    """At most `count` items, one of each group in turn."""
    chance = random.Random(seed)
    names = sorted(groups)
    chance.shuffle(names)
    for name in names:
        chance.shuffle(groups[name])
    chosen: list[One] = []
    turn = 0
    while len(chosen) < count and any(len(groups[name]) > turn for name in names):
        chosen += [groups[name][turn] for name in names if len(groups[name]) > turn]
        turn += 1
    return chosen[:count]

"""A handful of pictures to try: small copies of test images, or those of a folder."""

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
_SIDE = 800  # pixels of the longer side, for pictures of a folder
_LOOKED_AT = 20_000  # files of a folder


@dataclass(frozen=True)
class Example:
    """A picture to try.

    Attributes:
        jpeg: its bytes.
        label: its true class, where it is known.
    """

    jpeg: bytes
    label: str | None = None


def study_examples(models: Sequence[Served], *, count: int = MANY, seed: int = 0) -> list[Example]:
    """Test images of the studies that the models come from, as the studies keep them: small.

    Args:
        models: those of the server.
        count: at most.
        seed: which ones: one a class before a second of any, in an order drawn at random.

    Returns:
        None of them where no study of the models kept pictures.
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
    """Pictures of a folder and the folders in it.

    Args:
        root: the folder.
        classes: a picture in a folder of such a name is of this class; of others it is not known.
        count: at most.
        seed: as in `study_examples`.
        windows: of the model that will see them.

    Raises:
        DataError: there is no picture in it.
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
            f"--examples {root}: expected a folder with pictures, found none that open."
        )
    return examples


def _spread(groups: dict[str, list[One]], count: int, seed: int) -> list[One]:
    """At most `count`, one of each group in turn."""
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

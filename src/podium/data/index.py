"""A folder of pictures -> what there is to train, validate and test on, every file checked."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from podium.data.images import GREY_MODES, decode_rgb, decode_with_mode, read_image_file
from podium.data.layout import Found, find_images
from podium.data.verdicts import Verdict, VerdictCache
from podium.errors import ConfigError, DataError, UnreadableImageError
from podium.threads import in_order

__all__ = ["SPLITS", "DataIndex", "Split", "build_index"]

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one split: `paths` relative to the root, with '/'; `labels` int64 of shape (n,)."""

    name: str
    paths: tuple[str, ...]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, eq=False)
class DataIndex:
    """All that a study knows of its images.

    Attributes:
        root: the folder that paths are relative to.
        classes: those of train, in code-point order; labels are indices into it.
        splits: `train`, `valid` and `test`.
        skipped: reason -> files and folders that were passed over.
        unreadable: path and reason of each image that cannot be decoded and is left out.
        notices: what a user should know, a sentence each.
        fingerprint: SHA-256 over bytes and labels of all images, wherever they lie.
        statistics: spread of sizes, formats and modes.
        digests: SHA-256 of the bytes of each image of the splits, by path.
    """

    root: Path
    classes: tuple[str, ...]
    splits: dict[str, Split]
    skipped: dict[str, int]
    unreadable: tuple[tuple[str, str], ...]
    notices: tuple[str, ...]
    fingerprint: str
    statistics: dict[str, Any]
    digests: dict[str, str] = field(default_factory=dict)

    def class_counts(self, split: str) -> dict[str, int]:
        """Images of each class in a split."""
        counts = np.bincount(self.splits[split].labels, minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}

    def load(self, path: str) -> Image.Image:
        """The picture of one of the paths, as RGB, if it is the one that was checked.

        Raises:
            UnreadableImageError: it vanished, cannot be read any more, or has other bytes.
        """
        return load_checked(self.root / path, path, self.digests.get(path))

    def split_fingerprint(self, split: str) -> str:
        """SHA-256 over the bytes and labels of a split's images, wherever they lie."""
        part = self.splits[split]
        lines = sorted(
            f"{self.classes[label]}\0{self.digests[path]}\n"
            for path, label in zip(part.paths, part.labels, strict=True)
        )
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def summary(self) -> dict[str, Any]:
        """What `data.json` holds; plain values only."""
        return {
            "root": _shown(str(self.root)),
            "classes": list(self.classes),
            "splits": {name: self.class_counts(name) for name in self.splits},
            "totals": {name: len(split) for name, split in self.splits.items()},
            "skipped": self.skipped,
            "unreadable": [list(pair) for pair in self.unreadable],
            "notices": list(self.notices),
            "fingerprint": self.fingerprint,
            "test_fingerprint": self.split_fingerprint("test"),
            **self.statistics,
        }


def build_index(
    root: str | Path,
    *,
    split_seed: int = 0,
    valid_fraction: float = 0.1,
    test_fraction: float = 0.1,
    cache_folder: Path | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DataIndex:
    """Find the images of a folder, decode every one of them once, and settle the splits.

    Args:
        root: a folder with `train/`, `valid/` and `test/` (a folder a class in each), or with a
            folder a class and no splits; see `podium.data.layout`.
        split_seed: of the stratified split that is made where one is missing.
        valid_fraction: share of each class that is held out for validation then, above 0 and
            below 0.5; at least one image.
        test_fraction: the same for the test.
        cache_folder: where to remember which files were found in order; empty: Podium's cache.
        workers: threads that decode; empty: one a core.
        progress: called with (files checked, files to check).

    Raises:
        ConfigError: a fraction is out of range.
        DataError: the folder is missing, empty, of one class, or has no usable train split.
    """
    fractions = {"valid": valid_fraction, "test": test_fraction}
    for name, fraction in fractions.items():
        if not 0 < fraction < 0.5:
            raise ConfigError(f"{name}_fraction: expected more than 0, less than 0.5: {fraction}.")
    found = find_images(Path(root).expanduser())
    verdicts = _check(found, cache_folder, workers, progress)
    unreadable = tuple(
        (_shown(path), verdicts[path].error) for path in sorted(verdicts) if verdicts[path].error
    )
    notices = list(found.notices)
    if unreadable:
        notices.append(f"{_count(len(unreadable), 'file')} cannot be read and left out.")
    readable = _readable(found, verdicts)
    train = readable.get("train", {})
    lost = sorted(set(found.splits.get("train", {})) - set(train))
    if lost:
        theirs = {_shown(path) for label in lost for path in found.splits["train"][label]}
        why = [pair for pair in unreadable if pair[0] in theirs]
        raise DataError(
            f"No training image of {_names(lost)} can be read: "
            f"{'; '.join(f'{path} ({reason})' for path, reason in why[:3])}. "
            "Mend the files, or remove the class."
        )
    if len(train) < 2:
        raise DataError(
            f"Expected images of two or more classes in {found.root}, found "
            f"{_names(sorted(train)) if train else 'none'} alone. A classifier needs a folder of "
            "images for each class: train/CLASS/*.jpg or CLASS/*.jpg."
        )
    missing = [split for split in ("valid", "test") if not readable.get(split)]
    if missing:
        readable |= _hold_out(train, {name: fractions[name] for name in missing}, split_seed)
        shares = " and ".join(f"{100 * fractions[name]:g} % for {name}" for name in missing)
        notices.append(
            f"No images for {' and '.join(missing)} were found: held out {shares} of each class, "
            f"at random with seed {split_seed}."
        )
    classes = tuple(sorted(train))
    splits = {split: _split(split, readable[split], classes, notices) for split in SPLITS}
    notices += _leaks(splits, verdicts)
    kept = [verdicts[path] for split in splits.values() for path in split.paths]
    return DataIndex(
        root=found.root,
        classes=classes,
        splits=splits,
        skipped={_shown(kind): count for kind, count in sorted(found.skipped.items())},
        unreadable=unreadable,
        notices=tuple(map(_shown, notices)),
        fingerprint=_fingerprint(splits, classes, verdicts),
        statistics=_statistics(kept),
        digests={path: verdicts[path].digest for split in splits.values() for path in split.paths},
    )


def _check(
    found: Found,
    cache_folder: Path | None,
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Verdict]:
    """Decode every file that the cache does not know in its present state."""
    cache = VerdictCache(found.root, cache_folder)
    paths = sorted(
        path for classes in found.splits.values() for paths in classes.values() for path in paths
    )
    verdicts = {path: verdict for path in paths if (verdict := cache.get(path)) is not None}
    todo = [path for path in paths if path not in verdicts]

    def look(path: str) -> Verdict:
        return inspect_image(found.root / path, path)

    # Pillow decodes without the interpreter's lock, so threads use all cores
    try:
        with contextlib.closing(in_order(look, todo, threads=workers)) as results:
            for done, (path, verdict) in enumerate(zip(todo, results, strict=True), 1):
                verdicts[path] = verdict
                cache.put(path, verdict)
                if progress is not None and (done % 50 == 0 or done == len(todo)):
                    progress(done, len(todo))
    finally:  # when interrupted: at once, and without losing what was checked
        if todo:
            cache.save()
    return verdicts


def load_checked(file: Path, name: str, digest: str | None) -> Image.Image:
    """As `podium.data.images.load_rgb`, and refuse a file whose SHA-256 is not `digest`."""
    content = read_image_file(file, name)
    picture = decode_rgb(content, name)
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise UnreadableImageError(name, "it changed since it was checked")
    return picture


def inspect_image(path: Path, name: str) -> Verdict:
    """Decode one file: its hash, size and mode, or why it cannot be read."""
    if _shown(name) != name:
        return Verdict(error="the name is not valid UTF-8; rename the file or its folder")
    digest = ""
    try:
        content = read_image_file(path, name)
        digest = hashlib.sha256(content).hexdigest()
        image, mode = decode_with_mode(content, name)
    except UnreadableImageError as error:
        return Verdict(digest=digest, error=error.reason)
    grey = mode in GREY_MODES or mode.startswith("I")
    return Verdict(digest, image.width, image.height, grey, PurePosixPath(name).suffix.lower())


def _readable(found: Found, verdicts: dict[str, Verdict]) -> dict[str, dict[str, list[str]]]:
    """Sorted paths by split and class, without what cannot be read and what is empty then."""
    kept = {
        split: {
            name: sorted(path for path in paths if not verdicts[path].error)
            for name, paths in classes.items()
        }
        for split, classes in found.splits.items()
    }
    return {
        split: {name: paths for name, paths in classes.items() if paths}
        for split, classes in kept.items()
    }


def _hold_out(
    train: dict[str, list[str]], fractions: dict[str, float], seed: int
) -> dict[str, dict[str, list[str]]]:
    """Split each class at random; depends on the seed and the sorted paths alone."""
    parts: dict[str, dict[str, list[str]]] = {"train": {}, **{name: {} for name in fractions}}
    least = 1 + len(fractions)
    small = {label: len(paths) for label, paths in train.items() if len(paths) < least}
    if small:
        which, count = next(iter(small.items()))
        too_few = f"Class {which!r} has {_count(count, 'image')}"
        if len(small) > 1:
            shown = ", ".join(f"{label!r} ({count})" for label, count in list(small.items())[:5])
            more = f" and {len(small) - 5} more" if len(small) > 5 else ""
            too_few = f"{len(small)} classes have too few images: {shown}{more}"
        raise DataError(
            f"{too_few}; at least {least} are needed to hold out {' and '.join(fractions)} images. "
            f"Add some, remove {'these classes' if len(small) > 1 else 'the class'}, or make the "
            "missing folders yourself."
        )
    for label, paths in train.items():
        key = hashlib.sha256(f"{seed}\0{label}".encode()).digest()
        random = np.random.default_rng(np.frombuffer(key, dtype="<u4"))
        shuffled = [paths[at] for at in random.permutation(len(paths))]
        for name, fraction in fractions.items():
            count = max(1, round(fraction * len(paths)))
            parts[name][label], shuffled = shuffled[:count], shuffled[count:]
        if not shuffled:  # tiny classes: rounding must leave one to train on
            shuffled = [parts[next(iter(fractions))][label].pop()]
        parts["train"][label] = sorted(shuffled)
    return parts


def _split(
    name: str, by_class: dict[str, list[str]], classes: tuple[str, ...], notices: list[str]
) -> Split:
    unknown = sorted(set(by_class) - set(classes))
    if unknown:
        count = sum(len(by_class[label]) for label in unknown)
        notices.append(
            f"{name} has {_count(count, 'image')} of {_names(unknown)}, which train does not "
            "have; left out."
        )
    absent = [label for label in classes if not by_class.get(label)]
    if absent and name != "train":
        notices.append(f"{name} has no image of {_names(absent)}.")
    pairs = sorted(
        (path, number) for number, label in enumerate(classes) for path in by_class.get(label, [])
    )
    if not pairs:
        raise DataError(
            f"No image of {name} belongs to a class of train ({_names(list(classes))}). "
            "Name the class folders alike in every split."
        )
    labels = np.asarray([number for _, number in pairs], dtype=np.int64)
    return Split(name, tuple(path for path, _ in pairs), labels)


def _leaks(splits: dict[str, Split], verdicts: dict[str, Verdict]) -> list[str]:
    """Say where a held-out image is, byte for byte, a training image: its score means little."""
    train = {verdicts[path].digest for path in splits["train"].paths}
    counts = {
        name: sum(verdicts[path].digest in train for path in splits[name].paths)
        for name in ("valid", "test")
    }
    return [
        f"{_count(count, 'image')} of {name} also in train, byte for byte: what is scored there "
        "was learned by heart."
        for name, count in counts.items()
        if count
    ]


def _fingerprint(
    splits: dict[str, Split], classes: tuple[str, ...], verdicts: dict[str, Verdict]
) -> str:
    """SHA-256 over what is trained and tested on: stays the same when the folder is moved."""
    total = hashlib.sha256()
    for split in splits.values():
        for path, label in zip(split.paths, split.labels, strict=True):
            line = f"{split.name}\0{classes[label]}\0{path}\0{verdicts[path].digest}\n"
            total.update(line.encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _statistics(kept: list[Verdict]) -> dict[str, Any]:
    def spread(values: list[int]) -> list[int]:
        return [min(values), int(np.median(values)), max(values)]

    return {
        "width": spread([verdict.width for verdict in kept]),
        "height": spread([verdict.height for verdict in kept]),
        "greyscale": sum(verdict.grey for verdict in kept),
        "formats": dict(Counter(verdict.suffix for verdict in kept).most_common()),
    }


def _shown(path: str) -> str:
    """A path that can be printed and stored: bytes that are no UTF-8 become escapes."""
    return path.encode("utf-8", "backslashreplace").decode()


def _names(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more classes"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

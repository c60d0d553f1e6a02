"""Data sets by name: downloaded or drawn once, checked, kept in a cache.

A download is compared with the checksum that its host announces, unpacked into a folder beside
its place, counted, and put in place in one step: what stands in the cache is whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from podium.data.archive import unpack
from podium.data.images import IMAGE_SUFFIXES
from podium.errors import ConfigError, DataError
from podium.runtime.cache import cache_root

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

SOURCES = ("auto", "huggingface", "kaggle")
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class KnownDataset:
    """A data set that Podium knows by name; one without hosts is drawn on this machine."""

    title: str
    licence: str
    folder: str
    """Name of its folder in the cache; changes when its content does."""
    huggingface: str = ""
    kaggle: str = ""
    classes: int = 0
    images: tuple[int, int, int] = (0, 0, 0)
    """In train, valid and test; a copy with other numbers is refused."""


DATASETS = {
    "sports100": KnownDataset(
        title="100 Sports Image Classification",
        licence="CC0-1.0",
        folder="sports100",
        huggingface="HES-XPLAIN/SportsImageClassification",
        kaggle="gpiosenka/sports-classification",
        classes=100,
        images=(13_492, 500, 500),
    ),
    "demo": KnownDataset(
        title="Ten shapes in clutter, drawn by Podium", licence="CC0-1.0", folder="demo-1"
    ),
}


def resolve_data(path_or_name: str) -> Path:
    """The folder that is meant by a path, or by the name of a data set of ours.

    `demo` is drawn if need be. `sports100` is never downloaded here: it is the fetched copy, else
    a folder of that name in the working folder.

    Raises:
        DataError: there is no such folder, or the data set is not on this machine.
    """
    known = DATASETS.get(path_or_name)
    if known is None:
        folder = Path(path_or_name).expanduser()
        if not path_or_name or not folder.exists():
            raise DataError(
                f"There is no folder {path_or_name!r}: expected a folder of images, or one of "
                f"{', '.join(DATASETS)}."
            )
        return folder
    if not known.images[0]:
        return fetch(path_or_name)
    cached = _place(known)
    if not cached.is_dir() and Path(path_or_name).is_dir():
        return Path(path_or_name)
    if not cached.is_dir():
        raise DataError(
            f"{path_or_name} is not on this machine. Run `podium data fetch {path_or_name}`. "
            f"{_by_hand(known, cached)}"
        )
    return cached


def fetch(
    name: str,
    *,
    source: str = "auto",
    into: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Download a data set (or draw it: `demo`), check it, and put it in its place.

    An interrupted download goes on where it stopped; the hosts' own libraries do it, and show
    their progress on standard error.

    Args:
        name: a key of `DATASETS`.
        source: `huggingface`, `kaggle` (needs `podium[kaggle]`), or `auto`: the first that works.
        into: folder to put it in, which must not exist or be empty; empty: Podium's cache.
        progress: told of checking, unpacking and drawing.

    Returns:
        The folder that holds `train/`, `valid/` and `test/`. One that is whole already is
        returned as it is.

    Raises:
        ConfigError: there is no such data set or source.
        DataError: it cannot be had from here, or what came is not what it should be.
    """
    known = DATASETS.get(name)
    if known is None:
        raise ConfigError(f"There is no data set {name!r}; there are {', '.join(DATASETS)}.")
    if source not in SOURCES:
        raise ConfigError(f"--source {source!r}: expected one of {', '.join(SOURCES)}.")
    target = _place(known) if into is None else into.expanduser()
    tell = progress or (lambda what, done, total: None)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / f".{target.name}.lock"):
            if not _is_free(target):
                _check_content(known, target, target)
            elif known.images[0]:
                _download(known, source, target, tell)
            else:
                from podium.data.synthetic import make_demo

                make_demo(target, progress=lambda done, total: tell("draw", done, total))
    except OSError as error:
        raise DataError(
            f"{target} cannot be written ({error}). Choose another folder with --into, or set "
            "PODIUM_CACHE."
        ) from None
    return target


def _place(known: KnownDataset) -> Path:
    return cache_root() / "data" / known.folder


def _is_free(target: Path) -> bool:
    if target.is_dir():
        return next(target.iterdir(), None) is None
    return not target.exists()


def _download(known: KnownDataset, source: str, target: Path, tell: Progress) -> None:
    """Try the hosts in turn; the first whose copy is whole is put in place."""
    hosts = {"huggingface": _from_huggingface, "kaggle": _from_kaggle}
    failures = []
    work = target.parent / f".{target.name}.partial"
    for host in hosts if source == "auto" else [source]:
        shutil.rmtree(work, ignore_errors=True)  # of an attempt that was interrupted
        try:
            hosts[host](known, target, work, tell)
            found = _find_splits(work)
            _check_content(known, found, target)
        except DataError as error:
            failures.append(f"{host}: {error}")
            shutil.rmtree(work, ignore_errors=True)
            continue
        if target.is_dir():
            target.rmdir()
        found.replace(target)
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(_downloads(target), ignore_errors=True)
        return
    raise DataError(
        "\n".join([f"{known.title} could not be fetched.", *failures, _by_hand(known, target)])
    )


def _downloads(target: Path) -> Path:
    return target.parent / f".{target.name}.download"


def _from_huggingface(known: KnownDataset, target: Path, work: Path, tell: Progress) -> None:
    from huggingface_hub import HfApi

    try:
        # asks once: without a network it fails at once, where a download would try for long
        info = HfApi(token=False).dataset_info(known.huggingface, files_metadata=True, timeout=10)
        archives = [file for file in info.siblings or [] if file.rfilename.endswith(".zip")]
    except Exception as error:  # its HTTP library has changed between versions, and may again
        raise DataError(_first_line(error)) from None
    if not archives:
        raise DataError(f"{known.huggingface} holds no .zip any more.")
    archive = max(archives, key=lambda file: file.size or 0)
    if archive.lfs is None:
        raise DataError(f"no checksum is announced for {archive.rfilename}.")
    # named after its checksum: a part of another version is never gone on with
    path = _downloads(target) / f"{archive.lfs.sha256}.zip"
    path.parent.mkdir(exist_ok=True)
    path.touch()
    try:
        _resume(known.huggingface, archive.rfilename, info.sha, archive.lfs.size, path)
    except Exception as error:
        raise DataError(
            f"{_first_line(error)}; {path.stat().st_size / 1e6:,.0f} of "
            f"{archive.lfs.size / 1e6:,.0f} MB have come. Fetch again: it goes on from there."
        ) from None
    came = _sha256(path, tell)
    if came != archive.lfs.sha256:
        path.unlink()
        raise DataError(
            f"{archive.rfilename} is damaged: its SHA-256 is {came}, the announced one "
            f"{archive.lfs.sha256}. It was removed; fetch again."
        )
    _unpack(path, work, tell)


def _resume(repository: str, file: str, revision: str | None, size: int, path: Path) -> None:
    """Download what is missing of `path`.

    `hf_hub_download` would throw a part away: since version 1.18 the hub's library only goes on
    within one call (its issue 4196), so the part is kept here.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get

    url = hf_hub_url(repository, file, repo_type="dataset", revision=revision)
    if path.stat().st_size > size:
        path.write_bytes(b"")
    with open(path, "ab") as part:
        if part.tell() < size:
            http_get(
                get_hf_file_metadata(url, token=False, timeout=10).location,
                part,
                resume_size=part.tell(),
                expected_size=size,
                displayed_filename=Path(file).name,
            )


def _from_kaggle(known: KnownDataset, target: Path, work: Path, tell: Progress) -> None:
    try:
        import kagglehub
    except ImportError:
        raise DataError("needs kagglehub: pip install 'podium[kaggle]'.") from None
    try:
        path = Path(kagglehub.dataset_download(known.kaggle))  # checks Kaggle's own checksum
    except Exception as error:
        raise DataError(_first_line(error)) from None
    source = _find_splits(path)
    for done, split in enumerate(SPLITS, 1):
        shutil.copytree(source / split, work / split)
        tell("copy", done, len(SPLITS))


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0].rstrip(".")


def _sha256(path: Path, tell: Progress) -> str:
    digest, size, done = hashlib.sha256(), path.stat().st_size, 0
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
            done += len(block)
            tell("check", done, size)
    return digest.hexdigest()


def _unpack(archive: Path, work: Path, tell: Progress) -> None:
    work.mkdir(parents=True)
    try:
        unpack(archive, work, lambda done, total: tell("unpack", done, total))
    except RuntimeError as error:  # zipfile's word for an encrypted or oddly packed member
        raise DataError(f"{archive.name} cannot be unpacked ({error}).") from None


def _find_splits(folder: Path) -> Path:
    """The topmost folder that holds train, valid and test."""
    for place, inner, _ in os.walk(folder):
        inner.sort()
        if set(SPLITS) <= set(inner):
            return Path(place)
    raise DataError("the copy holds no folder with train, valid and test in it.")


def _check_content(known: KnownDataset, folder: Path, target: Path) -> None:
    """Count classes and images."""
    counts, classes = [], set()
    for split in SPLITS:
        images = [
            path
            for path in folder.glob(f"{split}/*/*")
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        ]
        counts.append(len(images))
        classes |= {path.parent.name for path in images}
    if known.images[0] == 0 and all(counts):
        return
    if tuple(counts) != known.images or len(classes) != known.classes:
        told = "{:,} + {:,} + {:,}".format
        there = f" in {folder}" if folder == target else ""
        raise DataError(
            f"Expected {told(*known.images)} images (train, valid, test) of {known.classes} "
            f"classes, found {told(*counts)} of {len(classes)}{there}. "
            + ("Remove that folder, then fetch again." if there else "The host's copy changed.")
        )


def _by_hand(known: KnownDataset, target: Path) -> str:
    return (
        f"By hand: download https://huggingface.co/datasets/{known.huggingface} or "
        f"https://www.kaggle.com/datasets/{known.kaggle} where there is a network, and unpack it "
        f"so that {target / 'train'}, {target / 'valid'} and {target / 'test'} each hold a folder "
        "a class with its images. Or unpack it anywhere, and give that folder with --data."
    )

"""Data sets by name: downloaded or generated once, checked, and cached.

A download is compared with the checksum that its host announces, unpacked into a temporary folder
next to its target, counted, and moved in one step: data sets in the cache are always complete.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from podium.data import hf_source, torchvision_source
from podium.data.archive import unpack
from podium.data.images import IMAGE_SUFFIXES
from podium.errors import ConfigError, DataError
from podium.runtime.cache import cache_root
from podium.runtime.events import Notify, Progress, silent

SOURCES = ("auto", "huggingface", "kaggle")
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class KnownDataset:
    """A data set that Podium knows by name; one without hosts is generated locally."""

    title: str
    licence: str
    folder: str
    """Name of its folder in the cache; it changes when the content does."""
    huggingface: str = ""
    kaggle: str = ""
    classes: int = 0
    images: tuple[int, int, int] = (0, 0, 0)
    """Number of images in train, valid and test; a copy with other numbers is refused."""


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
    """Resolve a path, or the name of a known data set, to a folder.

    `demo` is generated if needed. `sports100` is not downloaded here: it resolves to the
    downloaded copy, or else to a folder of that name in the working directory.

    Args:
        path_or_name: a folder, or a key of `DATASETS`.

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
    notify: Notify = silent,
) -> Path:
    """Download a data set (or generate it: `demo`), check it, and move it to its folder.

    An interrupted download is resumed; the hosts' own libraries do it, and show their progress on
    standard error.

    Args:
        name: a key of `DATASETS`, or a set of another library: `torchvision:NAME`,
            `hf:OWNER/NAME`, which that library downloads.
        source: `huggingface`, `kaggle` (needs `podium[kaggle]`), or `auto`: the first that works.
        into: target folder, which must be new or empty; None: Podium's cache.
        notify: receives the progress of checking, unpacking and generating.

    Returns:
        The folder that contains `train/`, `valid/` and `test/`. A complete one is returned
        unchanged.

    Raises:
        ConfigError: there is no such data set or source.
        DataError: the data set cannot be downloaded, or its content is not as expected.
    """
    if source != "auto" and name.startswith((torchvision_source.PREFIX, hf_source.PREFIX)):
        raise ConfigError(f"--source {source}: {name} has a source of its own. Leave it out.")
    if name.startswith(torchvision_source.PREFIX):
        return torchvision_source.fetch_torchvision(name, into)
    if name.startswith(hf_source.PREFIX):
        if into is not None:
            raise ConfigError("--into: hf: sets go to the cache of Hugging Face; set HF_HOME.")
        return hf_source.fetch_hf(name)
    known = DATASETS.get(name)
    if known is None:
        raise ConfigError(
            f"There is no data set {name!r}: expected {', '.join(DATASETS)}, torchvision:NAME or "
            "hf:OWNER/NAME."
        )
    if source not in SOURCES:
        raise ConfigError(f"--source {source!r}: expected one of {', '.join(SOURCES)}.")
    target = _place(known) if into is None else into.expanduser()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / f".{target.name}.lock"):
            if not _is_free(target):
                _check_content(known, target, target)
            elif known.images[0]:
                _download(known, source, target, notify)
            else:
                from podium.data.synthetic import make_demo

                make_demo(target, notify=notify)
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


def _download(known: KnownDataset, source: str, target: Path, notify: Notify) -> None:
    """Try the hosts in turn; the first complete copy is used."""
    hosts = {"huggingface": _from_huggingface, "kaggle": _from_kaggle}
    failures = []
    work = target.parent / f".{target.name}.partial"
    for host in hosts if source == "auto" else [source]:
        shutil.rmtree(work, ignore_errors=True)  # left by an interrupted attempt
        try:
            hosts[host](known, target, work, notify)
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
        "\n".join([f"{known.title} could not be downloaded.", *failures, _by_hand(known, target)])
    )


def _downloads(target: Path) -> Path:
    return target.parent / f".{target.name}.download"


def _from_huggingface(known: KnownDataset, target: Path, work: Path, notify: Notify) -> None:
    from huggingface_hub import HfApi

    try:
        # one request: without a network it fails at once, where a download would retry for long
        info = HfApi(token=False).dataset_info(known.huggingface, files_metadata=True, timeout=10)
        archives = [file for file in info.siblings or [] if file.rfilename.endswith(".zip")]
    except Exception as error:  # its HTTP library has changed between versions, and may again
        raise DataError(_first_line(error)) from None
    if not archives:
        raise DataError(f"{known.huggingface} no longer contains a .zip file.")
    archive = max(archives, key=lambda file: file.size or 0)
    if archive.lfs is None:
        raise DataError(f"there is no checksum for {archive.rfilename}.")
    # named after its checksum: a partial download of another version is never resumed
    path = _downloads(target) / f"{archive.lfs.sha256}.zip"
    path.parent.mkdir(exist_ok=True)
    path.touch()
    try:
        _resume(known.huggingface, archive.rfilename, info.sha, archive.lfs.size, path)
    except Exception as error:
        raise DataError(
            f"{_first_line(error)}; {path.stat().st_size / 1e6:,.0f} of "
            f"{archive.lfs.size / 1e6:,.0f} MB were downloaded. Fetch again to resume."
        ) from None
    digest = _sha256(path, notify)
    if digest != archive.lfs.sha256:
        path.unlink()
        raise DataError(
            f"{archive.rfilename} is damaged: expected SHA-256 {archive.lfs.sha256}, got {digest}. "
            "The file was removed; fetch again."
        )
    _unpack(path, work, notify)


def _resume(repository: str, file: str, revision: str | None, size: int, path: Path) -> None:
    """Download the missing rest of `path`.

    `hf_hub_download` would discard the partial file: since version 1.18 the hub's library resumes
    only within one call (its issue 4196), so the partial file is kept here.
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


def _from_kaggle(known: KnownDataset, target: Path, work: Path, notify: Notify) -> None:
    try:
        import kagglehub
    except ImportError:
        raise DataError("kagglehub is not installed: pip install 'podium[kaggle]'.") from None
    try:
        path = Path(kagglehub.dataset_download(known.kaggle))  # verifies Kaggle's checksum
    except Exception as error:
        raise DataError(_first_line(error)) from None
    source = _find_splits(path)
    for done, split in enumerate(SPLITS, 1):
        shutil.copytree(source / split, work / split)
        notify(Progress("copy", done, len(SPLITS)))


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0].rstrip(".")


def _sha256(path: Path, notify: Notify) -> str:
    digest, size, done = hashlib.sha256(), path.stat().st_size, 0
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
            done += len(block)
            notify(Progress("check", done, size))
    return digest.hexdigest()


def _unpack(archive: Path, work: Path, notify: Notify) -> None:
    work.mkdir(parents=True)
    try:
        unpack(archive, work, notify)
    except RuntimeError as error:  # zipfile raises it for encrypted or unsupported members
        raise DataError(f"{archive.name} cannot be unpacked ({error}).") from None


def _find_splits(folder: Path) -> Path:
    """Find the topmost folder that contains train, valid and test."""
    for place, inner, _ in os.walk(folder):
        inner.sort()
        if set(SPLITS) <= set(inner):
            return Path(place)
    raise DataError("the copy has no folder that contains train, valid and test.")


def _check_content(known: KnownDataset, folder: Path, target: Path) -> None:
    """Check the numbers of classes and images."""
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
        total = "{:,} + {:,} + {:,}".format
        there = f" in {folder}" if folder == target else ""
        raise DataError(
            f"Expected {total(*known.images)} images (train, valid, test) of {known.classes} "
            f"classes, found {total(*counts)} of {len(classes)}{there}. "
            + ("Remove that folder, then fetch again." if there else "The host's copy changed.")
        )


def _by_hand(known: KnownDataset, target: Path) -> str:
    return (
        f"By hand: download https://huggingface.co/datasets/{known.huggingface} or "
        f"https://www.kaggle.com/datasets/{known.kaggle} where there is a network, and unpack it "
        f"so that {target / 'train'}, {target / 'valid'} and {target / 'test'} each contain one "
        "folder of images per class. Or unpack it anywhere, and give that folder with --data."
    )

"""The Hugging Face source: `hf:OWNER/NAME`, or `hf:` and a local folder, through `datasets`.

Nothing is downloaded while a study runs: `podium data fetch hf:OWNER/NAME` does that, into the
cache that all libraries of Hugging Face share. That library and its hub client count uses; Podium
turns both off before it imports them, unless the user's environment says otherwise. Since version 4
the library runs no code of a repository.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from podium.config.registry import SOURCES
from podium.data.images import read_image_file
from podium.data.layout import SPLIT_NAMES
from podium.data.source import Item, Source, Value
from podium.data.table_columns import group_like
from podium.data.words import counted, listed
from podium.errors import ConfigError, DataError, one_line
from podium.runtime.cache import cache_root

PREFIX = "hf:"

_LABELS = ("label", "labels", "class", "target", "category", "species", "diagnosis", "fine_label")
_NO_LABEL = "images without a label"
_BEGINNINGS = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"RIFF": ".webp"}
_BEGINNINGS |= {b"BM": ".bmp", b"II*\0": ".tif", b"MM\0*": ".tif"}


class HuggingFaceSource(Source):
    """A data set of the library `datasets`: an image and a label in each row.

    Images are served as they were stored; scalar columns become metadata. A set with one split is
    not split; of several, those called train, validation and test (or similar) are used.

    Args:
        path: `hf:OWNER/NAME`, or `hf:` and a folder: a clone of such a repository, what
            `save_to_disk` wrote, or files that `load_dataset` reads from a folder.
        label: column of the class; None: the only `ClassLabel`, or a column with a usual name.
        image: column of the image; None: the only one.
        name: configuration of the set; None: its default.
        revision: branch, tag or commit of the repository; None: main.
        split: the only split to use, which is then not a split of the study; None: all.

    Raises:
        ConfigError: `datasets` is not installed.
        DataError: the set is not on this machine, or a column or split is missing or ambiguous.
    """

    def __init__(
        self,
        path: str,
        label: str | None = None,
        image: str | None = None,
        name: str | None = None,
        revision: str | None = None,
        split: str | None = None,
    ) -> None:
        parts = _opened(str(_folder(path, revision)), name)
        self.notices: list[str] = []
        self.skipped: dict[str, int] = {}
        self._parts = _used(path, parts, split, self.notices)
        first, _ = next(iter(self._parts.values()))
        self._image = _image_column(path, first.features, image)
        self._label = _label_column(path, first.features, label)
        self.chosen = {"label": self._label} if label is None else {}
        self.likely_groups = group_like(first.data.table, {self._image, self._label})

    def list(self) -> Iterator[Item]:
        notices = [*self.notices]
        skipped = 0
        for name, (part, split) in self._parts.items():
            columns, left_out = _columns(part, (self._image, self._label))
            if left_out:
                more = f"Columns of {name} that are not single values are not used: "
                notices.append(f"{more}{listed(left_out)}.")
            labels = _labels(part, self._label)
            if without := labels.count(None):
                skipped += without
                notices.append(
                    f"{counted(without, 'image')} of {len(labels):,} of {name} without a label: "
                    "not used."
                )
            for number, (file, label) in enumerate(
                zip(_files(part, self._image), labels, strict=True)
            ):
                if label is not None:
                    values = {key: column[number] for key, column in columns.items()}
                    yield Item(f"{name}/{number:07d}{file}", label, split, columns=values)
        self.notices = notices
        self.skipped = {_NO_LABEL: skipped} if skipped else {}

    def read(self, path: str) -> bytes:
        name, _, rest = path.partition("/")
        part, _ = self._parts[name]
        stored = part.data.column(self._image)[int(rest[:7])].as_py()
        if stored["bytes"] is not None:
            return bytes(stored["bytes"])
        return read_image_file(Path(stored["path"]), path)


def fetch_hf(path: str, revision: str | None = None) -> Path:
    """Download the repository of a set into the cache of Hugging Face; resumable.

    Args:
        path: `hf:OWNER/NAME`.
        revision: branch, tag or commit; None: main.

    Returns:
        The folder of its files.

    Raises:
        DataError: it cannot be downloaded.
    """
    _quiet()
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(path.removeprefix(PREFIX), repo_type="dataset", revision=revision)
        )
    except Exception as error:  # its HTTP library has changed between versions, and may again
        raise DataError(
            f"{path} could not be downloaded ({type(error).__name__}: {one_line(error)}). "
            f"{_by_hand(path)}"
        ) from None


def _quiet() -> None:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")


def _library() -> Any:
    _quiet()
    try:
        import datasets
    except ImportError:
        raise ConfigError(
            f"{PREFIX} sets need the library datasets: pip install 'podium[hf]'."
        ) from None
    return datasets


def _folder(path: str, revision: str | None) -> Path:
    """A local folder, or that of a repository's files in the cache of Hugging Face."""
    name = path.removeprefix(PREFIX)
    local = Path(name).expanduser()
    if local.is_dir():
        return local
    _quiet()
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, repo_type="dataset", revision=revision, local_files_only=True)
        )
    except Exception:  # it is not there, or not the name of a repository
        raise DataError(
            f"{path} is not on this machine. Run `podium data fetch {path}`. {_by_hand(path)}"
        ) from None


def _by_hand(path: str) -> str:
    name = path.removeprefix(PREFIX)
    return (
        f"By hand: where there is a network, `hf download --repo-type dataset {name} --local-dir "
        f"FOLDER` writes the files of https://huggingface.co/datasets/{name}; copy that folder to "
        f"this machine, and give it as data: {{path: '{PREFIX}FOLDER'}}."
    )


def _labels(part: Any, column: str) -> list[str | None]:
    values = part.data.column(column).to_pylist()
    names = getattr(part.features[column], "names", None)
    if names is None:
        return [None if value is None else str(value) for value in values]
    # the hub writes -1 where labels are kept secret
    return [None if value is None or value < 0 else str(names[value]) for value in values]


def _files(part: Any, image: str) -> Iterator[str]:
    """`-name.jpg` of each image, or `.jpg` if it has no name."""
    import pyarrow.compute as pc

    column = part.data.column(image)
    starts = pc.binary_slice(pc.struct_field(column, "bytes"), 0, 4).to_pylist()
    for path, start in zip(pc.struct_field(column, "path").to_pylist(), starts, strict=True):
        if path and PurePosixPath(path).suffix:
            yield f"-{PurePosixPath(path.replace(os.sep, '/')).name}"
        else:
            kinds = (end for begin, end in _BEGINNINGS.items() if (start or b"").startswith(begin))
            yield next(kinds, "")


def _columns(part: Any, besides: tuple[str, str]) -> tuple[dict[str, list[Value]], list[str]]:
    """The columns of single values, and the names of others."""
    import pyarrow as pa

    found: dict[str, list[Value]] = {}
    left_out = []
    for key in part.column_names:
        if key in besides:
            continue
        values = part.data.column(key)
        if pa.types.is_nested(values.type) or pa.types.is_binary(values.type):
            left_out.append(key)
            continue
        names = getattr(part.features[key], "names", None)
        found[key] = [
            value
            if value is None or (isinstance(value, str | int | float | bool) and names is None)
            else str(value if names is None or value < 0 else names[value])
            for value in values.to_pylist()
        ]
    return found, left_out


# Once per process: each opens its own memory-mapped files.
@functools.lru_cache(maxsize=4)
def _opened(folder: str, name: str | None) -> dict[str, Any]:
    """Split -> part of a set, with images that are not decoded."""
    datasets = _library()
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()  # of a download, as they say, of files that are here
    saved = any(Path(folder, one).is_file() for one in ("dataset_dict.json", "state.json"))
    try:
        if saved:
            found = datasets.load_from_disk(folder)
        else:
            cache = str(cache_root() / "hf")
            found = datasets.load_dataset(folder, name, cache_dir=cache)
    except Exception as error:  # of any builder
        raise DataError(
            f"{PREFIX}{folder} cannot be opened ({type(error).__name__}: {one_line(error)})."
        ) from None
    finally:
        if shown:
            datasets.enable_progress_bars()
    parts = {"all": found} if isinstance(found, datasets.Dataset) else dict(found)
    for split, part in parts.items():
        for column, feature in part.features.items():
            if isinstance(feature, datasets.Image):
                part = part.cast_column(column, datasets.Image(decode=False))
        parts[split] = part
    return parts


def _used(
    path: str, parts: dict[str, Any], wanted: str | None, notices: list[str]
) -> dict[str, tuple[Any, str | None]]:
    """The library's name of each split that is used -> the part, and its split in the study."""
    if wanted is not None and wanted not in parts:
        raise DataError(f"{path} has no split {wanted!r}; it has {listed(sorted(parts))}.")
    if wanted is not None or len(parts) == 1:
        return {name: (part, None) for name, part in parts.items() if wanted in (None, name)}
    found: dict[str, tuple[Any, str | None]] = {
        name: (part, SPLIT_NAMES[name.lower()])
        for name, part in parts.items()
        if name.lower() in SPLIT_NAMES
    }
    if not found or len({split for _, split in found.values()}) < len(found):
        raise DataError(
            f"{path} has the splits {listed(sorted(parts))}: choose one in the study, data: "
            f"{{path: '{path}', options: {{split: {sorted(parts)[0]}}}}}."
        )
    if others := [f"{name} ({len(part):,})" for name, part in parts.items() if name not in found]:
        notices.append(f"Splits that are not used: {listed(others)}.")
    return found


def _image_column(path: str, features: Any, wanted: str | None) -> str:
    images = [name for name, one in features.items() if type(one).__name__ == "Image"]
    chosen = images if wanted is None else [name for name in images if name == wanted]
    if len(chosen) == 1:
        return str(chosen[0])
    raise DataError(
        f"{path} has {f'the image columns {listed(images)}' if images else 'no column of images'}"
        f"{f', not {wanted!r}' if wanted else ''}; its columns are {listed([*features], most=20)}."
        + (" Choose one with data.options: {image: COLUMN}." if images else "")
    )


def _label_column(path: str, features: Any, wanted: str | None) -> str:
    classes = [name for name, one in features.items() if type(one).__name__ == "ClassLabel"]
    usual = [name for name in _LABELS if name in features]
    if wanted is not None:
        if wanted in features:
            return wanted
    elif len(classes) == 1:
        return str(classes[0])
    elif named := [name for name in usual if name in classes] or (usual if not classes else []):
        return named[0]
    what = f"has no column {wanted!r}" if wanted else "does not say which column is the class"
    raise DataError(
        f"{path} {what}: its columns are {listed([*features], most=20)}. Choose one with "
        "data: {label: COLUMN}."
    )


SOURCES.register("hf", HuggingFaceSource)

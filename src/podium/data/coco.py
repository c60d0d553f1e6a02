"""The COCO source: a JSON file with images, annotations and categories; also of camera traps."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from podium.config.registry import SOURCES
from podium.data.table import TableSource
from podium.data.words import counted, listed, shown
from podium.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

ENDING = ".json"

_FILE, _LABEL, _SPLIT = "file_name", "category", "split"
_SEVERAL = "images of several categories"


class CocoSource(TableSource):
    """The images of a file in COCO's format: the label of each is the category of its annotations.

    Single values of an image's entry (`location`, `seq_id`, `datetime`...) become metadata, so
    that a study can say `group: location`. Images without an annotation, and those with
    annotations of several categories, are left out, counted and reported.

    Args:
        path: the file with the training images, or with all images.
        valid: the file with the validation images, relative to the first; None: no such file.
        test: the file with the test images, likewise.
        images: folder of the images, relative to the first file; None: found beside each file,
            or in the folders `images` or, for `instances_train2017.json`, `train2017` near it.
        missing: largest share of the images, from 0 to 1, whose file may be missing; and, of
            those with annotations, of several categories.

    Raises:
        DataError: there is no such file.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        valid: str | None = None,
        test: str | None = None,
        images: str | Path | None = None,
        missing: float = 0.01,
    ) -> None:
        super().__init__(path, _LABEL, path_column=_FILE, images=images, missing=missing)
        first = Path(path).expanduser()
        others = {"valid": valid, "test": test}
        self._files: dict[str | None, Path] = {"train" if valid or test else None: first}
        for split, other in others.items():
            if other:
                self._files[split] = first.parent / Path(other).expanduser()
        for file in self._files.values():
            if not file.is_file():
                raise DataError(f"{file} does not exist: expected a file in COCO's format.")

    def _table(self) -> pa.Table:
        import pyarrow as pa

        rows = [row for split, file in self._files.items() for row in self._rows(split, file)]
        names = list(dict.fromkeys(key for row in rows for key in row))
        return pa.table({name: _column([row.get(name) for row in rows]) for name in names})

    def _rows(self, split: str | None, file: Path) -> Iterator[dict[str, Any]]:
        """A row for each image of a file that has not several categories."""
        content = _read(file)
        categories = _labels(file, content)
        images = content["images"]
        several = {
            entry["file_name"]: categories[entry["id"]]
            for entry in images
            if len(categories.get(entry["id"], ())) > 1
        }
        if several:
            self._tell_several(file, several, len(categories))
        prefix = self._prefix(file, [entry["file_name"] for entry in images[:20]])
        for entry in images:
            if entry["file_name"] in several:
                continue
            found = categories.get(entry["id"])
            row = {**entry, _LABEL: next(iter(found)) if found else None}
            row[_FILE] = os.path.join(prefix, entry["file_name"])  # noqa: PTH118 - may start with ..
            yield row if split is None else {**row, _SPLIT: split}

    def _tell_several(self, file: Path, several: dict[str, Counter[str]], total: int) -> None:
        some = listed([f"{name} ({' and '.join(sorted(one))})" for name, one in several.items()])
        told = (
            f"{len(several):,} of {counted(total, 'image')} of {file} have annotations of several "
            f"categories"
        )
        if len(several) > self._missing * total:
            raise DataError(
                f"{told} ({shown(some)}), more than {100 * self._missing:g} %: a classifier has "
                "one label for each image. Leave them out with data: {options: {missing: 1}}, or "
                "cut out the annotated boxes first."
            )
        self.skipped[_SEVERAL] += len(several)
        self.notices.append(f"{told}, left out: {shown(some)}.")

    def _prefix(self, file: Path, names: list[str]) -> str:
        """What leads from the first file's folder to the images of a file."""
        if self._images is not None or not names:
            return ""
        around = [file.parent, file.parent.parent]
        inside = ["", "images", file.stem.rpartition("_")[2]]
        inside.append(f"images/{inside[-1]}")
        for folder in (one / name for one in around for name in inside):
            if any((folder / name).is_file() for name in names):
                return "" if folder == self._folder else os.path.relpath(folder, self._folder)
        return ""


def _read(file: Path) -> dict[str, Any]:
    """Read the three lists of a file.

    Raises:
        DataError: it is not in COCO's format.
    """
    expected = (
        "expected COCO's format, with lists images (id, file_name), annotations (image_id, "
        "category_id) and categories (id, name)"
    )
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read ({error}): {expected}.") from None
    needed = {
        "images": ("id", "file_name"),
        "annotations": ("image_id", "category_id"),
        "categories": ("id", "name"),
    }
    for key, fields in needed.items():
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise DataError(f"{file} has no list {key!r}: {expected}.")
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict) or any(entry.get(one) is None for one in fields):
                raise DataError(f"{file}: {key}[{number}] is {str(entry)[:80]}; {expected}.")
    if repeated := _twice([entry["id"] for entry in content["images"]]):
        raise DataError(f"{file}: several images have the id {listed(repeated)}.")
    return content  # type: ignore[no-any-return]


def _labels(file: Path, content: dict[str, Any]) -> dict[Any, Counter[str]]:
    """Image id -> names of its categories, with their numbers of annotations."""
    names = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
    known = {entry["id"] for entry in content["images"]}
    found: dict[Any, Counter[str]] = {}
    for entry in content["annotations"]:
        image, category = entry["image_id"], entry["category_id"]
        if category not in names or image not in known:
            what = f"category {category}" if category not in names else f"image {image}"
            raise DataError(f"{file}: an annotation names {what}, which is not in the file.")
        found.setdefault(image, Counter())[names[category]] += 1
    return found


def _twice(ids: list[Any]) -> list[str]:
    return [str(one) for one, count in Counter(map(str, ids)).items() if count > 1]


def _column(cells: list[Any]) -> pa.Array:
    """Values as an Arrow array; as text if their types differ."""
    import pyarrow as pa

    try:
        return pa.array(cells)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if one is None else str(one) for one in cells])


SOURCES.register("coco", CocoSource)

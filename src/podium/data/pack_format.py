"""What a pack has: the names of its files, the columns of its index, the content of `pack.json`.

A pack is a folder, or an address such as `s3://bucket/folder`, with:

- `shard-000000.tar` and so on, in the layout of WebDataset: of each image its file and the number
  of its class, `000000000.jpg` and `000000000.cls`;
- `index.parquet`: one row per image, sorted by path;
- `pack.json`, written last: the SHA-256 of the index, the classes, the number of images.

The index has `path`, `label`, `split` and `group` (null where there is none), `key`, `shard`,
`offset` and `length` (of the file, in the shard's bytes), `sha256`, `width`, `height` and what else
was found in checking the file, then the metadata of the images. So a study reads no image to begin
with, and then each by its range of bytes, in any order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from podium.data.file_checks import Verdicts
from podium.data.place import Place
from podium.errors import DataError

FORMAT: Final = 1
ABOUT: Final = "pack.json"
INDEX: Final = "index.parquet"
UNDERWAY: Final = "packing.json"
"""What is being packed; removed at the end."""

WHERE: Final = pa.schema(
    [("key", pa.string()), ("shard", pa.int32()), ("offset", pa.int64()), ("length", pa.int64())]
)
OWN: Final = frozenset(
    (
        *("path", "label", "split", "group"),
        *WHERE.names,
        *Verdicts.empty(0).columns(np.empty(0, np.int64)),
    )
)
"""Columns of the index that are not metadata of the images."""


@dataclass(frozen=True)
class About:
    """The content of `pack.json`.

    Attributes:
        format: of the pack.
        images: number of images.
        shards: number of shards.
        bytes: of all images.
        classes: their names, in code-point order: the numbers in the shards are indices into it.
        channels: that images are read with; None: as RGB.
        sha256: of the index.
    """

    format: int
    images: int
    shards: int
    bytes: int
    classes: list[str]
    channels: int | None
    sha256: str


def read_about(place: Place) -> About:
    """Read what a pack has.

    Args:
        place: of the pack.

    Raises:
        DataError: there is no pack, or it is not complete, or of a later version.
    """
    try:
        about = About(**json.loads(place.read(ABOUT)))
    except FileNotFoundError:
        raise DataError(f"{place} {_why_not(place)}") from None
    except OSError as error:
        raise DataError(f"{place} cannot be read: {error.strerror or error}.") from None
    except (TypeError, ValueError):
        raise DataError(f"{place}: {ABOUT} is damaged, or of another version of Podium.") from None
    if about.format != FORMAT:
        raise DataError(
            f"{place} is a pack of format {about.format}, and this version of Podium reads "
            f"{FORMAT}. Install the version that packed it, or pack the images again."
        )
    return about


def shard_name(number: int) -> str:
    """Name of a shard."""
    return f"shard-{number:06d}.tar"


def _why_not(place: Place) -> str:
    try:
        place.read(UNDERWAY)
    except OSError:
        return f"has no {ABOUT}: expected what podium data pack has written."
    return "is not packed to the end: repeat the podium data pack that began it."

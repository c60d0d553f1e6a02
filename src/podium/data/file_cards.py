"""What a file tells without its pixels, drawn as a small picture that a model can be trained on.

If labels can be told from the sizes of files, say because one class came from another source, then
a model may have learned the source.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from podium.data.grey import OWN_WINDOWS
from podium.data.images import header_of
from podium.data.index import DataIndex
from podium.data.source import Reader
from podium.runtime.threads import in_order

SIDE = 19  # pixels of a card
STEPS = 64  # pixels of a number: equal parts of its range, filled one after the other
RANGES = {
    "bytes": (6.0, 28.0),
    "width": (3.0, 15.0),
    "height": (3.0, 15.0),
    "width over height": (-3.0, 3.0),
    "bytes per pixel": (-8.0, 6.0),
}
"""Binary logarithms of what is drawn as numbers; beyond them, a number is at the end."""
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "HEIF", "MPO")
MODES = ("L", "RGB", "RGBA", "P", "CMYK", "1", "LA", "I;16")
MARKS = ("exif", "jfif", "icc_profile", "dpi", "progressive", "adobe", "gamma", "transparency")
"""Parts of a file that it has or lacks."""
VALUES = STEPS * len(RANGES) + len(FORMATS) + len(MODES) + len(MARKS)


def file_card(content: bytes) -> bytes:
    """A grey PNG of 19 x 19 pixels: size, format and such of an image file.

    Args:
        content: the bytes of the file.

    Examples:
        >>> import io
        >>> from PIL import Image
        >>> from podium.data.file_cards import VALUES, file_card
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (200, 100)).save(file, "PNG")
        >>> card = Image.open(io.BytesIO(file_card(file.getvalue())))
        >>> card.size, card.mode, VALUES
        ((19, 19), 'L', 344)
    """
    width, height, marks = 0, 0, [False] * (VALUES - STEPS * len(RANGES))
    # formats that Pillow does not know have no header that this could read
    with contextlib.suppress(Exception), header_of(content) as image:
        (width, height), info = image.size, image.info
        marks = [image.format == one for one in FORMATS]
        marks += [image.mode == one for one in MODES]
        marks += [one in info for one in MARKS]
    pixels = max(1, width * height)
    numbers = (
        len(content),
        width,
        height,
        max(1, width) / max(1, height),
        len(content) / pixels,
    )
    drawn = [
        _steps(math.log2(max(number, 1e-9)), *ends)
        for number, ends in zip(numbers, RANGES.values(), strict=True)
    ]
    values = np.concatenate([*drawn, np.array(marks, np.float64)])
    card = np.zeros(SIDE * SIDE, np.uint8)
    card[:VALUES] = np.rint(255 * values)
    file = io.BytesIO()
    Image.fromarray(card.reshape(SIDE, SIDE)).save(file, "PNG")
    return file.getvalue()


def _steps(value: float, low: float, high: float) -> npt.NDArray[np.float64]:
    """How much of each part of a range lies below a value, each 0..1."""
    return np.clip((value - low) / (high - low) * STEPS - np.arange(STEPS), 0.0, 1.0)


class CardReader(Reader):
    """Reads the cards of files instead of the files."""

    @classmethod
    def instead_of(cls, reader: Reader) -> CardReader:
        """A reader of the same source."""
        return cls(reader._source)

    def read(self, path: str) -> bytes:
        return file_card(super().read(path))


def with_cards(index: DataIndex) -> DataIndex:
    """The same images, each replaced by the card of its file.

    Args:
        index: the images; every file is read once.

    Raises:
        UnreadableImageError: a file can no longer be read.
    """
    if isinstance(index.reader, CardReader):
        return index
    if index.part_of is not None:
        whole = _of_whole(index.part_of.whole)
        splits = {name: replace(split, images=whole.images) for name, split in index.splits.items()}
        part = replace(index.part_of, whole=whole)
        return replace(
            index, reader=whole.reader, images=whole.images, splits=splits,
            windows=OWN_WINDOWS, part_of=part,
        )  # fmt: skip
    return _of_whole(index)


@lru_cache(maxsize=1)  # folds and seeds follow one another
def _of_whole(index: DataIndex) -> DataIndex:
    reader = CardReader.instead_of(index.reader)
    digests = np.zeros_like(index.images.digests)
    used = np.unique(np.concatenate([split.rows for split in index.splits.values()]))
    cards = in_order(reader.read, index.images.paths.take(used))
    for row, content in zip(used.tolist(), cards, strict=True):
        digests[row] = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
    images = replace(index.images, digests=digests, deep=np.zeros(len(digests), np.bool_))
    splits = {name: replace(split, images=images) for name, split in index.splits.items()}
    return replace(index, reader=reader, images=images, splits=splits, windows=OWN_WINDOWS)

"""SHA-256 over the images of an index and their labels; independent of the folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from podium.data.columns import Rows
from podium.data.grey import GreyWindows
from podium.data.mapped import Digests
from podium.data.splits import Split

_BLOCK = 65_536  # images whose lines are in memory at a time


def fingerprint(
    splits: Mapping[str, Split], classes: Sequence[str], windows: GreyWindows | None
) -> str:
    """SHA-256 over all images and labels, in order, with their names.

    It is that of a line of text for each image: split, class, path and SHA-256 of its bytes.

    Args:
        splits: the images.
        classes: names of the classes.
        windows: of the images deeper than 8 bits or of several channels; None: there are none.
    """
    total = hashlib.sha256()
    if windows is not None:
        total.update(f"{windows.key}\n".encode())
    labels = pa.array(
        [name.encode("utf-8", "surrogateescape") for name in classes], pa.large_binary()
    )
    for split in splits.values():
        name = pa.scalar(split.name.encode(), pa.large_binary())
        for first in range(0, len(split), _BLOCK):
            part = slice(first, first + _BLOCK)
            lines = pc.binary_join_element_wise(
                name,
                labels.take(pa.array(split.labels[part])),
                split.paths.arrow(part).cast(pa.large_binary()),
                _hexes(split.images.digests, split.rows[part]),
                pa.scalar(b"\0", pa.large_binary()),
            )
            total.update(_content(lines))
    return total.hexdigest()


def split_fingerprint(split: Split, classes: Sequence[str]) -> str:
    """SHA-256 over the bytes and labels of a split's images, whatever their names.

    Args:
        split: the images.
        classes: names of the classes.
    """
    names = (classes[label] for label in split.labels)
    return labelled_fingerprint(names, split.images.hexes(split.rows))


def labelled_fingerprint(labels: Iterable[str], digests: Iterable[str]) -> str:
    """SHA-256 over the bytes and labels of images, in whatever order.

    Args:
        labels: the class of each image.
        digests: SHA-256 of the bytes of each image, as hexadecimal text.
    """
    lines = sorted(f"{label}\0{digest}\n" for label, digest in zip(labels, digests, strict=True))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _hexes(digests: Digests, rows: Rows) -> pa.Array:
    """Each digest as hexadecimal text that ends a line."""
    text = np.frombuffer(digests[rows].tobytes().hex().encode(), np.uint8).reshape(-1, 64)
    lines = np.pad(text, ((0, 0), (0, 1)), constant_values=ord("\n"))
    ends = np.arange(0, lines.size + 1, lines.shape[1])
    return pa.Array.from_buffers(
        pa.large_binary(), len(rows), [None, pa.py_buffer(ends), pa.py_buffer(lines)]
    )


def _content(texts: pa.Array) -> memoryview:
    """The bytes of all values, one after the other."""
    _, ends, content = texts.buffers()
    last = np.frombuffer(ends, np.int64)[texts.offset + len(texts)]
    first = np.frombuffer(ends, np.int64)[texts.offset]
    return memoryview(content)[first:last]

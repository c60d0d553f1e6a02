"""The images of the page, each embedded once, up to a size limit.

An image is a CSS rule, `.p12 { background-image: ... }`, and an element of that class shows it: in
a gallery, in a dialog, in print, with or without JavaScript. Twenty galleries with the same image
then take no more space than one.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

MOST_PICTURE_BYTES = 9_000_000
"""For all images of the page. With 100 classes, 5 contenders and 3 seeds the rest takes 4 MB, so
the page stays below 15 MB, which most mail servers and review systems accept."""

START, END = "url(data:image/jpeg;base64,", ")"


class ImageStore:
    """Images by key, numbered in order, until the space is used up.

    Args:
        room: bytes of the page that images may take.
    """

    def __init__(self, room: int = MOST_PICTURE_BYTES) -> None:
        self.room = room
        self.rules: list[str] = []
        self.numbers: dict[tuple[str, str], int] = {}
        self.contents: dict[bytes, int] = {}

    def put(self, jpeg: bytes, path: str, run: str = "") -> int | None:
        """Store an image; returns its number, or None where it does not fit.

        Args:
            jpeg: the image.
            path: of the test image.
            run: the run's slug, for an image that belongs to one run; empty: shared by all runs.
        """
        key = (run, path)
        if key in self.numbers:
            return self.numbers[key]
        if jpeg in self.contents:
            self.numbers[key] = self.contents[jpeg]
            return self.contents[jpeg]
        number = len(self.rules)
        size = 4 * -(-len(jpeg) // 3) + len(f".p{number}{{background-image:{START}{END}}}\n")
        if size > self.room:
            return None
        self.room -= size
        code = base64.b64encode(jpeg).decode()
        self.rules.append(f".p{number}{{background-image:{START}{code}{END}}}\n")
        self.numbers[key] = self.contents[jpeg] = number
        return number

    def number(self, path: str, run: str = "") -> int | None:
        """The number of a stored image; None where it is not stored.

        Args:
            path: of the test image.
            run: the run's slug, for an image that belongs to one run; empty: shared by all runs.
        """
        return self.numbers.get((run, path))

    @property
    def style(self) -> Markup:
        """The CSS rules; their only variable parts are digits and base64."""
        return Markup("".join(self.rules))


def by_turns(numbers: Iterable[int], labels: npt.NDArray[np.int64]) -> Iterator[int]:
    """Reorder images round-robin by class: one of every class before the second of any.

    Args:
        numbers: indices of images, in order of priority within a class.
        labels: class of each image.
    """
    of_class: dict[int, list[int]] = {}
    for number in numbers:
        of_class.setdefault(int(labels[number]), []).append(number)
    queues = list(of_class.values())
    for turn in range(max(map(len, queues), default=0)):
        for queue in queues:
            if turn < len(queue):
                yield queue[turn]


def storage_order(
    paths: Sequence[str],
    labels: npt.NDArray[np.int64],
    mistakes: npt.NDArray[np.int64],
    thumbnails: Mapping[str, bytes],
) -> list[int]:
    """The order in which to store test images: those that most runs misclassify first, and
    round-robin by class, so that no class is left without images.

    Args:
        paths: of the n test images.
        labels: shape (n,), their classes.
        mistakes: shape (n,), how many runs misclassify each of them.
        thumbnails: JPEGs by path; images without one are left out.
    """
    stored = [number for number, path in enumerate(paths) if path in thumbnails]
    stored.sort(key=lambda number: (-int(mistakes[number]), paths[number]))
    wrong = [number for number in stored if mistakes[number]]
    right = [number for number in stored if not mistakes[number]]
    return [*by_turns(wrong, labels), *by_turns(right, labels)]

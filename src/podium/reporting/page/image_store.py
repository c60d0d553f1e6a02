"""The pictures of the page, each in it once, up to a number of bytes.

A picture is a rule of style, `.p12 { background-image: ... }`, and an element of that class shows
it: in a gallery, in the script's dialogs, on paper, with a script or without one. Twenty
galleries that show the same picture then cost what one does.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

MOST_PICTURE_BYTES = 9_000_000
"""Of the pictures in the page. With 100 classes, 5 contenders and 3 seeds the rest takes 4 MB, so
the page stays under 15 MB: what most mail servers and reviewers' systems let through."""

START, END = "url(data:image/jpeg;base64,", ")"


class ImageStore:
    """Pictures by key, numbered as they come, until there is no more room.

    Args:
        room: bytes of the page that they may take.
    """

    def __init__(self, room: int = MOST_PICTURE_BYTES) -> None:
        self.room = room
        self.rules: list[str] = []
        self.numbers: dict[tuple[str, str], int] = {}
        self.contents: dict[bytes, int] = {}

    def put(self, jpeg: bytes, path: str, run: str = "") -> int | None:
        """Keep a picture; returns its number, or none where it does not fit.

        Args:
            jpeg: the picture.
            path: of the test image.
            run: the run's slug for a picture that is only its own.
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
        """Of a picture that is there."""
        return self.numbers.get((run, path))

    @property
    def style(self) -> Markup:
        """The rules; nothing in them but digits and base64."""
        return Markup("".join(self.rules))


def by_turns(numbers: Iterable[int], labels: npt.NDArray[np.int64]) -> Iterator[int]:
    """Images so that every class gives one before any gives its second; else in their order."""
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
    """In which order the pictures of test images are kept: those that most runs have wrong first,
    and class by class in turn, so that none is left without.

    Args:
        paths: of the n test images.
        labels: (n,), their classes.
        mistakes: (n,), how many runs have each of them wrong.
        thumbnails: JPEGs by path; images without one are left out.
    """
    stored = [number for number, path in enumerate(paths) if path in thumbnails]
    stored.sort(key=lambda number: (-int(mistakes[number]), paths[number]))
    wrong = [number for number in stored if mistakes[number]]
    right = [number for number in stored if not mistakes[number]]
    return [*by_turns(wrong, labels), *by_turns(right, labels)]

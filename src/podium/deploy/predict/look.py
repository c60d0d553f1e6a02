"""Predicts images in batches, in threads of this process."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from podium.data.bands import Picture, as_rgb
from podium.data.images import decode_picture, read_image_file
from podium.deploy.predict.sources import Source
from podium.deploy.predictor import Guess, Logits, Predictor
from podium.errors import UnreadableImageError
from podium.evaluation.gradcam import grad_cam, overlay, watched_layer
from podium.evaluation.trained import TrainedModel
from podium.features.threads import in_threads
from podium.runtime.files import atomic_write

_LARGEST_OVERLAY = 1024  # pixels of the longest side
_LONGEST_NAME = 200  # bytes; most systems allow 255, and a suffix is added


@dataclass(frozen=True)
class FilePrediction:
    """What a model predicts for one file; `error` if the file could not be read.

    Examples:
        >>> import podium
        >>> found = podium.FilePrediction("photo.jpg", (podium.Guess("judo", 0.93),))
        >>> found.guesses[0].name
        'judo'
    """

    path: str
    guesses: tuple[Guess, ...] = ()
    """The most likely classes, the most likely first."""
    error: str = ""
    heat_map: str = ""
    """The file with the heat map over the image; None: not requested."""
    candidates: tuple[Guess, ...] = ()
    """The set of classes that contains the true one with the probability asked for, the most
    likely first; empty: no coverage was asked for."""
    none_of_these: bool | None = None
    """Whether the image is less similar to training images than those that are kept; None: that was
    not asked for."""


class Explainer:
    """Writes a heat map over each image, for the predicted class.

    Args:
        model: the run's model.
        folder: folder for the JPEGs, `<place>.gradcam.jpg`.

    Raises:
        UserError: the model has no layer with spatial positions.
    """

    def __init__(self, model: TrainedModel, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.layer = watched_layer(model)  # fails now, not after an hour
        self._taken: set[bytes] = set()

    def write(
        self,
        places: Sequence[Path],
        pictures: Sequence[Image.Image],
        pixels: npt.NDArray[np.uint8],
    ) -> None:
        """Write the maps of a batch.

        Args:
            places: the files to write.
            pictures: the images to draw on.
            pixels: the model's input, uint8 of shape (n, S, S, channels).
        """
        heat, _ = grad_cam(self.model, pixels)
        for place, picture, one in zip(places, pictures, heat, strict=True):
            save = functools.partial(overlay(picture, one).save, format="JPEG", quality=88)
            atomic_write(place, save)

    def place(self, source: Source) -> Path:
        """A file in the folder that no other image of this run has.

        Args:
            source: the image.
        """
        *folders, name = source.place.split("/")
        parts = [_short(one) for one in folders if one not in ("", ".", "..")]
        for number in itertools.count(1):
            again = f"-{number}" if number > 1 else ""
            place = Path(*parts, f"{_short(name)}{again}.gradcam.jpg")
            # some file systems do not distinguish A.jpg and a.jpg
            key = hashlib.blake2b(os.fsencode(str(place).casefold()), digest_size=16).digest()
            if key not in self._taken:
                break
        self._taken.add(key)
        return self.folder / place


class Look:
    """Predicts images in batches.

    Args:
        predictor: predictor of the run or the export.
        top: classes per image, 1 or more.
        size: images per batch.
        on_cpu: whether the predictor computes on the CPU.
        explainer: writes heat maps; None: no maps.
    """

    def __init__(
        self,
        predictor: Predictor,
        top: int,
        size: int,
        on_cpu: bool,
        explainer: Explainer | None = None,
    ) -> None:
        self.predictor, self.top, self.size, self.explainer = predictor, top, size, explainer
        self.turn = contextlib.nullcontext() if on_cpu else threading.Lock()

    def over(self, sources: Iterable[Source], *, in_turn: bool = False) -> Iterator[FilePrediction]:
        """Predict images in order.

        Args:
            sources: consumed as the work proceeds.
            in_turn: one batch at a time, with all cores; otherwise a batch in each thread.
        """
        if in_turn:
            for one in self._prepared(sources):
                yield from self._batch(one)
            return
        with contextlib.closing(in_threads(self._batch, self._prepared(sources))) as results:
            for found in results:
                yield from found

    def _prepared(
        self, sources: Iterable[Source]
    ) -> Iterator[tuple[list[Source], list[Path | None]]]:
        # names are assigned here, in order, so that they do not depend on the threads
        explainer = self.explainer
        for batch in in_lists(iter(sources), self.size):
            yield (
                batch,
                [explainer.place(one) if explainer and not one.error else None for one in batch],
            )

    def _batch(self, given: tuple[list[Source], list[Path | None]]) -> list[FilePrediction]:
        return _look(*given, self.predictor, self._compute, self.top, self.explainer, self.turn)

    def _compute(self, pixels: npt.NDArray[np.uint8]) -> Logits:
        with self.turn:
            return self.predictor.compute(pixels)


def is_readable(source: Source) -> bool:
    """Whether the bytes of an image can be read here, whatever they hold.

    Args:
        source: the image.
    """
    try:
        _content(source)
    except UnreadableImageError:
        return False
    return True


def _look(
    batch: list[Source],
    places: list[Path | None],
    predictor: Predictor,
    compute: Callable[[npt.NDArray[np.uint8]], Logits],
    top: int,
    explainer: Explainer | None,
    turn: contextlib.AbstractContextManager[object],
) -> list[FilePrediction]:
    found: list[FilePrediction | None] = []
    pixels: list[npt.NDArray[np.uint8]] = []
    shown: list[tuple[Path, Image.Image]] = []
    for source, place in zip(batch, places, strict=True):
        if source.error:
            found.append(FilePrediction(source.path, error=source.error))
            continue
        try:
            picture = _picture(source, predictor)
        except UnreadableImageError as error:
            found.append(FilePrediction(source.path, error=error.reason))
            continue
        pixels.append(predictor.pixels(picture))
        found.append(None)
        if explainer is not None and place is not None:
            small = as_rgb(picture)
            small.thumbnail((_LARGEST_OVERLAY, _LARGEST_OVERLAY))  # a whole batch is in memory
            shown.append((place, small))
        del picture
    if not pixels:
        return [one for one in found if one is not None]
    stacked = np.stack(pixels)
    logits = compute(stacked)
    if explainer is not None:
        with turn:
            explainer.write([place for place, _ in shown], [one for _, one in shown], stacked)
    foreign = predictor.foreign(logits)
    rows, maps = iter(enumerate(predictor.probabilities(logits))), iter(shown)
    results = []
    for source, one in zip(batch, found, strict=True):
        if one is None:
            at, row = next(rows)
            guesses, inside = tuple(predictor.best(row, top)), tuple(predictor.candidates(row))
            heat_map = str(next(maps)[0]) if explainer is not None else ""
            none = None if foreign is None else bool(foreign[at])
            one = FilePrediction(source.path, guesses, "", heat_map, inside, none)
        results.append(one)
    return results


def _picture(source: Source, predictor: Predictor) -> Picture:
    return decode_picture(_content(source), source.path, predictor.windows)


def _content(source: Source) -> bytes:
    if source.read is None:
        return read_image_file(Path(source.path), source.path)
    try:
        return source.read()
    except FileNotFoundError:  # each library has words of its own
        raise UnreadableImageError(source.path, "there is no such file") from None
    except OSError as error:
        raise UnreadableImageError(source.path, error.strerror or str(error)) from None


def in_lists(sources: Iterator[Source], size: int) -> Iterator[list[Source]]:
    """Images in lists of a number each; the last may be shorter.

    Args:
        sources: consumed as the lists are.
        size: images per list.
    """
    while batch := list(itertools.islice(sources, size)):
        yield batch


def _short(name: str) -> str:
    """A name short enough for a file system with a suffix; a long one ends in a digest."""
    raw = os.fsencode(name)
    if len(raw) <= _LONGEST_NAME:
        return name
    digest = hashlib.blake2b(raw, digest_size=6).hexdigest()
    return f"{os.fsdecode(raw[: _LONGEST_NAME // 2]).encode('utf-8', 'ignore').decode()}-{digest}"

"""Predictions for any number of image files: in order, as they become available."""

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
from podium.data.images import decode_picture, image_suffixes, load_picture
from podium.deploy.predict.load import load_any
from podium.deploy.predict.sources import Source, Sources
from podium.deploy.predictor import Guess, Logits, Predictor
from podium.deploy.sets import Wanted
from podium.errors import ConfigError, DataError, UnreadableImageError
from podium.evaluation.gradcam import grad_cam, overlay, watched_layer
from podium.evaluation.trained import TrainedModel
from podium.features.threads import in_threads
from podium.runs.folder import RunFolder
from podium.runtime.files import atomic_write, make_folder
from podium.runtime.threads import usable_cores

CPU_BATCH = 4  # per thread; measured at 224 px: 6 and 16 are as fast, 8 and 12 a quarter slower
GPU_BATCH = 64

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


def predict(
    run: RunFolder | str | Path,
    paths: str | Path | Iterable[str | Path],
    *,
    top: int = 5,
    device: str = "auto",
    batch_size: int | None = None,
    gradcam: str | Path | None = None,
    coverage: float | None = None,
    by_class: bool = False,
    keep: float | None = None,
) -> Iterator[FilePrediction]:
    """Predict images with a trained run's best epoch, one after the other, as they are read.

    Args:
        run: folder of a run, or of a contender or study (the run with the best validation score),
            the `hf://` address of a pushed run, an export, or a folder of a model's exports.
        paths: files, folders (all their images), patterns such as `photos/**/*.jpg`, packs, or
            addresses such as `s3://bucket/photos`.
        top: classes per image, the most likely first.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        batch_size: images per batch; None: a fast size, chosen automatically.
        gradcam: folder for a heat map over each image, for the predicted class; None: no maps.
        coverage: probability that an image's set of classes contains the true one, 0.5 to below 1,
            promised from the validation images; None: no sets.
        by_class: promise it for the images of each class, not only for all together.
        keep: share of images like the validation images, 0.5 to below 1, that are not called "none
            of these": images less similar to training images than all but these; None: none is.

    Returns:
        A `FilePrediction` per image. An image that cannot be read has an `error` instead of
        guesses, and does not stop the others.

    Raises:
        RunFolderError: `run` holds no trained model.
        ConfigError: `top` or `batch_size` is less than 1, heat maps are requested of an export, or
            the validation images are too few to promise the coverage.
        DataError: there are no images at all; raised after all paths were searched.

    Examples:
        >>> import podium
        >>> podium.predict("runs/my-study", ["photo.jpg"], top=0)
        Traceback (most recent call last):
        ...
        podium.errors.ConfigError: top: expected 1 or more, got 0.
    """
    wanted = Wanted.of(coverage, by_class, keep)
    return predictions(run, paths, top, device, batch_size, gradcam, wanted)[0]


def predictions(
    run: RunFolder | str | Path,
    paths: str | Path | Iterable[str | Path],
    top: int = 5,
    device: str = "auto",
    batch_size: int | None = None,
    gradcam: str | Path | None = None,
    wanted: Wanted | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[Iterator[FilePrediction], Sources, Predictor]:
    """Predict images, and return the sources and the predictor as well.

    Args:
        run: folder of a run, contender or study, the `hf://` address of a pushed run, or an export.
        paths: files, folders (all their images), patterns such as `photos/**/*.jpg`, packs, or
            addresses such as `s3://bucket/photos`.
        top: classes per image, the most likely first.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        batch_size: images per batch; None: a fast size, chosen automatically.
        gradcam: folder for a heat map over each image; None: no maps.
        wanted: what is wanted beside probabilities; None: nothing.
        tell: called with a sentence if there was a choice.

    Returns:
        `(predictions, sources, predictor)`.
    """
    for name, value in (("top", top), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ConfigError(f"{name}: expected 1 or more, got {value}.")
    predictor, model = load_any(run, device=device, wanted=wanted, tell=tell)
    explainer = None
    if gradcam is not None:
        if model is None:
            raise ConfigError(
                f"Grad-CAM needs access to the model's layers, and {run} is an export, which has "
                "none. Give the run that it was made from, or omit --gradcam."
            )
        make_folder(Path(gradcam))
        explainer = Explainer(model, Path(gradcam))
    given = [paths] if isinstance(paths, (str, Path)) else paths
    sources = Sources(
        given,
        leave_out=[Path(gradcam)] if gradcam is not None else [],
        suffixes=image_suffixes(predictor.windows.channels),
    )
    on_cpu = model is None or next(model.module.parameters()).device.type == "cpu"

    def found() -> Iterator[FilePrediction]:
        missing: list[str] = []
        for one in predict_files(
            predictor, sources, top=top, batch_size=batch_size, on_cpu=on_cpu, explainer=explainer
        ):
            if one.error and len(missing) < 3:
                missing.append(f"{one.path}: {one.error}")
            yield one
        if not sources.found:
            raise DataError(_nothing_found(sources, missing))

    return found(), sources, predictor


def _nothing_found(sources: Sources, missing: list[str]) -> str:
    skipped = ", ".join(f"{count} {what}" for what, count in sources.skipped.items())
    reasons = "; ".join([*missing, *([f"skipped: {skipped}"] if skipped else [])])
    why = f" ({reasons})" if reasons else ""
    return (
        f"There are no images to predict{why}. Expected files, folders with images, or "
        "quoted patterns such as 'photos/**/*.jpg'."
    )


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


def predict_files(
    predictor: Predictor,
    sources: Iterable[Source],
    *,
    top: int = 5,
    batch_size: int | None = None,
    on_cpu: bool = True,
    explainer: Explainer | None = None,
) -> Iterator[FilePrediction]:
    """Predict files in order, as they become available; memory does not grow with their number.

    On a CPU one thread per core decodes its own batch and runs it; on a GPU the threads take turns
    while the others decode. A small number of images is divided evenly.

    Args:
        predictor: predictor of the run or the export.
        sources: consumed as the work proceeds.
        top: classes per image, 1 or more.
        batch_size: images per batch; None: `CPU_BATCH` or `GPU_BATCH`.
        on_cpu: whether the predictor computes on the CPU.
        explainer: writes heat maps; None: no maps.

    Yields:
        One prediction per source. A file that cannot be read has an `error`, and does not stop
        the others.

    Raises:
        StorageError: a heat map cannot be written.
    """
    size = batch_size or (CPU_BATCH if on_cpu else GPU_BATCH)
    turn = contextlib.nullcontext() if on_cpu else threading.Lock()
    rest = iter(sources)
    cores = usable_cores()
    first = list(itertools.islice(rest, cores * size))
    if len(first) < cores * size:  # these are all
        size = max(1, -(-len(first) // cores))

    def compute(pixels: npt.NDArray[np.uint8]) -> Logits:
        with turn:
            return predictor.compute(pixels)

    def look(batch: tuple[list[Source], list[Path | None]]) -> list[FilePrediction]:
        return _look(*batch, predictor, compute, top, explainer, turn)

    def prepared() -> Iterator[tuple[list[Source], list[Path | None]]]:
        # names are assigned here, in order, so that they do not depend on the threads
        for batch in _batches(itertools.chain(first, rest), size):
            yield (
                batch,
                [explainer.place(one) if explainer and not one.error else None for one in batch],
            )

    if len(first) < cores:  # one at a time, with all cores
        for one in prepared():
            yield from look(one)
        return
    with contextlib.closing(in_threads(look, prepared())) as results:
        for found in results:
            yield from found


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
    if source.read is None:
        return load_picture(Path(source.path), source.path, predictor.windows)
    try:
        content = source.read()
    except FileNotFoundError:  # each library has words of its own
        raise UnreadableImageError(source.path, "there is no such file") from None
    except OSError as error:
        raise UnreadableImageError(source.path, error.strerror or str(error)) from None
    return decode_picture(content, source.path, predictor.windows)


def _batches(sources: Iterator[Source], size: int) -> Iterator[list[Source]]:
    while batch := list(itertools.islice(sources, size)):
        yield batch


def _short(name: str) -> str:
    """A name short enough for a file system with a suffix; a long one ends in a digest."""
    raw = os.fsencode(name)
    if len(raw) <= _LONGEST_NAME:
        return name
    digest = hashlib.blake2b(raw, digest_size=6).hexdigest()
    return f"{os.fsdecode(raw[: _LONGEST_NAME // 2]).encode('utf-8', 'ignore').decode()}-{digest}"

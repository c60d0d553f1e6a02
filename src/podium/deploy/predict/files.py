"""Pictures through a trained model, by the million: predictions as they come, in order."""

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

from podium.data.images import load_rgb
from podium.deploy.find.choose import choose_run
from podium.deploy.predict.sources import Source, Sources
from podium.deploy.predictor import Guess, Predictor, load_predictor
from podium.errors import ConfigError, DataError, UnreadableImageError
from podium.evaluation.gradcam import grad_cam, overlay, watched_layer
from podium.evaluation.trained import TrainedModel
from podium.features.threads import in_threads
from podium.runs.find import find_runs
from podium.runs.folder import RunFolder
from podium.runtime.files import atomic_write, make_folder
from podium.runtime.threads import usable_cores

CPU_BATCH = 4  # a thread; measured at 224 px: 6 and 16 are as fast, 8 and 12 a quarter slower
GPU_BATCH = 64

_LARGEST_OVERLAY = 1024  # pixels of the longest side
_LONGEST_NAME = 200  # bytes; most systems take 255, and an ending comes


@dataclass(frozen=True)
class FilePrediction:
    """What a model says of one file; `error` where the file could not be read."""

    path: str
    guesses: tuple[Guess, ...] = ()
    """The likeliest classes, the likeliest first."""
    error: str = ""
    heat_map: str = ""
    """The file with the picture and where the model looked, where that was asked for."""


def load_any(
    run: RunFolder | str | Path,
    *,
    device: str = "auto",
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[Predictor, TrainedModel | None]:
    """What predicts: a run's model, or one that was exported.

    Args:
        run: what `choose_run` takes, or the file or folder of an export, or a folder of exports.
        device: as in `Machine`; of an export only `auto`.
        tell: called with a sentence where there was something to choose.

    Returns:
        `(predictor, model)`; no model of an export, whose inside is not to be seen.

    Raises:
        RunFolderError: there is no trained model in `run`, or it is damaged.
        ConfigError: the device is not there, or is not for us to choose.
    """
    if isinstance(run, RunFolder) or not _may_be_export(Path(run)):
        return load_predictor(choose_run(run, tell), device=device)
    if device != "auto":
        raise ConfigError(
            f"--device {device}: {run} is an export, and runs where its library runs it. "
            "Leave --device away."
        )
    from podium.deploy.export.load import find_export, load_exported

    return load_exported(find_export(Path(run), tell)), None


def _may_be_export(path: Path) -> bool:
    """A file, or a folder that is neither a run's nor a contender's nor a study's."""
    if not path.is_dir():
        return path.is_file()
    return not find_runs(path).runs and not (path / "best.safetensors").is_file()


def predict(
    run: RunFolder | str | Path,
    paths: str | Path | Iterable[str | Path],
    *,
    top: int = 5,
    device: str = "auto",
    batch_size: int | None = None,
    gradcam: str | Path | None = None,
) -> Iterator[FilePrediction]:
    """Predict pictures with a trained run's best epoch, one after the other as they come.

    Args:
        run: a run's folder, a contender's or a study's (its best on the validation images), the
            address of one that was pushed, an export, or the folder of a model's exports.
        paths: files, folders (all their images) or patterns such as `photos/**/*.jpg`.
        top: classes a picture, the likeliest first.
        device: as in `Machine`.
        batch_size: pictures that are run at a time; empty: what is fast.
        gradcam: folder for a heat map over each picture, of the class that is predicted.

    Returns:
        A `FilePrediction` for every picture. One that cannot be read has an `error` in place of
        guesses, and does not stop the others.

    Raises:
        RunFolderError: there is no trained model in `run`.
        ConfigError: `top` or `batch_size` is no count, or an export has no map to show.
        DataError: there is no picture at all; raised once all paths were looked at.
    """
    return predictions(run, paths, top, device, batch_size, gradcam)[0]


def predictions(
    run: RunFolder | str | Path,
    paths: str | Path | Iterable[str | Path],
    top: int = 5,
    device: str = "auto",
    batch_size: int | None = None,
    gradcam: str | Path | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[Iterator[FilePrediction], Sources, Predictor]:
    """As `predict`, with the pictures that there were and what predicts them."""
    for name, value in (("top", top), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ConfigError(f"{name}: expected 1 or more, got {value}.")
    predictor, model = load_any(run, device=device, tell=tell)
    explainer = None
    if gradcam is not None:
        if model is None:
            raise ConfigError(
                f"Grad-CAM looks into a model, and {run} is an export, which cannot be looked "
                "into. Give the run that it was made of, or leave --gradcam away."
            )
        make_folder(Path(gradcam))
        explainer = Explainer(model, Path(gradcam))
    given = [paths] if isinstance(paths, (str, Path)) else paths
    sources = Sources(given, leave_out=[Path(gradcam)] if gradcam is not None else [])
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
    passed = ", ".join(f"{count} {what}" for what, count in sources.skipped.items())
    reasons = "; ".join([*missing, *([f"passed over: {passed}"] if passed else [])])
    why = f" ({reasons})" if reasons else ""
    return (
        f"There are no pictures to predict{why}. Expected files, folders with images, or "
        "patterns in quotes such as 'photos/**/*.jpg'."
    )


class Explainer:
    """Writes a heat map over each picture, of the class that is predicted.

    Args:
        model: the run's.
        folder: where the JPEGs go, `<place>.gradcam.jpg`.

    Raises:
        UserError: the model has no layer that keeps places.
    """

    def __init__(self, model: TrainedModel, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.layer = watched_layer(model)  # asked now: not after an hour
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
            pictures: as they are looked at.
            pixels: what the model sees of them, uint8 of shape (n, S, S, 3).
        """
        heat, _ = grad_cam(self.model, pixels)
        for place, picture, one in zip(places, pictures, heat, strict=True):
            save = functools.partial(overlay(picture, one).save, format="JPEG", quality=88)
            atomic_write(place, save)

    def place(self, source: Source) -> Path:
        """A file in the folder that no other picture of this run has."""
        *folders, name = source.place.split("/")
        parts = [_short(one) for one in folders if one not in ("", ".", "..")]
        for number in itertools.count(1):
            again = f"-{number}" if number > 1 else ""
            place = Path(*parts, f"{_short(name)}{again}.gradcam.jpg")
            # some file systems take A.jpg for a.jpg
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
    """Predictions of files in their order, as they come; memory does not grow with their number.

    On a CPU one thread a core decodes its own batch and runs it; on a GPU the threads take turns
    at it while the others decode. A few pictures are shared out evenly.

    Args:
        predictor: of the run or the export.
        sources: taken as the work goes on.
        top: classes a picture, 1 or more.
        batch_size: pictures that are run at a time; empty: `CPU_BATCH` or `GPU_BATCH`.
        on_cpu: where the predictor computes.
        explainer: writes heat maps, too.

    Yields:
        One for each source. What cannot be read has an `error`, and does not stop the others.

    Raises:
        StorageError: a heat map cannot be written.
    """
    size = batch_size or (CPU_BATCH if on_cpu else GPU_BATCH)
    turn = contextlib.nullcontext() if on_cpu else threading.Lock()
    rest = iter(sources)
    cores = usable_cores()
    first = list(itertools.islice(rest, cores * size))
    if len(first) < cores * size:  # that is all of them
        size = max(1, -(-len(first) // cores))

    def compute(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        with turn:
            return predictor.probabilities(predictor.compute(pixels))

    def look(batch: tuple[list[Source], list[Path | None]]) -> list[FilePrediction]:
        return _look(*batch, predictor, compute, top, explainer, turn)

    def prepared() -> Iterator[tuple[list[Source], list[Path | None]]]:
        # places are given out here, in order: which of two gets a number depends on no thread
        for batch in _batches(itertools.chain(first, rest), size):
            yield (
                batch,
                [explainer.place(one) if explainer and not one.error else None for one in batch],
            )

    if len(first) < cores:  # each with all cores
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
    compute: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float64]],
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
            picture = load_rgb(Path(source.path), name=source.path, windows=predictor.windows)
        except UnreadableImageError as error:
            found.append(FilePrediction(source.path, error=error.reason))
            continue
        pixels.append(predictor.pixels(picture))
        found.append(None)
        if explainer is not None and place is not None:
            picture.thumbnail((_LARGEST_OVERLAY, _LARGEST_OVERLAY))  # a batch of them is kept
            shown.append((place, picture))
        del picture
    if not pixels:
        return [one for one in found if one is not None]
    stacked = np.stack(pixels)
    probabilities = compute(stacked)
    if explainer is not None:
        with turn:
            explainer.write([place for place, _ in shown], [one for _, one in shown], stacked)
    rows, maps = iter(probabilities), iter(shown)
    results = []
    for source, one in zip(batch, found, strict=True):
        if one is None:
            guesses = tuple(predictor.best(next(rows), top))
            heat_map = str(next(maps)[0]) if explainer is not None else ""
            one = FilePrediction(source.path, guesses, heat_map=heat_map)
        results.append(one)
    return results


def _batches(sources: Iterator[Source], size: int) -> Iterator[list[Source]]:
    while batch := list(itertools.islice(sources, size)):
        yield batch


def _short(name: str) -> str:
    """A name that a file system takes with an ending; a long one gets a digest for its end."""
    raw = os.fsencode(name)
    if len(raw) <= _LONGEST_NAME:
        return name
    digest = hashlib.blake2b(raw, digest_size=6).hexdigest()
    return f"{os.fsdecode(raw[: _LONGEST_NAME // 2]).encode('utf-8', 'ignore').decode()}-{digest}"

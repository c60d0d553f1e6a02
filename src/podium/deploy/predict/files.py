"""Predictions for any number of image files: in order, as they become available."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

from podium.data.images import image_suffixes
from podium.deploy.predict.elsewhere import predict_elsewhere
from podium.deploy.predict.load import load_any
from podium.deploy.predict.look import Explainer, FilePrediction, Look
from podium.deploy.predict.sources import Source, Sources
from podium.deploy.predictor import Predictor
from podium.deploy.sets import Wanted
from podium.errors import ConfigError, DataError
from podium.runs.folder import RunFolder
from podium.runtime.files import make_folder
from podium.runtime.memory import recycled_memory
from podium.runtime.parts import Parts
from podium.runtime.threads import usable_cores

CPU_BATCH = 4  # per thread; measured at 224 px: 6 and 16 are as fast, 8 and 12 a quarter slower
GPU_BATCH = 64


def predictions(
    run: RunFolder | str | Path,
    paths: str | Path | Iterable[str | Path],
    top: int = 5,
    device: str = "auto",
    batch_size: int | None = None,
    gradcam: str | Path | None = None,
    wanted: Wanted | None = None,
    tell: Callable[[str], None] = lambda text: None,
    parts: Parts | None = None,
) -> tuple[Generator[FilePrediction, None, None], Sources, Predictor]:
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
        parts: what computes on other machines, where there are many images; None: nothing.

    Returns:
        `(predictions, sources, predictor)`.
    """
    for name, value in (("top", top), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ConfigError(f"{name}: expected 1 or more, got {value}.")
    here = device if parts is None else "cpu"  # those that compute have a device each
    predictor, model = load_any(run, device=here, wanted=wanted, tell=tell)
    if parts is not None and model is None:
        raise ConfigError(
            f"--on: {run} is an export, which only this machine can compute. Give the run that it "
            "was made from, or omit --on."
        )
    if parts is not None and gradcam is not None:
        raise ConfigError("--on: heat maps are made on this machine alone. Omit --on or --gradcam.")
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

    def found() -> Generator[FilePrediction, None, None]:
        missing: list[str] = []
        for one in predict_files(
            predictor,
            sources,
            top=top,
            batch_size=batch_size,
            on_cpu=on_cpu,
            explainer=explainer,
            parts=parts,
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


def predict_files(
    predictor: Predictor,
    sources: Iterable[Source],
    *,
    top: int = 5,
    batch_size: int | None = None,
    on_cpu: bool = True,
    explainer: Explainer | None = None,
    parts: Parts | None = None,
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
        parts: what computes on other machines, if there are more images than this one computes at
            a time; None: nothing. With it, there are no heat maps.

    Yields:
        One prediction per source. A file that cannot be read has an `error`, and does not stop
        the others.

    Raises:
        StorageError: a heat map cannot be written.
        DataError: another machine does not see an image that this one can read.
    """
    if parts is not None:
        on_cpu = parts.device == "cpu"
    size = batch_size or (CPU_BATCH if on_cpu else GPU_BATCH)
    rest = iter(sources)
    cores = usable_cores()
    first = list(itertools.islice(rest, cores * size))
    few = len(first) < cores * size  # these are all
    if parts is not None and not few:
        yield from predict_elsewhere(predictor, itertools.chain(first, rest), top, size, parts)
        return
    if few:
        size = max(1, -(-len(first) // cores))
    look = Look(predictor, top, size, on_cpu, explainer)
    with recycled_memory():
        yield from look.over(itertools.chain(first, rest), in_turn=len(first) < cores)

"""Where the runs of a study looked (Grad-CAM), on the pictures that its report shows.

Made after a run is scored, from its best epoch, and kept in its folder: reports run no model.

The test images are looked at again here, but no accuracy is computed and nothing is chosen: the
choice of pictures and the classes come from the predictions that the run has stored. So nothing
is written down in `podium.runs.ledger`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from podium.config.settings import DataSpec, Machine
from podium.data.fetch import resolve_data
from podium.data.folder import FolderSource
from podium.data.images import decode_rgb, thumbnail_jpeg
from podium.data.layout import find_images
from podium.data.listing import open_source
from podium.data.source import Reader
from podium.data.transforms import eval_transform
from podium.errors import DataError, RunFolderError, StorageError, one_line
from podium.evaluation.gradcam import grad_cam, overlay
from podium.evaluation.trained import TrainedModel, load_run
from podium.results.pictures import confident_mistakes, random_pictures
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.pictures import write_pictures
from podium.runs.predictions import Predictions
from podium.runtime.device import choose_device
from podium.runtime.events import Notify, WarningMessage, silent
from podium.runtime.lock import sole_owner

SIDE = 160  # pixels of the longest side, as of the pictures that they are shown beside
BATCH = 8
_AWAY = 0.02  # of the largest logit: less on another device, more of another picture


@dataclass(frozen=True)
class _Task:
    """A picture to explain: its number among the predictions, and its path."""

    number: int
    path: str


def explain(
    study: StudyFolder | str | Path,
    data: str | Path | None = None,
    *,
    device: str = "auto",
    notify: Notify = silent,
) -> list[RunFolder]:
    """Make the heat maps that the report shows, for finished runs that have none.

    Args:
        study: the study's folder.
        data: its images; empty: where they were when it was run.
        device: as in `Machine`.
        notify: told of what could not be explained, as warnings.

    Returns:
        The runs that were explained now.

    Raises:
        RunFolderError: the folder is no study's, a run is in use, or no run of it is finished.
        DataError: the images are not there.
    """
    folder = study if isinstance(study, StudyFolder) else StudyFolder(Path(study))
    spec = folder.read_spec()
    done = [run for run in folder.runs(spec) if run.is_done()]
    if not done:
        raise RunFolderError(f"{folder.path} holds no finished run. Finish it with `podium run`.")
    machine = Machine(device=device)
    todo = [run for run in done if not run.explanations.is_file()]
    if not todo:
        return []
    for run in todo:
        if not run.best.is_file():
            notify(WarningMessage(f"{run.path} holds no weights any more: it is left out."))
    images = _images_of(folder, None if data is None else str(data), spec.data)
    explained = []
    for run in todo:
        with sole_owner(run.path):
            explained += explain_runs(folder, [run], images, machine, notify)
    return explained


def explain_runs(
    study: StudyFolder,
    runs: Iterable[RunFolder],
    images: Reader,
    machine: Machine,
    notify: Notify = silent,
) -> list[RunFolder]:
    """Write `explanations` of every finished run that has weights and no such file yet.

    The file is whole or absent. A run that cannot be explained is warned of and stays as it was.
    Call it as the owner of the runs' folders.

    Args:
        study: whose test images' thumbnails are stored: the gallery shows no others.
        runs: of it.
        images: reads its images.
        machine: whose device computes.
        notify: told what could not be done.

    Returns:
        The runs that were explained.

    Raises:
        StorageError: the folder cannot be written.
    """
    explained: list[RunFolder] = []
    todo = [run for run in runs
            if run.is_done() and run.best.is_file() and not run.explanations.is_file()]  # fmt: skip
    if not todo:
        return explained
    place = choose_device(machine).torch
    for run in todo:
        try:
            pictures = dict(_pictures(run, images, study.read_thumbnails(), place, notify))
        except StorageError:
            raise
        except Exception as error:  # an exotic model; the run is done and counts without them
            notify(WarningMessage(f"{run.path}: no heat maps of it ({one_line(error)})."))
            continue
        write_pictures(run.explanations, pictures.items())
        explained.append(run)
    return explained


def _pictures(
    run: RunFolder,
    images: Reader,
    thumbnails: Mapping[str, bytes],
    device: torch.device,
    notify: Notify,
) -> Iterator[tuple[str, bytes]]:
    """Key and JPEG of each map: `path` of the predicted class, `path#label` of the true one."""
    predictions = run.read_predictions("test")
    shown = (
        *random_pictures(predictions, thumbnails),
        *confident_mistakes(predictions, thumbnails),
    )
    numbers = {path: number for number, path in enumerate(predictions.paths)}
    tasks = [_Task(numbers[path], path) for path in dict.fromkeys(one.path for one in shown)]
    model = load_run(run, device)
    left_out: list[str] = []
    for first in range(0, len(tasks), BATCH):
        yield from _maps(tasks[first : first + BATCH], model, predictions, images, left_out)
    if left_out:
        notify(WarningMessage(f"{run.path}: no heat maps of {', '.join(left_out[:3])}"
                                f"{', ...' * (len(left_out) > 3)}: other pictures than were "
                                "scored, or none."))  # fmt: skip


def _maps(
    tasks: Iterable[_Task],
    model: TrainedModel,
    predictions: Predictions,
    images: Reader,
    left_out: list[str],
) -> Iterator[tuple[str, bytes]]:
    source = eval_transform(model.image_size).source
    found: list[tuple[_Task, Image.Image]] = []
    pixels: list[npt.NDArray[np.uint8]] = []
    for task in tasks:
        try:
            picture = decode_rgb(images.read(task.path), task.path, windows=model.windows)
        except DataError:
            left_out.append(task.path)
            continue
        pixels.append(source(picture))
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        found.append((task, picture))
    if not found:
        return
    numbers = [task.number for task, _ in found]
    predicted, labels = predictions.predicted[numbers], predictions.labels[numbers]
    heat, logits = grad_cam(model, np.stack(pixels), predicted)
    stored = predictions.logits[numbers]
    near = np.abs(logits - stored).max(1) <= _AWAY * np.abs(stored).max(1)
    true_heat = heat
    if (wrong := predicted != labels).any():
        true_heat = grad_cam(model, np.stack(pixels), labels)[0]
    for at, (task, picture) in enumerate(found):
        if not near[at]:  # what it would show is not why the run said what it said
            left_out.append(task.path)
            continue
        yield task.path, thumbnail_jpeg(overlay(picture, heat[at]), SIDE)
        if wrong[at]:
            yield f"{task.path}#label", thumbnail_jpeg(overlay(picture, true_heat[at]), SIDE)


def _images_of(folder: StudyFolder, given: str | None, named: DataSpec) -> Reader:
    """A study's images: in what is given, else where they were, else in what it names."""
    if given is None and named.source == "folder":
        root = folder.read_data().get("root")
        if isinstance(root, str) and Path(root).is_dir():
            return Reader(FolderSource(Path(root)))
    try:
        if named.source != "folder":
            path = named.path if given is None else given
            return Reader(open_source(named.model_copy(update={"path": path})))
        return Reader(FolderSource(find_images(resolve_data(given or named.path)).root))
    except DataError as error:
        if given is not None:
            raise
        raise DataError(
            f"The images of {folder.path} are not where they were. {error} "
            "Say where they are: --data FOLDER."
        ) from None

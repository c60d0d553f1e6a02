"""Grad-CAM heat maps of a study's runs, for the images that its report shows.

They are made after a run is scored, from its best epoch, and kept in its folder: reports run no
model.

The test images are used again here, but no accuracy is computed and nothing is chosen: the
selection of images and classes comes from the stored predictions. So nothing is recorded in
`podium.runs.ledger`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from podium.config.machine import Machine
from podium.config.shortcuts import SHORTCUT_MODELS
from podium.data.bands import as_rgb
from podium.data.images import decode_picture, thumbnail_jpeg
from podium.data.recorded import study_source
from podium.data.source import Reader
from podium.data.transforms import eval_transform
from podium.errors import DataError, RunFolderError, StorageError, one_line
from podium.evaluation.gradcam import grad_cam, overlay
from podium.evaluation.trained import TrainedModel, load_run
from podium.results.pictures import confident_mistakes, random_pictures
from podium.results.run import run_temperature
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.pictures import write_pictures
from podium.runs.predictions import Predictions
from podium.runtime.device import choose_device
from podium.runtime.events import Notify, WarningMessage, silent
from podium.runtime.lock import sole_owner
from podium.statistics.likeliest import top_classes

SIDE = 160  # longest side in pixels, as of the images shown beside the maps
BATCH = 8
_AWAY = 0.02  # share of the largest logit: another device differs by less, another image by more


@dataclass(frozen=True)
class _Task:
    """An image to explain: its index among the predictions, and its path."""

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
        study: folder of the study.
        data: its images, as `data.path` of a study; None: their location when it was run.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        notify: called with a warning for everything that could not be explained.

    Returns:
        The runs that were explained now.

    Raises:
        RunFolderError: `study` is not a study folder, a run is in use, or no run is finished.
        DataError: the images are missing.

    Examples:
        >>> import podium
        >>> podium.explain("no-such-study")
        Traceback (most recent call last):
        ...
        podium.errors.RunFolderError: no-such-study ...
    """
    folder = study if isinstance(study, StudyFolder) else StudyFolder(Path(study))
    spec = folder.read_spec()
    done = [run for run in folder.runs(spec) if run.is_done()]
    if not done:
        raise RunFolderError(f"{folder.path} holds no finished run. Finish one with `podium run`.")
    machine = Machine(device=device)
    todo = [run for run in done if not run.explanations.is_file()]
    if not todo:
        return []
    for run in todo:
        if not run.best.is_file():
            notify(WarningMessage(f"{run.path} no longer holds weights: it is left out."))
    images = Reader(study_source(folder, data))
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

    The file is whole or absent. A run that cannot be explained causes a warning and is unchanged.
    Call this as the owner of the runs' folders.

    Args:
        study: the study, whose thumbnails of test images limit the choice of images.
        runs: runs of the study.
        images: reads the study's images.
        machine: its device computes the maps.
        notify: called with a warning for everything that could not be explained.

    Returns:
        The runs that were explained.

    Raises:
        StorageError: the folder cannot be written.
    """
    explained: list[RunFolder] = []
    todo = [
        run
        for run in runs
        if run.is_done()
        and run.best.is_file()
        and not run.explanations.is_file()
        # they look at nothing that a map of the image could show
        and run.read_done().get("model") not in SHORTCUT_MODELS
    ]
    if not todo:
        return explained
    place = choose_device(machine).torch
    for run in todo:
        try:
            pictures = dict(_pictures(run, images, study.read_thumbnails(), place, notify))
        except StorageError:
            raise
        except Exception as error:  # an exotic model; the run is valid without heat maps
            notify(WarningMessage(f"{run.path}: no heat maps could be made ({one_line(error)})."))
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
    said = top_classes(predictions, 1, temperature=run_temperature(run))
    shown = (
        *random_pictures(predictions, thumbnails, said),
        *confident_mistakes(predictions, thumbnails, said),
    )
    numbers = {path: number for number, path in enumerate(predictions.paths)}
    tasks = [_Task(numbers[path], path) for path in dict.fromkeys(one.path for one in shown)]
    left_out: list[str] = []
    for tested_by, theirs in _by_model(run, tasks):
        model = load_run(tested_by, device)
        for first in range(0, len(theirs), BATCH):
            yield from _maps(theirs[first : first + BATCH], model, predictions, images, left_out)
    if left_out:
        notify(
            WarningMessage(
                f"{run.path}: no heat maps of {', '.join(left_out[:3])}"
                f"{', ...' * (len(left_out) > 3)}: the images are missing or "
                "differ from those scored."
            )
        )


def _by_model(run: RunFolder, tasks: list[_Task]) -> Iterator[tuple[RunFolder, list[_Task]]]:
    """Each model that made some of the run's predictions, with the images that it predicted.

    With cross-validation, that is the fold's: the final model has been trained on these images.
    """
    count = run.read_done().get("folds")
    if count is None:
        yield run, tasks
        return
    for number in range(int(count)):
        fold = run.study.run(run.contender, run.seed, number)
        own = set(fold.read_predictions("test").paths)
        if theirs := [task for task in tasks if task.path in own]:
            yield fold, theirs


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
            picture = decode_picture(images.read(task.path), task.path, model.windows)
        except DataError:
            left_out.append(task.path)
            continue
        pixels.append(source(picture))
        small = as_rgb(picture)
        small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        found.append((task, small))
    if not found:
        return
    theirs = predictions.take(np.array([task.number for task, _ in found], np.int64))
    predicted, labels, stored = theirs.predicted, theirs.labels, theirs.logits
    heat, logits = grad_cam(model, np.stack(pixels), predicted)
    near = np.abs(theirs.reduced(logits) - stored).max(1) <= _AWAY * np.abs(stored).max(1)
    true_heat = heat
    if (wrong := predicted != labels).any():
        true_heat = grad_cam(model, np.stack(pixels), labels)[0]
    for at, (task, shown) in enumerate(found):
        if not near[at]:  # the map would not explain the stored prediction
            left_out.append(task.path)
            continue
        yield task.path, thumbnail_jpeg(overlay(shown, heat[at]), SIDE)
        if wrong[at]:
            yield f"{task.path}#label", thumbnail_jpeg(overlay(shown, true_heat[at]), SIDE)

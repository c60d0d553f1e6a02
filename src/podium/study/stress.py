"""Has a study's finished runs predict corrupted images, and keeps what they say.

By default, those are the validation images: the test images stay unseen. With the test images, it
is one more look at them, and recorded as such in the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from podium.config.machine import Machine
from podium.data.bands import as_rgb
from podium.data.checking import load_checked
from podium.data.recorded import study_source
from podium.data.source import Reader
from podium.data.transforms import eval_transform, prepare
from podium.errors import ConfigError, DataError, RunFolderError
from podium.evaluation.alike import Alike, together
from podium.evaluation.corruptions import CONDITIONS, corrupted
from podium.evaluation.trained import TrainedModel, load_run
from podium.results.stress import read_stress
from podium.runs.find import find_runs
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.images import image_rows
from podium.runs.ledger import keep_copy, record
from podium.runs.predictions import Predictions, SplitName
from podium.runs.stress import StressPredictions, stress_file
from podium.runtime.device import choose_device
from podium.runtime.events import EvaluateProgress, Message, Notify, silent
from podium.runtime.files import utc_now
from podium.runtime.memory import recycled_memory
from podium.runtime.threads import in_order
from podium.statistics.stress import Stressed

BATCH = 32
Pixels = npt.NDArray[np.uint8]


def stress(
    runs: str | Path,
    data: str | Path | None = None,
    *,
    split: SplitName = "valid",
    device: str = "auto",
    notify: Notify = silent,
) -> Stressed:
    """Compare contenders on blurred, noisy, compressed, darkened, rotated and coarse images.

    What finished runs predict is kept in the study's `stress-<split>.parquet`; no page is written.

    Args:
        runs: folder of a study, a contender or a run.
        data: the study's images, as `data.path` of a study; None: where they were.
        split: `valid`, or `test`, which is recorded as a look at the test images.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        notify: called with progress, and with what is left out.

    Returns:
        `means` (contender -> mean accuracy under corruption, 0..1), `curves` (its accuracy in each
        of `conditions`, with interval) and `pairs` (paired differences, those of all corruptions
        together first; `turns` where the order does).

    Raises:
        RunFolderError: there is no finished run with weights.
        ConfigError: `split` is neither, or the study cannot be stressed.
        DataError: the images are missing, or are others.

    Examples:
        >>> import podium
        >>> def weakest_spot(study):
        ...     found = podium.stress(study)
        ...     worst = min(found.pairs, key=lambda pair: pair.stressed.interval.value)
        ...     return f"{worst.first} falls behind {worst.second} by {worst.corruption}"
        >>> weakest_spot("no-such-study")
        Traceback (most recent call last):
        ...
        podium.errors.RunFolderError: no-such-study holds no finished run with weights. ...
    """
    study = predict_corrupted(runs, data, split=split, device=device, notify=notify)
    return read_stress(study, split)


def predict_corrupted(
    runs: str | Path,
    data: str | Path | None = None,
    *,
    split: SplitName = "valid",
    device: str = "auto",
    notify: Notify = silent,
) -> StudyFolder:
    """Predict corrupted images with finished runs, and keep it in `stress-<split>.parquet`.

    Args:
        runs: folder of a study, a contender or a run.
        data: the study's images, as `data.path` of a study; None: where they were.
        split: `valid`, or `test`, which is recorded as a look at the test images.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        notify: called with progress, and with what is left out.

    Returns:
        The study's folder.

    Raises:
        RunFolderError: there is no finished run with weights.
        ConfigError: `split` is neither, or the study cannot be stressed.
        DataError: the images are missing, or are others.
    """
    if split not in ("valid", "test"):
        raise ConfigError(f"--split {split!r}: expected valid or test.")
    study, chosen = _runs_of(Path(runs), notify)
    place = choose_device(Machine(device=device)).torch
    models = {run: load_run(run, place) for run in chosen}
    if blind := [run for run, model in models.items() if model.sees_files]:
        left_out = dict.fromkeys(run.contender for run in blind)
        notify(Message(f"left out, since it sees no pixels: {', '.join(left_out)}"))
        models = {run: model for run, model in models.items() if run not in blind}
    if not models:
        raise RunFolderError(f"{runs} holds no run that sees pixels.")
    known = _same_images([*models], split)
    said = _predict(study, models, known, data, place, split, notify)
    names = known.class_names
    if split == "test":
        _write_down(study, said, known, [*models])
    found = StressPredictions(names, known.paths, known.labels, CONDITIONS, said)
    found.write(stress_file(study.path, split))
    return study


def _runs_of(path: Path, notify: Notify) -> tuple[StudyFolder, list[RunFolder]]:
    found = find_runs(path)
    done = [run for run in found.runs if run.is_done() and run.best.is_file()]
    if not done:
        raise RunFolderError(
            f"{path} holds no finished run with weights. Give the folder of a study, a contender "
            "or a run, such as runs/sports100."
        )
    if left := len(found.runs) - len(done):
        notify(Message(f"left out, not finished or without weights: {left} of {len(found.runs)}"))
    study = done[0].study
    spec = study.read_spec()
    if spec.data.folds is not None:
        raise ConfigError(
            f"{study.path} is cross-validated: its final models have seen all images. Stress a "
            "study with a test split."
        )
    if spec.data.channels is not None:
        raise ConfigError(
            f"{study.path} has images of {spec.data.channels} channels (data.channels), and "
            "corruptions are made for RGB."
        )
    return study, done


def _same_images(runs: Sequence[RunFolder], split: SplitName) -> Predictions:
    """The stored predictions of the first run, whose images all runs share."""
    first = runs[0].read_predictions(split)
    for run in runs[1:]:
        other = run.read_predictions(split)
        if other.paths != first.paths or other.class_names != first.class_names:
            raise RunFolderError(f"{run.path} has other images or classes than {runs[0].path}.")
    return first


def _predict(
    study: StudyFolder,
    models: dict[RunFolder, TrainedModel],
    known: Predictions,
    data: str | Path | None,
    place: torch.device,
    split: str,
    notify: Notify,
) -> dict[tuple[str, int], npt.NDArray[np.int64]]:
    """(contender, seed) -> predicted classes, shape (conditions, images)."""
    reader = Reader(study_source(study, data))
    digests = dict(image_rows(study.images, "path", "sha256"))
    windows = next(iter(models.values())).windows
    sizes = {model.image_size for model in models.values()}

    def look(path: str) -> dict[int, Pixels]:
        """The image in all conditions, for inputs of each size; decoded once."""
        picture = as_rgb(load_checked(reader, path, digests.get(path), windows))
        found: dict[int, list[Pixels]] = {size: [] for size in sizes}
        for one in corrupted(picture):
            for size, made in found.items():
                made.append(eval_transform(size).source(one))
        return {size: np.stack(made) for size, made in found.items()}

    said: dict[tuple[str, int], list[npt.NDArray[np.int64]]] = {
        (run.contender, run.seed): [] for run in models
    }
    groups = together(models.values())
    run_of = {id(model): (run.contender, run.seed) for run, model in models.items()}
    with recycled_memory():
        for done, inputs in enumerate(in_order(look, known.paths), 1):
            for group in groups:
                found = _classes(group, inputs[group.models[0].image_size], place)
                for model, classes in zip(group.models, found, strict=True):
                    said[run_of[id(model)]].append(classes)
            notify(EvaluateProgress(f"corrupted {split} images", done, len(known)))
    return {key: np.stack(columns, axis=1) for key, columns in said.items()}


def _classes(group: Alike, pixels: Pixels, place: torch.device) -> list[npt.NDArray[np.int64]]:
    """The classes that each model of a group predicts."""
    mean, std = group.models[0].normalization or (None, None)
    found = []
    with torch.inference_mode():
        for part in torch.split(torch.from_numpy(pixels).permute(0, 3, 1, 2), BATCH):
            inputs = prepare(part.to(place), mean, std)
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            found.append([one.argmax(1).cpu().numpy() for one in group.scores(inputs)])
    return [np.concatenate(parts).astype(np.int64) for parts in zip(*found, strict=True)]


def _write_down(
    study: StudyFolder,
    said: dict[tuple[str, int], npt.NDArray[np.int64]],
    known: Predictions,
    runs: Sequence[RunFolder],
) -> None:
    """Record the look at the test images, before its result is written."""
    images = study.read_data().get("test_fingerprint")
    if not isinstance(images, str):
        raise DataError(f"{study.data} does not say which test images were used. Run podium run.")
    for run in runs:
        right = said[run.contender, run.seed][0] == known.labels
        record(
            run,
            images=images,
            n=len(known),
            accuracy=float(right.mean()),
            at=utc_now(),
            recipe=run.read_config()["recipe"],
            by="stress",
        )
    keep_copy(study.path, images)

"""A trained run and a split of images -> a predictions file, from which all figures come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from podium.data.dataset import ImageDataset
from podium.data.grey import OWN_WINDOWS, GreyWindows
from podium.data.index import DataIndex
from podium.data.loader import make_loader
from podium.data.transforms import Normalization, eval_transform
from podium.errors import DataError
from podium.evaluation.description import read_description, rebuild
from podium.evaluation.inference import predict
from podium.runs.folder import RunFolder
from podium.runs.predictions import Predictions, SplitName
from podium.runtime.events import Event, Notify, StopRequest, silent


@dataclass(frozen=True)
class TrainedModel:
    """The best epoch of a run, ready to use: the model and how it wants its images."""

    module: nn.Module
    class_names: tuple[str, ...]
    image_size: int
    normalization: Normalization
    temperature: float = 1.0
    """Fitted on the validation images; 1 where the run is older than that, or unfinished."""
    flip_test: bool = False
    """Whether the logits are those of a picture and its mirror image, averaged."""
    windows: GreyWindows = OWN_WINDOWS
    """What it was trained to see of grey values deeper than 8 bit."""

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Calibrated probabilities: softmax of logits / temperature, in float32 or wider.

        Args:
            logits: as `module` gives them, shape (..., classes).

        Returns:
            The same shape, 0..1, summing to 1 over the classes. The largest stays the largest.
        """
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return torch.softmax(wide / self.temperature, dim=-1)


def load_run(folder: RunFolder, device: torch.device | str = "cpu") -> TrainedModel:
    """Load the weights of a run's best epoch. Runs no code that the folder may hold.

    Args:
        folder: a run, finished or not, that has ended at least one epoch.
        device: where to put the model.

    Raises:
        RunFolderError: weights or `model.json` are missing, damaged, or do not fit each other.
    """
    found = read_description(folder.model)
    module = rebuild(found, folder.best).to(device).to(memory_format=torch.channels_last)
    return TrainedModel(
        module,
        tuple(found.class_names),
        found.image_size,
        found.normalization,
        found.temperature,
        found.flip_test,
        found.grey_windows,
    )


def predict_split(
    model: TrainedModel,
    index: DataIndex,
    split: SplitName,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 32,
    workers: int = 0,
    notify: Notify = silent,
    stop: StopRequest | None = None,
) -> Predictions:
    """Logits of every image of a split.

    Args:
        model: as `load_run` gives it.
        index: the images; their classes must be the model's.
        split: which of them.
        device: where the model is.
        batch_size: images at a time; changes speed and memory alone.
        workers: decoding processes.
        notify: told of the progress.
        stop: asked after every batch.

    Raises:
        KeyboardInterrupt: `stop` was set.
        DataError: the classes differ, or an image can no longer be read.
    """
    unknown = sorted(set(index.classes) - set(model.class_names))
    if unknown:
        raise DataError(
            f"The model knows {len(model.class_names)} classes, and {', '.join(unknown[:5])} "
            f"{'is' if len(unknown) == 1 else 'are'} not among them. "
            "Evaluate it on images of the classes that it was trained on."
        )
    part = index.splits[split]
    if not len(part):
        raise DataError(f"There are no images in the {split} split of {index.root}.")
    place = torch.device(device)
    loader = make_loader(
        ImageDataset(
            index.decoded_for(model.windows), split, eval_transform(model.image_size), None
        ),
        workers=workers,
        device=place,
        batch_size=batch_size,
    )
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        notify(Event("evaluate", split, step=done, total=len(part)))

    logits, _ = predict(
        model.module, loader, place, model.normalization, progress, flip=model.flip_test, stop=stop
    )
    numbers = {name: number for number, name in enumerate(model.class_names)}
    labels = [numbers[index.classes[label]] for label in part.labels]
    return Predictions(model.class_names, part.paths, np.asarray(labels, dtype=np.int64), logits)

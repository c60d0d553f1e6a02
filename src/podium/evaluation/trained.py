"""Loads a trained run and predicts a split: the predictions that all figures are computed from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from podium.config.shortcuts import FILE_MODEL
from podium.data.dataset import ImageDataset
from podium.data.file_cards import with_cards
from podium.data.grey import OWN_WINDOWS, GreyWindows
from podium.data.index import DataIndex
from podium.data.loader import make_loader
from podium.data.transforms import Normalization, eval_transform
from podium.errors import DataError
from podium.evaluation.description import read_description, rebuild
from podium.evaluation.inference import predict
from podium.runs.folder import RunFolder
from podium.runs.predictions import Predictions, SplitName
from podium.runtime.events import Notify, StopRequest, silent


@dataclass(frozen=True)
class TrainedModel:
    """The best epoch of a run, ready to use: the model and how to prepare its images."""

    module: nn.Module
    class_names: tuple[str, ...]
    image_size: int
    normalization: Normalization
    temperature: float = 1.0
    """Fitted on the validation images; 1 if the run is unfinished or predates calibration."""
    flip_test: bool = False
    """Whether the logits of an image and its mirror image are averaged."""
    windows: GreyWindows = OWN_WINDOWS
    """How grey values deeper than 8 bits were mapped in training, and the channels of images."""
    sees_files: bool = False
    """Whether its input is not the image, but the card of its file (`podium.data.file_cards`)."""

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Compute calibrated probabilities: softmax of logits / temperature, in float32 or wider.

        Args:
            logits: output of `module`, shape (..., classes).

        Returns:
            The same shape, 0..1, summing to 1 over the classes. The ranking stays the same.
        """
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return torch.softmax(wide / self.temperature, dim=-1)


def load_run(folder: RunFolder, device: torch.device | str = "cpu") -> TrainedModel:
    """Load the weights of a run's best epoch, without running any code from the folder.

    Args:
        folder: a run, finished or not, with at least one completed epoch.
        device: where to put the model.

    Raises:
        RunFolderError: the weights or `model.json` are missing, damaged, or do not match.
    """
    found = read_description(folder.model)
    module = rebuild(found, folder.best).to(device).to(memory_format=torch.channels_last)
    return TrainedModel(
        module,
        tuple(found.class_names),
        found.image_size,
        found.normalization,
        found.temperature,
        found.flip_test and found.trained_by != "ensemble",  # whose members do that themselves
        found.grey_windows,
        found.model == FILE_MODEL,
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
    """Compute the logits of every image of a split.

    Args:
        model: from `load_run`.
        index: the images; their classes must be among the model's.
        split: the split to predict.
        device: where the model is.
        batch_size: images per batch; affects only speed and memory.
        workers: number of decoding processes.
        notify: receives the progress.
        stop: checked after every batch.

    Raises:
        KeyboardInterrupt: `stop` was set.
        DataError: the model does not know a class, the split is empty, or an image can no longer
            be read.
    """
    unknown = sorted(set(index.classes) - set(model.class_names))
    if unknown:
        raise DataError(
            f"The model knows {len(model.class_names)} classes, and {', '.join(unknown[:5])} "
            f"{'is' if len(unknown) == 1 else 'are'} not among them. "
            "Evaluate it on images of classes that it was trained on."
        )
    if model.sees_files:
        index = with_cards(index)
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
    logits, _ = predict(
        model.module,
        loader,
        place,
        model.normalization,
        notify,
        what=split,
        total=len(part),
        flip=model.flip_test,
        stop=stop,
    )
    numbers = {name: number for number, name in enumerate(model.class_names)}
    labels = [numbers[index.classes[label]] for label in part.labels]
    found = np.asarray(labels, dtype=np.int64)
    return Predictions(model.class_names, tuple(part.paths), found, logits)

"""Inference on batches of images, shared by training, evaluation and prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.data import DataLoader

from podium.config.settings import RunSpec
from podium.data.loader import batches
from podium.data.transforms import Normalization
from podium.models import BuiltModel
from podium.runtime.events import EvaluateProgress, Notify, StopRequest, silent
from podium.runtime.memory import recycled_memory
from podium.runtime.threads import a_core_each


def predict(
    module: nn.Module,
    loader: DataLoader[Any],
    device: torch.device,
    normalization: Normalization,
    notify: Notify = silent,
    *,
    what: str = "images",
    total: int = 0,
    flip: bool = False,
    stop: StopRequest | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Compute the logits of every image of `loader`, in its order.

    Always in fp32, whatever the precision of training, so that the saved weights reproduce the
    figures of the report on any machine.

    Args:
        module: the model; left in evaluation mode.
        loader: the images.
        device: where the model is.
        normalization: of the inputs.
        notify: receives the progress after every batch: number of images done.
        what: name of the images in the progress.
        total: number of images, for the progress.
        flip: also score the mirror images, and average the logits.
        stop: checked after every batch.

    Returns:
        `(logits, labels)`: float32 of shape (n, classes), int64 of shape (n,).

    Raises:
        KeyboardInterrupt: `stop` was set.
        UnreadableImageError: an image can no longer be read; the message names it.
    """
    module.eval()
    found, labels, done = [], [], 0
    source = batches(loader, device, normalization)
    with torch.inference_mode(), a_core_each(), recycled_memory():
        for inputs, target, _ in source:
            logits = score(module, inputs, flip=flip)
            found.append(logits.cpu().numpy())
            labels.append(target.cpu().numpy())
            done += len(target)
            notify(EvaluateProgress(what, done, total))
            if stop is not None and stop.is_set():
                raise KeyboardInterrupt
    return np.concatenate(found), np.concatenate(labels).astype(np.int64)


def score(module: nn.Module, inputs: torch.Tensor, *, flip: bool = False) -> torch.Tensor:
    """Compute the logits of a batch.

    Args:
        module: the model, in evaluation mode.
        inputs: from `podium.data.transforms.prepare`, shape (n, 3, h, w).
        flip: also score the mirror images, and average the logits.

    Returns:
        float32 of shape (n, classes).
    """
    logits: torch.Tensor = module(inputs).float()
    return (logits + module(inputs.flip(3)).float()) / 2 if flip else logits


def input_normalization(recipe: RunSpec, built: BuiltModel) -> Normalization:
    """Mean and std that the weights expect; None if the recipe asks for values in [0, 1]."""
    if recipe.normalize == "none" or built.mean is None or built.std is None:
        return None
    return built.mean, built.std

"""Batches of images through a model: what training, evaluation and prediction share."""

from __future__ import annotations

from collections.abc import Callable
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
from podium.runtime.events import StopRequest


def predict(
    module: nn.Module,
    loader: DataLoader[Any],
    device: torch.device,
    normalization: Normalization,
    progress: Callable[[int], None] | None = None,
    *,
    flip: bool = False,
    stop: StopRequest | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Logits of every image of `loader`, in its order.

    Always in fp32, whatever the arithmetic of training: the figures of the report are then those
    that the saved weights give on any machine.

    Args:
        module: the model; left in evaluation mode.
        loader: the images.
        device: where the model is.
        normalization: of the inputs.
        progress: called with the number of images of every batch.
        flip: score the mirror images too, and average the logits.
        stop: asked after every batch.

    Returns:
        `(logits, labels)`: float32 of shape (n, classes), int64 of shape (n,).

    Raises:
        KeyboardInterrupt: `stop` was set.
        UnreadableImageError: an image can no longer be read; the message names it.
    """
    module.eval()
    found, labels = [], []
    with torch.inference_mode():
        for inputs, target, _ in batches(loader, device, normalization):
            logits = score(module, inputs, flip=flip)
            found.append(logits.cpu().numpy())
            labels.append(target.cpu().numpy())
            if progress is not None:
                progress(len(target))
            if stop is not None and stop.is_set():
                raise KeyboardInterrupt
    return np.concatenate(found), np.concatenate(labels).astype(np.int64)


def score(module: nn.Module, inputs: torch.Tensor, *, flip: bool = False) -> torch.Tensor:
    """Logits of shape (n, classes), float32, of inputs of shape (n, 3, h, w).

    Args:
        module: the model, in evaluation mode.
        inputs: as `podium.data.transforms.prepare` gives them.
        flip: score the mirror images too, and average the logits.
    """
    logits: torch.Tensor = module(inputs).float()
    return (logits + module(inputs.flip(3)).float()) / 2 if flip else logits


def input_normalization(recipe: RunSpec, built: BuiltModel) -> Normalization:
    """Mean and std of the weights, unless the recipe wants plain values in [0, 1]."""
    if recipe.normalize == "none" or built.mean is None or built.std is None:
        return None
    return built.mean, built.std

"""A trained model with its pre- and postprocessing: uint8 pixels in, probabilities out."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from podium.evaluation.trained import TrainedModel
from podium.features.folding import folded_if_equal
from podium.statistics.conformal import SetRule

INPUT = "images"
"""uint8 of shape (n, S, S, channels): RGB, unless the model was trained with `data.channels`."""

OUTPUTS = ("probabilities", "logits", "prediction_set")
"""Float32 of shape (n, classes) the first two, bool of the same shape the third, which only models
exported with a coverage have."""

MOST_IMAGES = 4096
"""Images per call; any number from 1."""


class Deployable(nn.Module):
    """Scaling, normalisation, network, mirrored image, temperature, softmax and sets in one module.

    Resizing is not included. Batches need images of one size anyway; Pillow's antialiased resize,
    with which the network was trained, rounds to whole pixel values, and no runtime has exactly
    the same one; and at S x S pixels a resize without effect would still cost time. So the input
    is S x S, made by `picture.resize((S, S), Image.Resampling.BILINEAR)`.

    Args:
        module: the network, in evaluation mode.
        model: its preprocessing and temperature.
        sets: which classes belong to the set of an image; None: it makes no sets.
    """

    def __init__(self, module: nn.Module, model: TrainedModel, sets: SetRule | None) -> None:
        super().__init__()
        self.module, self.flip, self.temperature = module, model.flip_test, model.temperature
        channels = model.windows.inputs
        mean, std = model.normalization or ((0.0,) * channels, (1.0,) * channels)
        # (x / 255 - mean) / std with one subtraction and one product
        self.register_buffer("shift", 255 * torch.tensor(mean).view(1, channels, 1, 1))
        self.register_buffer("scale", 1 / (255 * torch.tensor(std).view(1, channels, 1, 1)))
        self.shift: torch.Tensor
        self.scale: torch.Tensor
        self.outputs = OUTPUTS if sets is not None else OUTPUTS[:2]
        self.register_buffer("least", None if sets is None else _rounded_down(sets.least))
        self.least: torch.Tensor | None

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What `OUTPUTS` describes: probabilities, logits and, with `sets`, the sets.

        Args:
            images: uint8 of shape (n, S, S, channels).
        """
        # the input is channels last in memory, the fastest layout for convolutions
        inputs = (images.permute(0, 3, 1, 2).float() - self.shift) * self.scale
        if self.flip:  # one call for both: the graph contains the network once
            inputs = torch.cat([inputs, inputs.flip(3)])
        logits = self.module(inputs).float()
        if self.flip:
            logits = logits.reshape(2, -1, logits.shape[1]).mean(0)
        probabilities = torch.softmax(logits / self.temperature, 1)
        if self.least is None:
            return probabilities, logits
        best = probabilities >= probabilities.amax(1, keepdim=True)
        return probabilities, logits, best | (probabilities >= self.least)


def _rounded_down(least: npt.NDArray[np.float64]) -> torch.Tensor:
    """Thresholds in single precision, none above its own value: that would break the promise."""
    found = least.astype(np.float32)
    below = np.nextafter(found, np.float32(0))
    return torch.from_numpy(np.where(found > least, below, found))


def deployable(model: TrainedModel, sets: SetRule | None = None) -> Deployable:
    """The model to export: a copy on the CPU, its batch norms folded into the convolutions.

    Args:
        model: the result of `load_run`; not changed.
        sets: which classes belong to the set of an image; None: it makes no sets.
    """
    module = copy.deepcopy(model.module).cpu().to(memory_format=torch.contiguous_format).eval()
    folded = folded_if_equal(module, model.image_size, torch.device("cpu"), model.windows.inputs)
    return Deployable(folded, model, sets).eval().requires_grad_(False)


def example(model: TrainedModel, count: int = 2) -> torch.Tensor:
    """Noise in the shape of the input; two images, so that the batch size is not fixed to one.

    Args:
        model: the model to export.
        count: number of images.
    """
    size, generator = model.image_size, torch.Generator().manual_seed(0)
    shape = (count, size, size, model.windows.inputs)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

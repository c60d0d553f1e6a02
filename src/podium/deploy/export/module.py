"""A trained model with its pre- and postprocessing: uint8 pixels in, probabilities out."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from podium.evaluation.trained import TrainedModel
from podium.features.folding import folded_if_equal
from podium.statistics.conformal import KnownRule, SetRule

INPUT = "images"
"""uint8 of shape (n, S, S, channels): RGB, unless the model was trained with `data.channels`."""

PLAIN = ("probabilities", "logits")
"""Outputs of every model: float32 of shape (n, classes)."""

SETS = ("prediction_set",)
"""Of models exported with a coverage: bool of shape (n, classes)."""

KNOWN = ("similarity", "none_of_these")
"""Of models that know their training images: float32 and bool, both of shape (n,)."""

OUTPUTS = {
    len(names): names for names in (PLAIN, PLAIN + SETS, PLAIN + KNOWN, PLAIN + SETS + KNOWN)
}
"""The outputs of a model by their number, for formats that do not name them."""

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
        known: which images are none of the classes; None: it does not say. Otherwise the network's
            last column is the similarity to training images.
    """

    def __init__(
        self,
        module: nn.Module,
        model: TrainedModel,
        sets: SetRule | None,
        known: KnownRule | None,
    ) -> None:
        super().__init__()
        self.module, self.flip, self.temperature = module, model.flip_test, model.temperature
        channels = model.windows.inputs
        mean, std = model.normalization or ((0.0,) * channels, (1.0,) * channels)
        # (x / 255 - mean) / std with one subtraction and one product
        self.register_buffer("shift", 255 * torch.tensor(mean).view(1, channels, 1, 1))
        self.register_buffer("scale", 1 / (255 * torch.tensor(std).view(1, channels, 1, 1)))
        self.shift: torch.Tensor
        self.scale: torch.Tensor
        self.outputs = PLAIN + SETS * (sets is not None) + KNOWN * (known is not None)
        self.least_similarity = None if known is None else known.least
        self.register_buffer("least", None if sets is None else _rounded_down(sets.least))
        self.least: torch.Tensor | None

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What `outputs` names.

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
        similarity = None
        if self.least_similarity is not None:
            logits, similarity = logits[:, :-1], logits[:, -1]
        probabilities = torch.softmax(logits / self.temperature, 1)
        found = [probabilities, logits]
        if self.least is not None:
            best = probabilities >= probabilities.amax(1, keepdim=True)
            found.append(best | (probabilities >= self.least))
        if similarity is not None:
            found += [similarity, similarity < self.least_similarity]
        return tuple(found)


def _rounded_down(least: npt.NDArray[np.float64]) -> torch.Tensor:
    """Thresholds in single precision, none above its own value: that would break the promise."""
    found = least.astype(np.float32)
    below = np.nextafter(found, np.float32(0))
    return torch.from_numpy(np.where(found > least, below, found))


def deployable(
    model: TrainedModel,
    sets: SetRule | None = None,
    known: KnownRule | None = None,
    network: nn.Module | None = None,
) -> Deployable:
    """The model to export: a copy on the CPU, its batch norms folded into the convolutions.

    Args:
        model: the result of `load_run`; not changed.
        sets: which classes belong to the set of an image; None: it makes no sets.
        known: which images are none of the classes; None: it does not say.
        network: the model with a column of similarities, for `known`; None: the model.
    """
    module = (
        copy.deepcopy(network or model.module)
        .cpu()
        .to(memory_format=torch.contiguous_format)
        .eval()
    )
    folded = folded_if_equal(module, model.image_size, torch.device("cpu"), model.windows.inputs)
    return Deployable(folded, model, sets, known).eval().requires_grad_(False)


def example(model: TrainedModel, count: int = 2) -> torch.Tensor:
    """Noise in the shape of the input; two images, so that the batch size is not fixed to one.

    Args:
        model: the model to export.
        count: number of images.
    """
    size, generator = model.image_size, torch.Generator().manual_seed(0)
    shape = (count, size, size, model.windows.inputs)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

"""A trained model with all that belongs to it inside: uint8 pixels in, probabilities out."""

from __future__ import annotations

import copy

import torch
from torch import nn

from podium.evaluation.trained import TrainedModel
from podium.features.folding import folded_if_equal

INPUT = "images"
"""uint8 of shape (n, S, S, 3), RGB."""

OUTPUTS = ("probabilities", "logits")
"""Both float32 of shape (n, classes)."""

MOST_IMAGES = 4096
"""Images of one call; the number is free from 1 up."""


class Deployable(nn.Module):
    """Scaling, normalisation, the network, its mirror image, temperature and softmax in one.

    The resize is not inside. Batches need pictures of one size anyway; the antialiased resize of
    Pillow, on which the network was trained, rounds to whole pixel values, and no runtime has
    exactly that one; and at S x S pixels a resize that does nothing would still cost time. So the
    input is S x S, and `picture.resize((S, S), Image.Resampling.BILINEAR)` makes it.

    Args:
        module: the network, in evaluation mode.
        model: how it wants its images, and its temperature.
    """

    def __init__(self, module: nn.Module, model: TrainedModel) -> None:
        super().__init__()
        self.module, self.flip, self.temperature = module, model.flip_test, model.temperature
        mean, std = model.normalization or ((0.0,) * 3, (1.0,) * 3)
        # (x / 255 - mean) / std with one subtraction and one product
        self.register_buffer("shift", 255 * torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("scale", 1 / (255 * torch.tensor(std).view(1, 3, 1, 1)))
        self.shift: torch.Tensor
        self.scale: torch.Tensor

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Calibrated probabilities and logits, float32 of shape (n, classes) each.

        Args:
            images: uint8 of shape (n, S, S, 3), RGB.
        """
        # channels last in memory as they come, which convolutions like best
        inputs = (images.permute(0, 3, 1, 2).float() - self.shift) * self.scale
        if self.flip:  # one call for both: the graph holds the network once
            inputs = torch.cat([inputs, inputs.flip(3)])
        logits = self.module(inputs).float()
        if self.flip:
            logits = logits.reshape(2, -1, logits.shape[1]).mean(0)
        return torch.softmax(logits / self.temperature, 1), logits


def deployable(model: TrainedModel) -> Deployable:
    """The model to export: a copy on the CPU, its batch norms folded into the convolutions.

    Args:
        model: as `load_run` gives it; unchanged.
    """
    module = copy.deepcopy(model.module).cpu().to(memory_format=torch.contiguous_format).eval()
    folded = folded_if_equal(module, model.image_size, torch.device("cpu"))
    return Deployable(folded, model).eval().requires_grad_(False)


def example(model: TrainedModel, count: int = 2) -> torch.Tensor:
    """Noise of the shape of the input; two images, so that none is taken for the only one."""
    size, generator = model.image_size, torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)

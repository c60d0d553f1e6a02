"""Several models as one, which averages their calibrated probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import interpolate

from podium.data.transforms import Normalization


class Ensemble(nn.Module):
    """The logarithm of the mean of its members' calibrated probabilities, shape (n, classes).

    Softmax of the result is that mean, so that the ensemble is used like any model.

    Args:
        members: models that map images of shape (n, channels, s, s) to logits of shape
            (n, classes).
        temperatures: that each member's logits are divided by.
        flips: whether each member's logits are averaged with those of the mirror image; empty:
            none are.

    Examples:
        >>> two = Ensemble([nn.Identity(), nn.Identity()], [1.0, 1.0])
        >>> torch.softmax(two(torch.zeros(1, 4)), dim=1).tolist()
        [[0.25, 0.25, 0.25, 0.25]]
    """

    temperatures: torch.Tensor

    def __init__(
        self,
        members: Sequence[nn.Module],
        temperatures: Sequence[float],
        flips: Sequence[bool] = (),
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("temperatures", torch.tensor(temperatures, dtype=torch.float32))
        self.flips = tuple(flips) or (False,) * len(members)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = []
        for number, (member, flip) in enumerate(zip(self.members, self.flips, strict=True)):
            logits = member(images).float()
            if flip:
                logits = (logits + member(images.flip(3)).float()) / 2
            found.append(torch.log_softmax(logits / self.temperatures[number], dim=1))
        return torch.logsumexp(torch.stack(found), dim=0) - math.log(len(self.members))


def resized(images: torch.Tensor, side: int) -> torch.Tensor:
    """Resize images as Pillow resized them for training, up to its rounding to whole values.

    Args:
        images: float of shape (n, channels, s, s).
        side: of the result, pixels.
    """
    return interpolate(images, (side, side), mode="bilinear", antialias=True)


class Prepared(nn.Module):
    """A network of an ensemble whose members take images of different sizes and normalisations.

    Args:
        network: maps normalised images of shape (n, channels, size, size) to logits.
        given: side of the images that come, pixels.
        size: side of the network's images, pixels.
        normalization: that the network was trained with.
    """

    mean: torch.Tensor | None
    std: torch.Tensor | None

    def __init__(
        self, network: nn.Module, given: int, size: int, normalization: Normalization
    ) -> None:
        super().__init__()
        self.network = network
        self.size = None if size == given else size  # known now, not looked up in a traced graph
        for name, values in zip(("mean", "std"), normalization or (None, None), strict=True):
            shaped = None if values is None else torch.tensor(values).view(1, -1, 1, 1)
            self.register_buffer(name, shaped, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images of shape (n, channels, given, given), 0 to 1 -> the logits."""
        if self.size is not None:
            images = resized(images, self.size)
        if self.mean is not None and self.std is not None:
            images = (images - self.mean) / self.std
        logits: torch.Tensor = self.network(images)
        return logits

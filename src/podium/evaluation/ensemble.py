"""The models of several folds as one model, which averages their calibrated probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn


class Ensemble(nn.Module):
    """The logarithm of the mean of its members' calibrated probabilities, shape (n, classes).

    Softmax of the result is that mean, so that the ensemble is used like any model, with a
    temperature of 1.

    Args:
        members: models that map images of shape (n, channels, s, s) to logits of shape
            (n, classes).
        temperatures: that each member's logits are divided by.
        flip: average each member's logits with those of the mirror image.

    Examples:
        >>> two = Ensemble([nn.Identity(), nn.Identity()], [1.0, 1.0])
        >>> torch.softmax(two(torch.zeros(1, 4)), dim=1).tolist()
        [[0.25, 0.25, 0.25, 0.25]]
    """

    temperatures: torch.Tensor

    def __init__(
        self, members: Sequence[nn.Module], temperatures: Sequence[float], *, flip: bool = False
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("temperatures", torch.tensor(temperatures, dtype=torch.float32))
        self.flip = flip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = []
        for number, member in enumerate(self.members):
            logits = member(images).float()
            if self.flip:
                logits = (logits + member(images.flip(3)).float()) / 2
            found.append(torch.log_softmax(logits / self.temperatures[number], dim=1))
        return torch.logsumexp(torch.stack(found), dim=0) - math.log(len(self.members))

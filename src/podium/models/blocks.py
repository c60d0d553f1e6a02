"""The blocks of the paper's two networks."""

from __future__ import annotations

import torch
from torch import nn


def conv_bn_relu(inputs: int, outputs: int, size: int) -> list[nn.Module]:
    """A convolution that keeps height and width, batch norm, ReLU."""
    convolution = nn.Conv2d(inputs, outputs, size, padding=size // 2)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class ConvMaxPool(nn.Sequential):
    """Conv 3x3, batch norm, ReLU, max-pool 2: (n, i, h, w) -> (n, o, h // 2, w // 2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(*conv_bn_relu(inputs, outputs, 3), nn.MaxPool2d(2))


class Residual(nn.Module):
    """Twice conv 3x3, batch norm, ReLU; plus the input, without a ReLU after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv_bn_relu(channels, channels, 3), *conv_bn_relu(channels, channels, 3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) -> (n, c, h, w)."""
        change: torch.Tensor = self.body(x)
        return x + change


class Inception(nn.Module):
    """Four branches of o/4 channels side by side: 1x1-5x5, 1x1-3x3, pool-1x1, 1x1."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        narrow, part = outputs // 8, outputs // 4
        self.branches = nn.ModuleList(
            [
                nn.Sequential(*conv_bn_relu(inputs, narrow, 1), *conv_bn_relu(narrow, part, 5)),
                nn.Sequential(*conv_bn_relu(inputs, narrow, 1), *conv_bn_relu(narrow, part, 3)),
                nn.Sequential(nn.MaxPool2d(3, 1, padding=1), *conv_bn_relu(inputs, part, 1)),
                nn.Sequential(*conv_bn_relu(inputs, part, 1)),
            ]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, i, h, w) -> (n, o, h, w)."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def head(features: int, num_classes: int) -> nn.Sequential:
    """Max-pool, dropout 0.3, linear.

    The paper pools the 4x4 map of a 128-pixel image. Pooling the whole map is equivalent there,
    and works for any other size.

    Args:
        features: number of input channels.
        num_classes: number of logits.
    """
    return nn.Sequential(
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(features, num_classes)
    )

"""The paper's two networks, as it specifies them."""

from __future__ import annotations

from torch import nn

from podium.models.blocks import ConvMaxPool, Inception, Residual, head


def simple_resnet(num_classes: int, in_chans: int = 3) -> nn.Sequential:
    """Build SimpleResNet: 3,191,460 parameters for 100 classes.

    It maps images (n, in_chans, s, s), s of at least 32, to logits (n, num_classes).

    Args:
        num_classes: number of logits.
        in_chans: number of channels.
    """
    return nn.Sequential(
        ConvMaxPool(in_chans, 32),
        Residual(32),
        ConvMaxPool(32, 64),
        Residual(64),
        ConvMaxPool(64, 128),
        Residual(128),
        ConvMaxPool(128, 256),
        Residual(256),
        ConvMaxPool(256, 512),
        head(512, num_classes),
    )


def inception_resnet(num_classes: int, in_chans: int = 3) -> nn.Sequential:
    """Build InceptionResNet: 4,486,772 parameters for 100 classes.

    It maps images (n, in_chans, s, s), s of at least 32, to logits (n, num_classes).

    Args:
        num_classes: number of logits.
        in_chans: number of channels.
    """
    return nn.Sequential(
        ConvMaxPool(in_chans, 32),
        Residual(32),
        Inception(32, 64),
        nn.MaxPool2d(2),
        Residual(64),
        Inception(64, 128),
        nn.MaxPool2d(2),
        Residual(128),
        Inception(128, 256),
        nn.MaxPool2d(2),
        Residual(256),
        Inception(256, 512),
        ConvMaxPool(512, 512),
        head(512, num_classes),
    )

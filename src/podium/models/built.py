"""The results of building and listing models."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from podium.models.spec import Channels


@dataclass(frozen=True)
class BuiltModel:
    """A model and how to prepare its images.

    Attributes:
        name: of the model.
        module: maps images of shape (n, channels, s, s) to logits of shape (n, classes).
        image_size: side of its input images, pixels.
        classifier: dotted name of the part that `freeze: backbone` trains.
        mean: per channel, of inputs in [0, 1], as the weights expect; None: not normalised.
        std: per channel, of inputs in [0, 1], as the weights expect; None: not normalised.
        pretrained_source: where the weights come from; None: random weights.
        channels: of its input images.
    """

    name: str
    module: nn.Module
    image_size: int
    classifier: str
    mean: Channels = None
    std: Channels = None
    pretrained_source: str | None = None
    channels: int = 3


@dataclass(frozen=True)
class ModelInfo:
    """One line of `podium models`.

    `parameters` is None if the model would have to be built to count them.
    """

    name: str
    parameters: int | None
    image_size: int
    weights: str
    description: str

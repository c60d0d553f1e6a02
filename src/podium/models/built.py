"""What a builder of models hands back."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from podium.models.spec import Channels


@dataclass(frozen=True)
class BuiltModel:
    """A model and how it wants its images.

    `mean` and `std` are what the weights expect of values in [0, 1]; None: those values as they
    are. `classifier` names the part that `freeze: backbone` trains.
    """

    name: str
    module: nn.Module
    image_size: int
    classifier: str
    mean: Channels = None
    std: Channels = None
    pretrained_source: str | None = None


@dataclass(frozen=True)
class ModelInfo:
    """A line of `podium models`. `parameters` is None where counting would build the model."""

    name: str
    parameters: int | None
    image_size: int
    weights: str
    description: str

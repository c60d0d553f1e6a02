"""A classifier that sees all stages of a network, not only its last layer.

Intermediate features of a pre-trained network (edges, textures, parts) carry information about new
classes that its last layer, trained for ImageNet's, discards (Evci et al., 2022, "Head2Toe").
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from podium.errors import ConfigError

NETWORK = "network."
"""Prefix of the network's parameter names in a `StageClassifier`."""


class StageClassifier(nn.Module):
    """One linear layer on the features of all stages of a network.

    Its input is the concatenation of the average of every stage's map, the maximum of the last
    map, and the features that the network's own classifier would get.

    Args:
        network: a timm model with `forward_intermediates`, or torchvision's ResNet. Its own
            classifier is removed.
        num_classes: number of logits.
        image_size: side of the images that it is built for, pixels.
        channels: of the images.

    Raises:
        ConfigError: the network does not expose the features of its stages.
    """

    def __init__(
        self, network: nn.Module, num_classes: int, image_size: int, channels: int = 3
    ) -> None:
        super().__init__()
        self.network = network
        grouping: Any = getattr(network, "group_matcher", None)
        self.layers: dict[str, Any] | None = grouping(coarse=False) if grouping else None
        if hasattr(network, "reset_classifier"):
            network.reset_classifier(0)  # type: ignore[operator]
        else:
            network.fc = nn.Identity()
        # only the shapes are needed: a network on the meta device computes nothing
        shapes = copy.deepcopy(network).to("meta").eval()
        try:
            with torch.inference_mode():
                image = torch.zeros(1, channels, image_size, image_size, device="meta")
                width = _pooled(shapes, image).shape[1]
        except (AttributeError, IndexError, RuntimeError, TypeError) as error:
            raise ConfigError(
                f"pooling: stages does not work with {type(network).__name__} ({error}). "
                "Leave pooling out for this model."
            ) from None
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images of shape (n, channels, h, w) -> logits of shape (n, num_classes)."""
        logits: torch.Tensor = self.classifier(_pooled(self.network, images))
        return logits


def over_stages(
    network: nn.Module, model: str, num_classes: int, image_size: int, channels: int = 3
) -> nn.Module:
    """Put a `StageClassifier` on a network.

    Args:
        network: with its pre-trained weights; changed in place.
        model: its name, for the message.
        num_classes: number of logits.
        image_size: side of its input images, pixels.
        channels: of its input images.

    Raises:
        ConfigError: the network does not expose the features of its stages.
    """
    if not (hasattr(network, "forward_intermediates") or hasattr(network, "layer1")):
        raise ConfigError(
            f"pooling: stages needs a network that exposes the features of its stages: "
            f"efficientnet_lite0, resnet18 or one of timm's; {model} does not. "
            "Leave pooling out for this model."
        )
    return StageClassifier(network, num_classes, image_size, channels)


def network_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The network's tensors in the state of a `StageClassifier`; any other state unchanged.

    The classifier is left out: its input is that of all stages.

    Args:
        state: tensors by name.
    """
    if not all(name.startswith((NETWORK, "classifier.")) for name in state):
        return state
    return {n.removeprefix(NETWORK): v for n, v in state.items() if n.startswith(NETWORK)}


def _pooled(network: Any, images: torch.Tensor) -> torch.Tensor:
    if hasattr(network, "forward_intermediates"):
        last, maps = network.forward_intermediates(images, output_fmt="NCHW")
        own = network.forward_head(last, pre_logits=True)
    else:
        maps = [network.maxpool(network.relu(network.bn1(network.conv1(images))))]
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
            maps.append(stage(maps[-1]))
        last, maps = maps[-1], maps[1:]
        own = network.avgpool(last).flatten(1)
    if maps[-1] is last:  # its average is already `own`
        maps = maps[:-1]
    averages = [one.mean((2, 3)) for one in maps]
    return torch.cat([*averages, _places(last, own.shape[1]).amax(1), own], 1)


def _places(last: torch.Tensor, width: int) -> torch.Tensor:
    """The last map as (n, places, channels), from (n, c, h, w), (n, h, w, c) or (n, tokens, c)."""
    if last.ndim == 3:
        return last
    channels_first = last.shape[1] > last.shape[3] or last.shape[1] == width
    return last.flatten(2).transpose(1, 2) if channels_first else last.flatten(1, 2)

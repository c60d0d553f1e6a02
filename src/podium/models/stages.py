"""A classifier that sees all stages of a network, not its last layer alone.

What a pre-trained network computes half-way (edges, textures, parts) says things about new
classes that its last layer, made for ImageNet's, has thrown away (Evci et al., 2022, "Head2Toe").
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from podium.errors import ConfigError

NETWORK = "network."
"""What the names of the network's parameters begin with in a `StageClassifier`."""


class StageClassifier(nn.Module):
    """One linear layer over what a network computes on the way.

    Its input is, side by side: the average of every stage's map, the maximum of the last map, and
    the features that the network's own classifier would get.

    Args:
        network: one of timm's that has `forward_intermediates`, or torchvision's ResNet. Its own
            classifier is taken out.
        num_classes: size of the output.
        image_size: side of the images that it is built for, pixels.

    Raises:
        ConfigError: the network does not tell what its stages compute.
    """

    def __init__(self, network: nn.Module, num_classes: int, image_size: int) -> None:
        super().__init__()
        self.network = network
        grouping: Any = getattr(network, "group_matcher", None)
        self.layers: dict[str, Any] | None = grouping(coarse=False) if grouping else None
        if hasattr(network, "reset_classifier"):
            network.reset_classifier(0)  # type: ignore[operator]
        else:
            network.fc = nn.Identity()
        # the shapes alone: a network on the meta device computes nothing
        shapes = copy.deepcopy(network).to("meta").eval()
        try:
            with torch.inference_mode():
                image = torch.zeros(1, 3, image_size, image_size, device="meta")
                width = _pooled(shapes, image).shape[1]
        except (AttributeError, IndexError, RuntimeError, TypeError) as error:
            raise ConfigError(
                f"pooling: stages does not suit {type(network).__name__} ({error}). "
                "Leave pooling away for this model."
            ) from None
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of shape (n, num_classes) of images of shape (n, 3, h, w)."""
        logits: torch.Tensor = self.classifier(_pooled(self.network, images))
        return logits


def over_stages(network: nn.Module, model: str, num_classes: int, image_size: int) -> nn.Module:
    """Put a `StageClassifier` over a network.

    Args:
        network: with its pre-trained weights; changed.
        model: its name, for the message.
        num_classes: size of the output.
        image_size: side of its images, pixels.

    Raises:
        ConfigError: it has no stages that Podium can reach.
    """
    if not (hasattr(network, "forward_intermediates") or hasattr(network, "layer1")):
        raise ConfigError(
            f"pooling: stages needs a network that tells what its stages compute: "
            f"efficientnet_lite0, resnet18 or one of timm's; {model} does not. "
            "Leave pooling away for this model."
        )
    return StageClassifier(network, num_classes, image_size)


def network_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The network's tensors of a `StageClassifier`'s state; any other state as it is.

    Its classifier is left out: it has an input of its own.
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
    if maps[-1] is last:  # then its average is `own`
        maps = maps[:-1]
    averages = [one.mean((2, 3)) for one in maps]
    return torch.cat([*averages, _places(last, own.shape[1]).amax(1), own], 1)


def _places(last: torch.Tensor, width: int) -> torch.Tensor:
    """The last map as (n, places, channels), from (n, c, h, w), (n, h, w, c) or (n, tokens, c)."""
    if last.ndim == 3:
        return last
    channels_first = last.shape[1] > last.shape[3] or last.shape[1] == width
    return last.flatten(2).transpose(1, 2) if channels_first else last.flatten(1, 2)

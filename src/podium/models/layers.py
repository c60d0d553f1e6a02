"""Discriminative learning rates: the nearer to the images, the slower (Howard and Ruder, 2018)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

from podium.errors import ConfigError
from podium.models.stages import NETWORK, StageClassifier


class _Grouped:
    """A module with the grouping that timm's models bring along; `prefix` is left off names."""

    def __init__(self, module: nn.Module, matcher: dict[str, Any], prefix: str = "") -> None:
        self.module, self.matcher, self.prefix = module, matcher, prefix

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, parameter in self.module.named_parameters():
            yield name.removeprefix(self.prefix), parameter

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return self.matcher


def layer_groups(
    module: nn.Module,
    layer_decay: float,
    *,
    weight_decay: float = 0.0,
    decay_norm_bias: bool = True,
) -> list[dict[str, Any]]:
    """Parameter groups whose `lr_scale` falls by `layer_decay` a layer, from the classifier down.

    timm's `param_groups_layer_decay` (after BEiT; Bao et al., 2021) over its own models' layers;
    over the parts of an `nn.Sequential`; over torchvision's stem, blocks and head; over the parts
    of any other module. The optimizer
    ignores `lr_scale`: whoever sets the rate multiplies by it.

    Args:
        module: the model; parameters that do not require gradients are left out.
        layer_decay: above 0, at most 1. The classifier's scale is 1, the layer's below it
            `layer_decay`, the next one's its square.
        weight_decay: of each group.
        decay_norm_bias: whether biases and norms have it too.

    Returns:
        Groups with `params`, `lr_scale` and `weight_decay`, as optimizers take them.
    """
    from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]

    model: Any = module
    torchvision = {"stem": r"^(?:conv1|bn1)\.", "blocks": r"^layer(\d+)\.(\d+)\."}
    if isinstance(module, StageClassifier):
        model = _Grouped(module, module.layers or torchvision, NETWORK)
    elif isinstance(module, nn.Sequential):
        model = _Grouped(module, {"parts": r"^(\d+)\."})
    elif hasattr(module, "layer1"):  # torchvision's; what nothing matches is the head
        model = _Grouped(module, torchvision)
    elif not hasattr(module, "group_matcher"):  # a user's: its parts, in the order of their making
        parts = {name: rf"^{re.escape(name)}\." for name, _ in module.named_children()}
        if len(parts) < 2:
            raise ConfigError(
                f"layer_decay needs layers, and {type(module).__name__} has {len(parts)} part(s). "
                "Give it a method group_matcher as timm's models have, or leave layer_decay away."
            )
        model = _Grouped(module, parts)
    groups: list[dict[str, Any]] = param_groups_layer_decay(
        model,
        weight_decay=weight_decay,
        weight_decay_exclude_1d=not decay_norm_bias,
        no_weight_decay_list=(),
        layer_decay=layer_decay,
    )
    return groups

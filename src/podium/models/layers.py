"""Discriminative learning rates: lower for layers near the input (Howard and Ruder, 2018)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

from podium.errors import ConfigError
from podium.models.stages import NETWORK, StageClassifier


class _Grouped:
    """A module with a `group_matcher` as timm's models have; `prefix` is removed from names."""

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
    """Make parameter groups whose `lr_scale` decays by `layer_decay` per layer from the classifier.

    Uses timm's `param_groups_layer_decay` (after BEiT; Bao et al., 2021) on the layers of timm's
    models, the parts of an `nn.Sequential`, torchvision's stem, blocks and head, or the parts of
    any other module. The optimizer ignores `lr_scale`: the code that sets the learning rate
    multiplies by it.

    Args:
        module: the model; parameters that do not require gradients are left out.
        layer_decay: above 0, at most 1. The classifier's scale is 1, that of the layer below it
            `layer_decay`, that of the next one its square.
        weight_decay: of each group.
        decay_norm_bias: whether it also applies to biases and norms.

    Returns:
        Groups with `params`, `lr_scale` and `weight_decay`, as optimizers accept them.

    Raises:
        ConfigError: the module has fewer than two parts and no `group_matcher`.
    """
    from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]

    model: Any = module
    torchvision = {"stem": r"^(?:conv1|bn1)\.", "blocks": r"^layer(\d+)\.(\d+)\."}
    if isinstance(module, StageClassifier):
        model = _Grouped(module, module.layers or torchvision, NETWORK)
    elif isinstance(module, nn.Sequential):
        model = _Grouped(module, {"parts": r"^(\d+)\."})
    elif hasattr(module, "layer1"):  # torchvision's; unmatched parameters are the head
        model = _Grouped(module, torchvision)
    elif not hasattr(module, "group_matcher"):  # a user's: its parts, in order of definition
        parts = {name: rf"^{re.escape(name)}\." for name, _ in module.named_children()}
        if len(parts) < 2:
            raise ConfigError(
                f"layer_decay needs at least 2 parts, and {type(module).__name__} has "
                f"{len(parts)}. Add a group_matcher method like that of timm's models, or leave "
                "layer_decay out."
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

"""Folds batch norms into the preceding convolutions: the same values in evaluation, faster."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fold_batch_norms(module: nn.Module) -> int:
    """Fold every batch norm that follows a convolution into its weights; exact in evaluation.

    A norm is folded only if it is the convolution's next sibling, as in all blocks of timm and
    torchvision. An unknown model may still call them in another order: compare its outputs before
    and after. The activation that timm keeps inside the norm takes the norm's place.

    Args:
        module: changed in place; it can no longer be trained afterwards.

    Returns:
        The number of folded norms.
    """
    folded = 0
    for parent in list(module.modules()):
        children = list(parent.named_children())
        for (_, conv), (name, norm) in pairwise(children):
            if not (isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
                continue
            if norm.running_mean is None or norm.running_var is None:
                continue
            if norm.num_features != conv.out_channels:
                continue
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight,
                conv.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
            setattr(parent, name, getattr(norm, "act", nn.Identity()))
            folded += 1
    return folded


def folded_if_equal(
    module: nn.Module, size: int, device: torch.device, channels: int = 3
) -> nn.Module:
    """Fold the module's batch norms if that does not change its output.

    Args:
        module: in evaluation mode; not changed.
        size: side of its input images, pixels.
        device: where it is.
        channels: of its input images.

    Returns:
        A folded copy, or the module itself if there is nothing to fold or the output would change
        by 1e-4 or more (relative L2 norm).
    """
    folded = copy.deepcopy(module)
    if not fold_batch_norms(folded):
        return module
    images = torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    images = images.to(device).contiguous(memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            before, after = module(images), folded(images)
    except RuntimeError:  # a model that calls its parts in another order
        return module
    error = (after - before).norm() / before.norm().clamp_min(1e-12)
    return folded if bool(error < 1e-4) else module

"""The recipe's optimizer, and the moving average of the weights that it moves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from podium.config.settings import RunSpec
from podium.models import BuiltModel
from podium.models.layers import layer_groups


def make_optimizer(
    recipe: RunSpec, built: BuiltModel, *, fused: bool = False, bf16: bool = True
) -> torch.optim.Optimizer:
    """The recipe's optimizer over the parameters that train.

    Args:
        recipe: `optimizer`, `lr`, `weight_decay` and `decay_norm_bias` are used.
        built: the model; parameters that need no gradient are left out.
        fused: update all parameters in one kernel, where PyTorch has one for the optimizer: on a
            GPU small batches wait for launches.
        bf16: whether the device multiplies bf16 in hardware. Muon computes in it, and emulated it
            took twenty times as long as fp32, seconds a step.
    """
    groups = _parameter_groups(recipe, built)
    settings: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, fused=fused or None, **settings)
    if recipe.optimizer == "muon":
        from timm.optim.muon import Muon

        kind: Any = Muon if bf16 else _muon_in_fp32()
        # Updates of the size that AdamW's have (Liu et al., 2025), so that one rate and one decay
        # serve the matrices and what falls back to (N)AdamW.
        muon: torch.optim.Optimizer = kind(
            groups,
            momentum=0.95,
            nesterov=True,
            ns_coefficients="original",
            adjust_lr_fn="match_rms_adamw",
            betas=(0.9, 0.999),
            **settings,
        )
        return muon
    adam = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return adam(groups, fused=fused or None, **settings)


def _muon_in_fp32() -> Any:
    """timm's Muon with its iteration in fp32: it has a setting for that only further inside."""
    from timm.optim import muon

    orthogonalize = muon.zeropower_via_newtonschulz

    class MuonInFp32(muon.Muon):
        def step(self, closure: Any = None) -> Any:
            muon.zeropower_via_newtonschulz = partial(orthogonalize, dtype=torch.float32)
            try:
                return super().step(closure)  # type: ignore[no-untyped-call]
            finally:
                muon.zeropower_via_newtonschulz = orthogonalize

    return MuonInFp32


def _parameter_groups(recipe: RunSpec, built: BuiltModel) -> list[dict[str, Any]]:
    """Parameters by how they are decayed, and whether their updates are orthogonalised."""
    if recipe.layer_decay < 1:
        return layer_groups(
            built.module,
            recipe.layer_decay,
            weight_decay=recipe.weight_decay,
            decay_norm_bias=recipe.decay_norm_bias,
        )
    head = {id(p) for p in built.module.get_submodule(built.classifier).parameters()}
    kinds: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in built.module.parameters():
        if not parameter.requires_grad:
            continue
        decays = recipe.decay_norm_bias or parameter.ndim > 1
        # the first layer and the last one are not what Muon is for (Jordan et al., 2024)
        inner = parameter.ndim > 1 and parameter.shape[1] > 3 and id(parameter) not in head
        kinds.setdefault((decays, inner and recipe.optimizer == "muon"), []).append(parameter)
    groups = []
    for (decays, inner), parameters in kinds.items():
        group: dict[str, Any] = {"params": parameters}
        if not decays:
            group["weight_decay"] = 0.0
        if recipe.optimizer == "muon":
            group["use_fallback"] = not inner
        groups.append(group)
    return groups


def set_rates(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let every group step with `rate`, times its own `lr_scale` where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)


def average_of(module: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of `module`: its weights and batch-norm statistics.

    In step n it decays by `min(decay, (1 + n) / (10 + n))`, as TensorFlow's does, so that it
    forgets the random weights of the beginning. Its `update_parameters(module)` takes a step.

    Args:
        module: unchanged; the average begins as a copy.
        decay: a step, 0 to 1.
    """

    def average(
        kept: Sequence[torch.Tensor], new: Sequence[torch.Tensor], steps: torch.Tensor | int
    ) -> None:
        n = int(steps)
        share = 1 - min(decay, (1 + n) / (10 + n))
        for old, value in zip(kept, new, strict=True):
            if old.is_floating_point():
                old.lerp_(value.to(old.device), share)
            else:  # batch norm's count of batches
                old.copy_(value)

    return AveragedModel(module, multi_avg_fn=average, use_buffers=True)

"""The recipe's optimizer, and the moving average of the weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from podium.config.settings import RunSpec
from podium.models import BuiltModel
from podium.models.layers import layer_groups

Tensors = tuple[torch.Tensor, ...] | list[torch.Tensor]


def make_optimizer(
    recipe: RunSpec, built: BuiltModel, *, fused: bool = False, bf16: bool = True
) -> torch.optim.Optimizer:
    """Make the recipe's optimizer for the trainable parameters.

    Args:
        recipe: `optimizer`, `lr`, `weight_decay`, `decay_norm_bias` and `layer_decay` are used.
        built: the model; parameters that do not require gradients are left out.
        fused: update all parameters in one kernel, if PyTorch has one for the optimizer: on a GPU,
            kernel launches limit small batches.
        bf16: whether the device multiplies bf16 in hardware. Muon uses bf16; emulated, it took
            twenty times as long as fp32, several seconds per step.
    """
    groups = _parameter_groups(recipe, built)
    settings: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, fused=fused or None, **settings)
    if recipe.optimizer == "muon":
        from timm.optim.muon import Muon

        kind: Any = Muon if bf16 else _muon_in_fp32()
        # Updates of the same size as AdamW's (Liu et al., 2025), so that one rate and one decay
        # suit both the matrices and the parameters that fall back to (N)AdamW.
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
    """timm's Muon with its iteration in fp32, which timm does not expose as a setting."""
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
    """Group parameters by weight decay, and by whether their updates are orthogonalised."""
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
        # Muon is not meant for the first and the last layer (Jordan et al., 2024)
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


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load a saved state, but compute updates in this machine's way.

    A state from a GPU says that updates are fused, which on a CPU gives other bits.

    Args:
        optimizer: changed in place.
        saved: its state dict.
    """
    own = [{key: group[key] for key in _WAYS if key in group} for group in optimizer.param_groups]
    # merged before loading, which puts the counts of steps where a fused update needs them
    groups = [{**one, **ways} for one, ways in zip(saved["param_groups"], own, strict=True)]
    optimizer.load_state_dict({**saved, "param_groups": groups})


_WAYS = ("fused", "foreach", "capturable")
"""Settings of an optimizer that say how it computes, not what."""


def set_rates(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group to `rate`, times its `lr_scale` if it has one.

    Args:
        optimizer: changed in place.
        rate: the learning rate.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)


def average_of(module: nn.Module, decay: float) -> AveragedModel:
    """Make an exponential moving average of a module's weights and batch-norm statistics.

    At step n its decay is `min(decay, (1 + n) / (10 + n))`, as in TensorFlow, so that it forgets
    the random initial weights. Call its `update_parameters(module)` after every step.

    Args:
        module: not changed; the average starts as a copy.
        decay: per step, 0 to 1.
    """

    def average(kept: Tensors, new: Tensors, _: object) -> None:
        # the third argument is this number on the device: reading it waits for all queued steps
        n = int(averaged.n_averaged)
        if kept[0].is_floating_point():  # the tensors of a call have one dtype and device
            torch._foreach_lerp_(kept, new, 1 - min(decay, (1 + n) / (10 + n)))
        else:  # batch norm's counter of batches
            torch._foreach_copy_(kept, new)

    averaged = AveragedModel(module, multi_avg_fn=average, use_buffers=True)
    return averaged

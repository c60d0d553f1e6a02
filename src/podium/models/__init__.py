"""Models by name: the paper's two, ResNet-18, EfficientNet-Lite0, and all of timm's."""

from __future__ import annotations

from podium.models.registry import (
    BuiltModel,
    ModelInfo,
    batch_norms,
    build_model,
    check_weights,
    freeze_backbone,
    list_models,
    rebuild_model,
    set_train_mode,
)

__all__ = [
    "BuiltModel",
    "ModelInfo",
    "batch_norms",
    "build_model",
    "check_weights",
    "freeze_backbone",
    "list_models",
    "rebuild_model",
    "set_train_mode",
]

"""Checks that a user's model meets Podium's requirements, before anything is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from podium.errors import ConfigError, PodiumError, one_line
from podium.models.spec import ModelSpec


def build_checked(spec: ModelSpec, num_classes: int) -> nn.Module:
    """Build a user's model.

    Args:
        spec: of the model.
        num_classes: number of logits.

    Raises:
        ConfigError: its function fails, or does not return a `torch.nn.Module`.
    """
    try:
        module: Any = spec.build(num_classes)
    except PodiumError:
        raise
    except Exception as error:
        raise ConfigError(
            f"model {spec.name} cannot be built for {num_classes} classes ({_summary(error)})."
        ) from error
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"model {spec.name}: expected its function to return a torch.nn.Module that maps "
            f"images (n, 3, s, s) to logits (n, classes), got {type(module).__name__}."
        )
    return module


def find_classifier(spec: ModelSpec, module: nn.Module) -> str:
    """The dotted name of the part that computes the logits.

    Args:
        spec: names the part; with `classifier` None it is the last `nn.Linear`.
        module: the model.

    Raises:
        ConfigError: there is no such part, or it has no parameters.
    """
    if spec.classifier is None:
        linear: list[str] = [
            one for one, part in module.named_modules() if isinstance(part, nn.Linear)
        ]
        if not linear or not linear[-1]:
            raise ConfigError(
                f"model {spec.name} has no torch.nn.Linear inside that could be its classifier. "
                'Name the part that computes the logits: ModelSpec(..., classifier="head").'
            )
        return linear[-1]
    name: str = spec.classifier
    parts = dict(module.named_modules())
    if not name or name not in parts:
        top = ", ".join(name for name, _ in module.named_children())
        raise ConfigError(
            f"model {spec.name} has no part {name!r}, which is named as its classifier. "
            f"Its parts: {top or 'none'}."
        )
    if not list(parts[name].parameters()):
        raise ConfigError(f"model {spec.name}: the classifier {name} has no parameters.")
    return name


def check_network(name: str, module: nn.Module, image_size: int, channels: int = 3) -> None:
    """Run a model that was built for 2 classes as training and evaluation will.

    Args:
        name: of the model, for the messages.
        module: the model; its batch-norm statistics are changed.
        image_size: side of its input images, pixels.
        channels: of its input images.

    Raises:
        ConfigError: it fails, or its output is not what was expected.
    """
    odd = [key for key, value in module.state_dict().items() if not isinstance(value, torch.Tensor)]
    if odd:
        raise ConfigError(
            f"model {name}: {odd[0]} in its state_dict is not a tensor; expected only tensors, "
            "since Podium saves nothing else of a model."
        )
    generator = torch.Generator().manual_seed(0)
    for images, training in ((1, False), (2, True)):
        batch = torch.rand(images, channels, image_size, image_size, generator=generator)
        mode = "training" if training else "evaluation"
        asked = f"logits of shape ({images}, 2) for 2 classes"
        tried = f"model {name}, a batch of shape {tuple(batch.shape)} in {mode} mode"
        try:
            with torch.no_grad():
                logits: Any = module.train(training)(batch)
        except Exception as error:
            raise ConfigError(
                f"{tried}: expected {asked}, got {_summary(error)}. If it needs another image "
                "size, set image_size: in the study, or image_size= where it is registered."
            ) from error
        if not isinstance(logits, torch.Tensor):
            raise ConfigError(f"{tried}: expected {asked}, got a {type(logits).__name__}.")
        if tuple(logits.shape) != (images, 2):
            raise ConfigError(f"{tried}: expected {asked}, got shape {tuple(logits.shape)}.")
        if not logits.is_floating_point() or not bool(logits.isfinite().all()):
            raise ConfigError(f"{tried}: expected {asked}, got {logits.tolist()}.")
        if bool((logits >= 0).all()) and torch.allclose(logits.sum(1), torch.ones(images)):
            raise ConfigError(
                f"{tried}: expected {asked}, got {logits.tolist()}, which look like probabilities. "
                "Remove the softmax: the loss applies it."
            )


def _summary(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"

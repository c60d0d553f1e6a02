"""Whether a user's model does what Podium will ask of it, found out before anything is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from podium.errors import ConfigError, PodiumError, one_line
from podium.models.spec import ModelSpec


def build_checked(spec: ModelSpec, num_classes: int) -> nn.Module:
    """What a user's function builds.

    Raises:
        ConfigError: it fails, or builds something else.
    """
    try:
        module: Any = spec.build(num_classes)
    except PodiumError:
        raise
    except Exception as error:
        raise ConfigError(
            f"model {spec.name} cannot be built for {num_classes} classes ({_told(error)})."
        ) from error
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"model {spec.name} builds a {type(module).__name__}; expected a torch.nn.Module that "
            "maps images (n, 3, s, s) to logits (n, classes)."
        )
    return module


def find_classifier(spec: ModelSpec, module: nn.Module) -> str:
    """The dotted name of the part that gives the logits: as it is given, or the last `nn.Linear`.

    Raises:
        ConfigError: there is no such part.
    """
    if spec.classifier is None:
        linear: list[str] = [
            one for one, part in module.named_modules() if isinstance(part, nn.Linear)
        ]
        if not linear or not linear[-1]:
            raise ConfigError(
                f"model {spec.name} has no torch.nn.Linear within it to take for its classifier. "
                'Name the part that gives the logits: ModelSpec(..., classifier="head").'
            )
        return linear[-1]
    name: str = spec.classifier
    parts = dict(module.named_modules())
    if not name or name not in parts:
        top = ", ".join(name for name, _ in module.named_children())
        raise ConfigError(
            f"model {spec.name} has no part {name!r}, which it names as its classifier. "
            f"It has {top or 'none'}."
        )
    if not list(parts[name].parameters()):
        raise ConfigError(f"model {spec.name}: its classifier {name} has no parameters.")
    return name


def check_network(name: str, module: nn.Module, image_size: int) -> None:
    """Try a model that was built for 2 classes, as training and evaluation will use it.

    Args:
        name: for the messages.
        module: its batch-norm statistics are changed.
        image_size: side of its images, pixels.

    Raises:
        ConfigError: the message says what was expected and what came.
    """
    odd = [key for key, value in module.state_dict().items() if not isinstance(value, torch.Tensor)]
    if odd:
        raise ConfigError(
            f"model {name}: {odd[0]} of its state_dict is no tensor; expected tensors alone, which "
            "is all that Podium keeps of a model."
        )
    generator = torch.Generator().manual_seed(0)
    for images, training in ((1, False), (2, True)):
        batch = torch.rand(images, 3, image_size, image_size, generator=generator)
        mode = "training" if training else "evaluation"
        asked = f"logits of shape ({images}, 2) for 2 classes"
        tried = f"model {name}, a batch of shape {tuple(batch.shape)} in {mode} mode"
        try:
            with torch.no_grad():
                logits: Any = module.train(training)(batch)
        except Exception as error:
            raise ConfigError(
                f"{tried}: expected {asked}, got {_told(error)}. If it is made for another size, "
                "say so: image_size: in the study, or image_size= where it is registered."
            ) from error
        if not isinstance(logits, torch.Tensor):
            raise ConfigError(f"{tried}: expected {asked}, got a {type(logits).__name__}.")
        if tuple(logits.shape) != (images, 2):
            raise ConfigError(f"{tried}: expected {asked}, got the shape {tuple(logits.shape)}.")
        if not logits.is_floating_point() or not bool(logits.isfinite().all()):
            raise ConfigError(f"{tried}: expected {asked}, got {logits.tolist()}.")
        if bool((logits >= 0).all()) and torch.allclose(logits.sum(1), torch.ones(images)):
            raise ConfigError(
                f"{tried}: expected {asked}, got {logits.tolist()}, which look like probabilities. "
                "Leave the softmax away: the loss has one."
            )


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"

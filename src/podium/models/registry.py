"""A model's name -> the model: ours, a user's, or one of timm's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from podium.config.registry import MODELS
from podium.config.settings import Pooling
from podium.errors import ConfigError
from podium.models import weights as w
from podium.models.built import BuiltModel, ModelInfo
from podium.models.check import build_checked, check_network, find_classifier
from podium.models.ours import OURS
from podium.models.spec import ModelSpec
from podium.models.stages import over_stages
from podium.models.timm_models import build_timm, list_timm
from podium.runtime.random import seeded


def build_model(
    name: str,
    num_classes: int,
    *,
    pretrained: bool = False,
    weights: Path | None = None,
    pooling: Pooling = "own",
    seed: int = 0,
) -> BuiltModel:
    """Build a model; what is random in it depends on `seed` alone.

    Args:
        name: one of ours or the user's, `module:name`, or any timm name.
        num_classes: size of the output.
        pretrained: start from the ImageNet weights that belong to the name.
        weights: start from this local file instead.
        pooling: what the classifier sees: what the model has for it, or `stages`, see
            `StageClassifier`.
        seed: of the weights that are not pre-trained.

    Raises:
        ConfigError: there is no such model, it has no pre-trained weights, or no stages.
        WeightsUnavailableError: its weights are not here and cannot be downloaded.
        UserError: the local file does not fit.
    """
    with seeded(seed):
        built = _build(name, num_classes, pretrained, weights)
        if pooling == "own":
            return built
        module = over_stages(built.module, name, num_classes, built.image_size)
        return replace(built, module=module, classifier="classifier")


def _build(name: str, num_classes: int, pretrained: bool, weights: Path | None) -> BuiltModel:
    if name not in MODELS:
        return build_timm(name, num_classes, pretrained, weights, ours=MODELS.names())
    spec: ModelSpec = MODELS[name]
    module = spec.build(num_classes) if name in OURS else build_checked(spec, num_classes)
    classifier = find_classifier(spec, module)
    mean, std, source = None, None, None
    if weights is not None:
        w.load_into(module, w.read_state(weights), classifier, f"weights: {weights}")
        (mean, std), source = spec.normalization, weights.name
    elif pretrained:
        if spec.fetch is None:
            who = "nobody has published weights of" if name in OURS else "there is no `fetch` of"
            raise ConfigError(
                f"pretrained: true, but {who} {name}. Use weights: FILE, "
                "or a model that `podium models` lists with weights."
            )
        source = spec.source or f"the weights of {name}"
        w.load_into(module, spec.fetch(), classifier, source)
        mean, std = spec.normalization
    return BuiltModel(name, module, spec.image_size, classifier, mean, std, source)


def about_model(name: str) -> dict[str, str]:
    """What a run keeps of a user's model for reports and cards: title, licence, citation.

    Empty for ours, which `podium.models.ours` knows, and for timm's.
    """
    if name in OURS or name not in MODELS:
        return {}
    spec: ModelSpec = MODELS[name]
    told = {"title": spec.title, "licence": spec.licence, "citation": spec.citation}
    return {key: value for key, value in {**told, "hub_id": spec.hub_id}.items() if value}


def rebuild_model(name: str, num_classes: int, pooling: Pooling = "own") -> nn.Module:
    """The bare architecture, for weights that the caller loads. Needs no network."""
    return build_model(name, num_classes, pooling=pooling).module


def check_weights(
    name: str,
    *,
    pretrained: bool = False,
    weights: Path | None = None,
    pooling: Pooling = "own",
    image_size: int | None = None,
) -> None:
    """Find out before a study begins whether a contender can be built, downloading if need be.

    A user's model is tried on a batch, too.

    Args:
        name: as in `build_model`.
        pretrained: as in `build_model`.
        weights: as in `build_model`.
        pooling: as in `build_model`.
        image_size: side in pixels that the model must take; empty: its own is not tried.

    Raises:
        ConfigError, UserError, WeightsUnavailableError: as `build_model` would, or the model
            does not take images of that size (most transformers take one size alone).
    """
    built = build_model(name, 2, pretrained=pretrained, weights=weights, pooling=pooling)
    if name in MODELS and name not in OURS:
        check_network(name, built.module, image_size or built.image_size)
        return
    if image_size is None or image_size == built.image_size:
        return
    try:
        with torch.inference_mode():
            built.module.eval()(torch.zeros(1, 3, image_size, image_size))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"image_size: {image_size} does not suit {name} ({error}). Leave image_size empty: "
            f"the model's own is {built.image_size}."
        ) from None


def freeze_backbone(built: BuiltModel) -> tuple[str, ...]:
    """Leave only the classifier to train.

    Returns:
        Names of the parts that are frozen, for `set_train_mode`: all that lie beside the
        classifier, on every level above it (`head.bn` is backbone where `head.fc` classifies).
    """
    for parameter in built.module.parameters():
        parameter.requires_grad_(False)
    last = built.module.get_submodule(built.classifier)
    for parameter in last.parameters():
        parameter.requires_grad_(True)
    frozen, above, prefix = [], built.module, ""
    for step in built.classifier.split("."):
        frozen += [prefix + name for name, _ in above.named_children() if name != step]
        above, prefix = above.get_submodule(step), f"{prefix}{step}."
    return tuple(frozen)


def batch_norms(module: nn.Module) -> tuple[str, ...]:
    """Names of the batch norms, for `set_train_mode`.

    In evaluation mode they keep their statistics, and still learn their scales and offsets.
    """
    # the class that they have in common, also where timm adds an activation
    kinds = nn.modules.batchnorm._BatchNorm
    return tuple(name for name, part in module.named_modules() if isinstance(part, kinds))


def set_train_mode(module: nn.Module, frozen: Iterable[str] = ()) -> None:
    """Training mode, but for the frozen parts.

    Those stay in evaluation mode: their batch norms would otherwise drift, and their dropout
    would blur features that are meant to be fixed.
    """
    module.train()
    for name in frozen:
        module.get_submodule(name).eval()


def list_models(num_classes: int = 100, *, timm: str | None = None) -> list[ModelInfo]:
    """Our models and the user's; or, with a pattern such as `convnext*`, timm's that match it.

    Args:
        num_classes: what to count parameters for.
        timm: a pattern with `*` and `?`.

    Raises:
        ConfigError: no model matches.
    """
    if timm is not None:
        return list_timm(timm)
    return [_info(name, num_classes) for name in MODELS.names()]


def _info(name: str, num_classes: int) -> ModelInfo:
    try:
        spec: ModelSpec = MODELS[name]
    except ConfigError as error:  # of an installed package that is broken
        return ModelInfo(name, None, 0, "none", str(error))
    parameters: int | None = None
    try:
        with torch.device("meta"):
            parameters = sum(p.numel() for p in build_checked(spec, num_classes).parameters())
    except ConfigError:  # a user's that needs values to be built
        if name in OURS:
            raise
    return ModelInfo(name, parameters, spec.image_size, spec.available(), spec.description)

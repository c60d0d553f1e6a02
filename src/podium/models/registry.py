"""Builds models by name: ours, a user's, or one of timm's."""

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
from podium.models.ours import OURS, resnet18_url
from podium.models.spec import ModelSpec, for_channels
from podium.models.stages import over_stages
from podium.models.timm_models import build_timm, list_timm, timm_weight_files
from podium.runtime.random import seeded


def build_model(
    name: str,
    num_classes: int,
    *,
    pretrained: bool = False,
    weights: Path | None = None,
    pooling: Pooling = "own",
    channels: int = 3,
    seed: int = 0,
) -> BuiltModel:
    """Build a model; its random initialisation depends only on `seed`.

    Args:
        name: one of Podium's or your own models, `module:name`, or any timm name.
        num_classes: number of logits.
        pretrained: start from the pre-trained weights of that name.
        weights: start from this local file instead; None: no file.
        pooling: what the classifier sees: `own`, the model's own pooled features, or `stages`,
            features of all stages of the network.
        channels: of the images; weights of RGB are adapted to others by timm's rule.
        seed: of the weights that are not pre-trained.

    Returns:
        The model as `.module`, with its `.image_size`, `.mean`, `.std` and the name of its
        `.classifier`.

    Raises:
        ConfigError: there is no such model, it takes other channels, or it has no pre-trained
            weights, or no stages.
        WeightsUnavailableError: its weights are not on this machine and cannot be downloaded.
        UserError: the local file does not fit the model.

    Examples:
        >>> import torch
        >>> from podium import build_model
        >>> built = build_model("simple_resnet", 10)
        >>> built.image_size
        128
        >>> built.module(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    with seeded(seed):
        built = _build(name, num_classes, pretrained, weights, channels)
        if pooling == "own":
            return built
        module = over_stages(built.module, name, num_classes, built.image_size, channels)
        return replace(built, module=module, classifier="classifier")


def _build(
    name: str, num_classes: int, pretrained: bool, weights: Path | None, channels: int
) -> BuiltModel:
    if name not in MODELS:
        return build_timm(
            name, num_classes, pretrained, weights, channels=channels, ours=MODELS.names()
        )
    spec = for_channels(MODELS[name], channels)
    module = spec.build(num_classes) if name in OURS else build_checked(spec, num_classes)
    classifier = find_classifier(spec, module)
    mean, std, source = None, None, None
    if weights is not None:
        state = w.for_input(w.read_state(weights), module, channels)
        w.load_into(module, state, classifier, f"weights: {weights}")
        (mean, std), source = spec.normalization, weights.name
    elif pretrained:
        if spec.fetch is None:
            why = "no weights are published for" if name in OURS else "there is no `fetch` for"
            raise ConfigError(
                f"pretrained: true, but {why} {name}. Use weights: FILE, "
                "or a model that `podium models` lists with weights."
            )
        source = spec.source or f"the weights of {name}"
        w.load_into(module, w.for_input(spec.fetch(), module, channels), classifier, source)
        mean, std = spec.normalization
    mean, std = w.over_channels(mean, channels), w.over_channels(std, channels)
    return BuiltModel(name, module, spec.image_size, classifier, mean, std, source, channels)


def about_model(name: str) -> dict[str, str]:
    """What a run stores about a user's model for reports and cards: title, licence, citation.

    Args:
        name: of the model.

    Returns:
        Empty for our models, which `podium.models.ours` describes, and for timm's.
    """
    if name in OURS or name not in MODELS:
        return {}
    spec: ModelSpec = MODELS[name]
    about = {"title": spec.title, "licence": spec.licence, "citation": spec.citation}
    return {key: value for key, value in {**about, "hub_id": spec.hub_id}.items() if value}


def rebuild_model(
    name: str, num_classes: int, pooling: Pooling = "own", channels: int = 3
) -> nn.Module:
    """Build the architecture only, for weights that the caller loads. Needs no network.

    Args:
        name: one of Podium's or the user's models, `module:name`, or any timm name.
        num_classes: number of logits.
        pooling: what the classifier sees: `own` or `stages`.
        channels: of the images.
    """
    return build_model(name, num_classes, pooling=pooling, channels=channels).module


def check_weights(
    name: str,
    *,
    pretrained: bool = False,
    weights: Path | None = None,
    pooling: Pooling = "own",
    image_size: int | None = None,
    channels: int = 3,
) -> None:
    """Check before a study starts that a contender can be built, downloading weights if needed.

    A user's model is also run on a batch.

    Args:
        name: one of Podium's or the user's models, `module:name`, or any timm name.
        pretrained: start from the pre-trained weights of that name.
        weights: start from this local file instead; None: no file.
        pooling: what the classifier sees: `own` or `stages`.
        image_size: side in pixels that the model must accept; None: no size is checked, except
            for a user's model.
        channels: of the images.

    Raises:
        ConfigError: there is no such model, it takes other channels, it has no pre-trained weights
            or no stages, or it does not accept images of that size (most transformers accept a
            single size).
        UserError: the local file does not fit the model.
        WeightsUnavailableError: its weights are not on this machine and cannot be downloaded.
    """
    built = build_model(
        name, 2, pretrained=pretrained, weights=weights, pooling=pooling, channels=channels
    )
    if name in MODELS and name not in OURS:
        check_network(name, built.module, image_size or built.image_size, channels)
        return
    if image_size is None or image_size == built.image_size:
        return
    try:
        with torch.inference_mode():
            built.module.eval()(torch.zeros(1, channels, image_size, image_size))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"image_size: {name} does not accept {image_size} ({error}). Leave image_size out: "
            f"the model's own is {built.image_size}."
        ) from None


def weight_files(name: str) -> dict[str, list[str]]:
    """Where the pre-trained weights of a model are once they are downloaded.

    Args:
        name: one of Podium's or the user's models, or any timm name.

    Returns:
        A key of `podium.models.weights.weight_caches` -> patterns of the files' paths there. Empty:
        they are not downloaded, or by the user's own code.
    """
    if name == "resnet18":
        return {"torch": [resnet18_url().rpartition("/")[2]]}
    return {} if name in MODELS else timm_weight_files(name)


def freeze_backbone(built: BuiltModel) -> tuple[str, ...]:
    """Freeze all parameters except the classifier's.

    Args:
        built: the model; changed in place.

    Returns:
        Names of the frozen parts, for `set_train_mode`: all siblings of the classifier and of its
        parents (`head.bn` belongs to the backbone if `head.fc` is the classifier).
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
    # their common base class, also of timm's norms with an activation
    kinds = nn.modules.batchnorm._BatchNorm
    return tuple(name for name, part in module.named_modules() if isinstance(part, kinds))


def set_train_mode(module: nn.Module, frozen: Iterable[str] = ()) -> None:
    """Set training mode, except for the frozen parts.

    Those stay in evaluation mode: otherwise their batch norms would drift, and their dropout
    would add noise to features that are meant to be fixed.

    Args:
        module: changed in place.
        frozen: names of the parts that stay in evaluation mode.
    """
    module.train()
    for name in frozen:
        module.get_submodule(name).eval()


def list_models(num_classes: int = 100, *, timm: str | None = None) -> list[ModelInfo]:
    """List Podium's models and your own; or timm's that match a pattern such as `convnext*`.

    Args:
        num_classes: number of classes for which parameters are counted.
        timm: a pattern with `*` and `?`; None: Podium's models and your own.

    Returns:
        One `ModelInfo` per model: name, parameters, image size, weights, description.

    Raises:
        ConfigError: no model matches.

    Examples:
        >>> from podium import list_models
        >>> {one.name: one.parameters for one in list_models(100)}["simple_resnet"]
        3191460
    """
    if timm is not None:
        return list_timm(timm)
    return [_info(name, num_classes) for name in MODELS.names()]


def _info(name: str, num_classes: int) -> ModelInfo:
    try:
        spec: ModelSpec = MODELS[name]
    except ConfigError as error:  # of a broken installed package
        return ModelInfo(name, None, 0, "none", str(error))
    parameters: int | None = None
    try:
        with torch.device("meta"):
            parameters = sum(p.numel() for p in build_checked(spec, num_classes).parameters())
    except ConfigError:  # a user's model that needs real values to be built
        if name in OURS:
            raise
    return ModelInfo(name, parameters, spec.image_size, spec.available(), spec.description)

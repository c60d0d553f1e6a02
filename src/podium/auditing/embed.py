"""Every image -> a vector that says what is on it: the very features that a linear probe learns on.

The network runs once. The audit asks for the features of a frozen EfficientNet-Lite0, pooled over
all its stages, at the size and in the arithmetic of a study's linear probe (`podium run transfer`):
whichever of the two comes first computes them, and the other one reads them from the cache.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from podium.config.settings import Machine
from podium.data.index import DataIndex
from podium.features.extract import Backbone
from podium.models import build_model
from podium.runtime.device import choose_device, choose_precision

BACKBONE = "efficientnet_lite0"
"""The network whose features are taken: its ImageNet weights come with Podium."""


def embed(
    index: DataIndex,
    *,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Features of every image of every split, from the cache or computed now.

    Args:
        index: the images.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        progress: called with (images done, images in all).

    Returns:
        float32 of shape (n, d): the splits one after the other, each in its own order.

    Raises:
        ConfigError: the device is unknown or not there.
        UnreadableImageError: an image can no longer be read.
        WeightsUnavailableError: the bundled weights are not installed.
    """
    built = build_model(BACKBONE, 2, pretrained=True, pooling="stages")
    machine = Machine(device=device)
    chosen = choose_device(machine)
    backbone = Backbone(
        built,
        size=built.image_size,
        normalization=(built.mean, built.std) if built.mean and built.std else None,
        device=chosen.torch,
    )
    total, done = sum(len(split) for split in index.splits.values()), 0

    def tell(images: int) -> None:
        nonlocal done
        done += images
        if progress is not None:
            progress(done, total)

    found = []
    for split in index.splits:
        precision = "fp32"
        if split == "train":
            wanted, _ = choose_precision(machine, chosen, built.module, built.image_size)
            precision, _ = backbone.precision_for(index, split, wanted)
        found.append(backbone.features(index, split, precision=precision, progress=tell)[0])
    return np.concatenate(found)
